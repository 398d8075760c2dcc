"""The losses of masking as pure functions: sums over what was hidden, 0 for none."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Distance = Literal["mse", "l1", "smooth_l1"]
Reduction = Literal["mean", "sum"]


def normalized(values: Float[Tensor, "row feature"]) -> Float[Tensor, "row feature"]:
    """Return each row less its mean, over its deviation (MAE, section 3; unbiased, eps 1e-6).

    A flat row becomes zeros.
    """
    mean = values.mean(dim=1, keepdim=True)
    # Over one row fewer than features, written out: torch's var warns for rows of one feature.
    spread = (values - mean).square().sum(dim=1, keepdim=True) / max(values.shape[1] - 1, 1)
    return (values - mean) / (spread + 1e-6).sqrt()


def patch_loss(
    predicted: Float[Tensor, "hidden feature"],
    target: Float[Tensor, "hidden feature"],
    distance: Distance = "mse",
) -> Float[Tensor, " hidden"]:
    """Return each hidden row's mean distance over its features, in float32."""
    predicted, target = predicted.float(), target.float()
    if distance == "mse":
        each = (predicted - target).square()
    elif distance == "l1":
        each = (predicted - target).abs()
    else:
        each = F.smooth_l1_loss(predicted, target, reduction="none")
    return each.mean(dim=1)


def patch_error(
    predicted: Float[Tensor, "hidden feature"], target: Float[Tensor, "hidden feature"]
) -> Float[Tensor, ""]:
    """Return the sum over hidden rows of each one's mean squared error."""
    return patch_loss(predicted, target).sum()


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


def token_loss(
    logits: Float[Tensor, "hidden vocabulary"],
    target: Int[Tensor, " hidden"],
    weights: Bool[Tensor, " hidden"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the summed cross-entropy and how many rows' highest score is the target.

    Rows whose weight is False count for nothing.
    """
    each = F.cross_entropy(logits.float(), target, reduction="none")
    with torch.no_grad():
        right = (logits.argmax(dim=1) == target).float()
    if weights is not None:
        # Not a product: a row that counts for nothing must not bring in an infinite loss.
        each = each.masked_fill(~weights, 0)
        right = right.masked_fill(~weights, 0)
    return each.sum(), right.sum()


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
