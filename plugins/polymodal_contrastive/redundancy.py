"""Redundancy reduction: the views' channels agree one by one, and repeat nothing."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import (
    Encoded,
    FromRun,
    Loss,
    Need,
    Representing,
    Step,
    StreamInfo,
    StreamName,
    View,
)
from polymodal_contrastive.losses import single
from polymodal_contrastive.pairs import gathered
from polymodal_contrastive.projectors import projector
from polymodal_contrastive.views import Views

Rows = Float[Tensor, "row channel"]


class RedundancyReduction(Representing):
    """Correlate the channels of two views: each with its own, none with another.

    There are no negatives and no slow copy: what keeps vectors from becoming alike is that each
    channel has unit spread and the others are other. "barlow_twins" (Zbontar et al., 2021; of
    graphs Bielak et al., 2022) asks it of the correlations between views, "cca_ssg" (Zhang et al.,
    2021) of those within each. For samples or tokens of any modality. Channels are normalised over
    all rows of the batch and all ranks, so it is not separable: a batch must not be cut into
    micro-batches. Each row is one count.

    Args:
        info: the streams.
        stream: whose samples.
        other: the second view, a stream of the same samples; else the stream augmented anew.
        each: what a row is: a "sample" (its pooled vector) or a "token".
        loss: "barlow_twins" or "cca_ssg".
        weight: of what channels have in common; 1 over their number for Barlow Twins, 1e-3
            for CCA-SSG unless given.
        dim: of a projector's vectors, 8192 in Barlow Twins; without it, the encoder's are compared.
        hidden: width of the projector's hidden layers; `dim` unless given.
        layers: of the projector.

    Raises:
        ValueError: an unknown stream, or a number out of range.
    """

    separable = False

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        other: StreamName | None = None,
        each: Literal["sample", "token"] = "sample",
        loss: Literal["barlow_twins", "cca_ssg"] = "barlow_twins",
        weight: float | None = None,
        dim: int | None = None,
        hidden: int | None = None,
        layers: int = 3,
    ):
        super().__init__()
        self.both = Views.of(info, stream, other, each)
        if loss not in ("barlow_twins", "cca_ssg"):
            raise ValueError(f"loss must be barlow_twins or cca_ssg, got {loss!r}")
        if weight is not None and weight < 0:
            raise ValueError(f"weight must not be negative, got {weight}")
        sizes = [size for size in (dim, hidden, layers) if size is not None]
        if min(sizes) < 1:
            raise ValueError(f"dim, hidden and layers must be 1 or more: {dim}, {hidden}, {layers}")
        self.loss = loss
        self.weight = weight
        self.projector: nn.Module = nn.Identity()
        if dim is not None:
            inner = [dim if hidden is None else hidden] * (layers - 1)
            self.projector = projector([info[stream].width, *inner, dim], last_norm=False)

    def needs(self) -> Mapping[str, Need]:
        """Return the streams; any tokens will do."""
        return self.both.needs

    def views(self) -> Mapping[str, View]:
        """Return the second view, if it is no stream."""
        return self.both.views

    def forward(self, step: Step) -> Loss:
        """Return the loss over the rows of samples that have the streams."""
        rows = torch.cat(self.both.rows(step, *self.both.encoded(step)))
        projected = torch.cat(single(self.projector(rows)).chunk(2), dim=1)
        one, other = gathered(step, projected)[0].chunk(2, dim=1)
        count = len(projected)
        with torch.autocast(projected.device.type, enabled=False):
            if self.loss == "barlow_twins":
                loss = barlow_twins(one, other, weight=self.weight)
            else:
                loss = cca_ssg(one, other, weight=1e-3 if self.weight is None else self.weight)
        with torch.no_grad():
            agreed = (standardized(one) * standardized(other)).sum() / max(one.numel(), 1)
        return Loss(loss * count, count, {"correlation": (agreed * count, count)})

    def count(self, step: Step) -> int:
        """Return how many rows there are."""
        return self.both.count(step)

    def project(self, stream: str, encoded: Encoded) -> Float[Tensor, "sample dim"]:
        """Return the samples' projected vectors."""
        if stream not in self.both.needs:
            return super().project(stream, encoded)
        projected: Tensor = self.projector(encoded.pooled_rows())
        return projected


def standardized(rows: Rows) -> Rows:
    """Return channels less their mean, over their deviation (over rows less one); flat ones 0."""
    centred = rows - rows.sum(dim=0) / max(len(rows), 1)
    variance = centred.square().sum(dim=0) / max(len(rows) - 1, 1)
    return centred * variance.clamp(min=1e-30).rsqrt()


def barlow_twins(one: Rows, other: Rows, *, weight: float | None = None) -> Float[Tensor, ""]:
    """Return the sum of (1 - C_ii)^2 + weight * C_ij^2, C the views' correlations (eq. 1 and 2).

    The weight is 1 over the channels unless given (Bielak et al., 2022). Products are divided by
    the number of rows, deviations by one less, so that C_ii of equal views is below 1.
    """
    common = standardized(one).T @ standardized(other) / max(len(one), 1)
    weight = 1 / max(common.shape[0], 1) if weight is None else weight
    own = common.diagonal()
    apart = common.square().sum() - own.square().sum()
    return (1 - own).square().sum() + weight * apart


def cca_ssg(one: Rows, other: Rows, *, weight: float = 1e-3) -> Float[Tensor, ""]:
    """Return -tr(C_12) + weight * (|I - C_11|^2 + |I - C_22|^2) (Zhang et al., 2021, eq. 6).

    C are correlations between and within views, divided as in `barlow_twins`.
    """
    first, second = standardized(one), standardized(other)
    count = max(len(one), 1)
    eye = torch.eye(one.shape[1], device=one.device, dtype=one.dtype)
    apart = sum((eye - rows.T @ rows / count).square().sum() for rows in (first, second))
    return -(first * second).sum() / count + weight * apart
