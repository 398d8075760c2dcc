"""Linear regression: a number read off frozen vectors by ridge regression."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polymodal import (
    DataError,
    Evaluation,
    FieldName,
    Need,
    ObjectiveName,
    Probe,
    Score,
    SourceName,
    Split,
    StreamName,
    filled,
)
from polymodal_evaluation.folds import FitOptions, check_folds, fold_parts
from polymodal_evaluation.rows import SPLITS, Labelled, labelled

PENALTIES = tuple(10.0**power for power in range(-3, 6))  # tried by leave-one-out on fitted rows


class LinearRegression(Evaluation):
    """Reads a number off the vectors with one linear layer, fitted on the training rows.

    Vectors are standardised; the ridge penalty is the one of 0.001 to 100000 with the least
    leave-one-out error on the rows fitted on. Rows whose value is missing are left out. Chance
    is always giving the scored rows' mean.

    Args:
        stream: whose vectors.
        source: where rows come from.
        label: field that holds the number.
        metric: r2: share of the variance explained; rmse: root of the mean squared error, in the
            field's unit, lower is better.
        objective: its projection of the vectors, instead of the encoder's own.
        fitting: which rows are fitted on and scored; see `FitOptions`.
    """

    def __init__(
        self,
        stream: StreamName,
        source: SourceName,
        label: FieldName,
        *,
        metric: Literal["r2", "rmse"] = "r2",
        objective: ObjectiveName | None = None,
        **fitting: Unpack[FitOptions],
    ):
        rows = filled(FitOptions, fitting)
        check_folds(rows["folds"], rows["group"])
        self.stream = stream
        self.source = source
        self.label = label
        self.metric: Literal["r2", "rmse"] = metric
        self.objective = objective
        self.fit_on, self.split = rows["fit_on"], rows["split"]
        self.folds, self.group = rows["folds"], rows["group"]

    def needs(self) -> Mapping[str, Need]:
        """Return that any tokens will do."""
        return {self.stream: Need()}

    def run(self, probe: Probe) -> list[Score]:
        """Return one score.

        Raises:
            DataError: too few rows, a value that is no number, or no variance to explain.
        """
        if self.folds is None:
            fitted_on = self._rows(probe, [self.fit_on])
            scored = self._rows(probe, [self.split])
            truth = numbers(scored.values, label=self.label)
            answers = self._fit(
                fitted_on.vectors, numbers(fitted_on.values, label=self.label), scored.vectors
            )
        else:
            rows = self._rows(probe, SPLITS)
            truth = numbers(rows.values, label=self.label)
            answers = np.zeros(len(truth))
            for fit, score in fold_parts(
                len(rows), self.folds, groups=rows.groups, seed=probe.seed
            ):
                answers[score] = self._fit(rows.vectors[fit], truth[fit], rows.vectors[score])
        error = float(np.mean((answers - truth) ** 2))
        spread = float(np.var(truth))
        if self.metric == "rmse":
            return [
                Score("rmse", error**0.5, spread**0.5, higher_is_better=False, samples=len(truth))
            ]
        if np.ptp(truth) == 0:  # not `spread`: the mean of equal numbers may be rounded
            raise DataError(
                f"r2 needs values that differ, but all {len(truth)} scored rows have "
                f"{float(truth[0])!r} in {self.label!r}: use metric: rmse"
            )
        return [Score("r2", 1 - error / spread, 0.0, samples=len(truth))]

    def _rows(self, probe: Probe, splits: Sequence[Split]) -> Labelled:
        return labelled(
            probe,
            self.stream,
            source=self.source,
            label=self.label,
            splits=splits,
            objective=self.objective,
            group=self.group,
        )

    def _fit(self, vectors: np.ndarray, values: np.ndarray, scored: np.ndarray) -> np.ndarray:
        if len(values) < 2:
            raise DataError(
                f"a regression of {self.label!r} needs two rows to fit on, got {len(values)}"
            )
        model = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
        return np.asarray(model.fit(vectors, values).predict(scored))


def numbers(values: Sequence[Any], *, label: str) -> np.ndarray:
    """Return values as float64.

    Raises:
        DataError: one is not a finite number.
    """
    found = np.zeros(len(values))
    for row, value in enumerate(values):
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            found[row] = np.nan
        if not np.isfinite(found[row]):
            raise DataError(f"the field {label!r} must hold finite numbers, got {value!r:.60}")
    return found
