"""Whole units: tokens that belong together are hidden together."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal import Choice, Layout, choose, put_last


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
