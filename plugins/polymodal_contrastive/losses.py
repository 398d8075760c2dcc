"""InfoNCE and the sigmoid loss as pure functions, whole or tiled.

They score every anchor against every candidate. Anchor i's partner is candidate `first + i`: with
the candidates of all ranks laid end to end, `first` is where this rank's begin, and the sum of the
ranks' totals is the total of one process on the joined batch.

They build `tile` rows of the matrix of anchors by candidates at a time and take the gradient on the
way, so that memory grows with the batch and not with its square. Unless given, a matrix of up to
16 million entries is one tile, and the tiles of a larger one have 4 million.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

_WHOLE = 1 << 24  # entries of a matrix that is built whole
_TILE = 1 << 22  # and of a part of a larger one: 16 MB in float32, which a CPU's cache holds

Correct = Float[Tensor, ""]
"""How many anchors were told right."""

Part = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Scores some anchors: (anchors, candidates, scalars, targets, keys) to (total, correct)."""


def info_nce(
    anchors: Float[Tensor, "anchor width"],
    candidates: Float[Tensor, "candidate width"],
    *,
    scale: Float[Tensor, "*one"] | float,
    first: Int[Tensor, ""] | int = 0,
    anchor_keys: Int[Tensor, " anchor"] | None = None,
    candidate_keys: Int[Tensor, " candidate"] | None = None,
    tile: int | None = None,
) -> tuple[Float[Tensor, ""], Correct]:
    """Return the sum over anchors of -log softmax(scale * anchor . candidates)[partner].

    Both sides must be normalised already (van den Oord et al., 2018, eq. 4; Radford et al., 2021,
    figure 3). A candidate whose key equals the anchor's is no negative of it and is left out,
    its partner excepted. An anchor counts as correct when its partner alone scores highest.
    """
    return _scored(
        _info_nce_rows, anchors, candidates, [scale], first, anchor_keys, candidate_keys, tile
    )


def siglip_loss(
    anchors: Float[Tensor, "anchor width"],
    candidates: Float[Tensor, "candidate width"],
    *,
    scale: Float[Tensor, "*one"] | float,
    bias: Float[Tensor, "*one"] | float,
    first: Int[Tensor, ""] | int = 0,
    anchor_keys: Int[Tensor, " anchor"] | None = None,
    candidate_keys: Int[Tensor, " candidate"] | None = None,
    tile: int | None = None,
) -> tuple[Float[Tensor, ""], Correct]:
    """Return the sum over all pairs of -log sigmoid(label * (scale * anchor . candidate + bias)).

    The label is 1 for partners and -1 for others (Zhai et al., 2023, eq. 1, before its division by
    the number of anchors). Pairs with equal keys that are not partners are left out. An anchor
    counts as correct when its partner alone scores highest.
    """
    return _scored(
        _siglip_rows, anchors, candidates, [scale, bias], first, anchor_keys, candidate_keys, tile
    )


def _info_nce_rows(
    anchors: Tensor, candidates: Tensor, scalars: Tensor, targets: Tensor, same: Tensor | None
) -> tuple[Tensor, Tensor]:
    logits = scalars[0] * (anchors @ candidates.T)
    if same is not None:
        logits = logits.masked_fill(same, -torch.inf)
    partner = logits.gather(1, targets[:, None])
    total = (logits.logsumexp(dim=1) - partner[:, 0]).sum()
    return total, _alone_highest(logits, partner)


def _siglip_rows(
    anchors: Tensor, candidates: Tensor, scalars: Tensor, targets: Tensor, same: Tensor | None
) -> tuple[Tensor, Tensor]:
    logits = scalars[0] * (anchors @ candidates.T) + scalars[1]
    partner = logits.gather(1, targets[:, None])
    against = F.softplus(logits)  # -log sigmoid(-x)
    if same is not None:
        against = against.masked_fill(same, 0)
        logits = logits.masked_fill(same, -torch.inf)
    # A partner's -log sigmoid(x) is softplus(x) - x.
    return against.sum() - partner.sum(), _alone_highest(logits, partner)


