"""Packed tokens: the samples of a batch lie end to end, and a Layout says where each one is.

Nothing here is padded. A stretch of rows is a *segment*; without owners, segment s is sample s. A
sample that lacks the modality is a segment of length zero, or, with owners, a sample that owns no
segment. Every operation returns a new object, and structure (positions, kinds, channels, edges)
follows the rows.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

Value = TypeVar("Value")


def ranges(
    starts: Int[Tensor, " stretch"], lengths: Int[Tensor, " stretch"], total: int
) -> Int[Tensor, " row"]:
    """Return the rows starts[i], starts[i] + 1, ... of each stretch, end to end.

    `total` is the sum of `lengths`, given by the host so that no device has to be waited for.
    """
    shift = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(total, device=starts.device) + shift.repeat_interleave(
        lengths, output_size=total
    )


def offsets_of(lengths: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Return the running sum of lengths, from 0."""
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    torch.cumsum(torch.tensor(lengths, dtype=torch.int64), 0, out=offsets[1:])
    return offsets if device is None else offsets.to(device, non_blocking=True)


def _host(index: Sequence[int] | Tensor) -> list[int]:
    return index.tolist() if isinstance(index, Tensor) else list(index)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of a batch lie. Build one with `Layout.of`, which fills in the rest.

    Raises:
        ValueError: a shape that contradicts `lengths`.
    """

    lengths: tuple[int, ...]  # tokens of each segment, on the host
    offsets: Int[Tensor, " segment_and_one"]  # segment s is rows offsets[s]:offsets[s + 1]
    samples: int  # how many samples the batch has
    positions: Shaped[Tensor, "token axis"]  # 1 axis for text, 2 images, 3 video ...
    owner: Int[Tensor, " segment"] | None = None  # sample of each segment; None: s is sample s
    kinds: Int[Tensor, " token"] | None = None  # role of each token; None: all 0, content
    channels: Mapping[str, Shaped[Tensor, "token *feature"]] = field(default_factory=dict)
    edges: Int[Tensor, "2 edge"] | None = None  # packed token indices, never across segments
    edge_kinds: Int[Tensor, " edge"] | None = None
    edge_values: Float[Tensor, "edge feature"] | None = None

    def __post_init__(self) -> None:
        tokens = sum(self.lengths)
        shapes = {"positions": self.positions, "kinds": self.kinds, **self.channels}
        for name, rows in shapes.items():
            if rows is not None and rows.shape[0] != tokens:
                raise ValueError(f"{name} has {rows.shape[0]} rows for {tokens} tokens")
        if self.offsets.shape[0] != len(self.lengths) + 1:
            raise ValueError(f"{len(self.lengths)} segments need one more offset")
        if self.owner is None and self.samples != len(self.lengths):
            raise ValueError(f"{len(self.lengths)} segments for {self.samples} samples: no owner")
        if self.owner is not None and self.owner.shape[0] != len(self.lengths):
            raise ValueError(f"{self.owner.shape[0]} owners for {len(self.lengths)} segments")
        if self.edges is None and (self.edge_kinds is not None or self.edge_values is not None):
            raise ValueError("edge_kinds and edge_values need edges")
        if self.edges is not None and (self.edges.dim() != 2 or self.edges.shape[0] != 2):
            raise ValueError(f"edges must be 2 by edge, got {tuple(self.edges.shape)}")
        for name, rows in {"edge_kinds": self.edge_kinds, "edge_values": self.edge_values}.items():
            if rows is not None and self.edges is not None and len(rows) != self.edges.shape[1]:
                raise ValueError(f"{len(rows)} {name} for {self.edges.shape[1]} edges")

    @classmethod
    def of(
        cls,
        lengths: Sequence[int] | Tensor,
        positions: Shaped[Tensor, "token axis"] | None = None,
        *,
        owner: Sequence[int] | Tensor | None = None,
        samples: int | None = None,
        **rest: Any,
    ) -> "Layout":
        """Return the layout of segments of these lengths; positions count from 0 unless given."""
        counts = tuple(_host(lengths))
        if min(counts, default=0) < 0:
            raise ValueError(f"lengths must not be negative, got {min(counts)}")
        device = None if positions is None else positions.device
        offsets = offsets_of(counts, device)
        if positions is None:
            sizes = np.array(counts, np.int64)  # numpy repeats faster than torch
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            positions = torch.from_numpy(within)[:, None]
        if owner is not None:
            owner = torch.as_tensor(owner, dtype=torch.int64, device=positions.device)
            if samples is None:
                raise ValueError("a layout with owners must say how many samples there are")
        samples = len(counts) if samples is None else samples
        return cls(counts, offsets, samples, positions, owner, **rest)

    @classmethod
    def empty(cls, samples: int, *, axes: int = 1) -> "Layout":
        """Return the layout of a batch whose samples all lack this stream."""
        return cls.of([0] * samples, torch.zeros(0, axes, dtype=torch.int64))

    @property
    def tokens(self) -> int:
        """How many tokens the batch has."""
        return self.positions.shape[0]

    @property
    def segments(self) -> int:
        """How many segments the batch has."""
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """The device of every tensor of the layout."""
        return self.positions.device

    @cached_property
    def longest(self) -> int:
        """The length of the longest segment, 0 without any."""
        return max(self.lengths, default=0)

    @cached_property
    def segment(self) -> Int[Tensor, " token"]:
        """The segment of each token."""
        index = torch.arange(self.segments, device=self.device)
        return index.repeat_interleave(self.offsets.diff(), output_size=self.tokens)

    @cached_property
    def within(self) -> Int[Tensor, " token"]:
        """Each token's place in its segment, from 0."""
        return torch.arange(self.tokens, device=self.device) - self.offsets[self.segment]

    @cached_property
    def owners(self) -> tuple[int, ...]:
        """The sample of each segment, on the host."""
        return tuple(range(self.segments)) if self.owner is None else tuple(self.owner.tolist())

    @cached_property
    def sample(self) -> Int[Tensor, " token"]:
        """The sample of each token."""
        return self.segment if self.owner is None else self.owner[self.segment]

    @cached_property
    def present(self) -> tuple[bool, ...]:
        """Whether each sample has at least one token, on the host."""
        found = [False] * self.samples
        for sample, length in zip(self.owners, self.lengths, strict=True):
            found[sample] |= length > 0
        return tuple(found)

    def cached(self, name: Hashable, make: Callable[[], Value]) -> Value:
        """Return what `make` gives, made once for this layout: masks, groupings, angles.

        What is kept lives as long as the layout, and neither moves nor is pickled with it.
        """
        kept: dict[Hashable, Value] = self.__dict__.setdefault("_cache", {})
        if name not in kept:
            kept[name] = make()
        return kept[name]

    def __getstate__(self) -> dict[str, Any]:
        keep = {"owners", *(each.name for each in fields(self))}
        return {name: value for name, value in self.__dict__.items() if name in keep}

    def validate(self) -> "Layout":
        """Check what shapes can't tell: offsets, owners and edges; waits for the device.

        Raises:
            ValueError: a value out of range, or an edge between two segments.
        """
        if self.offsets.tolist() != offsets_of(self.lengths).tolist():
            raise ValueError("offsets are not the running sum of lengths")
        if any(not 0 <= sample < self.samples for sample in self.owners):
            raise ValueError(f"an owner lies outside the batch's {self.samples} samples")
        if self.edges is not None and self.edges.numel():
            if self.edges.min() < 0 or self.edges.max() >= self.tokens:
                raise ValueError(f"an edge points outside the batch's {self.tokens} tokens")
            first, second = self.segment[self.edges]
            if not torch.equal(first, second):
                raise ValueError("an edge joins two segments")
        return self

    # Each operation below gives a layout and the old rows of its tokens, so that whatever has
    # one row a token (ids, values, vectors) can follow.

    def selected(self, segments: Sequence[int] | Tensor) -> tuple["Layout", Tensor]:
        """Return the layout of these segments, in this order, and the old row of each token."""
        chosen = _host(segments)
        lengths = [self.lengths[segment] for segment in chosen]
        index = torch.tensor(chosen, dtype=torch.int64, device=self.device)
        offsets = offsets_of(lengths, self.device)
        rows = ranges(self.offsets[index], offsets.diff(), sum(lengths))
        new = self._follow(rows, lengths, offsets, owner=None, samples=len(chosen))
        if self.edges is None:
            return new, rows
        # An edge lies in its segment: sort edges by segment, then take stretches of them.
        edge_segment = self.segment[self.edges[0]]
        order = edge_segment.argsort(stable=True)
        counts = torch.bincount(edge_segment, minlength=self.segments)
        starts = counts.cumsum(0) - counts
        total = int(counts[index].sum())
        picked = order[ranges(starts[index], counts[index], total)]
        shift = (offsets[:-1] - self.offsets[index]).repeat_interleave(
            counts[index], output_size=total
        )
        return new._with_edges(self, picked, self.edges[:, picked] + shift), rows

    def kept(
        self, keep: Bool[Tensor, " token"] | Int[Tensor, " kept"], lengths: Sequence[int] | None
    ) -> tuple["Layout", Tensor]:
        """Return the layout of the tokens kept, and the old row of each.

        `keep` is a mask (the host waits for the device), or ascending indices with the new
        length of every segment (it does not).
        """
        if keep.dtype == torch.bool:
            index = keep.nonzero()[:, 0]
            counts = torch.bincount(self.segment[index], minlength=self.segments)
            lengths = counts.tolist()
        elif lengths is None:
            raise ValueError("indices of kept tokens need the new length of every segment")
        else:
            index = keep
        if len(lengths) != self.segments or sum(lengths) != len(index):
            raise ValueError(
                f"{len(index)} kept tokens in {self.segments} segments, but the new lengths "
                f"are {len(lengths)} and add up to {sum(lengths)}"
            )
        offsets = offsets_of(lengths, self.device)
        new = self._follow(index, lengths, offsets, owner=self.owner, samples=self.samples)
        if self.edges is None:
            return new, index
        place = torch.full((self.tokens,), -1, device=self.device)
        place[index] = torch.arange(len(index), device=self.device)
        moved = place[self.edges]
        picked = (moved >= 0).all(dim=0).nonzero()[:, 0]
        return new._with_edges(self, picked, moved[:, picked]), index

    def taken(self, samples: Sequence[int] | Tensor) -> tuple["Layout", Tensor]:
        """Return the layout of these samples, with every segment each one owns."""
        chosen = _host(samples)
        if self.owner is None:
            return self.selected(chosen)
        picked = self._owned(chosen)
        new, rows = self.selected([segment for _, segment in picked])
        owner = torch.tensor([row for row, _ in picked], dtype=torch.int64, device=self.device)
        return replace(new, owner=owner, samples=len(chosen)), rows

    def owned(self, samples: Sequence[int] | Tensor) -> list[int]:
        """Return the segments these samples own, sample by sample; host only."""
        return [segment for _, segment in self._owned(_host(samples))]

    def _owned(self, samples: Sequence[int]) -> list[tuple[int, int]]:
        segments: list[list[int]] = [[] for _ in range(self.samples)]
        for segment, sample in enumerate(self.owners):
            segments[sample].append(segment)
        return [(place, s) for place, sample in enumerate(samples) for s in segments[sample]]

    def pad(
        self, rows: Shaped[Tensor, "token *feature"], fill: int | float = 0
    ) -> Shaped[Tensor, "segment longest *feature"]:
        """Lay rows out as a rectangle; segments of equal length are a view, not a copy."""
        shape = (self.segments, self.longest, *rows.shape[1:])
        if self.segments * self.longest == self.tokens:
            return rows.reshape(shape)
        flat = rows.new_full((self.segments * self.longest, *rows.shape[1:]), fill)
        return flat.index_put((self._cell,), rows).reshape(shape)

    def unpad(
        self, rectangle: Shaped[Tensor, "segment longest *feature"]
    ) -> Shaped[Tensor, "token *feature"]:
        """Take the rows back out of a rectangle made by `pad`."""
        flat = rectangle.flatten(0, 1)
        return flat if flat.shape[0] == self.tokens else flat[self._cell]

    @cached_property
    def filled(self) -> Bool[Tensor, "segment longest"]:
        """Which cells of the padded rectangle hold a token."""
        place = torch.arange(self.longest, device=self.device)
        return place < self.offsets.diff()[:, None]

    @cached_property
    def _cell(self) -> Tensor:
        return self.segment * self.longest + self.within

    def map(self, change: Callable[[Tensor], Tensor]) -> "Layout":
        """Return the layout with every tensor changed; `change` must keep shapes."""
        changed: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Tensor):
                changed[each.name] = change(value)
        changed["channels"] = {name: change(rows) for name, rows in self.channels.items()}
        new = replace(self, **changed)
        new.__dict__["owners"] = self.owners  # known on the host: never fetch it again
        return new

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Layout":
        """Return the layout on a device."""
        return self.map(lambda rows: rows.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Layout":
        """Return the layout in page-locked memory."""
        return self.map(Tensor.pin_memory)

    def _follow(
        self,
        rows: Tensor,
        lengths: Sequence[int],
        offsets: Tensor,
        *,
        owner: Tensor | None,
        samples: int,
    ) -> "Layout":
        return Layout(
            tuple(lengths),
            offsets,
            samples,
            self.positions[rows],
            owner,
            kinds=None if self.kinds is None else self.kinds[rows],
            channels={name: channel[rows] for name, channel in self.channels.items()},
        )

    def _with_edges(self, old: "Layout", picked: Tensor, edges: Tensor) -> "Layout":
        return replace(
            self,
            edges=edges,
            edge_kinds=None if old.edge_kinds is None else old.edge_kinds[picked],
            edge_values=None if old.edge_values is None else old.edge_values[picked],
        )
