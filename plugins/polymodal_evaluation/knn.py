"""Nearest neighbours: a label by vote of the most similar training samples."""

from collections.abc import Mapping

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from polymodal import (
    Evaluation,
    FieldName,
    Need,
    ObjectiveName,
    Probe,
    Score,
    SourceName,
    Split,
    StreamName,
)
from polymodal_evaluation.rows import class_names, labelled, majority_share


class NearestNeighbors(Evaluation):
    """Labels a row as most of the training rows with the nearest vectors, by cosine.

    Nothing is fitted, so it shows how the vectors lie as they are. Each neighbour has one vote,
    or with a temperature exp(cosine / temperature) of one (Wu et al., 2018; DINO's is 0.07 with
    10 to 200 neighbours); of labels with equal votes the first in alphabetical order wins. Rows
    whose label is missing are left out. Chance is always giving the scored rows' most frequent
    label.

    Args:
        stream: whose vectors.
        source: where rows come from.
        label: field that holds the label.
        neighbors: how many vote; all training rows where there are fewer.
        temperature: of votes weighted by the cosine; equal votes unless given.
        objective: its projection of the vectors, instead of the encoder's own.
        fit_on: split the neighbours are from.
        split: split to score.

    Raises:
        ValueError: no neighbours, a temperature that is not above 0, or one split for both sides.
    """

    def __init__(
        self,
        stream: StreamName,
        source: SourceName,
        label: FieldName,
        *,
        neighbors: int = 5,
        temperature: float | None = None,
        objective: ObjectiveName | None = None,
        fit_on: Split = "train",
        split: Split = "validation",
    ):
        if neighbors < 1:
            raise ValueError(f"neighbors must be at least 1, got {neighbors}")
        if temperature is not None and temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if fit_on == split:
            raise ValueError(f"every row would find itself: fit_on and split are both {split!r}")
        self.stream = stream
        self.source = source
        self.label = label
        self.neighbors = neighbors
        self.temperature = temperature
        self.objective = objective
        self.fit_on: Split = fit_on
        self.split: Split = split

    def needs(self) -> Mapping[str, Need]:
        """Return that any tokens will do."""
        return {self.stream: Need()}

    def run(self, probe: Probe) -> list[Score]:
        """Return the accuracy.

        Raises:
            DataError: a split has no row with the stream and the label.
        """
        known, scored = (
            labelled(
                probe,
                self.stream,
                source=self.source,
                label=self.label,
                splits=[split],
                objective=self.objective,
            )
            for split in (self.fit_on, self.split)
        )
        model = KNeighborsClassifier(
            min(self.neighbors, len(known)),
            metric="cosine",
            algorithm="brute",
            weights="uniform" if self.temperature is None else self._votes,
        )
        model.fit(known.vectors, class_names(known.values, label=self.label))
        truth = class_names(scored.values, label=self.label)
        value = float((model.predict(scored.vectors) == truth).mean())
        return [Score("accuracy", value, majority_share(truth), samples=len(truth))]

    def _votes(self, distances: np.ndarray) -> np.ndarray:
        """Return exp(-distance / temperature): exp(cosine / temperature) over its largest."""
        assert self.temperature is not None
        votes: np.ndarray = np.exp(-distances / self.temperature)
        return votes
