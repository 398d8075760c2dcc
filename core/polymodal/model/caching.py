"""Comparisons over a batch that is too large for one pass: vectors first, gradients afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polymodal.interfaces.objective import Comparison, Loss
from polymodal.interfaces.step import Step

Vectors = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Compared:
    """A comparison's loss over all micro-batches, and its gradients (GradCache, Gao et al., 2021).

    Each is kept for one micro-batch: the loss stands in the first alone.
    """

    loss: Loss
    by_vectors: Sequence[Tensor | None]
    by_weights: Mapping[str, Tensor]  # of the comparison itself

    def again(self, objective: Comparison, step: Step) -> Loss:
        """Return the micro-batch's loss, made again with gradients that were found before."""
        pairs = zip(objective.vectors(step), self.by_vectors, strict=True)
        parts = [(each * grad).sum() for each, grad in pairs if grad is not None]
        weights = dict(objective.named_parameters())
        parts += [(weights[name] * grad).sum() for name, grad in self.by_weights.items()]
        total = torch.stack(parts).sum() if parts else self.loss.total * 0.0
        value = total - total.detach() + self.loss.total
        return Loss(value, self.loss.count, self.loss.metrics)


def compare_all(
    objective: Comparison, step: Step, micro_batches: Sequence[Vectors]
) -> list[Compared]:
    """Compare the vectors of all micro-batches; return what each is to do with it.

    Args:
        objective: that compares.
        step: of any of the micro-batches; only its name, number and ranks matter.
        micro_batches: what `objective.vectors` gave for each, without gradients.
    """
    joined = [torch.cat(parts) for parts in zip(*micro_batches, strict=True)]
    with torch.enable_grad():
        for each in joined:
            each.requires_grad_(each.is_floating_point())
        loss = objective.compare(step, tuple(joined))
        moved = [each for each in joined if each.requires_grad]
        weights = {n: p for n, p in objective.named_parameters() if p.requires_grad}
        found = iter(step.grad(loss.total, [*moved, *weights.values()]))
    cut: list[Sequence[Tensor | None]] = []
    for each, parts in zip(joined, zip(*micro_batches, strict=True), strict=True):
        sizes = [part.shape[0] for part in parts]
        cut.append(next(found).split(sizes) if each.requires_grad else [None] * len(parts))
    by_weights = dict(zip(weights, found, strict=True))
    whole = Loss(loss.total.detach(), loss.count, loss.metrics)
    rest = Loss(torch.zeros_like(whole.total), 0)
    return [
        Compared(
            rest if place else whole, [each[place] for each in cut], {} if place else by_weights
        )
        for place in range(len(micro_batches))
    ]
