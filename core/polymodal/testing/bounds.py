"""Checks of parameters that an objective keeps within bounds."""

import torch
from torch import Tensor, nn

from polymodal.interfaces.step import Step
from polymodal.model.model import PretrainingModel
from polymodal.packed.batch import Batch
from polymodal.testing.modules import trainable
from polymodal.testing.objectives import ObjectiveSubject
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import OBJECTIVE, loss_of

_FAR = 1e4  # beyond any bound a parameter of one number is kept within
_INSIDE = 1e-3


@check("objective", after=("computes", "shapes", "gradients", "state"))
def bounds(subject: ObjectiveSubject) -> None:
    """A parameter of one number that `after_update` keeps in bounds can leave them again."""
    model, batch = subject.model(), subject.batch()
    objective = model.objective(OBJECTIVE)
    loss_of(model, batch)
    step = Step(model, batch, number=0, total=100)
    step.objective = OBJECTIVE
    for name, parameter in trainable(objective).items():
        if parameter.numel() != 1:
            continue
        start = parameter.detach().clone()
        for far in (-_FAR, _FAR):
            with torch.no_grad():
                parameter.fill_(far)
                objective.after_update(step)
                bound = parameter.detach().clone()
                inside = bound - _INSIDE if far > 0 else bound + _INSIDE
            if float(bound) == far:
                continue  # no bound on this side
            moves = [_gradient(model, batch, parameter, value) for value in (bound, inside)]
            if moves == [False, True]:
                raise ConformanceError(
                    f"{name} gets no gradient at its bound {float(bound):g}, so it never leaves "
                    "it: keep it in bounds in `after_update` alone, not in `forward`"
                )
        with torch.no_grad():
            parameter.copy_(start)


def _gradient(
    model: PretrainingModel, batch: Batch, parameter: nn.Parameter, value: Tensor
) -> bool:
    """Return whether the loss pulls at a parameter that has this value."""
    with torch.no_grad():
        parameter.copy_(value)
    parameter.grad = None
    loss_of(model, batch).total.backward()
    return parameter.grad is not None and bool(parameter.grad.any())
