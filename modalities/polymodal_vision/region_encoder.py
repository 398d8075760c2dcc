"""The encoder of region sets: features and boxes, each projected and normalised, added up."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from polymodal import (
    EPSILON,
    NO_TAPS,
    Encoded,
    Encoder,
    FromRun,
    Norm,
    Taps,
    Tokens,
    TokenSpec,
    Transformer,
)


class RegionStem(nn.Module):
    """LN(W f) + LN(V b) of a region with features f and box b (UNITER, section 3.1)."""

    def __init__(self, spec: TokenSpec, width: int):
        super().__init__()
        self.features = nn.Linear(spec.features, width)
        self.features_norm = nn.LayerNorm(width, eps=EPSILON)
        self.boxes = nn.Linear(spec.axes, width)
        self.boxes_norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, tokens: Tokens) -> Float[Tensor, "token width"]:
        """Return the vectors."""
        features = self.features_norm(self.features(tokens.rows))
        boxes = tokens.layout.positions.to(self.boxes.weight.dtype)
        return features + self.boxes_norm(self.boxes(boxes))


class RegionEncoder(Encoder):
    """Projects and normalises features and boxes, adds them up, and lets regions attend if asked.

    With `depth`, a transformer over an image's regions follows, as LXMERT has it (Tan and Bansal,
    2019); UNITER leaves all of that to the fusion. Pooled by the mean.

    Args:
        spec: what the tokens are like; their positions are the boxes.
        width: of the vectors.
        depth: blocks after the stem.
        heads: of attention; heads of 64 channels unless given.
        mlp_ratio: hidden width of the blocks' perceptrons, in widths.
        norm: of the blocks, "post" as in BERT or "pre".
        dropout: in the blocks.

    Raises:
        ValueError: tokens without values.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        width: int,
        depth: int = 0,
        heads: int | None = None,
        mlp_ratio: float = 4.0,
        norm: Norm = "post",
        dropout: float = 0.0,
    ):
        super().__init__()
        if not spec.features:
            raise ValueError("regions need tokens with values, but the stream's tokens are ids")
        self.width = width
        self.stem = RegionStem(spec, width)
        self.trunk = Transformer(
            width=width,
            depth=depth,
            heads=max(1, width // 64) if heads is None else heads,
            mlp_ratio=mlp_ratio,
            norm=norm,
            dropout=dropout,
        )

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the sum of the projected features and boxes."""
        return Encoded.mean_pooled(tokens.layout, self.stem(tokens))

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the blocks' vectors; the stem's where there are no blocks.

        Raises:
            ValueError: a tap there is no block for.
        """
        seen = self.trunk(encoded.vectors, encoded.layout, taps=taps)
        pooled = Encoded.mean_pooled(encoded.layout, seen.vectors)
        return replace(pooled, hidden=seen.hidden, attention=seen.attention)

    def unembed(self, vectors: Float[Tensor, "row width"]) -> Float[Tensor, "row feature"]:
        """Return features by the projection's own weights, transposed (section 3.2, MRFR)."""
        return nn.functional.linear(vectors, self.stem.features.weight.T)

    def layers(self) -> list[nn.Module]:
        """Return the stem and the blocks."""
        return [self.stem, *self.trunk.blocks]
