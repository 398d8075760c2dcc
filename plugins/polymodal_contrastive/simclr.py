"""SimCLR: which of all views is the other view of this sample? (Chen et al., 2020)."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from polymodal import (
    Comparison,
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
from polymodal_contrastive.losses import info_nce, single
from polymodal_contrastive.pairs import gathered
from polymodal_contrastive.projectors import projector
from polymodal_contrastive.views import Views


class SimCLR(Comparison, Representing):
    """Contrast two views of each sample with all other views of the batch (NT-Xent, eq. 1).

    The views are the stream itself and `other`, or a second draw of its tokenizer's random
    augmentation: without augmentation there is nothing to learn. By tokens it is GRACE (Zhu et al.,
    2020) for the nodes of a graph. The views of all ranks are each other's negatives; each view is
    one count.

    Args:
        info: the streams.
        stream: whose samples.
        other: the second view, a stream of the same samples; else the stream augmented anew.
        each: what is told apart: a "sample" (its pooled vector) or a "token".
        dim: of the vectors compared.
        hidden: width of the projector's hidden layers; the encoder's unless given.
        layers: of the projector.
        norm: whether the projector has batch norms.
        activation: between its layers: "relu", "prelu" or "elu".
        temperature: that cosines are divided by.
        tile: build the similarity matrix by so many rows at a time: memory grows with the rows
            instead of their square, and the gradients are the same.

    Raises:
        ValueError: an unknown stream, or a number that must be above 0.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        other: StreamName | None = None,
        each: Literal["sample", "token"] = "sample",
        dim: int = 128,
        hidden: int | None = None,
        layers: int = 2,
        norm: bool = True,
        activation: Literal["relu", "prelu", "elu"] = "relu",
        temperature: float = 0.5,
        tile: int | None = None,
    ):
        super().__init__()
        self.both = Views.of(info, stream, other, each)
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if min(dim, layers, 1 if hidden is None else hidden) < 1:
            raise ValueError(f"dim, hidden and layers must be 1 or more: {dim}, {hidden}, {layers}")
        if tile is not None and tile < 1:
            raise ValueError(f"tile must be 1 or more, got {tile}")
        self.tile = tile
        self.temperature = temperature
        width = info[stream].width
        inner = [width if hidden is None else hidden] * (layers - 1)
        self.projector = projector(
            [width, *inner, dim], last_norm=False, norm=norm, activation=activation
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the streams; any tokens will do."""
        return self.both.needs

    def views(self) -> Mapping[str, View]:
        """Return the second view, if it is no stream."""
        return self.both.views

    def vectors(self, step: Step) -> tuple[Tensor, ...]:
        """Return both views of every row of samples that have the streams.

        The projector comes later: its batch norm sees all samples.
        """
        return tuple(self.both.rows(step, *self.both.encoded(step)))

    def compare(self, step: Step, vectors: tuple[Tensor, ...]) -> Loss:
        """Return the loss over both views of every row."""
        one, other = self._project(torch.cat(vectors)).chunk(2)
        total, correct = nt_xent(step, one, other, temperature=self.temperature, tile=self.tile)
        count = 2 * len(one)
        return Loss(total, count, {"accuracy": (correct, count)})

    def count(self, step: Step) -> int:
        """Return how many rows both views have together."""
        return 2 * self.both.count(step)

    def project(self, stream: str, encoded: Encoded) -> Float[Tensor, "sample dim"]:
        """Return the samples' vectors by which this objective compares them, normalised."""
        if stream not in self.both.needs:
            return super().project(stream, encoded)
        return self._project(encoded.pooled_rows())

    def _project(self, pooled: Float[Tensor, "row width"]) -> Float[Tensor, "row dim"]:
        return F.normalize(single(self.projector(pooled)), dim=1)


def nt_xent(
    step: Step,
    one: Float[Tensor, "row dim"],
    other: Float[Tensor, "row dim"],
    *,
    temperature: float,
    tile: int | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the sum of NT-Xent (eq. 1) over both views' rows, and how many were told right.

    Row i of both is one sample, normalised already. The negatives are all other rows of both
    views, on all ranks. A sample that is alone costs nothing.
    """
    everywhere, first = gathered(step, torch.cat([one, other], dim=1))
    ones, others = everywhere.chunk(2, dim=1)
    number = torch.arange(len(everywhere), device=one.device)
    here, candidates = number[: len(one)] + first, number.repeat(2)
    total, correct = one.new_zeros(()), one.new_zeros(())
    for anchors, partners, own in ((one, others, ones), (other, ones, others)):
        # An anchor itself is among `own`: its key is the partner's, so it is left out.
        loss, right = info_nce(
            anchors,
            torch.cat([partners, own]),
            scale=1 / temperature,
            first=first,
            anchor_keys=here,
            candidate_keys=candidates,
            tile=tile,
        )
        total, correct = total + loss, correct + right
    return total, correct
