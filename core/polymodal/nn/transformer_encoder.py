"""The encoder of most modalities: a stem for ids or values, and the packed transformer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal.ground.errors import nearest
from polymodal.interfaces.component import FromRun, TokenSpec
from polymodal.interfaces.encoder import NO_TAPS, Encoder, Taps
from polymodal.nn.positions import PositionKind, Positions
from polymodal.nn.transformer import Activation, Checkpointing, EdgeMode, Norm, Transformer
from polymodal.nn.weights import Table
from polymodal.packed.layout import Layout, ranges
from polymodal.packed.tokens import Encoded, Tokens, segment_mean

SizeName = Literal["pico", "nano", "micro", "tiny", "small", "base", "large", "huge"]
PositionChoice = Literal["sinusoidal", "learned", "rotary", "none"]
Pool = Literal["mean", "class", "first", "last"]

SIZES: Final[dict[str, tuple[int, int, int]]] = {  # width, depth, heads
    "pico": (64, 2, 2),
    "nano": (128, 4, 4),
    "micro": (192, 6, 3),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}


class Stem(nn.Module):
    """A token's own vector, from its id or values, and what its kind, channels and place add.

    Tokens of the kinds `averaged`, by number, have in place of one of their own the mean of those
    from which edges lead to them, zero without any; such tokens themselves are left out of it.
    """

    def __init__(
        self, spec: TokenSpec, width: int, positions: PositionKind, averaged: tuple[int, ...] = ()
    ):
        super().__init__()
        self.averaged = averaged
        self.tokens: nn.Embedding | nn.Linear
        if spec.vocabulary:
            self.tokens = Table(spec.vocabulary, width)
        else:
            self.tokens = nn.Linear(spec.features, width)
            # Unit variance out of unit variance in, as the patch embedding of timm's ViT.
            nn.init.trunc_normal_(self.tokens.weight, std=spec.features**-0.5)
            nn.init.zeros_(self.tokens.bias)
        self.channels = nn.ModuleDict(
            {name: Table(count, width) for name, count in spec.channels.items()}
        )
        self.kinds = Table(len(spec.kinds), width) if len(spec.kinds) > 1 else None
        self.positions = Positions(width, spec.axes, kind=positions, extent=spec.extent)

    def forward(self, tokens: Tokens) -> Float[Tensor, "token width"]:
        """Return the vectors."""
        layout = tokens.layout
        vectors: Tensor = self.tokens(tokens.rows)
        if self.averaged:
            vectors = _averaged(vectors, layout, self.averaged)
        if self.positions.kind != "none":
            vectors = vectors + self.positions(layout.positions).to(vectors.dtype)
        if self.kinds is not None:
            kinds = layout.kinds
            if kinds is None:
                kinds = torch.zeros(layout.tokens, dtype=torch.int64, device=layout.device)
            vectors = vectors + self.kinds(kinds)
        for name, table in self.channels.items():
            ids = layout.channels.get(name)
            if ids is None:
                ids = torch.zeros(layout.tokens, dtype=torch.int64, device=layout.device)
            vectors = vectors + table(ids)
        return vectors


def _averaged(
    vectors: Float[Tensor, "token width"], layout: Layout, kinds: tuple[int, ...]
) -> Float[Tensor, "token width"]:
    """Give tokens of these kinds the mean of the others from which edges lead to them."""

    def shares() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        of_token = layout.kinds
        if of_token is None:
            of_token = torch.zeros(layout.tokens, dtype=torch.int64, device=layout.device)
        without = torch.isin(of_token, torch.tensor(kinds, device=layout.device))
        edges = layout.edges
        if edges is None:
            edges = torch.zeros(2, 0, dtype=torch.int64, device=layout.device)
        source, target = edges[:, (without[edges[1]] & ~without[edges[0]]).nonzero()[:, 0]]
        degree = torch.bincount(target, minlength=layout.tokens)
        return without, source, target, 1 / degree[target]

    without, source, target, share = layout.cached(("averaged", kinds), shares)
    mixed = vectors.index_select(0, source) * share[:, None].to(vectors.dtype)
    return vectors.masked_fill(without[:, None], 0).index_add(0, target, mixed)


class TransformerEncoder(Encoder):
    """A transformer over the tokens of one stream, whatever its tokenizer makes.

    Args:
        spec: what the tokens are like.
        size: width, depth and heads by name (`SIZES`; from tiny on, those of timm's ViT).
        width: instead of the size's.
        depth: instead of the size's.
        heads: instead of the size's; with a width alone, heads of 64 channels.
        mlp_ratio: hidden width of the perceptrons, in widths.
        norm: "pre" or "post".
        activation: "gelu" or "swiglu".
        positions: "sinusoidal" or "learned" (needs bounded positions) are added in the stem,
            "rotary" turns queries and keys in the trunk.
        causal: no token sees a later one of its segment.
        pool: "mean" over content (kind "content" where tokens have several kinds), a "class"
            token, or the "first" or "last" token.
        registers: further tokens that live inside the trunk (Darcet et al., 2024).
        dropout: of attention weights and branches.
        drop_path: share of segments that skip a branch, at the last block.
        edges: see `Transformer`. Class token and registers are joined to every token of their
            segment, by a kind of edge of their own.
        guided: with edges "guide", the kinds of tokens that see and are seen along edges alone.
        averaged: kinds of tokens that start from the mean of the tokens from which edges lead to
            them, instead of from a vector of their own.
        gradient_checkpointing: work blocks out again in the backward pass; see `Transformer`.

    Raises:
        ValueError: a size unknown or missing, or options that contradict the tokens or each other.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        size: SizeName | None = None,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        mlp_ratio: float = 4.0,
        norm: Norm = "pre",
        activation: Activation = "gelu",
        positions: PositionChoice = "sinusoidal",
        causal: bool = False,
        pool: Pool = "mean",
        registers: int = 0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        edges: EdgeMode = "ignore",
        guided: Sequence[str] = (),
        averaged: Sequence[str] = (),
        gradient_checkpointing: Checkpointing = False,
    ):
        super().__init__()
        width, depth, heads = _dimensions(size, width, depth, heads)
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
            mlp_ratio=mlp_ratio,
            norm=norm,
            activation=activation,
            rotary_axes=spec.axes if positions == "rotary" else 0,
            causal=causal,
            dropout=dropout,
            drop_path=drop_path,
            edges=edges,
            guided=_kinds("guided", guided, spec),
            edge_kinds=max(spec.edge_kinds, 1) + (self.extra > 0),
            edge_features=spec.edge_features,
            gradient_checkpointing=gradient_checkpointing,
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
        filled = _filled(layout)
        rows = layout.offsets[filled] if self.pool == "first" else layout.offsets[filled + 1] - 1
        pooled = vectors.new_zeros(layout.segments, self.width)
        pooled = pooled.index_copy(0, filled, vectors.index_select(0, rows))
        return Encoded(layout, vectors, pooled)