def _alone_highest(logits: Tensor, partner: Tensor) -> Tensor:
    """Count the rows whose partner nothing equals or beats, so that a collapse scores nothing."""
    with torch.no_grad():
        return ((logits >= partner).sum(dim=1) == 1).sum().float()


def _scored(
    part: Part,
    anchors: Tensor,
    candidates: Tensor,
    scalars: list[Tensor | float],
    first: Tensor | int,
    anchor_keys: Tensor | None,
    candidate_keys: Tensor | None,
    tile: int | None,
) -> tuple[Tensor, Tensor]:
    if (anchor_keys is None) != (candidate_keys is None):
        raise ValueError("keys must be given for anchors and candidates, or for neither")
    with torch.autocast(anchors.device.type, enabled=False):
        anchors, candidates = single(anchors), single(candidates)
        numbers = torch.cat([torch.as_tensor(s).to(anchors).reshape(1) for s in scalars])
        targets = torch.arange(anchors.shape[0], device=anchors.device) + first
        size = tile_rows(anchors.shape[0], candidates.shape[0], tile)
        if tile is not None or size < anchors.shape[0]:
            return _Tiled.apply(
                anchors, candidates, numbers, part, targets, anchor_keys, candidate_keys, size
            )
        same = None
        if anchor_keys is not None and candidate_keys is not None:
            same = same_key(anchor_keys, candidate_keys, targets)
        return part(anchors, candidates, numbers, targets, same)


def tile_rows(anchors: int, candidates: int, tile: int | None) -> int:
    """Return how many rows of the matrix to build at a time.

    `tile`, or all rows up to 16 million entries, or of a larger matrix 4 million entries.
    """
    if tile or anchors * candidates <= _WHOLE:
        return tile or max(anchors, 1)
    return max(1, _TILE // candidates)


def single(rows: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return half-precision rows in float32: logits reach 100, where bfloat16 is off by a half."""
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def same_key(
    anchor_keys: Int[Tensor, " anchor"],
    candidate_keys: Int[Tensor, " candidate"],
    targets: Int[Tensor, " anchor"],
) -> Bool[Tensor, "anchor candidate"]:
    """Return which pairs have one key without being partners."""
    place = torch.arange(candidate_keys.shape[0], device=targets.device)
    return (anchor_keys[:, None] == candidate_keys) & (place != targets[:, None])


class _Tiled(torch.autograd.Function):
    """Sums `part` over tiles of anchors; the gradient is ready when the total is."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        scalars: Tensor,
        part: Part,
        targets: Tensor,
        anchor_keys: Tensor | None,
        candidate_keys: Tensor | None,
        tile: int,
    ) -> tuple[Tensor, Tensor]:
        sources = (anchors.detach(), candidates.detach(), scalars.detach())
        wanted = any(ctx.needs_input_grad[:3])
        grads = [torch.zeros_like(source) for source in sources] if wanted else []
        total, correct = anchors.new_zeros(()), anchors.new_zeros(()).float()
        for start in range(0, anchors.shape[0], tile):
            rows = slice(start, start + tile)
            inputs = [sources[0][rows], sources[1].detach(), sources[2].detach()]
            for each in inputs:
                each.requires_grad_(wanted)
            same = None
            if anchor_keys is not None and candidate_keys is not None:
                same = same_key(anchor_keys[rows], candidate_keys, targets[rows])
            with torch.set_grad_enabled(wanted):
                value, right = part(inputs[0], inputs[1], inputs[2], targets[rows], same)
            total, correct = total + value.detach(), correct + right
            if wanted:
                found = torch.autograd.grad(value, inputs)
                grads[0][rows] = found[0]
                grads[1] += found[1]
                grads[2] += found[2]
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        found = [grad * upstream[0] for grad in ctx.saved_tensors]
        return (*found, None, None, None, None, None)
