"""Token merging: which tokens become one, what it is made of, and the way back (ToMe).

Bolya et al., 2023, on packed rows. A pairing says for each token the row that it joins, its own if
it stays. How many tokens each segment loses is settled on the host, so that no device is waited
for. Segments may be windows (`windows`): then merging, and attention too, stay within them.

    cut = windows(layout, 16)
    plan = planned(cut.lengths, window_targets(cut, 0.5), steps=4)
    merger = Merger(cut, plan, lambda number, vectors: unit(vectors), pairs=adjacent_pairs)
    seen = transformer(vectors, cut, between=merger)     # merges after each block
    seen.vectors[merger.source]                          # a row for each token again
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from polymodal.interfaces.encoder import NO_TAPS, Encoder, Taps
from polymodal.packed.layout import Layout
from polymodal.packed.tokens import Encoded

Pairs = Callable[[Tensor, Layout, Sequence[int]], Tensor]
"""`pairs(features, layout, lost)`: the row each token joins, so that segment s loses lost[s]."""

LEVELS = 4096  # similarities are told apart to this part of 1; see `_levels`


class MergingEncoder(Encoder):
    """An encoder whose tokens are fewer than those it is given, and fewer still when asked.

    `embed` may merge tokens, and `contextualize` does so with a `keep` below 1. `source` of what
    they return is always that of the tokens given to `embed`.
    """

    @abstractmethod
    def contextualize(
        self, encoded: Encoded, *, taps: Taps = NO_TAPS, keep: float = 1.0
    ) -> Encoded:
        """Return the trunk's vectors, merged until this share of each segment's tokens is left.

        Raises:
            ValueError: a tap this encoder does not have, or any tap with a `keep` below 1.
        """


@dataclass(frozen=True, eq=False)
class Merging:
    """Which tokens became one: the layout of what they became, and the row each one went to."""

    layout: Layout
    source: Int[Tensor, " token"]

    @classmethod
    def of(cls, layout: Layout, into: Int[Tensor, " token"], lost: Sequence[int]) -> "Merging":
        """Return the merging in which each token joins row `into`, and segment s loses `lost[s]`.

        A merged token stands where the token was that the others joined, with its position, kind
        and channels. Of the edges, those between tokens that no other joined are left.
        """
        stays = into == torch.arange(layout.tokens, device=layout.device)
        lengths = [length - less for length, less in zip(layout.lengths, lost, strict=True)]
        rows = (~stays).to(torch.int8).argsort(stable=True)[: sum(lengths)]
        merged, _ = layout.kept(rows, lengths)
        return cls(merged, (stays.cumsum(0) - 1)[into])

    def sum(self, rows: Shaped[Tensor, "token *feature"]) -> Shaped[Tensor, "merged *feature"]:
        """Return the sum of the rows that became each token."""
        new = rows.new_zeros(self.layout.tokens, *rows.shape[1:])
        return new.index_add(0, self.source, rows)

    def mean(
        self, rows: Float[Tensor, "token feature"], weights: Float[Tensor, " token"]
    ) -> Float[Tensor, "merged feature"]:
        """Return the weighted mean of the rows that became each token."""
        total = self.sum(weights)
        return self.sum(rows * weights[:, None]) / total[:, None]

    def unmerge(self, rows: Shaped[Tensor, "merged *feature"]) -> Shaped[Tensor, "token *feature"]:
        """Return each token's row: that of what it became."""
        # Not by brackets: their gradient adds up in bfloat16 on CPU.
        return rows.index_select(0, self.source)


