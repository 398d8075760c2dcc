"""Which small change of some rows changes a prediction most, as pure functions."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Gradient = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, ...]]
"""`torch.autograd.grad`, or `Step.grad`, which does the same in a sharded model."""


def divergence(
    wanted: Float[Tensor, "row class"], scores: Float[Tensor, "row class"]
) -> Float[Tensor, " row"]:
    """Return KL(softmax(wanted) || softmax(scores)) of each row, in float32 or better."""
    wanted, scores = single(wanted).log_softmax(dim=1), single(scores).log_softmax(dim=1)
    return F.kl_div(scores, wanted, reduction="none", log_target=True).sum(dim=1)


def symmetric_divergence(
    one: Float[Tensor, "row class"], other: Float[Tensor, "row class"]
) -> Float[Tensor, " row"]:
    """Return the divergence of each row both ways; what is wanted of either is held fixed.

    With shares p and q of the scores a and b, KL(p || q) + KL(q || p) is the sum of (p - q)(a - b),
    for p - q sums to 0; and p - q is the gradient to a of the one that wants q, q - p to b of the
    other. So both come without a logarithm.
    """
    one, other = single(one), single(other)
    with torch.no_grad():
        apart = one.softmax(dim=1) - other.softmax(dim=1)
    return (apart * (one - other)).sum(dim=1)


def worst_direction(
    change: Callable[[Float[Tensor, "row width"]], Float[Tensor, ""]],
    noise: Float[Tensor, "row width"],
    *,
    start: float,
    rate: float | None,
    updates: int = 1,
    gradient: Gradient = torch.autograd.grad,
) -> Float[Tensor, "row width"]:
    """Return for each row a direction of length 1 in which `change` grows; it has no gradient.

    From d = start * noise, `updates` times: d becomes d + rate * g, scaled to length 1, where g is
    the gradient of `change` at d. Without a rate d becomes g alone, as in Miyato et al. (2018,
    section 3.3), and zero where that is zero. A row whose gradient is not finite, as half
    precision may give, keeps its direction. URLBERT's code divides by the length + 1e-6, which
    shortens what it finds where gradients are small; here the length is 1 whatever their size.
    """
    direction = start * noise
    for _ in range(updates):
        direction = direction.detach().requires_grad_()
        with torch.enable_grad():
            (found,) = gradient(change(direction), [direction])
        finite = found.isfinite().all(dim=1, keepdim=True)
        moved = found if rate is None else direction + rate * found
        moved = torch.where(finite, moved, direction)
        direction = F.normalize(moved, dim=1, eps=1e-30)  # a gradient may be small
    return direction.detach()


def single(scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return half precision as float32, anything else as it is."""
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
