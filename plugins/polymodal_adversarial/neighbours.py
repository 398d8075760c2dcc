"""A stream's embeddings, vectors near them, and what is predicted of either."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import Encoded, Model, Need, Scoring, Step, StreamInfo
from polymodal_adversarial.disturbance import single, worst_direction


@dataclass(frozen=True)
class Neighbours:
    """Moves a stream's embeddings, between stem and trunk, to where predictions change most.

    A token's disturbance is measured in root mean squares of its own embedding, so that the same
    numbers suit encoders of any scale; for BERT, whose embedding ends in a layer norm, that is 1.

    Args:
        stream: whose embeddings.
        objective: whose predictions; None: scores over the vocabulary by the encoder's own table.
        radius: length of a token's disturbance.
        start: size of the noise that the search for it begins with.

    Raises:
        ValueError: a number that must be above 0.
    """

    stream: str
    objective: str | None
    radius: float
    start: float

    def __post_init__(self) -> None:
        for name in ("radius", "start"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def need(self) -> Need:
        """What is asked of the stream."""
        return Need(table=self.objective is None)

    def check(self, info: Mapping[str, StreamInfo], model: Model | None = None) -> None:
        """Refuse a stream without a table, or an objective that does not predict it.

        Raises:
            ValueError: which, and why.
        """
        self.need.check(info, self.stream)
        if model is None or self.objective is None:
            return
        task = model.objective(self.objective)
        fits = isinstance(task, Scoring) and task.logits_of is not None
        if not fits or self.stream not in cast(Scoring, task).needs():
            raise ValueError(
                f"objective: {self.objective!r} does not predict classes from the stream "
                f"{self.stream!r} alone, as masking.tokens and supervised.classification do"
            )

    def by_sample(self, step: Step) -> bool:
        """Whether there is a prediction for each sample, not for each token."""
        return self.objective is not None and self._scoring(step).logits_of == "sample"

    def _scoring(self, step: Step) -> Scoring:
        assert self.objective is not None
        return cast(Scoring, step.model.objective(self.objective))  # `check` has asked

    def count(self, step: Step) -> int:
        """Return how many predictions there are."""
        if self.by_sample(step):
            return len(step.rows_with(self.stream))
        return step.tokens(self.stream).layout.tokens

    def predict(self, step: Step, encoded: Encoded) -> Float[Tensor, "row class"]:
        """Return the scores of each token, or of each sample that has any."""
        if self.objective is None:
            scores = step.encoder(self.stream).unembed(encoded.vectors)
            assert scores is not None  # `need` asks for a table
            return scores
        scores = self._scoring(step).logits(step, self.stream, encoded)
        if not self.by_sample(step):
            return scores
        rows = step.rows_with(self.stream)
        return scores[torch.tensor(rows, dtype=torch.int64, device=scores.device)]

    def embed(self, step: Step) -> Encoded:
        """Return the stream's embeddings."""
        return step.encoder(self.stream).embed(step.tokens(self.stream))

    def contextualize(
        self,
        step: Step,
        stem: Encoded,
        disturbance: Float[Tensor, "token width"] | None = None,
    ) -> Encoded:
        """Return the trunk's vectors for embeddings, disturbed and without a gradient if asked."""
        if disturbance is not None:
            # The gradient is zero, not none: of several ranks each has a zero for parameters that
            # are not used, and AdamW moves what has one.
            still = stem.vectors.detach() + 0 * stem.vectors
            size = still.detach().square().mean(dim=1, keepdim=True).sqrt()
            stem = replace(stem, vectors=still + size * disturbance)
        return step.encoder(self.stream).contextualize(stem)

    def worst(
        self,
        step: Step,
        stem: Encoded,
        scores: Float[Tensor, "row class"],
        *,
        name: str,
        rate: float | None,
        updates: int,
    ) -> Float[Tensor, "token width"]:
        """Return the disturbance, of the radius's length, that parts predictions from `scores`.

        Each token's follows from its own sample alone. `name` is the noise's.
        """
        wanted = single(scores.detach()).softmax(dim=1)

        def change(disturbance: Tensor) -> Tensor:
            """Its gradient, which alone is asked for, is that of the divergence from `scores`."""
            there = single(self.predict(step, self.contextualize(step, stem, disturbance)))
            return ((there.detach().softmax(dim=1) - wanted) * there).sum()

        noise = step.normal(name, step.tokens(self.stream), stem.width).to(stem.vectors)
        return self.radius * worst_direction(
            change, noise, start=self.start, rate=rate, updates=updates, gradient=step.grad
        )
