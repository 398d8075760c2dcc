"""SimCLR: which of all views is the other view of this sample? (Chen et al., 2020)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from polymodal.component import FromRun, Need, StreamInfo, StreamName
from polymodal.objective import Comparison, Loss, View
from polymodal.step import Step
from polymodal.tokens import Encoded
from polymodal_contrastive.losses import info_nce, single
from polymodal_contrastive.pairs import gathered
from polymodal_contrastive.projector import projector


class SimCLR(Comparison):
    """Contrast two views of each sample with all other views of the batch (NT-Xent, eq. 1).

    The views are the stream itself and a second draw of its tokenizer's random augmentation:
    without augmentation there is nothing to learn. The views of all ranks are each other's
    negatives; each view is one count.

    Args:
        info: the streams.
        stream: whose samples.
        dim: of the vectors compared.
        hidden: width of the projector's hidden layers; the encoder's unless given.
        layers: of the projector.
        temperature: that cosines are divided by.

    Raises:
        ValueError: an unknown stream, or a number that must be above 0.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        dim: int = 128,
        hidden: int | None = None,
        layers: int = 2,
        temperature: float = 0.5,
    ):
        super().__init__()
        Need().check(info, stream)
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if min(dim, layers, 1 if hidden is None else hidden) < 1:
            raise ValueError(f"dim, hidden and layers must be 1 or more: {dim}, {hidden}, {layers}")
        self.stream = stream
        self.temperature = temperature
        width = info[stream].width
        inner = [width if hidden is None else hidden] * (layers - 1)
        self.projector = projector([width, *inner, dim], last_norm=False)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream; any tokens will do."""
        return {self.stream: Need()}

    def views(self) -> Mapping[str, View]:
        """Return the second view."""
        return {"again": View(self.stream)}

    def vectors(self, step: Step) -> tuple[Tensor, ...]:
        """Return the pooled rows of both views of every sample that has the stream.

        The projector comes later: its batch norm sees all samples.
        """
        seen = both_views(step, self.stream)
        device = seen[0].pooled.device
        rows = torch.tensor(step.rows_with(self.stream), dtype=torch.int64, device=device)
        return tuple(each.pooled_rows()[rows] for each in seen)

    def compare(self, step: Step, vectors: tuple[Tensor, ...]) -> Loss:
        """Return the loss over both views of every sample."""
        one, other = self._project(torch.cat(vectors)).chunk(2)
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
                scale=1 / self.temperature,
                first=first,
                anchor_keys=here,
                candidate_keys=candidates,
            )
            total, correct = total + loss, correct + right
        count = 2 * len(one)
        return Loss(total, count, {"accuracy": (correct, count)})

    def count(self, step: Step) -> int:
        """Return how many views there are of samples that have the stream."""
        return 2 * len(step.rows_with(self.stream))

    def project(self, stream: str, encoded: Encoded) -> Float[Tensor, "sample dim"]:
        """Return the samples' vectors by which this objective compares them, normalised."""
        if stream != self.stream:
            return super().project(stream, encoded)
        return self._project(encoded.pooled_rows())

    def _project(self, pooled: Float[Tensor, "row width"]) -> Float[Tensor, "row dim"]:
        return F.normalize(single(self.projector(pooled)), dim=1)


def both_views(step: Step, stream: str) -> tuple[Encoded, Encoded]:
    """Return the stream and its view "again" through the stream's encoder."""
    again = step.tokens(f"{step.objective}/again")
    return step.encode(stream), step.encode_tokens(stream, again)
