"""Effect: how much a concept changes what a classifier says (CausaLM, Feder et al., 2021)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal import (
    DataError,
    Evaluation,
    Features,
    FieldName,
    Need,
    ObjectiveName,
    Probe,
    Score,
    SourceName,
    Split,
    StreamName,
    class_name,
    load,
)
from polymodal_evaluation.rows import field_of, is_missing


def mean_difference(
    first: Float[np.ndarray, "sample class"], second: Float[np.ndarray, "sample class"]
) -> float:
    """Return the mean over samples of the L1 distance between class probabilities, 0 to 2.

    Of a classifier on the original and on the counterfactual encoder it is TReATE (section 3), of
    one on texts and on their counterfactuals the ATE.
    """
    return float(np.abs(first - second).sum(axis=1).mean())


def concept_difference(
    probabilities: Float[np.ndarray, "sample class"], concept: Sequence[Any]
) -> float:
    """Return CONEXP: the L1 distance between the mean probabilities with and without a concept.

    Of more than two values, the mean over pairs.

    Raises:
        ValueError: fewer than two values.
    """
    names = np.array([class_name(value) for value in concept])
    means = [probabilities[names == name].mean(axis=0) for name in np.unique(names)]
    pairs = [
        float(np.abs(one - other).sum())
        for number, one in enumerate(means)
        for other in means[:number]
    ]
    if not pairs:
        raise ValueError("a difference needs two values of the concept or more")
    return float(np.mean(pairs))


class Effect(Evaluation):
    """What a concept does to a classifier's probabilities: estimated, and true where it is known.

    The classifier is an objective whose projection are logits, as `supervised.classification`.
    Figures, each only where its options are given:

    - `treate`: by how much this model's classifier differs from that of the run `original`, whose
      encoder has kept the concept that this one has lost.
    - `ate`: by how much it changes when each text is replaced by its counterfactual.
    - `conexp`: by how much its mean differs between texts with and without the concept, which is
      what correlation alone would make of it.

    Args:
        stream: that is classified.
        source: where samples come from.
        objective: the classifier.
        original: a run with the same stream, source and objective.
        counterfactual: field with each sample's counterfactual, as the stream's own field.
        concept: field that says whether a sample has the concept.
        split: which rows.

    Raises:
        ValueError: nothing to measure is named.
    """

    def __init__(
        self,
        stream: StreamName,
        source: SourceName,
        objective: ObjectiveName,
        *,
        original: str | None = None,
        counterfactual: FieldName | None = None,
        concept: FieldName | None = None,
        split: Split = "validation",
    ):
        if original is None and counterfactual is None and concept is None:
            raise ValueError("name at least one of original, counterfactual and concept")
        self.stream = stream
        self.source = source
        self.objective = objective
        self.original = original
        self.counterfactual = counterfactual
        self.concept = concept
        self.split: Split = split

    def needs(self) -> Mapping[str, Need]:
        """Return that any tokens will do."""
        return {self.stream: Need()}

    def run(self, probe: Probe) -> list[Score]:
        """Return the figures.

        Raises:
            DataError: no rows, a field that is missing, or an original run that is not there or
                has other rows.
        """
        here = self._features(probe)
        says = probabilities(here.vectors)
        found = {}
        if self.original is not None:
            there = self._features(load(self.original).probe())
            if there.fields != here.fields:
                raise DataError(
                    f"the run {self.original} has other rows in source {self.source!r}: give both "
                    "runs the same source and seed"
                )
            found["treate"] = mean_difference(probabilities(there.vectors), says)
        if self.counterfactual is not None:
            raws = field_of(here.fields, self.counterfactual, source=self.source)
            rows = [row for row, raw in enumerate(raws) if not is_missing(raw)]
            if not rows:
                raise DataError(f"no row has a counterfactual in {self.counterfactual!r}")
            logits = probe.encode(
                self.stream, [raws[row] for row in rows], objective=self.objective
            )
            found["ate"] = mean_difference(says[rows], probabilities(logits))
        if self.concept is not None:
            values = field_of(here.fields, self.concept, source=self.source)
            rows = [row for row, value in enumerate(values) if not is_missing(value)]
            try:
                found["conexp"] = concept_difference(says[rows], [values[row] for row in rows])
            except ValueError as error:
                raise DataError(f"the field {self.concept!r}: {error}") from error
        return [
            Score(name, value, higher_is_better=False, samples=len(says))
            for name, value in found.items()
        ]

    def _features(self, probe: Probe) -> Features:
        return probe.features(
            self.stream, source=self.source, split=self.split, objective=self.objective
        )


def probabilities(logits: Float[np.ndarray, "sample class"]) -> Float[np.ndarray, "sample class"]:
    """Return the softmax of each row, in float64."""
    risen = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = risen / risen.sum(axis=1, keepdims=True)
    return shares
