"""Regression: numbers of the sample from a stream's pooled vectors."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from polymodal import (
    DataError,
    Encoded,
    FieldName,
    FromRun,
    Loss,
    Need,
    Representing,
    Step,
    StreamInfo,
    StreamName,
)
from polymodal_supervised.labels import head, labelled

Distance = Literal["mse", "l1", "smooth_l1"]
_DISTANCES = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}


class Regression(Representing):
    """Predict one or several numbers of the sample from a stream's pooled vector.

    A sample without a label or without the stream costs nothing. The loss of a sample is the mean
    distance over its numbers, after `mean` and `deviation` have brought them to unit size; the
    count is the samples that have both. `project` gives the predictions in the field's unit.

    Args:
        info: the streams.
        stream: whose pooled vectors.
        label: field that holds a number, or a list of them.
        outputs: how many numbers.
        mean: taken off each number before it is compared.
        deviation: each number is divided by, after that.
        distance: between predicted and true numbers.
        hidden: width of a hidden layer; a linear head unless given.
        dropout: of the pooled vector, in training.

    Raises:
        ValueError: a deviation or number of outputs that is not above 0; in a step a DataError
            for a label that is not so many finite numbers.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        label: FieldName,
        outputs: int = 1,
        mean: float = 0.0,
        deviation: float = 1.0,
        distance: Distance = "mse",
        hidden: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        Need().check(info, stream)
        if outputs < 1:
            raise ValueError(f"outputs must be 1 or more, got {outputs}")
        if deviation <= 0:
            raise ValueError(f"deviation must be above 0, got {deviation}")
        self.stream = stream
        self.label = label
        self.outputs = outputs
        self.mean = mean
        self.deviation = deviation
        self.distance = _DISTANCES[distance]
        self.head = head(info[stream].width, outputs, hidden=hidden, dropout=dropout)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream; any tokens will do."""
        return {self.stream: Need()}

    def fields(self) -> tuple[str, ...]:
        """Return the field that holds the numbers."""
        return (self.label,)

    def forward(self, step: Step) -> Loss:
        """Return the distance over samples that have the stream and a label."""
        labels = labelled(step, self.stream, self.label)
        pooled = step.encode(self.stream).pooled_rows()
        rows = torch.tensor(list(labels), dtype=torch.int64, device=pooled.device)
        found = [self._numbers(value) for value in labels.values()]
        target = torch.from_numpy(np.array(found, dtype=np.float32).reshape(-1, self.outputs))
        target = (target.to(pooled.device) - self.mean) / self.deviation
        predicted = self.head(pooled[rows]).float()
        total = self.distance(predicted, target, reduction="sum") / self.outputs
        return Loss(total, len(rows))

    def count(self, step: Step) -> int:
        """Return how many samples have the stream and a label."""
        return len(labelled(step, self.stream, self.label))

    def project(self, stream: str, encoded: Encoded) -> Float[Tensor, "sample output"]:
        """Return the numbers predicted for each sample, in the field's unit."""
        if stream != self.stream:
            return super().project(stream, encoded)
        return self.head(encoded.pooled_rows()).float() * self.deviation + self.mean

    def _numbers(self, value: Any) -> np.ndarray:
        try:
            numbers = np.asarray(value, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = np.array([np.nan])
        if len(numbers) != self.outputs or not np.isfinite(numbers).all():
            wanted = "a finite number" if self.outputs == 1 else f"{self.outputs} finite numbers"
            raise DataError(f"the field {self.label!r} must hold {wanted}, got {value!r:.60}")
        return numbers
