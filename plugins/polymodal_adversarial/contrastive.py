"""Contrast of two dropout views, each under the worst small change of its embeddings."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from polymodal import (
    Asking,
    Comparison,
    FromRun,
    Loss,
    Model,
    Need,
    ObjectiveName,
    Step,
    StreamInfo,
    StreamName,
)
from polymodal_adversarial.disturbance import single
from polymodal_adversarial.neighbours import Neighbours
from polymodal_contrastive import nt_xent


class AdversarialContrastive(Comparison, Asking):
    """Tell the other view of each sample from all views of the batch (NT-Xent; URLBERT, Li, 2024).

    The two views are the same tokens under two draws of dropout, each disturbed between stem and
    trunk in the direction that changes what is predicted of them most. Pooled vectors are compared
    as they are, without a projector. The stem learns nothing here: its vectors are held fixed.

    The views of all ranks are each other's negatives; each view is one count, the metric is
    `accuracy`.

    Args:
        info: the streams.
        stream: whose samples.
        objective: whose predictions the disturbance is to change; scores over the vocabulary by
            the encoder's own table unless given.
        temperature: that cosines are divided by.
        radius: length of a token's disturbance, in root mean squares of its embedding (1 for an
            embedding that ends in a layer norm).
        start: size of the noise that the search begins with, in the same units.
        rates: of each view, how much of the gradient is added to the noise (URLBERT: 0.1 and 1e-5
            of a gradient that is a mean over its batch of 64; here it is the sample's own); null:
            the gradient alone.
        updates: of the directions; each costs two passes forward and back.

    Raises:
        ValueError: an objective that predicts no classes, a number that must be above 0, or rates
            that are not two.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        objective: ObjectiveName | None = None,
        temperature: float = 0.1,
        radius: float = 1.0,
        start: float = 0.01,
        rates: list[float] | None = None,
        updates: int = 1,
    ):
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if rates is not None and len(rates) != 2:
            raise ValueError(f"rates must be two, one for each view, got {rates}")
        self.near = Neighbours(stream, objective, radius, start)
        self.near.check(info)
        self.temperature = temperature
        self.rates = rates or (None, None)
        self.updates = updates

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with a table of ids if that is what predicts."""
        return {self.near.stream: self.near.need}

    def attach(self, model: Model) -> None:
        """Refuse an objective that does not predict."""
        self.near.check(model.info, model)

    def shares(self) -> tuple[str, ...]:
        """Return the objective that predicts."""
        return () if self.near.objective is None else (self.near.objective,)

    def vectors(self, step: Step) -> tuple[Tensor, ...]:
        """Return both views of every sample that has the stream, normalised."""
        near = self.near
        rows = step.rows_with(near.stream)
        views = []
        for number, rate in enumerate(self.rates):
            stem = near.embed(step)
            with torch.no_grad():  # only where to go from here is asked
                here = near.predict(step, near.contextualize(step, stem))
            worst = near.worst(
                step, stem, here, name=f"view {number}", rate=rate, updates=self.updates
            )
            pooled = near.contextualize(step, stem, worst).pooled_rows()
            index = torch.tensor(rows, dtype=torch.int64, device=pooled.device)
            views.append(F.normalize(single(pooled[index]), dim=1))
        return tuple(views)

    def compare(self, step: Step, vectors: tuple[Tensor, ...]) -> Loss:
        """Return the loss over both views of every sample that has the stream."""
        one, other = vectors
        total, correct = nt_xent(step, one, other, temperature=self.temperature)
        count = 2 * len(one)
        return Loss(total, count, {"accuracy": (correct, count)})

    def count(self, step: Step) -> int:
        """Return how many views there are of samples that have the stream."""
        return 2 * len(step.rows_with(self.near.stream))
