"""Cutting stretches out of sequences, a sentinel in the place of each (Raffel et al., 2020)."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal import Layout, Tokens


def sentinel_ids(special: Mapping[str, int]) -> list[int]:
    """Return the ids of the roles "sentinel_0", "sentinel_1" ..., as many as there are."""
    found: list[int] = []
    while f"sentinel_{len(found)}" in special:
        found.append(special[f"sentinel_{len(found)}"])
    return found


def cut_out(
    tokens: Tokens,
    hidden: Bool[Tensor, " token"],
    *,
    sentinels: Int[Tensor, " sentinel"],
    end: int,
    units: Int[Tensor, " token"] | None = None,
    special_kind: int | None = None,
) -> tuple[Tokens, Tokens]:
    """Return what is left of sequences, and what was cut out of them; waits for the device.

    A run of hidden tokens gives way to a sentinel, the segment's next; the target lists each
    sentinel with its run, and ends with `end`. A segment of which nothing is hidden has no target.
    Positions are numbered anew, or they would tell how long a run was. Runs that find no sentinel
    left stay where they are.

    Args:
        tokens: ids.
        hidden: which of them.
        sentinels: their ids, in order.
        end: id that ends a target.
        units: by token; neighbours of different units are different runs.
        special_kind: `Layout.kinds` of a sentinel.
    """
    layout = tokens.layout
    assert tokens.ids is not None
    unit = layout.segment if units is None else units
    goes_on = torch.zeros_like(hidden)
    goes_on[1:] = hidden[:-1] & (layout.segment.diff() == 0) & (unit.diff() == 0)
    first = hidden & ~goes_on
    before = torch.cat([first.new_zeros(1, dtype=torch.int64), first.cumsum(0)])  # runs before
    number = before[1:] - 1 - before[layout.offsets[layout.segment]]
    hidden = hidden & (number < len(sentinels))
    first = first & hidden
    sentinel = sentinels[number.clamp(min=0, max=len(sentinels) - 1)]

    kept, rows = layout.kept(~hidden | first, None)
    ids = torch.where(first[rows], sentinel[rows], tokens.ids[rows])
    kinds = kept.kinds
    if kinds is not None and special_kind is not None:
        kinds = kinds.masked_fill(first[rows], special_kind)
    source = Tokens(replace(kept, positions=kept.within[:, None], kinds=kinds), ids=ids)

    cut, heads = hidden.nonzero()[:, 0], first.nonzero()[:, 0]
    of_run = torch.bincount(layout.segment[heads], minlength=layout.segments)
    of_cut = torch.bincount(layout.segment[cut], minlength=layout.segments)
    ended = (of_run > 0).nonzero()[:, 0]
    lengths = (of_run + of_cut + (of_run > 0)).tolist()
    # In order of rows: a sentinel before the first token of its run, the end after the last.
    place = torch.cat([3 * heads + 1, 3 * cut + 2, 3 * layout.offsets[ended + 1]])
    ends = torch.full_like(ended, end)
    target = torch.cat([sentinel[heads], tokens.ids[cut], ends])[place.argsort()]
    written = Layout.of(lengths, owner=layout.owner, samples=layout.samples)
    return source, Tokens(written.to(layout.device), ids=target)


@cache
def span_chance(ratio: float, mean: float) -> float:
    """Return how likely a span must begin at each token, for a share `ratio` to be hidden.

    Spans have geometric lengths and may overlap, so a token is spared with probability
    prod_k (1 - p q^k), q = 1 - 1 / mean.
    """
    stays = 1 - 1 / mean
    reach = [1.0]
    while reach[-1] * stays > 1e-9:
        reach.append(reach[-1] * stays)
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        spared = math.prod(1 - middle * each for each in reach)
        low, high = (middle, high) if 1 - spared < ratio else (low, middle)
    return high


def hidden_spans(
    start: Float[Tensor, " token"],
    length: Float[Tensor, " token"],
    layout: Layout,
    *,
    allowed: Bool[Tensor, " token"],
    ratio: float,
    mean: float,
) -> Bool[Tensor, " token"]:
    """Hide spans of tokens, `ratio` of all on average and one token of a segment at least.

    Args:
        start: noise in [0, 1) that says where spans begin.
        length: noise that says how long they are, from 1 up, `mean` on average.
        layout: of the tokens.
        allowed: what may be hidden.
        ratio: share of the tokens.
        mean: length of a span before spans overlap or meet a segment's end.
    """
    row = torch.arange(layout.tokens, device=layout.device)
    size = torch.ones_like(start)
    if mean > 1:
        size = 1 + ((1 - length).log() / math.log(1 - 1 / mean)).floor()
    stop = torch.minimum(row + size.long(), layout.offsets[layout.segment + 1])
    begins = start < span_chance(ratio, mean)
    reached = torch.where(begins, stop, 0)
    hidden = (reached.cummax(0).values > row) & allowed
    return hidden | _spared(start, layout, allowed, hidden)


def hidden_units(
    noise: Float[Tensor, " token"],
    units: Int[Tensor, " token"],
    layout: Layout,
    *,
    allowed: Bool[Tensor, " token"],
    ratio: float,
) -> Bool[Tensor, " token"]:
    """Hide whole units (lines), drawn with replacement: `ratio` of them, one at least.

    Of n units, int(n ratio) are drawn, or one if that is none (CodeReviewer, section 3.2.2). If no
    drawn unit holds anything that may be hidden, another one's tokens are.

    Args:
        noise: in [0, 1).
        units: numbers within the segment, from 0; -1 for tokens of none.
        layout: of the tokens.
        allowed: what may be hidden.
        ratio: share of the units.
    """
    most = units.new_full((layout.segments,), -1).scatter_reduce(0, layout.segment, units, "amax")
    count = most + 1
    draws = (count * ratio).long().clamp(min=1)
    base, mine = layout.offsets[layout.segment], count[layout.segment]
    drawn = torch.minimum((noise * mine).long(), (mine - 1).clamp(min=0))
    drawing = (layout.within < draws[layout.segment]) & (mine > 0)
    has_unit = units >= 0
    flags = torch.zeros_like(allowed)  # a segment has no more units than tokens
    flags[(base + drawn)[drawing]] = True

    def within_flags() -> Tensor:
        return flags[base + units.clamp(min=0)] & has_unit & allowed

    hidden = within_flags()
    spared = _spared(noise, layout, allowed & has_unit, hidden)
    flags[(base + units)[spared]] = True
    return within_flags()


def _spared(noise: Tensor, layout: Layout, allowed: Tensor, hidden: Tensor) -> Tensor:
    """Return one allowed token of each segment that has nothing hidden, that of the least noise."""
    segment = layout.segment
    any_hidden = torch.zeros(layout.segments, dtype=torch.bool, device=layout.device)
    any_hidden[segment[hidden]] = True
    rank = torch.where(allowed, noise, 2.0)
    least = rank.new_full((layout.segments,), 2.0).scatter_reduce(0, segment, rank, "amin")
    return allowed & ~any_hidden[segment] & (rank == least[segment])