@dataclass(frozen=True, eq=False)
class Prefixed:
    """A layout whose segments that are not empty have some tokens more at their start."""

    layout: Layout
    rows: Int[Tensor, " token"]  # where the tokens of the old layout are
    prefix_rows: Int[Tensor, " extra"]  # where the new ones are, segment by segment
    filled: Int[Tensor, " filled"]  # the segments that have any

    @classmethod
    def of(cls, layout: Layout, extra: int, *, edge_kind: int | None) -> "Prefixed":
        """Return the layout with so many tokens more, made once.

        They lie at position 0 on every axis. With an `edge_kind` there are edges of that kind
        between each new token and every other token of its segment, both ways.
        """
        return layout.cached(
            ("prefixed", extra, edge_kind), lambda: cls._make(layout, extra, edge_kind)
        )

    @classmethod
    def _make(cls, old: Layout, extra: int, edge_kind: int | None) -> "Prefixed":
        lengths = [length + extra if length else 0 for length in old.lengths]
        filled = _filled(old)
        added = torch.zeros(old.segments, dtype=torch.int64, device=old.device)
        added[filled] = extra
        shift = added.cumsum(0)
        rows = torch.arange(old.tokens, device=old.device) + shift[old.segment]
        starts = old.offsets[filled] + shift[filled] - extra
        new_rows = (starts[:, None] + torch.arange(extra, device=old.device)).flatten()
        total = sum(lengths)

        def moved(values: Tensor) -> Tensor:
            return values.new_zeros(total, *values.shape[1:]).index_copy(0, rows, values)

        layout = Layout(
            tuple(lengths),
            torch.cat([old.offsets[:1], old.offsets[1:] + shift]),
            old.samples,
            moved(old.positions),
            old.owner,
            kinds=None if old.kinds is None else moved(old.kinds),
            channels={name: moved(values) for name, values in old.channels.items()},
            edges=None if old.edges is None else rows[old.edges],
            edge_kinds=old.edge_kinds,
            edge_values=old.edge_values,
        )
        layout.__dict__["owners"] = old.owners  # known on the host: never fetch it again
        if edge_kind is not None:
            layout = _with_hubs(layout, filled, extra, edge_kind)
        return cls(layout, rows, new_rows, filled)

    def insert(
        self, vectors: Float[Tensor, "token width"], prefix: Float[Tensor, "extra width"]
    ) -> Float[Tensor, "more width"]:
        """Return the vectors with a prefix at the start of each segment that has any."""
        new = vectors.new_zeros(self.layout.tokens, vectors.shape[1])
        new = new.index_copy(0, self.rows, vectors)
        return new.index_copy(0, self.prefix_rows, prefix.repeat(len(self.filled), 1))

    def remove(self, vectors: Float[Tensor, "more width"]) -> Float[Tensor, "token width"]:
        """Return the rows of the old layout."""
        return vectors.index_select(0, self.rows)


