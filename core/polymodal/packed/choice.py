"""Which tokens to hide, as rows: pure functions of scores and layout.

How many tokens of each segment are hidden is known on the host (`hidden_counts`); which ones is
settled by a score a token, lowest first (`choose`). Where only some tokens may be hidden, the host
knows no more than an upper bound, and which of the chosen count is settled on the device
(`counting`). Nothing here waits for the device, except `Choice.of_mask` and `allowed_lengths`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal.packed.layout import Layout, ranges
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Tokens

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
    order = by_score(scores, layout)
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


def counting(
    scores: Float[Tensor, " token"],
    allowed: Bool[Tensor, " token"],
    layout: Layout,
    counts: Sequence[int],
    ratio: float,
    *,
    rounding: Rounding = "nearest",
    at_least: int = 0,
) -> Bool[Tensor, " token"]:
    """Return which tokens are the share of those that may be hidden, without waiting.

    Of each segment so many as `hidden_counts` says of its allowed tokens, at most `counts[s]`:
    those with the lowest scores, which `choose` with these counts takes as well.

    Args:
        scores: of all tokens; of those that may not be hidden infinite (`put_last`).
        allowed: which may be hidden.
        layout: of the tokens.
        counts: how many of each segment are chosen.
        ratio: share of the allowed tokens.
        rounding: of that number.
        at_least: so many where as many are allowed.
    """
    rank = torch.empty_like(layout.segment)
    rank[by_score(scores, layout)] = layout.within
    found = torch.zeros(layout.segments, dtype=torch.int64, device=scores.device)
    found = found.index_add(0, layout.segment, allowed.long())
    # The host's numbers for every length there may be: the same rounding, and no float64 there.
    lengths = range(layout.longest + 1)
    table = hidden_counts(lengths, ratio, rounding=rounding, at_least=at_least)
    wanted = torch.tensor(table, dtype=torch.int64, device=scores.device)[found]
    wanted = wanted.minimum(torch.tensor(counts, dtype=torch.int64, device=scores.device))
    return allowed & (rank < wanted[layout.segment])


def allowed_lengths(allowed: Bool[Tensor, " token"] | None, layout: Layout) -> Sequence[int]:
    """Return how many tokens of each segment may be hidden; waits for the device."""
    if allowed is None:
        return layout.lengths
    found: list[int] = torch.bincount(layout.segment[allowed], minlength=layout.segments).tolist()
    return found


def by_score(scores: Tensor, layout: Layout) -> Tensor:
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
