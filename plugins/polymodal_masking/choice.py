"""Which tokens to hide: pure functions of noise and layout.

How many tokens of each segment are hidden is known on the host (`hidden_counts`); which ones is
settled by a score a token, lowest first (`choose`). The shapes (spans, blocks) are scores. Nothing
here waits for the device, except where whole units (words, tubes) make the number depend on data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal import Layout, Tokens, TokenSpec, ranges

Rounding = Literal["nearest", "down", "up"]


@dataclass(frozen=True, eq=False)
class Choice:
    """The tokens hidden and those left, as ascending rows, with how many of each segment."""

    hidden: Int[Tensor, " hidden"]
    hidden_lengths: tuple[int, ...]
    visible: Int[Tensor, " visible"]
    visible_lengths: tuple[int, ...]

    @classmethod
    def of_mask(cls, hidden: Bool[Tensor, " token"], layout: Layout) -> "Choice":
        """Return the choice a mask says; waits for the device."""
        rows = hidden.nonzero()[:, 0]
        counts = torch.bincount(layout.segment[rows], minlength=layout.segments).tolist()
        left = [length - count for length, count in zip(layout.lengths, counts, strict=True)]
        return cls(rows, tuple(counts), (~hidden).nonzero()[:, 0], tuple(left))


def check_ratio(ratio: float) -> float:
    """Return a share of tokens to hide.

    Raises:
        ValueError: it does not lie between 0 and 1.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must lie between 0 and 1, got {ratio}")
    return ratio


def hidden_counts(
    lengths: Sequence[int],
    ratio: float,
    *,
    rounding: Rounding = "nearest",
    at_least: int = 0,
    leave: int = 0,
) -> list[int]:
    """Return how many tokens of each segment to hide.

    `at_least` that many where a segment has them, but always `leave` so many visible. A product
    that misses a whole number by rounding error alone (0.29 * 100) counts as that number.
    """
    counts = []
    for length in lengths:
        share = ratio * length
        if rounding == "nearest":
            count = math.floor(share + 0.5 + 1e-9)
        elif rounding == "down":
            count = math.floor(share + 1e-9)
        else:
            count = math.ceil(share - 1e-9)
        counts.append(max(min(max(count, at_least), length - leave), 0))
    return counts


def choose(scores: Float[Tensor, " token"], layout: Layout, counts: Sequence[int]) -> Choice:
    """Hide the `counts[s]` tokens of segment s with the lowest scores; ties in their order."""
    order = _order(scores, layout)
    hidden = torch.tensor(counts, dtype=torch.int64, device=scores.device)
    left = [length - count for length, count in zip(layout.lengths, counts, strict=True)]
    visible = torch.tensor(left, dtype=torch.int64, device=scores.device)
    starts = layout.offsets[:-1]
    return Choice(
        order[ranges(starts, hidden, sum(counts))].sort().values,
        tuple(counts),
        order[ranges(starts + hidden, visible, sum(left))].sort().values,
        tuple(left),
    )


def choose_each(noise: Float[Tensor, " token"], layout: Layout, ratio: float) -> Choice:
    """Hide each token by itself with chance `ratio`, and at least one of every segment.

    Where chance would hide none, the token of the lowest noise is, which is each one equally
    likely. Waits for the device, since how many that makes depends on the noise.
    """
    lowest = noise.new_full((layout.segments,), torch.inf)
    lowest = lowest.scatter_reduce(0, layout.segment, noise, "amin")
    return Choice.of_mask((noise < ratio) | (noise == lowest[layout.segment]), layout)


def _order(scores: Tensor, layout: Layout) -> Tensor:
    """Return the rows sorted by segment, then score, then place."""
    order = scores.argsort(stable=True)
    return order[layout.segment[order].argsort(stable=True)]


def hideable(
    tokens: Tokens, spec: TokenSpec, kinds: Sequence[str] | None = None
) -> Bool[Tensor, " token"] | None:
    """Return which tokens may be hidden, None for all: no special ids, and no special kind.

    With `kinds`, only tokens of these kinds.

    Raises:
        ValueError: a kind that the stream's tokens don't have.
    """
    unknown = sorted(set(kinds or ()) - set(spec.kinds))
    if unknown:
        raise ValueError(f"kinds: {unknown} unknown, the stream has {list(spec.kinds)}")
    names = [name for name in spec.kinds if name != "special"] if kinds is None else kinds
    allowed: Tensor | None = None
    if set(names) != set(spec.kinds):
        chosen = torch.tensor([name in names for name in spec.kinds], device=tokens.layout.device)
        if tokens.layout.kinds is not None:
            allowed = chosen[tokens.layout.kinds]
        else:  # all of the first kind
            allowed = chosen[:1].expand(tokens.layout.tokens)
    if tokens.ids is not None and spec.special:
        special = torch.tensor(sorted(set(spec.special.values())), device=tokens.ids.device)
        ordinary = torch.isin(tokens.ids, special, invert=True)
        allowed = ordinary if allowed is None else allowed & ordinary
    return allowed


def put_last(
    scores: Float[Tensor, " token"], allowed: Bool[Tensor, " token"] | None
) -> Float[Tensor, " token"]:
    """Return scores by which tokens that may not be hidden come after all others."""
    return scores if allowed is None else scores.masked_fill(~allowed, torch.inf)


