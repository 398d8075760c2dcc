"""The losses of masking as pure functions: sums over what was hidden, 0 for none."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Reduction = Literal["mean", "sum"]


def scaled_cosine_error(
    predicted: Float[Tensor, "hidden feature"],
    target: Float[Tensor, "hidden feature"],
    *,
    alpha: float = 2.0,
) -> Float[Tensor, " hidden"]:
    """Return (1 - cos)^alpha of each row (GraphMAE, Hou et al., 2022, eq. 2); 1 for a zero row."""
    cosine = (F.normalize(predicted.float(), dim=1) * F.normalize(target.float(), dim=1)).sum(dim=1)
    # Rounding can take a cosine past 1, and a power of a negative number is NaN.
    return (1 - cosine).clamp(min=0).pow(alpha)


def class_target(soft: Float[Tensor, "row class"]) -> Int[Tensor, " row"]:
    """Return the likeliest class of each row but the background, column 0 (UNITER, MRC)."""
    return soft[:, 1:].argmax(dim=1) + 1


def class_divergence(
    logits: Float[Tensor, "row class"],
    soft: Float[Tensor, "row class"],
    reduction: Reduction = "mean",
) -> Float[Tensor, " row"]:
    """Return KL(soft || softmax(logits)) of each row, in float32 (UNITER, MRC-kl).

    "sum" is over classes, as the paper writes; "mean" that over the number of classes, as its code
    has it.
    """
    each = F.kl_div(logits.float().log_softmax(dim=1), soft.float(), reduction="none")
    return each.mean(dim=1) if reduction == "mean" else each.sum(dim=1)