def _with_hubs(layout: Layout, filled: Tensor, extra: int, kind: int) -> Layout:
    """Join the first `extra` tokens of each segment to all others of it, both ways."""
    lengths = layout.offsets.diff()[filled]
    starts = layout.offsets[filled]
    count = sum(layout.lengths)
    others = ranges(starts, lengths, count).repeat(extra)
    first = starts.repeat_interleave(lengths, output_size=count)
    hub = torch.cat([first + i for i in range(extra)])
    distinct = (others != hub).nonzero()[:, 0]
    others, hub = others[distinct], hub[distinct]
    both = torch.stack([torch.cat([others, hub]), torch.cat([hub, others])])
    edges = both if layout.edges is None else torch.cat([layout.edges, both], dim=1)
    old = 0 if layout.edges is None else layout.edges.shape[1]
    kinds = edges.new_full((edges.shape[1],), kind)
    kinds[:old] = 0 if layout.edge_kinds is None else layout.edge_kinds
    values = layout.edge_values
    if values is not None:
        values = nn.functional.pad(values, (0, 0, 0, both.shape[1]))
    return replace(layout, edges=edges, edge_kinds=kinds, edge_values=values)


def _filled(layout: Layout) -> Int[Tensor, " filled"]:
    """The segments that have tokens."""

    def find() -> Tensor:
        found = [segment for segment, length in enumerate(layout.lengths) if length]
        return torch.tensor(found, dtype=torch.int64).to(layout.device, non_blocking=True)

    return layout.cached("filled segments", find)


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


def _dimensions(
    size: str | None, width: int | None, depth: int | None, heads: int | None
) -> tuple[int, int, int]:
    names = ", ".join(SIZES)
    if size is not None:
        if size not in SIZES:
            raise ValueError(f"size must be one of {names}, got {size!r}")
        preset = SIZES[size]
        chosen = width or preset[0]
        own_heads = preset[2] if chosen == preset[0] else max(1, chosen // 64)
        return chosen, preset[1] if depth is None else depth, heads or own_heads
    if width is None or depth is None:
        raise ValueError(f"give a size ({names}), or both width and depth")
    return width, depth, heads or max(1, width // 64)
