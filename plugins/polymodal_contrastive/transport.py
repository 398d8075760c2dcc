"""Optimal transport between the tokens of two streams: plans by IPOT, distances, alignment."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from polymodal import Encoded, Layout
from polymodal_contrastive.losses import single

Partners = Sequence[Sequence[int]] | None
"""Of a sample: for each word, the columns it belongs to; None where that is not known."""


def optimal_transport(
    cost: Float[Tensor, "pair row column"],
    rows: Int[Tensor, " pair"] | None = None,
    columns: Int[Tensor, " pair"] | None = None,
    *,
    beta: float = 0.5,
    iterations: int = 50,
    inner: int = 1,
) -> Float[Tensor, "pair row column"]:
    """Return the plan that moves uniform mass from rows to columns at least cost, by IPOT.

    The inexact proximal point method (Xie et al., 2020, algorithm 1; UNITER's appendix): the plan
    tends to the exact optimum, not to one blurred by entropy. It carries no gradient, so that in
    `(cost * plan).sum()` the gradient flows through the cost alone. Worked out in float32 or wider.
    Row sums are 1 / rows exactly, column sums 1 / columns as far as it has converged.

    Args:
        cost: a block for each pair.
        rows: how many rows of each block count, all unless given; the plan is 0 outside.
        columns: how many columns.
        beta: step of the proximal point; the smaller, the fewer iterations it takes and the
            sooner `exp(-cost / beta)` underflows.
        iterations: of the proximal point.
        inner: Sinkhorn updates in each.

    Raises:
        ValueError: beta, iterations or inner not above 0.
    """
    check_transport(beta, iterations, inner)
    with torch.no_grad(), torch.autocast(cost.device.type, enabled=False):
        cost = single(cost.detach())
        row_in, column_in = _counted(cost, rows, 1), _counted(cost, columns, 2)
        plan = (row_in & column_in).to(cost.dtype)
        kernel = torch.exp(-cost / beta) * plan
        row_mass = _uniform(row_in, column_in).to(cost.dtype)
        column_mass = _uniform(column_in, row_in).to(cost.dtype)
        by_row = row_mass
        tiny = torch.finfo(cost.dtype).tiny  # where there is no mass: 0 / 0 would be NaN
        for _ in range(iterations):
            step = kernel * plan
            for _ in range(inner):
                by_column = column_mass / (step * by_row).sum(dim=1, keepdim=True).clamp(min=tiny)
                by_row = row_mass / (step * by_column).sum(dim=2, keepdim=True).clamp(min=tiny)
            plan = by_row * step * by_column
        return plan


def check_transport(beta: float, iterations: int, inner: int = 1) -> None:
    """Refuse options that `optimal_transport` can't take.

    Raises:
        ValueError: beta, iterations or inner not above 0.
    """
    if beta <= 0 or iterations < 1 or inner < 1:
        raise ValueError(
            f"beta must be above 0 and iterations and inner 1 or more, got {beta}, {iterations} "
            f"and {inner}"
        )


def _uniform(mine: Tensor, others: Tensor) -> Tensor:
    """Return equal shares of a mass of 1; none where the other side has nothing to take it."""
    count = mine.sum(dim=(1, 2), keepdim=True).clamp(min=1).double()
    return (mine & others.any(dim=1, keepdim=True).any(dim=2, keepdim=True)) / count


def _counted(cost: Tensor, count: Tensor | None, dim: int) -> Tensor:
    """Return which rows (dim 1) or columns (dim 2) of each block count, to be broadcast."""
    place = torch.arange(cost.shape[dim], device=cost.device)
    if count is None:
        count = torch.full((cost.shape[0],), cost.shape[dim], device=cost.device)
    found = place < count[:, None]
    return found[:, :, None] if dim == 1 else found[:, None, :]


def alignment(
    first: Encoded, second: Encoded, *, beta: float = 0.5, iterations: int = 50
) -> tuple[Float[Tensor, " segment"], Float[Tensor, "segment row column"]]:
    """Return the transport distance of each pair of segments, and the plan behind it.

    The cost of two tokens is 1 - cos of their vectors (UNITER, section 3.2, WRA); the gradient
    flows through it alone. An empty segment is at distance 0. Costs and plans lie in blocks as long
    as the longest segments, 0 where there is no token.
    """
    with torch.autocast(first.vectors.device.type, enabled=False):
        one, other = (
            each.layout.pad(F.normalize(single(each.vectors), dim=1)) for each in (first, second)
        )
        inside = first.layout.filled[:, :, None] & second.layout.filled[:, None]
        cost = (1 - one @ other.transpose(1, 2)).where(inside, 0)
        lengths = (first.layout.offsets.diff(), second.layout.offsets.diff())
        plan = optimal_transport(cost, *lengths, beta=beta, iterations=iterations)
        return (cost * plan).sum(dim=(1, 2)), plan


def aligned(
    plan: Float[Tensor, "pair row column"],
    layout: Layout,
    partners: Sequence[Partners],
) -> tuple[Int[Tensor, ""], Int[Tensor, ""]]:
    """Return how many tokens' strongest partner is right, and how many tokens were asked for.

    Args:
        plan: of tokens of a stream with words (rows) to those of another (columns).
        layout: of the rows; its channel "word" numbers the words, from any number on.
        partners: for each pair its right columns by word, content words alone, in their order; a
            word without any is not asked for.
    """
    right = torch.zeros(plan.shape, dtype=torch.bool)
    words = layout.channels.get("word", layout.segment).tolist()  # a batch without tokens lacks it
    content = [True] * layout.tokens if layout.kinds is None else (layout.kinds == 0).tolist()
    start = 0
    for pair, (length, known) in enumerate(zip(layout.lengths, partners, strict=True)):
        rows = [row for row in range(length) if content[start + row]]
        for row in rows:
            word = words[start + row] - words[start + rows[0]]
            if known is not None and word < len(known):
                right[pair, row, list(known[word])] = True
        start += length
    right = right.to(plan.device)
    strongest = plan.argmax(dim=2, keepdim=True) if plan.numel() else plan[:, :, :1].long()
    return right.gather(2, strongest).sum(), right.any(dim=2).sum()
