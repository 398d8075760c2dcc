"""InfoNCE of both directions at once: one exponential serves the rows and the columns."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal_contrastive.losses import Correct, same_key, single, tile_rows

Add = Callable[[Tensor], Tensor]
"""Sums a tensor over ranks, without gradients."""


def symmetric_info_nce(
    anchors: Float[Tensor, "anchor width"],
    candidates: Float[Tensor, "candidate width"],
    *,
    scale: Float[Tensor, "*one"] | float,
    first: Int[Tensor, ""] | int = 0,
    anchor_keys: Int[Tensor, " anchor"] | None = None,
    candidate_keys: Int[Tensor, " candidate"] | None = None,
    tile: int | None = None,
    add: Add = lambda values: values,
) -> tuple[Float[Tensor, ""], Correct]:
    """Return the mean of `info_nce` from anchors to candidates and back, and of their `correct`.

    With several ranks, the anchors are this rank's rows and the candidates those of all ranks; the
    sums over columns are added up over ranks by `add`. Gradients are those of the ranks' totals
    added, so every rank must weigh its total alike. Both sides must be normalised already.

    An exponential is exp(scale * (cosine - 1)). Should a row or column sum to less than 1e-30,
    which takes a scale of 35 or more, the exponentials are made again in float64; they hold to a
    scale of 350 (a temperature of 0.003).

    Args:
        anchors: normalised vectors.
        candidates: the other side's; anchor i's partner is candidate `first + i`.
        scale: 1 / temperature.
        first: where this rank's candidates begin.
        anchor_keys: rows with one key are no negatives of each other.
        candidate_keys: those of the other side.
        tile: rows of the matrix to build at a time; see `tile_rows`.
        add: sums over ranks.

    Raises:
        ValueError: keys for one side only.
    """
    if (anchor_keys is None) != (candidate_keys is None):
        raise ValueError("keys must be given for both sides, or for neither")
    with torch.autocast(anchors.device.type, enabled=False):
        anchors, candidates = single(anchors), single(candidates)
        number = torch.as_tensor(scale).to(anchors).reshape(1)
        targets = torch.arange(anchors.shape[0], device=anchors.device) + first
        size = tile_rows(anchors.shape[0], candidates.shape[0], tile)
        return _Symmetric.apply(
            anchors, candidates, number, targets, anchor_keys, candidate_keys, size, add
        )


class _Symmetric(torch.autograd.Function):
    """Sums of rows and columns in one pass over the tiles, gradients in a second."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        scale: Tensor,
        targets: Tensor,
        anchor_keys: Tensor | None,
        candidate_keys: Tensor | None,
        tile: int,
        add: Add,
    ) -> tuple[Tensor, Tensor]:
        matrix = _Matrix(anchors, candidates, scale, targets, anchor_keys, candidate_keys, tile)
        rows, columns, correct = matrix.sums(add)
        # A rank may have no row that shows it: all must come to the same answer.
        if add((torch.cat([rows, columns]) < matrix.least).sum()[None].float()) > 0:
            matrix.wide = True
            rows, columns, correct = matrix.sums(add)
        partner = columns.index_select(0, targets)
        total = ((rows.log() + partner.log()) / 2 - matrix.own).sum().to(anchors.dtype)
        if any(ctx.needs_input_grad[:3]):
            ctx.save_for_backward(*matrix.gradients(1 / rows, 1 / columns))
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        found = [grad * upstream[0] for grad in ctx.saved_tensors]
        return (*found, None, None, None, None, None)


class _Matrix:
    """exp(scale * (cosine - 1)) of this rank's rows with all candidates, some rows at a time."""

    def __init__(
        self,
        anchors: Tensor,
        candidates: Tensor,
        scale: Tensor,
        targets: Tensor,
        anchor_keys: Tensor | None,
        candidate_keys: Tensor | None,
        tile: int,
    ):
        self.anchors, self.candidates, self.scale, self.targets = (
            anchors,
            candidates,
            scale,
            targets,
        )
        self.anchor_keys, self.candidate_keys = anchor_keys, candidate_keys
        self.tile = tile
        self.own = torch.empty_like(anchors[:, 0])  # the partners' logits
        self.wide = False
        self.least = 1e-30 if anchors.dtype == torch.float32 else 1e-290
        self._kept: Tensor | None = None  # the exponentials, where one tile holds them all

    def tiles(self) -> Iterator[slice]:
        for start in range(0, self.anchors.shape[0], self.tile):
            yield slice(start, start + self.tile)

    def logits(self, rows: slice) -> Tensor:
        """Return scale * (cosine - 1); -inf where equal keys leave a pair out."""
        shift = -self.scale.expand(self.candidates.shape[0])
        found = torch.addmm(shift, self.anchors[rows] * self.scale, self.candidates.T)
        if self.anchor_keys is not None and self.candidate_keys is not None:
            same = same_key(self.anchor_keys[rows], self.candidate_keys, self.targets[rows])
            found.masked_fill_(same, -torch.inf)
        return found

    def partners(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return where the partners stand in a tile."""
        targets = self.targets[rows]
        return torch.arange(targets.shape[0], device=targets.device), targets

    def exponentials(self, logits: Tensor) -> Tensor:
        return logits.double().exp_() if self.wide else logits.exp_()

    def sums(self, add: Add) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums of rows and of columns, and how many anchors were told right."""
        count, dtype = self.candidates.shape[0], torch.float64 if self.wide else self.anchors.dtype
        rows = self.anchors.new_empty(self.anchors.shape[0], dtype=dtype)
        columns = self.anchors.new_zeros(
            2, count, dtype=dtype
        )  # sums, and how many beat the partner
        # What rounding can't tell from the partner beats it: a collapse is not right.
        cosines = (self.anchors * self.candidates.index_select(0, self.targets)).sum(dim=1) - 1e-6
        bounds = add(self.anchors.new_zeros(count).index_copy_(0, self.targets, cosines))
        bounds = self.scale * (bounds - 1)
        here = bounds.index_select(0, self.targets)
        correct = self.anchors.new_zeros(())
        for tile in self.tiles():
            found, place = self.logits(tile), self.partners(tile)
            self.own[tile] = found[place]
            found[place] = -torch.inf
            correct += (found.amax(dim=1) < here[tile]).sum()
            columns[1] += found.amax(dim=0) >= bounds
            found[place] = self.own[tile]
            found = self.exponentials(found)
            rows[tile] = found.sum(dim=1)
            columns[0] += found.sum(dim=0)
            self._kept = found if self.tile >= self.anchors.shape[0] else None
        columns = add(columns)
        told = (columns[1].index_select(0, self.targets) == 0).sum()
        return rows, columns[0], ((correct + told) / 2).float()

    def gradients(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients by anchors, candidates and scale, from the sums' inverses."""
        by_anchors, by_candidates = (
            torch.empty_like(self.anchors),
            torch.zeros_like(self.candidates),
        )
        by_scale = self.anchors.new_zeros(1)
        for tile in self.tiles():
            found = self._kept
            if found is None:
                found = self.exponentials(self.logits(tile))
            found.mul_(rows[tile, None] + columns)
            found[self.partners(tile)] -= 2
            weights = found.to(self.anchors.dtype)
            by_anchors[tile] = weights @ self.candidates
            by_candidates.addmm_(weights.T, self.anchors[tile])
            by_scale += (by_anchors[tile] * self.anchors[tile]).sum()
        self._kept = None
        half = self.scale / 2
        return by_anchors.mul_(half), by_candidates.mul_(half), by_scale / 2
