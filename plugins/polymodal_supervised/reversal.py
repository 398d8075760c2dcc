"""Gradient reversal (Ganin and Lempitsky, 2015): what a head learns, the encoder unlearns."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.alpha * gradients[0], None


def gradient_reversal(rows: Float[Tensor, "*row"], alpha: float = 1.0) -> Float[Tensor, "*row"]:
    """Return the rows as they are; their gradient comes back multiplied by -alpha."""
    reversed_rows: Tensor = _Reversal.apply(rows, alpha)  # type: ignore[no-untyped-call]
    return reversed_rows


def ramp(progress: float) -> float:
    """Return 2 / (1 + exp(-10 progress)) - 1: from 0 to 1 over a run (the same, section 5.2)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1
