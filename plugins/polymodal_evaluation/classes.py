"""Predicted classes: what an objective says each sample is, against what it is."""

from collections import Counter
from collections.abc import Mapping, Sequence

from sklearn.metrics import accuracy_score, f1_score

from polymodal import Evaluation, FieldName, Need, ObjectiveName, Probe, Score, SourceName, Split
from polymodal_evaluation.predicted import predicted
from polymodal_evaluation.rows import class_names


class Classes(Evaluation):
    """Scores the classes that an objective predicts: accuracy, and F1 averaged over classes.

    Chance is what always naming the commonest class of the split would score.

    Args:
        objective: the name of one under `objectives` that predicts classes.
        source: where samples come from.
        label: field that holds the class.
        split: which rows.
    """

    def __init__(
        self,
        objective: ObjectiveName,
        source: SourceName,
        label: FieldName,
        *,
        split: Split = "validation",
    ):
        self.objective = objective
        self.source = source
        self.label = label
        self.split: Split = split

    def needs(self) -> Mapping[str, Need]:
        """Return nothing: the objective says what it needs."""
        return {}

    def run(self, probe: Probe) -> list[Score]:
        """Return accuracy and macro F1.

        Raises:
            DataError: nothing to score in the split, or an objective that predicts nothing.
        """
        values, truth = predicted(
            probe, self.objective, source=self.source, split=self.split, field=self.label
        )
        names = class_names(truth, label=self.label).tolist()
        found = class_names(values, label=self.objective).tolist()
        ((commonest, _),) = Counter(sorted(names)).most_common(1)
        scores, chance = (_figures(names, each) for each in (found, [commonest] * len(names)))
        return [
            Score(metric, scores[metric], chance=chance[metric], samples=len(names))
            for metric in scores
        ]


def _figures(truth: Sequence[str], found: Sequence[str]) -> dict[str, float]:
    return {
        "accuracy": float(accuracy_score(truth, found)),
        "f1": float(f1_score(truth, found, average="macro", zero_division=0.0)),
    }
