"""The losses of self-distillation as pure functions."""

import torch
from jaxtyping import Float
from torch import Tensor

Probabilities = Float[Tensor, "view row output"]


def view_loss(targets: Probabilities, guesses: Probabilities) -> Float[Tensor, " row"]:
    """Return each row's mean of -sum p log q over pairs of different views (DINO, eq. 3).

    Args:
        targets: the teacher's probabilities p of its views.
        guesses: the student's log-probabilities log q of its views, the teacher's views first.
    """
    other = ~torch.eye(len(targets), len(guesses), dtype=torch.bool, device=targets.device)
    with torch.autocast(targets.device.type, enabled=False):
        each = -torch.einsum("tro,sro->tsr", targets, guesses)
    return each[other].mean(dim=0)


def patch_loss(
    targets: Float[Tensor, "token output"], guesses: Float[Tensor, "token output"]
) -> Float[Tensor, " token"]:
    """Return each hidden token's -sum p log q (iBOT, eq. 2); `guesses` are logarithms."""
    return -(targets * guesses).sum(dim=1)


def entropy(probabilities: Float[Tensor, "*row output"]) -> Float[Tensor, "*row"]:
    """Return -sum p log p: 0 where the teacher gives one answer, log of the outputs where any."""
    return torch.special.entr(probabilities).sum(dim=-1)
