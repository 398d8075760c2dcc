"""The sigmoid loss over all ranks with one rank's candidates at a time, passed round in a ring."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from polymodal import rank, world_size
from polymodal_contrastive.losses import Correct, single, tile_rows


def siglip_ring(
    anchors: Float[Tensor, "row width"],
    candidates: Float[Tensor, "row width"],
    *,
    scale: Float[Tensor, "*one"],
    bias: Float[Tensor, "*one"],
    keys: Int[Tensor, " row"] | None = None,
    tile: int | None = None,
) -> tuple[Float[Tensor, ""], Correct]:
    """Return `siglip_loss` of this rank's anchors with the candidates of all ranks.

    Candidates go from rank to rank with the gradient they have gathered so far, so that a rank
    never holds more than one block of them (Zhai et al., 2023, section 3.3). Gradients are those of
    the ranks' totals added, so every rank must weigh its total alike.

    Args:
        anchors: this rank's, normalised.
        candidates: this rank's: anchor i's partner is candidate i.
        scale: of the similarities.
        bias: added to them.
        keys: of both; rows with one key are no negatives of each other.
        tile: rows of a block's matrix to build at a time.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        anchors, candidates = single(anchors), single(candidates)
        if keys is None:  # each its own
            keys = torch.arange(len(anchors), device=anchors.device) * world_size() + rank()
        rows = tile_rows(len(anchors), len(anchors), tile)
        return _Ring.apply(anchors, candidates, scale.to(anchors), bias.to(anchors), keys, rows)


class _Ring(torch.autograd.Function):
    """Takes the gradient on the way: when a block is home again, its own is complete."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        scale: Tensor,
        bias: Tensor,
        keys: Tensor,
        tile: int,
    ) -> tuple[Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad[:4])
        anchors, scale, bias = (each.detach() for each in (anchors, scale, bias))
        # What goes round: candidates, their gradient and their keys.
        block, by_block, block_keys = candidates.detach(), torch.zeros_like(candidates), keys
        by_anchors, by_scale, by_bias = (torch.zeros_like(e) for e in (anchors, scale, bias))
        total, ranks = anchors.new_zeros(()), world_size()
        sizes = _sizes(len(anchors), anchors.device)
        partner = (scale * (anchors * block).sum(dim=1) + bias).reshape(-1)
        wrong = torch.full_like(partner, -torch.inf)  # the highest score of each that is wrong
        for hop in range(ranks):
            for start in range(0, len(anchors), tile):
                rows = slice(start, start + tile)
                same = keys[rows, None] == block_keys
                if hop == 0:  # the partners are here
                    same.diagonal(start).fill_(False)
                inputs = [each.detach() for each in (anchors[rows], block, scale, bias)]
                for each in inputs:
                    each.requires_grad_(wanted)
                with torch.set_grad_enabled(wanted):
                    logits = inputs[2] * (inputs[0] @ inputs[1].T) + inputs[3]
                    value = F.softplus(logits).masked_fill(same, 0).sum()  # -log sigmoid(-x)
                    if hop == 0:
                        value = value - logits.diagonal(start).sum()
                total = total + value.detach()
                if wanted:
                    found = torch.autograd.grad(value, inputs)
                    by_anchors[rows] += found[0]
                    by_block, by_scale = by_block + found[1], by_scale + found[2]
                    by_bias = by_bias + found[3]
                scores = logits.detach().masked_fill(same, -torch.inf)
                if hop == 0:
                    partner[rows] = scores.diagonal(start)
                    scores.diagonal(start).fill_(-torch.inf)
                if len(block):
                    wrong[rows] = torch.maximum(wrong[rows], scores.amax(dim=1))
            size = sizes[(rank() - hop - 1) % ranks]
            block, by_block, block_keys = (
                _passed_on(each, size) for each in (block, by_block, block_keys)
            )
        ctx.save_for_backward(by_anchors, by_block, by_scale, by_bias)
        correct = (wrong < partner).sum().float()
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        return (*(grad * upstream[0] for grad in ctx.saved_tensors), None, None)


def _sizes(rows: int, device: torch.device) -> list[int]:
    """Return how many rows each rank has."""
    found = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(found, torch.tensor([rows], device=device))
    return [int(each) for each in found]


def _passed_on(rows: Tensor, size: int) -> Tensor:
    """Give rows to the next rank; return the `size` rows of the one before."""
    received = rows.new_empty(size, *rows.shape[1:])
    ranks, me = world_size(), rank()
    moves = []
    if rows.numel():
        moves.append(dist.P2POp(dist.isend, rows.contiguous(), (me + 1) % ranks))
    if received.numel():
        moves.append(dist.P2POp(dist.irecv, received, (me - 1) % ranks))
    for work in dist.batch_isend_irecv(moves) if moves else ():
        work.wait()
    return received
