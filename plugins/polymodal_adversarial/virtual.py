"""Virtual adversarial training: predictions stay where they are near every input."""

from collections.abc import Mapping
from typing import Literal

from polymodal import (
    Asking,
    FromRun,
    Loss,
    Model,
    Need,
    ObjectiveName,
    Step,
    StreamInfo,
    StreamName,
)
from polymodal_adversarial.disturbance import symmetric_divergence
from polymodal_adversarial.neighbours import Neighbours


class VirtualAdversarial(Asking):
    """Bring predictions and those under the worst small change of the embeddings together.

    No label is needed: what is predicted is what another objective predicts, a token's id for
    `masking.tokens`, a sample's class for `supervised.classification` (Miyato et al., 2018; on
    token embeddings of URLs, Li, 2024). The loss is the divergence both ways. The disturbed
    embeddings are held fixed: the table of ids learns from the undisturbed pass alone.

    Dropout is drawn anew in each pass, so that predictions are to withstand it, too. The metric
    `unchanged` is how many predictions are the same class under the change.

    Args:
        info: the streams.
        stream: whose embeddings are disturbed.
        objective: whose predictions; scores over the vocabulary by the encoder's own table unless
            given, as `generation.next_token` reads them.
        radius: length of a token's disturbance, in root mean squares of its embedding (1 for an
            embedding that ends in a layer norm).
        start: size of the noise that the search begins with, in the same units.
        rate: how much of the gradient is added to the noise (URLBERT: 1e-3 of a gradient that is
            a mean over its batch of 64; here it is the sample's own); null: the gradient alone.
        updates: of the direction; each costs a pass forward and back.
        reduction: mean over "token": every prediction counts one; "sample": sum over a sample's
            tokens, mean over samples (the sum that URLBERT has, with the batch size as weight).

    Raises:
        ValueError: an objective that predicts no classes, a number that must be above 0.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        objective: ObjectiveName | None = None,
        radius: float = 1.0,
        start: float = 0.01,
        rate: float | None = None,
        updates: int = 1,
        reduction: Literal["token", "sample"] = "token",
    ):
        super().__init__()
        self.near = Neighbours(stream, objective, radius, start)
        self.near.check(info)
        self.rate = rate
        self.updates = updates
        self.reduction = reduction

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with a table of ids if that is what predicts."""
        return {self.near.stream: self.near.need}

    def attach(self, model: Model) -> None:
        """Refuse an objective that does not predict."""
        self.near.check(model.info, model)

    def shares(self) -> tuple[str, ...]:
        """Return the objective that predicts."""
        return () if self.near.objective is None else (self.near.objective,)

    def forward(self, step: Step) -> Loss:
        """Return the divergence both ways of all predictions."""
        near = self.near
        stem = near.embed(step)
        here = near.predict(step, near.contextualize(step, stem))
        worst = near.worst(
            step, stem, here, name="disturbance", rate=self.rate, updates=self.updates
        )
        there = near.predict(step, near.contextualize(step, stem, worst))
        total = symmetric_divergence(here, there).sum()
        same = (here.argmax(dim=1) == there.argmax(dim=1)).sum()
        return Loss(total, self.count(step), {"unchanged": (same, len(here))})

    def count(self, step: Step) -> int:
        """Return how many predictions there are, or samples."""
        if self.reduction == "sample":
            return len(step.rows_with(self.near.stream))
        return self.near.count(step)
