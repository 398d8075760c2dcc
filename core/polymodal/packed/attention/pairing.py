"""Which rows meet in attention, and how segments are grouped into rectangles for dense kernels."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from polymodal.packed.layout import Layout, ranges

# What one more kernel call costs on CPU, forward and backward, in multiply-adds of q times k;
# measured on one core: about 0.17 ms, against 0.045 us for a pair of rows of width 128.
CALL = 500_000


@dataclass(frozen=True, eq=False)
class Bucket:
    """Segments computed in one dense call: a rectangle of queries and one of keys."""

    count: int
    queries: int  # rows of each segment in the rectangle
    keys: int
    first: int  # of its segments, in the order of all buckets laid end to end
    mixed: bool  # whether lengths differ, so that some cells are padding


@dataclass(frozen=True, eq=False)
class Grid:
    """Rows of every bucket's rectangle, end to end: where each comes from and goes to."""

    source: Int[Tensor, " cell"]  # the row in each cell; padding repeats a row of its own segment
    place: Int[Tensor, " row"]  # the cell of each row
    padding: Shaped[Tensor, " cell"] | None  # which cells hold none; None: every cell holds a row

    def spread(self, rows: Float[Tensor, "row *feature"]) -> Float[Tensor, "cell *feature"]:
        """Lay rows out in cells."""
        return _Move.apply(rows, self.source, self.place, None, self.padding)

    def collect(self, cells: Float[Tensor, "cell *feature"]) -> Float[Tensor, "row *feature"]:
        """Take rows back out of cells."""
        return _Move.apply(cells, self.place, self.source, self.padding, None)


class _Move(torch.autograd.Function):
    """A gather whose backward pass is a gather too: many times quicker on CPU than index_add.

    Right because rows and cells match one to one, but for padding cells, whose gradient is zero.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        index: Tensor,
        back: Tensor,
        blank_in: Tensor | None,
        blank_out: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(index, back, blank_in, blank_out)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        index, back, blank_in, blank_out = ctx.saved_tensors
        moved = _Move.apply(grad, back, index, blank_out, blank_in)
        if blank_in is not None:  # cells that fed nothing
            shape = [-1] + [1] * (moved.dim() - 1)
            moved = moved.masked_fill(blank_in.reshape(shape), 0)
        return moved, None, None, None, None


@dataclass(frozen=True, eq=False)
class Pairing:
    """The segments that have both queries and keys; all others get zeros.

    `query_rows` and `key_rows` are the packed rows of these segments; None means every row.
    """

    queries: tuple[int, ...]  # rows of each such segment
    keys: tuple[int, ...]
    query_rows: Int[Tensor, " query"] | None
    key_rows: Int[Tensor, " key"] | None
    device: torch.device

    @classmethod
    def of(cls, layout: Layout, memory: Layout | None) -> "Pairing":
        """Return the pairing of a layout's queries with its own or a memory's keys."""
        return layout.cached(("pairing", memory), lambda: cls._make(layout, memory))

    @classmethod
    def _make(cls, layout: Layout, memory: Layout | None) -> "Pairing":
        source = layout if memory is None else memory
        both = list(zip(layout.lengths, source.lengths, strict=True))
        used = [s for s, (queries, keys) in enumerate(both) if queries and keys]
        return cls(
            tuple(both[s][0] for s in used),
            tuple(both[s][1] for s in used),
            _rows(layout, used),
            _rows(source, used),
            layout.device,
        )

    @property
    def same(self) -> bool:
        """Whether queries and keys have the same lengths, as in self-attention."""
        return self.queries == self.keys

    @cached_property
    def query_offsets(self) -> Int[Tensor, " segment_and_one"]:
        """Where the queries of each segment start, among those used."""
        return _running(self.queries).to(self.device, non_blocking=True)

    @cached_property
    def key_offsets(self) -> Int[Tensor, " segment_and_one"]:
        """Where the keys of each segment start, among those used."""
        if self.same:
            return self.query_offsets
        return _running(self.keys).to(self.device, non_blocking=True)

    @cached_property
    def query_segment(self) -> Int[Tensor, " query"]:
        """The segment, among those used, of each query used."""
        return _segments(self.query_offsets, sum(self.queries))

    @cached_property
    def key_segment(self) -> Int[Tensor, " key"]:
        """The segment, among those used, of each key used."""
        return self.query_segment if self.same else _segments(self.key_offsets, sum(self.keys))

    @cached_property
    def boundaries(self) -> tuple[Int[Tensor, " segment_and_one"], Int[Tensor, " segment_and_one"]]:
        """Both offsets in int32; one tensor twice where they are equal, as varlen_attn asks."""
        queries = self.query_offsets.to(torch.int32)
        return queries, queries if self.same else self.key_offsets.to(torch.int32)

    @cached_property
    def masks(self) -> dict[Hashable, Any]:
        """FlexAttention's block masks made so far, by rule."""
        return {}

    @cached_property
    def _buckets(self) -> dict[int, tuple[list[Bucket], list[int]]]:
        return {}

    def buckets(self, width: int, *, pad_all: bool = False) -> tuple[list[Bucket], list[int]]:
        """Return the buckets, and the segments in their order.

        Segments of equal lengths share a bucket; longer and shorter ones do where the padding
        costs less than another call. `width` is the size of a row, heads times head width.
        """
        key = 0 if pad_all else width
        if key not in self._buckets:
            self._buckets[key] = _bucketed(self.queries, self.keys, 0 if pad_all else width)
        return self._buckets[key]

    @cached_property
    def _grids(self) -> dict[tuple[tuple[int, int, int], ...], tuple[Grid | None, Grid | None]]:
        return {}

    def grids(self, buckets: list[Bucket], order: list[int]) -> tuple[Grid | None, Grid | None]:
        """Return the grids of queries and keys; None where rows already lie as the buckets want."""
        name = tuple((each.count, each.queries, each.keys) for each in buckets)
        if name not in self._grids:
            ordered = order == list(range(len(order)))
            if ordered and not any(each.mixed for each in buckets):
                self._grids[name] = (None, None)
            else:
                queries = _grid(
                    self.queries, self.query_offsets, order,
                    [each.queries for each in buckets for _ in range(each.count)],
                )  # fmt: skip
                keys = queries if self.same else _grid(
                    self.keys, self.key_offsets, order,
                    [each.keys for each in buckets for _ in range(each.count)],
                )  # fmt: skip
                self._grids[name] = (queries, keys)
        return self._grids[name]


