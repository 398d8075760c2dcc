"""Evaluation: a protocol over a frozen model, with what chance would score beside it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float

from polymodal.interfaces.component import Need

Split = Literal["train", "validation", "test"]
Each = Literal["sample", "token"]


@dataclass(frozen=True)
class Score:
    """One figure of an evaluation."""

    metric: str  # "accuracy", "recall@10"
    value: float
    chance: float | None = None  # what guessing scores
    higher_is_better: bool = True
    samples: int = 0  # how many it was measured on


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of a split, one a sample that has the stream or one a token, with their fields."""

    vectors: Float[np.ndarray, "row width"]
    rows: np.ndarray  # index of each one's sample within the split, ascending
    fields: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What an objective predicts of a split, one value a sample, and the sample's fields."""

    values: Sequence[Any]
    rows: np.ndarray  # index of each sample within the split, ascending
    fields: Mapping[str, Sequence[Any]]


class Probe(Protocol):
    """What an evaluation may ask of a model: vectors, never gradients."""

    seed: int

    def size(self, source: str, split: Split) -> int:
        """Return how many rows a split has."""

    def features(
        self,
        stream: str,
        *,
        source: str,
        split: Split,
        objective: str | None = None,
        each: Each = "sample",
    ) -> Features:
        """Return the pooled vectors of a split (projected by an objective, if named).

        With `each: token`, one vector a token. A field that holds a list or array with as many
        entries as the sample has tokens gives each token its own; any other is the sample's.
        """

    def encode(
        self, stream: str, raws: Sequence[Any], *, objective: str | None = None
    ) -> Float[np.ndarray, "sample width"]:
        """Return the vectors of raw values, such as prompts."""

    def losses(
        self, objective: str, *, source: str, split: Split
    ) -> Mapping[str, tuple[float, float]]:
        """Return an objective's "loss" and metrics over a split, each as sum and count."""

    def predictions(self, objective: str, *, source: str, split: Split) -> Predictions:
        """Return what an objective predicts of the samples of a split: classes, texts."""


class Evaluation(ABC):
    """A protocol over a frozen model: probe, retrieval, zero-shot.

    Its options name the source, the streams and the fields it uses.
    """

    @abstractmethod
    def needs(self) -> Mapping[str, Need]:
        """Return the streams it reads and what it asks of each."""

    @abstractmethod
    def run(self, probe: Probe) -> list[Score]:
        """Return its figures for the model behind `probe`.

        Raises:
            DataError: the split is empty or lacks a field it needs.
        """
