"""Tokens and Encoded: rows of a packed batch before and after an encoder, with their Layout."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from polymodal.packed.buffers import moved
from polymodal.packed.chaining import join_layouts, stack_layouts
from polymodal.packed.layout import Layout, ranges
from polymodal.packed.spec import TokenSpec

Reduce = Literal["mean", "sum", "max", "first"]


@dataclass(frozen=True, eq=False)
class Tokens:
    """What a tokenizer makes of a batch: a layout, and an id or a vector of values a token."""

    layout: Layout
    ids: Int[Tensor, " token"] | None = None
    values: Shaped[Tensor, "token feature"] | None = None  # float once finished
    # cut: which segments a limit such as max_tokens has left something out of, straight from
    # `encode`; () for none. It belongs to the batch as made, and what is made of it has none.
    cut: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if (self.ids is None) == (self.values is None):
            raise ValueError("tokens have either ids or values")
        if self.rows.shape[0] != self.layout.tokens:
            raise ValueError(f"{self.rows.shape[0]} rows for {self.layout.tokens} tokens")
        if self.cut and len(self.cut) != self.layout.segments:
            raise ValueError(f"cut tells of {len(self.cut)} segments of {self.layout.segments}")

    @classmethod
    def absent(cls, spec: TokenSpec, samples: int) -> "Tokens":
        """Return the tokens of a batch whose samples all lack a stream of this spec: none."""
        layout = Layout.empty(samples, axes=spec.axes)
        if spec.vocabulary:
            return cls(layout, ids=torch.zeros(0, dtype=torch.int64))
        return cls(layout, values=torch.zeros(0, spec.features))

    @property
    def rows(self) -> Tensor:
        """The ids or the values, whichever these tokens have."""
        rows = self.values if self.ids is None else self.ids
        assert rows is not None
        return rows

    def with_rows(self, rows: Tensor, layout: Layout | None = None) -> "Tokens":
        """Return tokens with other ids or values (and, if given, another layout)."""
        layout = self.layout if layout is None else layout
        return Tokens(layout, values=rows) if self.ids is None else Tokens(layout, ids=rows)

    def select(self, segments: Sequence[int] | Tensor) -> "Tokens":
        """Return these segments, each a sample of its own, in any order, repeats allowed."""
        layout, rows = self.layout.selected(segments)
        return self.with_rows(self.rows[rows], layout)

    def take(self, samples: Sequence[int] | Tensor) -> "Tokens":
        """Return these samples with all segments they own, in any order, repeats allowed."""
        layout, rows = self.layout.taken(samples)
        return self.with_rows(self.rows[rows], layout)

    def keep(
        self,
        keep: Bool[Tensor, " token"] | Int[Tensor, " kept"],
        lengths: Sequence[int] | None = None,
    ) -> "Tokens":
        """Drop tokens: by mask (waits for the device), or by index with the new lengths."""
        layout, rows = self.layout.kept(keep, lengths)
        return self.with_rows(self.rows[rows], layout)

    def only(self, samples: Sequence[bool]) -> "Tokens":
        """Return the batch as if the samples that are not marked lacked the stream."""
        layout = self.layout
        lengths = [
            length if samples[owner] else 0
            for owner, length in zip(layout.owners, layout.lengths, strict=True)
        ]
        counts = torch.tensor(lengths, dtype=torch.int64).to(layout.device, non_blocking=True)
        return self.keep(ranges(layout.offsets[:-1], counts, sum(lengths)), lengths)

    @staticmethod
    def stack(items: Sequence["Tokens"]) -> "Tokens":
        """Return one batch with the samples of all."""
        layout = stack_layouts([item.layout for item in items])
        return items[0].with_rows(torch.cat([item.rows for item in items]), layout)

    @staticmethod
    def join(items: Sequence["Tokens"]) -> tuple["Tokens", list[Int[Tensor, " token"]]]:
        """Chain streams within each sample; also return where each stream's tokens went."""
        layout, order, places = join_layouts([item.layout for item in items])
        rows = torch.cat([item.rows for item in items])[order]
        return items[0].with_rows(rows, layout), places

    def padded(
        self, fill: int | float = 0
    ) -> tuple[Shaped[Tensor, "segment longest *feature"], Bool[Tensor, "segment longest"]]:
        """Return a rectangle of ids or values, and which of its cells hold a token."""
        return self.layout.pad(self.rows, fill), self.layout.filled

    @staticmethod
    def from_padded(
        rectangle: Shaped[Tensor, "segment longest *feature"],
        filled: Bool[Tensor, "segment longest"],
    ) -> "Tokens":
        """Return tokens from a rectangle whose filled cells come first in every row."""
        layout = Layout.of(filled.sum(dim=1)).to(rectangle.device)
        rows = rectangle[filled]
        if rows.is_floating_point():
            return Tokens(layout, values=rows)
        return Tokens(layout, ids=rows)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Tokens":
        """Return the tokens with every tensor changed; `change` must keep shapes."""
        return self.with_rows(change(self.rows), self.layout.map(change))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Tokens":
        """Return the tokens on a device, moved in one copy; as data, without gradients."""
        if torch.device(device) == self.layout.device:
            return self
        return moved(self, lambda buffer: buffer.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Tokens":
        """Return the tokens in page-locked memory, side by side."""
        return moved(self, Tensor.pin_memory)


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an encoder makes of tokens: a vector a token, and one a segment.

    An encoder that changes lengths (token merging) gives a new layout and `source`, the row of
    this object that each token of its input went to; `vectors[source]` are the input's tokens
    again. It follows the rows in `select`, `take`, `keep` and `stack`, as the map of those input
    tokens that still have a row; `join` drops it. `hidden` and `attention` hold what was asked for
    with `Taps`, by block number.
    """

    layout: Layout
    vectors: Float[Tensor, "token width"]
    pooled: Float[Tensor, "segment width"]  # zero where the segment is empty
    source: Int[Tensor, " input_token"] | None = None
    hidden: Mapping[int, Float[Tensor, "token width"]] = field(default_factory=dict)
    # attention: for each tapped block, a map [head, token, token] a segment
    attention: Mapping[int, tuple[Float[Tensor, "head _query _key"], ...]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        if self.vectors.shape[0] != self.layout.tokens:
            raise ValueError(f"{self.vectors.shape[0]} vectors for {self.layout.tokens} tokens")
        if self.pooled.shape[0] != self.layout.segments:
            raise ValueError(f"{self.pooled.shape[0]} pooled for {self.layout.segments} segments")
        if self.source is not None and len(self.source) < self.layout.tokens:
            raise ValueError(
                f"source maps {len(self.source)} tokens, too few for {self.layout.tokens} rows"
            )

    @classmethod
    def mean_pooled(cls, layout: Layout, vectors: Float[Tensor, "token width"]) -> "Encoded":
        """Return vectors pooled by their mean over each segment."""
        return cls(layout, vectors, segment_mean(vectors, layout))

    @property
    def width(self) -> int:
        """The size of a vector."""
        return self.vectors.shape[1]

    def select(self, segments: Sequence[int] | Tensor) -> "Encoded":
        """Return these segments, each a sample of its own, in any order, repeats allowed."""
        layout, rows = self.layout.selected(segments)
        index = torch.as_tensor(segments, dtype=torch.int64, device=self.vectors.device)
        source = self._selected_source(layout, index)
        return Encoded(
            layout, self.vectors.index_select(0, rows), self.pooled.index_select(0, index), source
        )

    def take(self, samples: Sequence[int] | Tensor) -> "Encoded":
        """Return these samples with all segments they own, in any order, repeats allowed."""
        layout, rows = self.layout.taken(samples)
        index = torch.tensor(
            self.layout.owned(samples), dtype=torch.int64, device=self.pooled.device
        )
        source = self._selected_source(layout, index)
        return Encoded(
            layout, self.vectors.index_select(0, rows), self.pooled.index_select(0, index), source
        )

    def _selected_source(self, layout: Layout, segments: Int[Tensor, " chosen"]) -> Tensor | None:
        """Return the map of these segments' input tokens to their new rows; waits for the device.

        Input tokens lie in the order of their segments, so each segment's are a stretch.
        """
        if self.source is None:
            return None
        counts = torch.bincount(self.layout.segment[self.source], minlength=self.layout.segments)
        starts = counts.cumsum(0) - counts
        total = int(counts[segments].sum())
        shift = (layout.offsets[:-1] - self.layout.offsets[segments]).repeat_interleave(
            counts[segments], output_size=total
        )
        return self.source[ranges(starts[segments], counts[segments], total)] + shift

    def keep(
        self,
        keep: Bool[Tensor, " token"] | Int[Tensor, " kept"],
        lengths: Sequence[int] | None = None,
    ) -> "Encoded":
        """Drop tokens by mask, or by index with the new lengths; pooled stays as it is.

        Input tokens whose row is dropped leave `source` as well.
        """
        layout, rows = self.layout.kept(keep, lengths)
        source = None
        if self.source is not None:
            place = torch.full((self.layout.tokens,), -1, device=rows.device)
            place[rows] = torch.arange(len(rows), device=rows.device)
            moved = place[self.source]
            source = moved[moved >= 0]
        return Encoded(layout, self.vectors[rows], self.pooled, source)

    @staticmethod
    def stack(items: Sequence["Encoded"]) -> "Encoded":
        """Return one batch with the samples of all."""
        source = None
        if any(item.source is not None for item in items):
            maps, first = [], 0
            for item in items:
                own = torch.arange(item.layout.tokens, device=item.vectors.device)
                maps.append((own if item.source is None else item.source) + first)
                first += item.layout.tokens
            source = torch.cat(maps)
        return Encoded(
            stack_layouts([item.layout for item in items]),
            torch.cat([item.vectors for item in items]),
            torch.cat([item.pooled for item in items]),
            source,
        )

    @staticmethod
    def join(items: Sequence["Encoded"]) -> tuple["Encoded", list[Int[Tensor, " token"]]]:
        """Chain streams within each sample; also return where each stream's tokens went.

        Pooled is the mean over each sample's tokens.
        """
        layout, order, places = join_layouts([item.layout for item in items])
        vectors = torch.cat([item.vectors for item in items])[order]
        return Encoded.mean_pooled(layout, vectors), places

    def pooled_rows(self, reduce: Reduce = "mean") -> Float[Tensor, "sample width"]:
        """Return one vector a sample from those of its non-empty segments; zero without any."""
        if self.layout.owner is None:
            return self.pooled
        used = torch.tensor(
            [s for s, length in enumerate(self.layout.lengths) if length],
            dtype=torch.int64,
            device=self.pooled.device,
        )
        owner, rows = self.layout.owner[used], self.pooled[used]
        out = rows.new_zeros(self.layout.samples, rows.shape[1])
        if reduce == "sum":
            return out.index_add(0, owner, rows)
        if reduce == "mean":
            count = torch.bincount(owner, minlength=self.layout.samples).clamp(min=1)
            return out.index_add(0, owner, rows) / count[:, None]
        if reduce == "max":
            index = owner[:, None].expand_as(rows)
            return out.scatter_reduce(0, index, rows, "amax", include_self=False)
        if reduce == "first":
            seen: dict[int, int] = {}
            for segment, sample in enumerate(self.layout.owners):
                if self.layout.lengths[segment]:
                    seen.setdefault(sample, segment)
            pairs = torch.tensor(list(seen.items()), dtype=torch.int64, device=rows.device).reshape(
                -1, 2
            )
            return out.index_copy(0, pairs[:, 0], self.pooled[pairs[:, 1]])
        raise ValueError(f"reduce must be mean, sum, max or first, got {reduce!r}")

    def padded(
        self, fill: int | float = 0
    ) -> tuple[Float[Tensor, "segment longest width"], Bool[Tensor, "segment longest"]]:
        """Return a rectangle of vectors, and which of its cells hold a token."""
        return self.layout.pad(self.vectors, fill), self.layout.filled

    @staticmethod
    def from_padded(layout: Layout, rectangle: Float[Tensor, "segment longest width"]) -> "Encoded":
        """Return vectors taken back out of a rectangle, pooled by their mean."""
        return Encoded.mean_pooled(layout, layout.unpad(rectangle))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Encoded":
        """Return layout, vectors, pooled and source on a device."""
        layout = self.layout.to(device, non_blocking=non_blocking)
        vectors = self.vectors.to(device, non_blocking=non_blocking)
        pooled = self.pooled.to(device, non_blocking=non_blocking)
        source = self.source
        if source is not None:
            source = source.to(device, non_blocking=non_blocking)
        return Encoded(layout, vectors, pooled, source)


def segment_mean(
    rows: Float[Tensor, "token *feature"], layout: Layout
) -> Float[Tensor, "segment *feature"]:
    """Return the mean row of each segment, zero where it is empty."""
    if layout.segments and layout.segments * layout.longest == layout.tokens and layout.longest:
        return rows.reshape(layout.segments, layout.longest, *rows.shape[1:]).mean(dim=1)
    total = rows.new_zeros(layout.segments, *rows.shape[1:]).index_add(0, layout.segment, rows)
    count = layout.offsets.diff().clamp(min=1).to(rows.dtype)
    return total / count.reshape(-1, *[1] * (rows.dim() - 1))
