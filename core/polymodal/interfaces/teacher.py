"""Teacher: a copy of a module that follows it slowly, for self-distillation."""

from copy import deepcopy
from typing import Any, Self

import torch
from torch import nn


class Teacher(nn.Module):
    """A copy of a module that gets no gradient and follows the original (mean teacher).

    Made in `Objective.attach`, moved in `Objective.after_update`; as part of the objective it is
    saved in checkpoints. It starts as an exact copy (Tarvainen and Valpola, 2017, section 2).
    Dropout and drop path are off in it; batch norm works on the batch, as in MoCo v3 and DINO.

    Args:
        student: what to copy.
    """

    def __init__(self, student: nn.Module):
        super().__init__()
        self.module = deepcopy(student).requires_grad_(False)
        self.train(self.training)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Return what the copy gives, without gradients."""
        with torch.no_grad():
            return self.module(*arguments, **options)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """Move to momentum * teacher + (1 - momentum) * student; other buffers are copied."""
        own = [p.detach() for p in self.module.parameters()]
        if own:
            torch._foreach_lerp_(own, [p.detach() for p in student.parameters()], 1 - momentum)
        for mine, theirs in zip(self.module.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of batch norms alone; everything else evaluates."""
        super().train(mode)
        for module in self.module.modules():
            module.training = mode and isinstance(module, nn.modules.batchnorm._BatchNorm)
        return self