def span_scores(
    start_noise: Float[Tensor, " token"],
    length_noise: Float[Tensor, " token"],
    layout: Layout,
    *,
    stop: float,
    longest: int,
    allowed: Bool[Tensor, " token"] | None = None,
) -> Float[Tensor, " token"]:
    """Return scores that hide contiguous spans (SpanBERT, Joshi et al., 2020, section 3.1).

    A span of geometric length (it ends after each token with chance `stop`, and is at most
    `longest`: the distribution cut there) begins at every token; the spans with the lowest start
    noise come first. The last span of a segment is cut where the segment's count is reached.
    """
    start_noise = put_last(start_noise, allowed)
    reach = 1 - (1 - stop) ** longest
    length = 1 + ((-length_noise * reach).log1p() / math.log1p(-stop)).floor()
    length = length.clamp(max=longest)
    row = torch.arange(layout.tokens, device=layout.device)
    scores = start_noise
    unbroken = allowed
    for back in range(1, min(longest, layout.longest)):
        start = (row - back).clamp(min=0)
        covered = (layout.within >= back) & (length[start] > back)
        if allowed is not None and unbroken is not None:
            # A span does not reach across a token that stays.
            unbroken = unbroken & allowed[start]
            covered = covered & unbroken
        found = torch.where(covered, start_noise[start], torch.inf)
        scores = torch.minimum(scores, found)
    return put_last(scores, allowed)


def block_scores(
    centre_noise: Float[Tensor, " token"],
    area_noise: Float[Tensor, " token"],
    shape_noise: Float[Tensor, " token"],
    layout: Layout,
    *,
    area: tuple[float, float] = (0.08, 0.4),
    aspect: float = 0.3,
    most: int = 16,
) -> Float[Tensor, " token"]:
    """Return scores that hide rectangles of the last two position axes (BEiT, algorithm 1).

    Each covers a share of the places drawn from `area` with a height to width between `aspect` and
    its inverse, at every place of the axes before (all frames of a video). The rectangles come in
    random order, up to `most` a segment; what no rectangle covers comes last. The last one is cut
    where the segment's count is reached.

    Raises:
        ValueError: positions with fewer than two axes.
    """
    if layout.positions.shape[1] < 2:
        raise ValueError("blocks need positions with two axes or more")
    if layout.tokens == 0:
        return centre_noise
    place = layout.positions[:, -2:].float()
    # Places of the plane: tokens of a segment over how many each place has.
    units = torch.cat([layout.segment[:, None], layout.positions[:, -2:].long()], dim=1)
    _, plane = units.unique(dim=0, return_inverse=True)
    deep = torch.bincount(plane)[plane]
    places = (layout.offsets.diff()[layout.segment] / deep).float()
    size = (area[0] + area_noise * (area[1] - area[0])) * places
    ratio = torch.exp((2 * shape_noise - 1) * -math.log(aspect))
    half = torch.stack([(size * ratio).sqrt(), (size / ratio).sqrt()], dim=1) / 2  # token 2

    order = _order(centre_noise, layout)
    number = torch.arange(most, device=layout.device)
    lengths = layout.offsets.diff()
    at = layout.offsets[:-1, None] + torch.minimum(number, (lengths[:, None] - 1).clamp(min=0))
    centres = order[at.clamp(max=layout.tokens - 1)]  # segment most
    centre = centres[layout.segment]  # token most
    inside = ((place[:, None] - place[centre]).abs() <= half[centre]).all(dim=2)
    first = torch.where(inside, number, most).amin(dim=1)
    return torch.where(first < most, first.float(), most + centre_noise)


def choose_units(
    noise: Float[Tensor, " token"],
    unit: Int[Tensor, " token"],
    layout: Layout,
    counts: Sequence[int],
    *,
    allowed: Bool[Tensor, " token"] | None = None,
) -> Choice:
    """Hide whole units (words, tubes) in random order until about `counts[s]` tokens are hidden.

    Tokens of one segment with the same number belong together; a negative number stands alone. The
    unit at the boundary is hidden if at least half of it still fits, and the first one always.
    Waits for the device, since how many tokens that makes depends on the units.
    """
    if layout.tokens == 0:
        return choose(noise, layout, [0] * layout.segments)
    row = torch.arange(layout.tokens, device=layout.device)
    single = unit < 0 if allowed is None else (unit < 0) | ~allowed
    numbers = torch.where(single, unit.amax().clamp(min=0) + 1 + layout.within, unit)
    _, dense = (layout.segment * (numbers.amax() + 1) + numbers).unique(return_inverse=True)
    first = torch.full_like(row, layout.tokens).scatter_reduce(0, dense, row, "amin")
    drawn = put_last(noise[first[dense]], allowed)
    order = dense.argsort(stable=True)
    order = order[drawn[order].argsort(stable=True)]
    order = order[layout.segment[order].argsort(stable=True)]
    rank = torch.empty_like(row)
    rank[order] = row - layout.offsets[layout.segment]
    begins = torch.full_like(row, layout.tokens).scatter_reduce(0, dense, rank, "amin")[dense]
    size = torch.bincount(dense)[dense]
    wanted = torch.tensor(counts, dtype=torch.int64, device=row.device)[layout.segment]
    hidden = (2 * begins + size <= 2 * wanted) | ((begins == 0) & (wanted > 0))
    return Choice.of_mask(hidden if allowed is None else hidden & allowed, layout)


def tube_units(layout: Layout) -> Int[Tensor, " token"]:
    """Number the places of each segment by all position axes but the first, time.

    Raises:
        ValueError: positions with fewer than two axes.
    """
    if layout.positions.shape[1] < 2:
        raise ValueError("tubes need positions with two axes or more, time first")
    unit = torch.zeros(layout.tokens, dtype=torch.int64, device=layout.device)
    if layout.tokens == 0:
        return unit
    for axis in layout.positions[:, 1:].long().unbind(dim=1):
        unit = unit * (axis.amax() + 1) + axis
    return unit
