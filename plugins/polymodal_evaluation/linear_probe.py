"""Linear probe: logistic regression on frozen vectors (Alain and Bengio, 2017)."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, Unpack

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polymodal import (
    DataError,
    Each,
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
from polymodal_evaluation.rows import SPLITS, Labelled, class_names, labelled, majority_share

Metric = Literal["accuracy", "macro_f1", "auc"]


class LinearProbe(Evaluation):
    """Reads a label off the vectors with one linear layer, fitted on the training rows.

    Vectors are standardised with the mean and deviation of the rows fitted on. Rows whose label
    is missing are left out; 1 and "1" are the same label. Chance is always giving the scored
    rows' most frequent label (0.5 for auc).

    Args:
        stream: whose vectors.
        source: where rows come from.
        label: field that holds the label.
        metric: accuracy; macro_f1: F1 averaged over classes; auc: area under the ROC curve, the
            mean over classes of each against the rest.
        objective: its projection of the vectors, instead of the encoder's own.
        each: what is labelled: samples, or their tokens, whose label is an entry of the field.
        split_by: field that says the split of each row, instead of the source's own: of nodes that
            are tokens of one graph, say.
        shots: fit on so many rows of each class, drawn from all splits joined, and score the
            others, instead of fit_on and split.
        draws: how many times; the score is their mean.
        penalty_inverse: scikit-learn's C; smaller is smoother.
        max_iterations: the solver stops there, whether it has converged or not.
        fitting: which rows are fitted on and scored; see `FitOptions`. Over folds, auc is the mean
            of theirs.

    Raises:
        ValueError: fewer than 2 folds, a group without folds, folds beside shots, a number that
            must be above 0.
    """

    def __init__(
        self,
        stream: StreamName,
        source: SourceName,
        label: FieldName,
        *,
        metric: Literal["accuracy", "macro_f1", "auc"] = "accuracy",
        objective: ObjectiveName | None = None,
        each: Each = "sample",
        split_by: FieldName | None = None,
        shots: int | None = None,
        draws: int = 5,
        penalty_inverse: float = 1.0,
        max_iterations: int = 2000,
        **fitting: Unpack[FitOptions],
    ):
        rows = filled(FitOptions, fitting)
        check_folds(rows["folds"], rows["group"])
        if rows["folds"] is not None and shots is not None:
            raise ValueError("give folds or shots, not both")
        if draws < 1 or (shots is not None and shots < 1):
            raise ValueError(f"shots and draws must be at least 1, got {shots} and {draws}")
        if penalty_inverse <= 0:
            raise ValueError(f"penalty_inverse must be above 0, got {penalty_inverse}")
        if max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
        self.stream = stream
        self.source = source
        self.label = label
        self.metric: Metric = metric
        self.objective = objective
        self.fit_on, self.split = rows["fit_on"], rows["split"]
        self.folds, self.group = rows["folds"], rows["group"]
        self.each: Each = each
        self.split_by = split_by
        self.shots = shots
        self.draws = draws
        self.penalty_inverse = penalty_inverse
        self.max_iterations = max_iterations

    def needs(self) -> Mapping[str, Need]:
        """Return that any tokens will do."""
        return {self.stream: Need()}

    def run(self, probe: Probe) -> list[Score]:
        """Return one score.

        Raises:
            DataError: no rows, fewer rows than folds, or a single class where two are needed.
        """
        if self.folds is not None:
            value, truth = self._cross_validate(probe, self.folds)
        elif self.shots is not None:
            value, truth = self._few(probe, self.shots)
        else:
            value, truth = self._fixed(probe)
        return [Score(self.metric, value, chance_level(self.metric, truth), samples=len(truth))]

    def _fixed(self, probe: Probe) -> tuple[float, np.ndarray]:
        fitted_on, fit_labels = self._rows(probe, [self.fit_on])
        scored, truth = self._rows(probe, [self.split])
        self._need_two(fit_labels, f"the {self.fit_on} rows")
        self._need_two(truth, f"the {self.split} rows")
        return self._score(fitted_on.vectors, fit_labels, scored.vectors, truth), truth

    def _few(self, probe: Probe, shots: int) -> tuple[float, np.ndarray]:
        rows, truth = self._rows(probe, SPLITS)
        self._need_two(truth, "the rows")
        places = [np.flatnonzero(truth == name) for name in np.unique(truth)]
        fewest = min(map(len, places))
        if fewest <= shots:
            raise DataError(
                f"a class of {self.label!r} has {fewest} rows: {shots} to fit on leave none to "
                "score; set fewer shots"
            )
        values = []
        for draw in range(self.draws):
            generator = np.random.default_rng([probe.seed, draw])
            fit = np.concatenate([generator.choice(p, shots, replace=False) for p in places])
            rest = np.setdiff1d(np.arange(len(truth)), fit)
            values.append(
                self._score(rows.vectors[fit], truth[fit], rows.vectors[rest], truth[rest])
            )
        return float(np.mean(values)), truth

    def _score(
        self, vectors: np.ndarray, labels: np.ndarray, scored: np.ndarray, truth: np.ndarray
    ) -> float:
        answers, classes, likelihood = self._fit(vectors, labels, scored)
        if self.metric == "auc":
            return mean_area(truth, classes, likelihood)
        return score_answers(self.metric, truth, answers)

    def _cross_validate(self, probe: Probe, folds: int) -> tuple[float, np.ndarray]:
        rows, truth = self._rows(probe, SPLITS)
        self._need_two(truth, "the rows")
        answers = truth.copy()
        areas = []
        parts = fold_parts(len(rows), folds, groups=rows.groups, classes=truth, seed=probe.seed)
        for number, (fit, score) in enumerate(parts, start=1):
            where = f"fold {number} of {folds}"
            self._need_two(truth[fit], f"the rows to fit on in {where}")
            answers[score], classes, likelihood = self._fit(
                rows.vectors[fit], truth[fit], rows.vectors[score]
            )
            if self.metric == "auc":
                self._need_two(truth[score], f"the rows of {where}")
                areas.append(mean_area(truth[score], classes, likelihood))
        if self.metric == "auc":
            return float(np.mean(areas)), truth
        return score_answers(self.metric, truth, answers), truth

    def _rows(self, probe: Probe, splits: Sequence[Split]) -> tuple[Labelled, np.ndarray]:
        rows = labelled(
            probe,
            self.stream,
            source=self.source,
            label=self.label,
            splits=splits,
            objective=self.objective,
            group=self.group,
            each=self.each,
            split_by=self.split_by,
        )
        return rows, class_names(rows.values, label=self.label)

    def _fit(
        self, vectors: np.ndarray, labels: np.ndarray, scored: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the answers, the classes fitted, and each one's likelihood."""
        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=self.penalty_inverse, max_iter=self.max_iterations),
        )
        with warnings.catch_warnings():
            # A run is not to end for a solver cut short: where it stopped is as good a probe.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(vectors, labels)
        return model.predict(scored), model.classes_, model.predict_proba(scored)

    def _need_two(self, labels: np.ndarray, where: str) -> None:
        found = np.unique(labels)
        if len(found) < 2:
            raise DataError(
                f"a probe of {self.label!r} needs two classes or more, but {where} have only "
                f"{str(found[0])!r}"
            )


def score_answers(
    metric: Literal["accuracy", "macro_f1"], truth: np.ndarray, answers: np.ndarray
) -> float:
    """Return how good the answers are."""
    if metric == "macro_f1":
        return float(f1_score(truth, answers, average="macro", zero_division=0))
    return float((truth == answers).mean())


def mean_area(truth: np.ndarray, classes: np.ndarray, likelihood: np.ndarray) -> float:
    """Return the area under the ROC curve, the mean over classes of each against the rest.

    A class that was never fitted has no likelihood to rank by: it counts 0.5.
    """
    column = {name: number for number, name in enumerate(classes)}
    areas = [
        float(roc_auc_score(truth == name, likelihood[:, column[name]])) if name in column else 0.5
        for name in np.unique(truth)
    ]
    return float(np.mean(areas))


def chance_level(metric: Metric, truth: np.ndarray) -> float:
    """Return what always giving the most frequent label scores."""
    if metric == "auc":
        return 0.5
    share = majority_share(truth)
    if metric == "accuracy":
        return share
    # Its precision is the share and its recall 1; the other classes have F1 0.
    return 2 * share / (1 + share) / len(np.unique(truth))
