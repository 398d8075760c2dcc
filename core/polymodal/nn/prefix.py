"""Tokens put before those of each segment inside a trunk: a class token, registers."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal.packed.layout import Layout, ranges


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
        filled = filled_segments(old)
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


def filled_segments(layout: Layout) -> Int[Tensor, " filled"]:
    """The segments that have tokens."""

    def find() -> Tensor:
        found = [segment for segment, length in enumerate(layout.lengths) if length]
        return torch.tensor(found, dtype=torch.int64).to(layout.device, non_blocking=True)

    return layout.cached("filled segments", find)