class Merger:
    """Merges tokens after each block of a `Transformer`: its `between`.

    A merged vector is the mean over what it is made of, weighted by size. With a `scale` a token
    that joins another weighs sigmoid(scale * their cosine) as much, so that the features learn
    what to merge, though which tokens merge is settled by their order alone (as DTEM; Lee and
    Hong, 2024, make the order soft as well).

    Args:
        layout: of the tokens before the first block.
        plan: how many tokens each segment loses after each block; see `planned`.
        features: unit vectors by which tokens are compared, from a block's number and vectors.
        pairs: which tokens merge: `adjacent_pairs`, `closest_pairs` or `bipartite_pairs`.
        sizes: of the tokens; 1 unless given.
        scale: see above; None: weights are sizes alone.
    """

    def __init__(
        self,
        layout: Layout,
        plan: Sequence[Sequence[int]],
        features: Callable[[int, Tensor], Float[Tensor, "token feature"]],
        *,
        pairs: Pairs,
        sizes: Shaped[Tensor, " token"] | None = None,
        scale: float | None = None,
    ):
        self.plan = plan
        self.features = features
        self.pairs = pairs
        self.scale = scale
        self.source = torch.arange(layout.tokens, device=layout.device)
        self.sizes = torch.ones_like(self.source) if sizes is None else sizes

    def __call__(
        self, number: int, vectors: Float[Tensor, "token width"], layout: Layout
    ) -> tuple[Float[Tensor, "merged width"], Layout]:
        """Return the vectors and layout of the merged tokens."""
        lost = self.plan[number]
        features = self.features(number, vectors)
        into = self.pairs(features.detach(), layout, lost)
        merging = Merging.of(layout, into, lost)
        weights = self.sizes.to(features.dtype)
        if self.scale is not None:
            joins = into != torch.arange(layout.tokens, device=layout.device)
            likeness = (features * features.index_select(0, into)).sum(dim=1)
            weights = torch.where(joins, weights * torch.sigmoid(self.scale * likeness), weights)
        self.source = merging.source[self.source]
        self.sizes = merging.sum(self.sizes)
        return merging.mean(vectors, weights.to(vectors.dtype)), merging.layout


def unit(vectors: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    """Return the vectors at length 1, in float32 at least; their products are cosines."""
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)