def _running(lengths: tuple[int, ...]) -> Tensor:
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    torch.cumsum(torch.tensor(lengths, dtype=torch.int64), 0, out=offsets[1:])
    return offsets


def _segments(offsets: Tensor, total: int) -> Tensor:
    index = torch.arange(len(offsets) - 1, device=offsets.device)
    return index.repeat_interleave(offsets.diff(), output_size=total)


def _rows(layout: Layout, used: list[int]) -> Tensor | None:
    """The packed rows of these segments, in order; None for every row."""
    total = sum(layout.lengths[s] for s in used)
    if total == layout.tokens:
        return None
    index = torch.tensor(used, dtype=torch.int64, device=layout.device)
    return ranges(layout.offsets[index], layout.offsets.diff()[index], total)


def _bucketed(
    queries: tuple[int, ...], keys: tuple[int, ...], width: int
) -> tuple[list[Bucket], list[int]]:
    groups: dict[tuple[int, int], list[int]] = {}
    for segment, size in enumerate(zip(queries, keys, strict=True)):
        groups.setdefault(size, []).append(segment)
    if len(groups) == 1:
        ((size, members),) = groups.items()
        return [Bucket(len(members), *size, first=0, mixed=False)], members
    call = CALL / width if width else float("inf")  # in pairs of rows
    # Longest first: a bucket's rectangle is set by its first group where queries and keys have
    # the same lengths; elsewhere it may still grow.
    merged: list[tuple[int, int, list[int], int]] = []  # queries, keys, members, groups
    for (q, k), members in sorted(groups.items(), reverse=True):
        if merged:
            wide, tall, others, parts = merged[-1]
            q_all, k_all = max(q, wide), max(k, tall)
            together = (len(others) + len(members)) * q_all * k_all
            apart = len(others) * wide * tall + len(members) * q * k + call
            if together <= apart:
                merged[-1] = (q_all, k_all, others + members, parts + 1)
                continue
        merged.append((q, k, members, 1))
    if len(merged) == 1:  # nothing moves but padding
        q, k, members, _ = merged[0]
        return [Bucket(len(members), q, k, 0, True)], sorted(members)
    buckets: list[Bucket] = []
    order: list[int] = []
    for q, k, members, parts in merged:
        buckets.append(Bucket(len(members), q, k, len(order), parts > 1))
        order += members
    return buckets, order


def _grid(lengths: tuple[int, ...], offsets: Tensor, order: list[int], sizes: list[int]) -> Grid:
    device = offsets.device
    index = torch.tensor(order, dtype=torch.int64)
    size = torch.tensor(sizes, dtype=torch.int64)
    length = torch.tensor(lengths, dtype=torch.int64)[index]
    start = _running(lengths)[index]
    total = sum(sizes)
    cell = torch.arange(total)
    slot = torch.arange(len(order)).repeat_interleave(size, output_size=total)
    within = cell - (size.cumsum(0) - size)[slot]
    padding = within >= length[slot]
    source = start[slot] + torch.minimum(within, length[slot] - 1)
    real = (~padding).nonzero()[:, 0]
    place = torch.empty(sum(lengths), dtype=torch.int64)
    place[source[real]] = real
    moved = [each.to(device, non_blocking=True) for each in (source, place, padding)]
    return Grid(moved[0], moved[1], moved[2] if total > len(place) else None)
