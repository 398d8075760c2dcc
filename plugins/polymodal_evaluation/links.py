"""Link prediction: tell pairs of tokens that belong together from random ones by their vectors."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polymodal import DataError, Evaluation, FieldName, Need, Probe, Score, SourceName, StreamName
from polymodal_evaluation.rows import field_of, finite, read_splits

Scorer = Literal["dot", "linear", "mlp"]
Pairs = Int[np.ndarray, "2 pair"]


class Links(Evaluation):
    """Scores pairs of a sample's tokens, such as edges of a graph that the encoder did not see.

    Beside each true pair a random one of the same sample is scored, none of which is a known pair
    in either direction or joins a token to itself. Scores are the area under the ROC curve (`auc`)
    and the average precision (`ap`). The vectors of a pair are multiplied by channels: "dot" adds
    these up, "linear" and "mlp" (one hidden layer) are classifiers of them, fitted on other pairs.

    Args:
        stream: whose tokens.
        source: where samples come from; all splits.
        pairs: field that holds the true pairs to score, [2, pair], as places in the sample.
        fit_on: field that holds the true pairs to fit on; not used by "dot".
        known: fields that hold further true pairs, which are not drawn as random ones.
        scorer: how a pair is scored.
        hidden: width of the hidden layer.
        max_iterations: of the classifier's solver (epochs of "mlp").

    Raises:
        ValueError: a classifier with nothing to fit on, or a number below 1.
    """

    def __init__(
        self,
        stream: StreamName,
        source: SourceName,
        pairs: FieldName,
        *,
        fit_on: FieldName | None = None,
        known: list[FieldName] | None = None,
        scorer: Literal["dot", "linear", "mlp"] = "linear",
        hidden: int = 256,
        max_iterations: int = 300,
    ):
        if scorer != "dot" and fit_on is None:
            raise ValueError(f"scorer: {scorer} needs the option fit_on: pairs to fit on")
        if min(hidden, max_iterations) < 1:
            raise ValueError(
                f"hidden and max_iterations must be at least 1, got {hidden} and {max_iterations}"
            )
        self.stream = stream
        self.source = source
        self.pairs = pairs
        self.fit_on = fit_on
        self.known = tuple(known or ())
        self.scorer: Scorer = scorer
        self.hidden = hidden
        self.max_iterations = max_iterations

    def needs(self) -> Mapping[str, Need]:
        """Return that any tokens will do."""
        return {self.stream: Need()}

    def run(self, probe: Probe) -> list[Score]:
        """Return both scores.

        Raises:
            DataError: no pairs, pairs that are not [2, pair], or one that points outside its
                sample.
        """
        generator = np.random.default_rng(probe.seed)
        scored: list[np.ndarray] = []
        truth: list[np.ndarray] = []
        fitted: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for vectors, fields in self._samples(probe):
            count = len(vectors)
            named = [self.pairs, *([self.fit_on] if self.fit_on else []), *self.known]
            every = {name: self._read(fields, name, count) for name in named}
            seen = np.concatenate(list(every.values()), axis=1)
            for name, products, answers in (
                (self.pairs, scored, truth),
                (self.fit_on, fitted, labels),
            ):
                if name is None:
                    continue
                true = every[name]
                false = random_pairs(true.shape[1], count, seen, generator)
                both = np.concatenate([true, false], axis=1)
                products.append(vectors[both[0]] * vectors[both[1]])
                answers.append(np.arange(both.shape[1]) < true.shape[1])
        if not sum(map(len, scored)):
            raise DataError(f"source {self.source!r} has no pairs in the field {self.pairs!r}")
        rows, right = np.concatenate(scored), np.concatenate(truth)
        likelihood = self._likelihood(fitted, labels, rows, seed=probe.seed % 2**32)
        return [
            Score("auc", float(roc_auc_score(right, likelihood)), 0.5, samples=len(right)),
            Score("ap", float(average_precision_score(right, likelihood)), float(right.mean()),
                  samples=len(right)),
        ]  # fmt: skip

    def _samples(
        self, probe: Probe
    ) -> list[tuple[Float[np.ndarray, "token width"], Mapping[str, object]]]:
        """Return each sample's vectors, a token each, and its fields."""
        found: list[tuple[np.ndarray, Mapping[str, object]]] = []
        read = read_splits(probe, self.stream, source=self.source, each="token")
        for part in read.values():
            vectors = finite(part.vectors, stream=self.stream)
            fields = {
                name: field_of(part.fields, name, source=self.source)
                for name in {self.pairs, self.fit_on, *self.known} - {None}
                if name is not None
            }
            for row in np.unique(part.rows):
                places = np.flatnonzero(part.rows == row)
                own = {name: values[places[0]] for name, values in fields.items()}
                found.append((vectors[places], own))
        return found

    def _read(self, fields: Mapping[str, object], name: str, count: int) -> Pairs:
        value = fields[name]
        pairs = np.zeros((2, 0), np.int64) if value is None else np.asarray(value)
        if pairs.ndim != 2 or len(pairs) != 2 or pairs.dtype.kind not in "iu":
            raise DataError(
                f"the field {name!r} must hold whole numbers [2, pair], got {pairs.dtype} "
                f"{list(pairs.shape)}"
            )
        if pairs.size and (pairs.min() < 0 or pairs.max() >= count):
            raise DataError(f"a pair of {name!r} points outside the sample's {count} tokens")
        return pairs

    def _likelihood(
        self,
        fitted: Sequence[np.ndarray],
        labels: Sequence[Bool[np.ndarray, " pair"]],
        rows: Float[np.ndarray, "pair width"],
        *,
        seed: int,
    ) -> Float[np.ndarray, " pair"]:
        if self.scorer == "dot":
            total: np.ndarray = rows.sum(axis=1)
            return total
        if not sum(map(len, fitted)):
            raise DataError(f"source {self.source!r} has no pairs in the field {self.fit_on!r}")
        classifier = (
            LogisticRegression(max_iter=self.max_iterations)
            if self.scorer == "linear"
            else MLPClassifier(
                [self.hidden], max_iter=self.max_iterations, early_stopping=True, random_state=seed
            )
        )
        model = make_pipeline(StandardScaler(), classifier)
        with warnings.catch_warnings():
            # A run is not to end for a solver cut short.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(np.concatenate(fitted), np.concatenate(labels))
        likelihood: np.ndarray = model.predict_proba(rows)[:, 1]
        return likelihood


def random_pairs(wanted: int, tokens: int, known: Pairs, generator: np.random.Generator) -> Pairs:
    """Return up to `wanted` pairs of different tokens that are not known, in either direction.

    Fewer where a sample is so dense that hardly any is left.
    """
    codes = np.unique(np.concatenate([known[0] * tokens + known[1], known[1] * tokens + known[0]]))
    found = np.zeros((2, 0), np.int64)
    for _ in range(10):
        missing = wanted - found.shape[1]
        if not missing:
            break
        drawn = generator.integers(0, tokens, (2, 2 * missing))
        good = (drawn[0] != drawn[1]) & ~np.isin(drawn[0] * tokens + drawn[1], codes)
        found = np.concatenate([found, drawn[:, good]], axis=1)[:, :wanted]
    return found
