"""MoCo v3: contrast a view with a slow copy's vector of the other (Chen, Xie and He, 2021)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from polymodal import (
    FromRun,
    Loss,
    Model,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Teacher,
    View,
    cosine,
)
from polymodal_contrastive.losses import info_nce, single
from polymodal_contrastive.pairs import gathered
from polymodal_contrastive.projectors import projector
from polymodal_contrastive.views import Views


class MoCo(Objective):
    """Tell the momentum encoder's vector of a sample's other view from those of other samples.

    The views are the stream itself and a second draw of its tokenizer's random augmentation. The
    queries come from encoder, projector and predictor, the keys from slow copies of the first two
    (algorithm 1). The keys of all ranks are each other's negatives; the loss of a sample is
    2 * temperature times the cross-entropy, both directions added. Not separable: a batch must
    not be cut into micro-batches. The paper keeps a ViT's patch projection as it was drawn:
    `freeze: [stem.tokens.*]` at the encoder.

    Args:
        info: the streams.
        stream: whose samples.
        dim: of the vectors compared.
        hidden: width of the hidden layers; the encoder's unless given, 4096 in the paper.
        layers: of the projector; the predictor has two.
        temperature: that cosines are divided by.
        momentum: of the slow copies at the start; it grows to 1 by a cosine.

    Raises:
        ValueError: an unknown stream, or a number out of range.
    """

    separable = False

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        dim: int = 256,
        hidden: int | None = None,
        layers: int = 3,
        temperature: float = 0.2,
        momentum: float = 0.99,
    ):
        super().__init__()
        self.both = Views.of(info, stream, None, "sample")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie between 0 and 1, got {momentum}")
        if min(dim, layers, 1 if hidden is None else hidden) < 1:
            raise ValueError(f"dim, hidden and layers must be 1 or more: {dim}, {hidden}, {layers}")
        self.stream = stream
        self.temperature = temperature
        self.momentum = momentum
        width = info[stream].width
        hidden = width if hidden is None else hidden
        self.projector = projector([width, *[hidden] * (layers - 1), dim], last_norm=True)
        self.predictor = projector([dim, hidden, dim], last_norm=True)
        self.key_projector = Teacher(self.projector)

    def attach(self, model: Model) -> None:
        """Take a slow copy of the encoder."""
        self.key_encoder = Teacher(model.encoder(self.stream))

    def needs(self) -> Mapping[str, Need]:
        """Return the stream; any tokens will do."""
        return self.both.needs

    def views(self) -> Mapping[str, View]:
        """Return the second view."""
        return self.both.views

    def forward(self, step: Step) -> Loss:
        """Return the loss over samples that have the stream."""
        seen = self.both.rows(step, *self.both.encoded(step))
        queries = [_unit(self.predictor(self.projector(rows))) for rows in seen]
        taught = [self.key_encoder(tokens) for tokens in self.both.tokens(step)]
        keys = [_unit(self.key_projector(rows)) for rows in self.both.rows(step, *taught)]
        everywhere, first = gathered(step, torch.cat(keys, dim=1))
        total, correct = queries[0].new_zeros(()), queries[0].new_zeros(())
        for query, others in zip(queries, reversed(everywhere.chunk(2, dim=1)), strict=True):
            loss, right = info_nce(query, others, scale=1 / self.temperature, first=first)
            total, correct = total + 2 * self.temperature * loss, correct + right / 2
        count = len(queries[0])
        return Loss(total, count, {"accuracy": (correct, count)})

    def count(self, step: Step) -> int:
        """Return how many samples have the stream."""
        return self.both.count(step)

    def after_update(self, step: Step) -> None:
        """Move the slow copies."""
        momentum = cosine(self.momentum, 1.0, step.progress)
        self.key_encoder.follow(step.encoder(self.stream), momentum)
        self.key_projector.follow(self.projector, momentum)


def _unit(rows: Float[Tensor, "row dim"]) -> Float[Tensor, "row dim"]:
    return F.normalize(single(rows), dim=1)
