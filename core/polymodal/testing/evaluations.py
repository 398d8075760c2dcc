"""Checks of evaluations: run on a probe whose vectors tell the classes apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal.ground.errors import DataError, nearest
from polymodal.interfaces.evaluation import Each, Evaluation, Features, Predictions, Score, Split
from polymodal.testing.comparing import random_state_kept, random_state_untouched, same
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import OBJECTIVE, TOY_STREAMS, toy_info

CLASSES = ("zero", "one", "two")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass
class ToyProbe:
    """A probe of made-up vectors, near a direction for each of three classes.

    Fields: `label` (0, 1, 2), `name` (zero, one, two), `number` (the class as a number) and
    `group`. Of tokens, six in turn are a sample's, and `pairs` are its tokens of one class. Every
    stream has the same vectors but for some noise, so that retrieval works; the
    vector of a raw value that contains a class's name is the class's direction.
    """

    seed: int = 0
    noise: float = 0.2
    rows: int = 36

    def size(self, source: str, split: Split) -> int:
        """Return how many rows a split has."""
        return self.rows

    def features(
        self,
        stream: str,
        *,
        source: str,
        split: Split,
        objective: str | None = None,
        each: Each = "sample",
    ) -> Features:
        """Return vectors of a split."""
        self._known(stream)
        number = SPLITS.index(split)
        classes = np.arange(self.rows) % len(CLASSES)
        base = np.random.default_rng([1, number]).standard_normal((self.rows, 8)) * self.noise
        own = np.random.default_rng([2, number, list(TOY_STREAMS).index(stream)])
        vectors = self._directions()[classes] + base
        vectors = vectors + own.standard_normal((self.rows, 8)) * self.noise * 0.1
        fields: dict[str, Sequence[Any]] = {
            "label": [int(c) for c in classes],
            "name": [CLASSES[c] for c in classes],
            "number": [float(c) for c in classes],
            "group": [f"group {row % 5}" for row in range(self.rows)],
            "pairs": [np.array([[0, 1, 2], [3, 4, 5]])] * self.rows,
        }
        rows = np.arange(self.rows) // (6 if each == "token" else 1)
        return Features(vectors.astype(np.float32), rows, fields)

    def encode(
        self, stream: str, raws: Sequence[Any], *, objective: str | None = None
    ) -> Float[np.ndarray, "sample width"]:
        """Return the vectors of raw values, such as prompts."""
        self._known(stream)
        rows = [self._directions()[_class_in(str(raw))] for raw in raws]
        return np.array(rows, dtype=np.float32).reshape(-1, 8)

    def losses(
        self, objective: str, *, source: str, split: Split
    ) -> Mapping[str, tuple[float, float]]:
        """Return sums and counts, as an objective called "checked" would have them."""
        if objective != OBJECTIVE:
            raise KeyError(
                f"No objective is called {objective!r}.{nearest(objective, [OBJECTIVE])}"
            )
        loss = 0.5 + self.noise
        return {"loss": (self.rows * loss, self.rows), "accuracy": (self.rows / loss, self.rows)}

    def predictions(self, objective: str, *, source: str, split: Split) -> Predictions:
        """Return names of classes, the more of them wrong the more noise there is."""
        found = self.features("patches", source=source, split=split)
        nearest_class = (found.vectors @ self._directions().T).argmax(axis=1)
        return Predictions([CLASSES[c] for c in nearest_class], found.rows, found.fields)

    def _directions(self) -> np.ndarray:
        return np.eye(len(CLASSES), 8)

    def _known(self, stream: str) -> None:
        if stream not in TOY_STREAMS:
            raise DataError(f"No stream is called {stream!r}.{nearest(stream, TOY_STREAMS)}")


def _class_in(text: str) -> int:
    """Return the class a text names, in words or by its number; the first if none."""
    named = [c for c, name in enumerate(CLASSES) if name in text or str(c) in text]
    return named[0] if named else 0


@dataclass
class EmptyProbe(ToyProbe):
    """A probe whose every split is empty, as `ModelProbe` says it: by a DataError."""

    def size(self, source: str, split: Split) -> int:
        """Return that there are none."""
        return 0

    def features(
        self,
        stream: str,
        *,
        source: str,
        split: Split,
        objective: str | None = None,
        each: Each = "sample",
    ) -> Features:
        """Refuse."""
        raise DataError(f"source {source!r} has no {split} rows")

    def losses(
        self, objective: str, *, source: str, split: Split
    ) -> Mapping[str, tuple[float, float]]:
        """Refuse."""
        raise DataError(f"source {source!r} has no {split} rows")

    def predictions(self, objective: str, *, source: str, split: Split) -> Predictions:
        """Refuse."""
        raise DataError(f"source {source!r} has no {split} rows")


@dataclass
class EvaluationSubject:
    """An evaluation under examination; `make` builds it."""

    make: Callable[[], Evaluation]

    @cached_property
    def evaluation(self) -> Evaluation:
        """The evaluation."""
        return self.make()


@check("evaluation")
def runs(subject: EvaluationSubject) -> None:
    """Its needs are met, and it returns scores."""
    evaluation = subject.evaluation
    if not isinstance(evaluation, Evaluation):
        raise ConformanceError(f"{type(evaluation).__name__} is no Evaluation: subclass it")
    info = toy_info()
    for stream, need in evaluation.needs().items():
        if stream not in info or need.unmet(info[stream]):
            raise ConformanceError(
                f"`needs` asks of {stream!r} what it does not have: the kit's streams are "
                f"{', '.join(info)}"
            )
    scores = evaluation.run(ToyProbe())
    if not isinstance(scores, list) or not all(isinstance(s, Score) for s in scores) or not scores:
        raise ConformanceError("`run` must return a list of one or more Score")


@check("evaluation", after=("runs",))
def shapes(subject: EvaluationSubject) -> None:
    """Every score is a finite number with samples behind it, what chance scores beside it."""
    scores = subject.evaluation.run(ToyProbe())
    if len({score.metric for score in scores}) != len(scores):
        raise ConformanceError("two scores have one name: records could not tell them apart")
    for score in scores:
        if not np.isfinite(score.value) or type(score.value) is not float:
            raise ConformanceError(f"{score.metric} is {score.value!r}, not a finite float")
        if score.chance is not None and not np.isfinite(score.chance):
            raise ConformanceError(f"the chance of {score.metric} is {score.chance!r}")
        if score.samples <= 0:
            raise ConformanceError(
                f"{score.metric} says it was measured on {score.samples} samples"
            )


@check("evaluation", after=("runs",))
def randomness(subject: EvaluationSubject) -> None:
    """Equal probes give equal scores, and global random state is left alone."""
    with random_state_kept(1), random_state_untouched("the evaluation"):
        first = subject.evaluation.run(ToyProbe())
    with random_state_kept(2):
        second = subject.make().run(ToyProbe())
    if not same(first, second):
        raise ConformanceError("two runs on one model give other scores: draw by `probe.seed`")


@check("evaluation", after=("runs", "shapes"))
def beats_chance(subject: EvaluationSubject) -> None:
    """Vectors that tell everything score at least as well as noise, and better than chance."""
    good = subject.evaluation.run(ToyProbe(noise=0.05))
    noise = {score.metric: score for score in subject.make().run(ToyProbe(noise=50.0))}
    for score in good:
        sign = 1 if score.higher_is_better else -1
        other = noise.get(score.metric)
        if other is not None and sign * score.value < sign * other.value:
            raise ConformanceError(
                f"{score.metric} is {score.value:g} on vectors that tell everything and "
                f"{other.value:g} on noise: is `higher_is_better` right?"
            )
        if score.chance is not None and sign * score.value <= sign * score.chance:
            raise ConformanceError(
                f"{score.metric} is {score.value:g} on vectors that tell everything, chance "
                f"{score.chance:g}"
            )


@check("evaluation", after=("runs",))
def refusals(subject: EvaluationSubject) -> None:
    """A source without rows is a DataError, and nothing else."""
    try:
        subject.evaluation.run(EmptyProbe())
    except DataError:
        return
    except Exception as error:
        raise ConformanceError(
            f"on a split without rows it raises {type(error).__name__}: {error}. Let the probe's "
            "DataError through"
        ) from error
    raise ConformanceError("on a split without rows it returns scores: raise DataError")
