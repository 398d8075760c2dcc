"""The values that were hidden."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal import Corrupted, Need, StreamInfo, Target

Distance = Literal["mse", "l1", "smooth_l1"]


class Values(Target):
    """Predict the values that were hidden: the mean distance over each token's.

    Args:
        distance: between predicted and true values; l1 in SimMIM, mse in MAE.
        normalize: predict each token's values less their mean, over their deviation.

    Raises:
        ValueError: one value a token, normalized.
    """

    def __init__(self, *, distance: Distance = "l1", normalize: bool = False):
        super().__init__()
        self.distance: Distance = distance
        self.normalize = normalize

    def need(self) -> Need:
        """Return that the stream must have values."""
        return Need(values=True)

    def bind(self, info: StreamInfo) -> None:
        """Take the number of values."""
        if self.normalize and info.spec.features < 2:
            raise ValueError("normalize needs two values a token or more; set it to false")
        self.outputs = info.spec.features

    def loss(
        self,
        predicted: Float[Tensor, "scored output"],
        corrupted: Corrupted,
        rows: Int[Tensor, " scored"],
        counted: Bool[Tensor, " scored"] | None,
    ) -> tuple[Float[Tensor, ""], dict[str, tuple[Tensor, int | Tensor]]]:
        """Return the sum over rows of the mean distance over their values."""
        values = corrupted.hidden.tokens.values
        assert values is not None
        target = values[rows]
        if self.normalize:
            target = normalized(target)
        each = patch_loss(predicted, target, self.distance)
        return (each if counted is None else each.masked_fill(~counted, 0)).sum(), {}


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
