"""Telling true pairs of tokens from others: scores, the loss, and pairs drawn that are none."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal import Loss

Score = Literal["dot", "scaled", "mean", "mlp"]


class PairScore(nn.Module):
    """Scores pairs by the dot product of their vectors, or an MLP over the product by channels.

    "scaled" divides the product by the root of the width: scores of vectors of unit variance then
    are about 1 in size, where those of "dot" saturate the loss from the start. "mean" divides it by
    the width: scores of vectors that have much in common, as those of an untrained encoder, then
    are at most about 1, and the loss starts near that of guessing. A bias, zero at the start, is
    added. Both ends count alike: direction is not told. With vectors of several layers,
    each of one end is multiplied with each of the other.
    """

    def __init__(self, width: int, score: Score, *, layers: int = 1):
        super().__init__()
        self.head: nn.Module | None = None
        self.scale = {"scaled": width**-0.5, "mean": 1 / width}.get(score, 1.0)
        self.bias = nn.Parameter(torch.zeros(1))
        if score == "mlp":
            products = width * layers**2
            self.head = nn.Sequential(nn.Linear(products, width), nn.GELU(), nn.Linear(width, 1))

    def forward(
        self, vectors: Sequence[Float[Tensor, "token width"]], pairs: Int[Tensor, "2 pair"]
    ) -> Float[Tensor, " pair"]:
        """Return the score of each pair of rows, in float32, from the vectors of each layer."""
        # In half precision the products of a block's vectors, which no norm bounds, overflow.
        with torch.autocast(pairs.device.type, enabled=False):
            wide = [each.to(self.bias.dtype) for each in vectors]
            products = [one[pairs[0]] * other[pairs[1]] for one in wide for other in wide]
            product = torch.cat(products, dim=1)
            scored = product.sum(dim=1, keepdim=True) if self.head is None else self.head(product)
            return (scored[:, 0] * self.scale + self.bias).float()


def pair_loss(
    true: Float[Tensor, " pair"], drawn: Float[Tensor, " pair"], counted: Bool[Tensor, " pair"]
) -> Loss:
    """Return the binary cross-entropy of true pairs and of the pair drawn for each of them.

    Drawn pairs that are not `counted` cost nothing. The metrics are `accuracy`, and `auc`, the
    share of true pairs that score above the one drawn for them.
    """
    total = F.softplus(-true).sum() + F.softplus(drawn).masked_fill(~counted, 0).sum()
    drawn_count = counted.sum()
    count = len(true) + drawn_count
    with torch.no_grad():
        above = ((true > drawn) & counted).sum()
        right = (true > 0).sum() + ((drawn <= 0) & counted).sum()
    return Loss(total, count, {"accuracy": (right, count), "auc": (above, drawn_count)})


def draw_others(
    noise: Float[Tensor, " pair"],
    anchors: Int[Tensor, " pair"],
    sought: Int[Tensor, " token"],
    group: Int[Tensor, " token"],
    partners: Int[Tensor, "2 known"],
) -> tuple[Int[Tensor, " pair"], Bool[Tensor, " pair"]]:
    """Return for each anchor a token that is no partner of it, and whether there is one.

    Each token of the group sought is as likely, but for the anchor itself and its partners.
    Nothing is drawn twice to get there, and no matrix of pairs is made.

    Args:
        noise: in [0, 1).
        anchors: rows.
        sought: the group that each token, as an anchor, draws from.
        group: the group each token belongs to, from 0; negative for none.
        partners: (anchor, partner) rows, each pair as often as you like.
    """
    tokens = len(group)
    if tokens == 0 or len(anchors) == 0:
        return anchors, torch.zeros_like(anchors, dtype=torch.bool)
    members = group.argsort(stable=True)
    members = members[(group < 0).sum() :]
    size = int(max(group.max(), sought.max())) + 1
    counts = torch.bincount(group[members], minlength=max(size, 1))
    first = counts.cumsum(0) - counts
    rank = torch.zeros_like(group)
    rank[members] = torch.arange(len(members), device=group.device) - first[group[members]]
    # Whom each anchor may not draw, as places in its group, ascending.
    barred = torch.cat([partners, anchors.expand(2, -1)], dim=1)
    inside = (group[barred[1]] == sought[barred[0]]) & (group[barred[1]] >= 0)
    code = (barred[0] * tokens + rank[barred[1]])[inside].unique()
    owner, place = code // tokens, code % tokens
    taken = torch.bincount(owner, minlength=tokens)
    start = taken.cumsum(0) - taken
    before = torch.arange(len(code), device=code.device) - start[owner]
    # The k-th place that is free lies behind all taken ones with fewer than k + 1 free before.
    free = counts[sought[anchors]] - taken[anchors]
    found = free > 0
    k = torch.minimum((noise * free).long(), free - 1).clamp(min=0)
    passed = torch.searchsorted(
        owner * (tokens + 1) + place - before, anchors * (tokens + 1) + k, right=True
    )
    row = first[sought[anchors]] + k + passed - start[anchors]
    return members[row.clamp(max=len(members) - 1)] if len(members) else anchors, found