def windows(layout: Layout, size: int) -> Layout:
    """Return the same rows with each segment cut into windows of `size`, the last one shorter.

    The owner of a window is the segment it was cut from. Edges stay behind.
    """

    def cut() -> Layout:
        lengths = np.array(layout.lengths, dtype=np.int64)
        counts = -(-lengths // size)
        owner = np.arange(len(lengths)).repeat(counts)
        cuts = np.full(len(owner), size)
        filled = counts > 0
        cuts[counts.cumsum()[filled] - 1] = (lengths - (counts - 1) * size)[filled]
        new = Layout.of(
            cuts.tolist(), layout.positions, owner=owner.tolist(), samples=layout.segments,
            kinds=layout.kinds, channels=layout.channels,
        )  # fmt: skip
        new.__dict__["owners"] = tuple(owner.tolist())  # known on the host: never fetch it
        return new

    return layout.cached(("windows", size), cut)


def rejoined(cut: Layout, whole: Layout) -> Layout:
    """Return the rows of windows as segments again, owned as those of `whole` are."""
    lengths = np.bincount(cut.owners, cut.lengths, minlength=whole.segments).astype(np.int64)
    new = Layout.of(
        lengths.tolist(), cut.positions, owner=whole.owner, samples=whole.samples,
        kinds=cut.kinds, channels=cut.channels,
    )  # fmt: skip
    new.__dict__["owners"] = whole.owners
    return new


def window_targets(cut: Layout, share: float) -> list[int]:
    """Return how many tokens of each window to keep, `share` of each segment in all.

    One at least is kept of each window; the windows of a segment differ by one where the share of
    a window is no whole number.
    """
    lengths = np.array(cut.lengths, dtype=np.int64)
    owners = np.array(cut.owners, dtype=np.int64)
    sums = lengths.cumsum()
    first = np.searchsorted(owners, owners)  # the first window of each one's segment
    ends = sums - (sums - lengths)[first]
    kept = [np.floor(share * place + 0.5 + 1e-9) for place in (ends, ends - lengths)]
    return np.clip((kept[0] - kept[1]).astype(np.int64), 1, lengths).tolist()


def planned(lengths: Sequence[int], targets: Sequence[int], *, steps: int) -> list[tuple[int, ...]]:
    """Return how many tokens each segment loses in each step, evenly from `lengths` to `targets`.

    A step merges pairs, and so leaves half of the tokens at least: a target that is too low for so
    many steps is not reached.
    """
    before = np.array(lengths, dtype=np.int64)
    target = np.clip(np.array(targets, dtype=np.int64), -(-before // 2**steps), before)
    lost, total = [], before - target
    for step in range(1, steps + 1):
        left = np.array(lengths, dtype=np.int64) - total * step // steps
        left = np.minimum(left, target << (steps - step))  # the rest must be able to halve it
        lost.append(tuple((before - left).tolist()))
        before = left
    return lost


def _levels(cosines: Tensor) -> Tensor:
    """Round cosines, so that ties (repeats have many) don't fall by a rounding error.

    Otherwise which of two equal pairs merges would depend on how the batch is packed.
    """
    return (cosines * LEVELS).round()


def _cosines(
    first: Float[Tensor, "segment row feature"], second: Float[Tensor, "segment column feature"]
) -> Float[Tensor, "segment row column"]:
    """Return rounded cosines of all pairs, in the features' own precision under autocast too."""
    with torch.autocast(first.device.type, enabled=False):
        return _levels(first @ second.mT)


def _wanted(lost: Sequence[int], layout: Layout) -> Int[Tensor, " segment"]:
    return torch.tensor(lost, dtype=torch.int64).to(layout.device, non_blocking=True)


def adjacent_pairs(
    features: Float[Tensor, "token feature"], layout: Layout, lost: Sequence[int]
) -> Int[Tensor, " token"]:
    """Join neighbours of the greatest cosine, one pair after another, none overlapping.

    The second of a pair joins the first; of equal pairs the earlier one comes first. A pair is
    passed over where the rest of its segment could then no longer lose `lost` tokens, which may be
    up to half of them.
    """
    rows = torch.arange(layout.tokens, device=layout.device)
    if not any(lost):
        return rows
    near = _levels((features[:-1] * features[1:]).sum(dim=1))
    score = layout.pad(F.pad(near, (0, 1)))
    free = layout.filled
    segment = torch.arange(layout.segments, device=layout.device)
    place = torch.arange(layout.longest, device=layout.device).expand_as(free)
    wanted = _wanted(lost, layout)
    spare = layout.offsets.diff() // 2 - wanted  # pairs that may be spoilt
    first = torch.zeros_like(free)
    for number in range(max(lost)):
        # The free tokens around a pair: with an odd number on both sides it spoils one pair.
        before = place - place.masked_fill(free, -1).cummax(dim=1).values - 1
        blocked = place.masked_fill(free, layout.longest)
        after = blocked.flip(1).cummin(dim=1).values.flip(1) - place - 2
        spoils = (before % 2 == 1) & (after % 2 == 1)
        able = free & F.pad(free[:, 1:], (0, 1)) & (~spoils | (spare > 0)[:, None])
        best = score.masked_fill(~able, -torch.inf).argmax(dim=1)
        going = number < wanted
        spare = spare - (spoils[segment, best] & going).long()
        chosen = (place == best[:, None]) & going[:, None]
        first = first | chosen
        free = free & ~chosen & ~F.pad(chosen[:, :-1], (1, 0))
    joined = layout.unpad(first)
    return rows - F.pad(joined[:-1], (1, 0)).long()


def closest_pairs(
    features: Float[Tensor, "token feature"], layout: Layout, lost: Sequence[int]
) -> Int[Tensor, " token"]:
    """Join the two tokens of a segment with the greatest cosine, one pair after another.

    No token is in two pairs; the later of a pair joins the earlier. Costs grow with the square of
    the segments' lengths: for windows.
    """
    rows = torch.arange(layout.tokens, device=layout.device)
    if not any(lost):
        return rows
    grid, filled, size = layout.pad(features), layout.filled, layout.longest
    score = _cosines(grid, grid)
    able = (filled[:, :, None] & filled[:, None]).triu(diagonal=1)
    place = torch.arange(size, device=layout.device)
    into = place.expand_as(filled).clone()
    wanted = _wanted(lost, layout)
    for number in range(max(lost)):
        best = score.masked_fill(~able, -torch.inf).flatten(1).argmax(dim=1)
        going = (number < wanted)[:, None]
        first, second = best[:, None] // size, best[:, None] % size
        into = torch.where((place == second) & going, first, into)
        used = ((place == first) | (place == second)) & going
        able = able & ~used[:, :, None] & ~used[:, None]
    return layout.unpad(into) + layout.offsets[layout.segment]


def bipartite_pairs(
    features: Float[Tensor, "token feature"], layout: Layout, lost: Sequence[int]
) -> Int[Tensor, " token"]:
    """Join tokens at even places to the most similar ones at odd places (ToMe, section 3).

    Of a segment's tokens at even places, those most similar to their partner join it; several may
    join the same. Costs grow with the square of the longest segment.
    """
    rows = torch.arange(layout.tokens, device=layout.device)
    if not any(lost):
        return rows
    grid, filled = layout.pad(features), layout.filled
    score = _cosines(grid[:, ::2], grid[:, 1::2])
    likeness, partner = score.masked_fill(~filled[:, None, 1::2], -torch.inf).max(dim=2)
    likeness = likeness.masked_fill(~filled[:, ::2], -torch.inf)
    rank = likeness.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    into = torch.arange(layout.longest, device=layout.device).expand_as(filled).clone()
    joins = rank < _wanted(lost, layout)[:, None]
    into[:, ::2] = torch.where(joins, 2 * partner + 1, into[:, ::2])
    return layout.unpad(into) + layout.offsets[layout.segment]
