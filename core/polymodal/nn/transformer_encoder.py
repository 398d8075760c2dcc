"""The encoder of most modalities: a stem for ids or values, and the packed transformer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Unpack, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal.ground.errors import nearest
from polymodal.interfaces.component import FromRun
from polymodal.interfaces.encoder import NO_TAPS, Encoder, Taps
from polymodal.interfaces.groups import filled, taken
from polymodal.nn.prefix import Prefixed, filled_segments
from polymodal.nn.sizes import BlockOptions, TransformerOptions, dimensions
from polymodal.nn.stem import Stem
from polymodal.nn.transformer import EdgeMode, Transformer
from polymodal.packed.layout import Layout
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Encoded, Tokens, segment_mean

PositionChoice = Literal["sinusoidal", "learned", "rotary", "none"]
Pool = Literal["mean", "class", "first", "last"]


class TransformerEncoder(Encoder):
    """A transformer over the tokens of one stream, whatever its tokenizer makes.

    Args:
        spec: what the tokens are like.
        positions: "sinusoidal" or "learned" (needs bounded positions) are added in the stem,
            "rotary" turns queries and keys in the trunk.
        causal: no token sees a later one of its segment.
        pool: "mean" over content (kind "content" where tokens have several kinds), a "class"
            token, or the "first" or "last" token.
        registers: further tokens that live inside the trunk (Darcet et al., 2024).
        edges: see `Transformer`. Class token and registers are joined to every token of their
            segment, by a kind of edge of their own.
        guided: with edges "guide", the kinds of tokens that see and are seen along edges alone.
        averaged: kinds of tokens that start from the mean of the tokens from which edges lead to
            them, instead of from a vector of their own.
        sizes: how large it is, and how its blocks are made; see `TransformerOptions`.

    Raises:
        ValueError: a size unknown or missing, or options that contradict the tokens or each other.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        positions: PositionChoice = "sinusoidal",
        causal: bool = False,
        pool: Pool = "mean",
        registers: int = 0,
        edges: EdgeMode = "ignore",
        guided: Sequence[str] = (),
        averaged: Sequence[str] = (),
        **sizes: Unpack[TransformerOptions],
    ):
        super().__init__()
        made = filled(TransformerOptions, sizes)
        width, depth, heads = dimensions(made)
        for name, value, choice in [("pool", pool, Pool), ("positions", positions, PositionChoice)]:
            if value not in get_args(choice):
                allowed = ", ".join(get_args(choice))
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        if pool == "class" and causal:
            raise ValueError(
                'a causal class token would see nothing: use pool "last" with causal attention'
            )
        if registers < 0:
            raise ValueError(f"registers must be 0 or more, got {registers}")
        if edges != "ignore" and not spec.edges:
            raise ValueError(
                f"edges is {edges!r}, but the stream's tokenizer makes no edges: "
                'use a tokenizer that does, or edges "ignore"'
            )
        if averaged and not spec.edges:
            raise ValueError(
                "averaged needs edges to average along, but the stream's tokenizer makes none"
            )
        self.spec = spec
        self.width = width
        self.causal = causal
        self.pool = pool
        self.edges = edges
        self.stem = Stem(
            spec,
            width,
            "none" if positions == "rotary" else positions,
            _kinds("averaged", averaged, spec),
            norm=made.get("stem_norm", False),
        )
        self.prefix = None  # the class token, if there is one, and the registers
        self.extra = registers + (pool == "class")
        if self.extra:
            self.prefix = nn.Parameter(torch.empty(self.extra, width))
            nn.init.trunc_normal_(self.prefix, std=0.02)
        self.trunk = Transformer(
            width=width,
            depth=depth,
            heads=heads,
            rotary_axes=spec.axes if positions == "rotary" else 0,
            causal=causal,
            edges=edges,
            guided=_kinds("guided", guided, spec),
            edge_kinds=max(spec.edge_kinds, 1) + (self.extra > 0),
            edge_features=spec.edge_features,
            **taken(BlockOptions, sizes),
        )

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the stem's vectors: of ids or values, places, kinds and channels."""
        return Encoded.mean_pooled(tokens.layout, self.stem(tokens))

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the trunk's vectors, pooled as the options say.

        Tapped hidden layers have the tokens' rows alone; tapped attention maps start with the
        class token and registers.

        Raises:
            ValueError: a tap this encoder does not have.
        """
        layout = encoded.layout
        if self.prefix is None:
            seen = self.trunk(encoded.vectors, layout, taps=taps)
            return replace(
                self._pooled(layout, seen.vectors), hidden=seen.hidden, attention=seen.attention
            )
        inside = Prefixed.of(
            layout,
            self.extra,
            edge_kind=None if self.edges == "ignore" else max(self.spec.edge_kinds, 1),
        )
        vectors = inside.insert(encoded.vectors, self.prefix.to(encoded.vectors.dtype))
        seen = self.trunk(vectors, inside.layout, taps=taps)
        summary = None
        if self.pool == "class":
            first = seen.vectors.index_select(0, inside.prefix_rows[:: self.extra])
            summary = seen.vectors.new_zeros(layout.segments, self.width)
            summary = summary.index_copy(0, inside.filled, first)
        result = self._pooled(layout, inside.remove(seen.vectors), summary)
        hidden = {number: inside.remove(rows) for number, rows in seen.hidden.items()}
        return replace(result, hidden=hidden, attention=seen.attention)

    def unembed(
        self, vectors: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row vocabulary"] | None:
        """Return scores over the vocabulary by the table of ids; None for streams of values."""
        if isinstance(self.stem.tokens, nn.Embedding):
            return nn.functional.linear(vectors, self.stem.tokens.weight)
        return None

    def layers(self) -> list[nn.Module]:
        """Return the stem and the blocks."""
        return [self.stem, *self.trunk.blocks]

    def embedding(self, ids: Int[Tensor, " row"]) -> Float[Tensor, "row width"]:
        """Return the bare vectors of ids.

        Raises:
            ValueError: the stream has values, not ids.
        """
        if not isinstance(self.stem.tokens, nn.Embedding):
            raise ValueError("this encoder's tokens are values: it has no table of ids")
        vectors: Tensor = self.stem.tokens(ids)
        return vectors

    def _pooled(self, layout: Layout, vectors: Tensor, summary: Tensor | None = None) -> Encoded:
        if summary is not None:
            return Encoded(layout, vectors, summary)
        if self.pool == "mean":
            content = _content(layout, self.spec)
            if content is None:
                return Encoded.mean_pooled(layout, vectors)
            share = content[:, None].to(vectors.dtype)
            pooled = vectors.new_zeros(layout.segments, self.width)
            return Encoded(layout, vectors, pooled.index_add(0, layout.segment, vectors * share))
        filled = filled_segments(layout)
        rows = layout.offsets[filled] if self.pool == "first" else layout.offsets[filled + 1] - 1
        pooled = vectors.new_zeros(layout.segments, self.width)
        pooled = pooled.index_copy(0, filled, vectors.index_select(0, rows))
        return Encoded(layout, vectors, pooled)


def _content(layout: Layout, spec: TokenSpec) -> Float[Tensor, " token"] | None:
    """Each token's share in its segment's mean; None where all have the same.

    Only content counts, unless a segment has none.
    """
    if layout.kinds is None or len(spec.kinds) < 2 or "content" not in spec.kinds:
        return None
    kinds, content = layout.kinds, spec.kinds.index("content")

    def shares() -> Tensor:
        chosen = (kinds == content).float()
        count = segment_mean(chosen, layout) * layout.offsets.diff()
        bare = (count < 0.5)[layout.segment]
        length = layout.offsets.diff()[layout.segment].float()
        return torch.where(bare, 1 / length, chosen / count.clamp(min=1)[layout.segment])

    return layout.cached(("content", content), shares)


def _kinds(option: str, names: Sequence[str], spec: TokenSpec) -> tuple[int, ...]:
    """The numbers of kinds given by name."""
    for name in names:
        if name not in spec.kinds:
            raise ValueError(
                f"{option}: the stream's tokens have no kind {name!r}.{nearest(name, spec.kinds)}"
            )
    return tuple(spec.kinds.index(name) for name in names)
