"""An encoder of heartbeats."""

from dataclasses import replace

from polymodal import NO_TAPS, Encoded, Encoder, FromRun, Taps, Tokens, TokenSpec, Transformer
from torch import nn


class BeatEncoder(Encoder):
    """A convolution over the shape of each beat, then a transformer over the beats in time.

    Args:
        spec: of the tokens.
        width: of the vectors.
        depth: blocks of the transformer.
        heads: of attention; must divide the width.
        leads: in which the values of a token are laid out.

    Raises:
        ValueError: tokens that are no values of so many leads, or a width heads don't divide.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 2,
        leads: int = 1,
    ):
        super().__init__()
        if not spec.features or spec.features % leads:
            raise ValueError(f"needs values of {leads} leads, got {spec.features} values a token")
        self.width, self.leads = width, leads
        self.stem = nn.Sequential(
            nn.Conv1d(leads, width, 7, stride=2, padding=3),
            nn.GELU(),
            nn.Conv1d(width, width, 7, stride=2, padding=3),
        )
        self.trunk = Transformer(width=width, depth=depth, heads=heads, rotary_axes=1)

    def embed(self, tokens: Tokens) -> Encoded:
        """Return a vector for the shape of each beat."""
        assert tokens.values is not None  # the spec says so
        waves = self.stem(tokens.values.unflatten(1, (self.leads, -1)))  # beat width time
        return Encoded.mean_pooled(tokens.layout, waves.mean(dim=2))

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the vectors of beats that have seen each other."""
        seen = self.trunk(encoded.vectors, encoded.layout, taps=taps)
        pooled = Encoded.mean_pooled(encoded.layout, seen.vectors)
        return replace(pooled, hidden=seen.hidden, attention=seen.attention)

    def layers(self) -> list[nn.Module]:
        """Return the stem and the blocks."""
        return [self.stem, *self.trunk.blocks]
