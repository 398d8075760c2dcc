"""Projectors of contrastive learning on views: perceptrons with batch norm over all ranks."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import gather_rows
from polymodal_contrastive.losses import single

Activation = Literal["relu", "prelu", "elu"]
ACTIVATIONS = {"relu": nn.ReLU, "prelu": nn.PReLU, "elu": nn.ELU}


class BatchNorm(nn.BatchNorm1d):
    """Batch norm whose statistics are those of all ranks' rows; none or one row is legal.

    Without it a rank could tell by the statistics which rows are its own, and the loss would
    depend on how the batch is cut (MoCo, He et al., 2020, section 3.3).
    """

    def forward(self, rows: Float[Tensor, "row width"]) -> Float[Tensor, "row width"]:
        """Return the rows normalised, half precision in float32."""
        rows = single(rows)
        if not self.training:
            normalized: Tensor = super().forward(rows)
            return normalized
        count = _over_ranks(rows.new_full((1,), len(rows)))
        mean = _over_ranks(rows.sum(dim=0)) / count.clamp(min=1)
        spread = _over_ranks((rows - mean).square().sum(dim=0))
        self._follow(mean.detach(), spread.detach(), count)
        rows = (rows - mean) / (spread / count.clamp(min=1) + self.eps).sqrt()
        return rows if self.weight is None else rows * self.weight + self.bias

    @torch.no_grad()
    def _follow(self, mean: Tensor, spread: Tensor, count: Tensor) -> None:
        """Move the statistics that evaluation uses; not without rows."""
        assert self.running_mean is not None and self.running_var is not None
        share = (self.momentum or 0.1) * (count > 0).to(mean)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(spread / (count - 1).clamp(min=1), share)


def _over_ranks(values: Float[Tensor, " width"]) -> Float[Tensor, " width"]:
    """Return the sum over ranks, with gradients back to each."""
    return gather_rows(values[None]).sum(dim=0)


def projector(
    widths: Sequence[int], *, last_norm: bool, norm: bool = True, activation: Activation = "relu"
) -> nn.Sequential:
    """Return linear layers between these widths, batch norm and activation after all but the last.

    With `last_norm` the last one has a batch norm without weights (MoCo v3's code). Without `norm`
    there is none at all, and layers have biases.

    Raises:
        ValueError: an unknown activation.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be relu, prelu or elu, got {activation!r}")
    layers: list[nn.Module] = []
    for width, after in pairwise(widths):
        if layers:
            layers.append(ACTIVATIONS[activation]())
        layers.append(nn.Linear(width, after, bias=not norm))
        if norm:
            layers.append(BatchNorm(after))
    if norm:
        del layers[-1:]
    if last_norm:
        layers.append(BatchNorm(widths[-1], affine=False))
    return nn.Sequential(*layers)
