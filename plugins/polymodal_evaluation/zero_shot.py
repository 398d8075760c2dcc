"""Zero-shot: choose the class whose description is nearest (Radford et al., 2021, section 3.1)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

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
    UnreadableError,
)
from polymodal_evaluation.rows import (
    TIE,
    Labelled,
    class_names,
    finite,
    labelled,
    majority_share,
    same_width,
    unit,
)


class ZeroShot(Evaluation):
    """Gives a sample the class whose prompts, encoded by the text stream, are most similar.

    A sample whose true class is no more similar than another counts as wrong, so that an encoder
    that maps everything to one point gains nothing. Rows whose label is missing or is none of the
    classes are left out. Chance is always giving the scored rows' most frequent label.

    Args:
        stream: whose samples are classified.
        source: where rows come from.
        label: field that holds the label.
        text: stream that encodes the prompts.
        objective: its projection of both streams, needed unless they already share a space.
        classes: the labels to choose from, or the words for each label ({"0": zero, ...}); if
            not given, the labels found in the train split.
        template: prompt with {} for the class; of several the unit vectors are averaged.
        split: split to score.

    Raises:
        ValueError: a template without {}, fewer than two classes, or two with the same words.
    """

    def __init__(
        self,
        stream: StreamName,
        source: SourceName,
        label: FieldName,
        *,
        text: StreamName = "text",
        objective: ObjectiveName | None = None,
        classes: Sequence[str] | Mapping[str, str] | None = None,
        template: str | Sequence[str] = "{}",
        split: Split = "validation",
    ):
        templates = [template] if isinstance(template, str) else list(template)
        if not templates:
            raise ValueError("template must hold one prompt or more")
        for each in templates:
            if "{}" not in each:
                raise ValueError(f"template must have {{}} where the class goes, got {each!r}")
        self.words: dict[str, str] | None = None
        if classes is not None:
            named = classes if isinstance(classes, Mapping) else {each: each for each in classes}
            self.words = {str(name): str(words) for name, words in named.items()}
            if len(set(self.words.values())) < max(2, len(classes)):
                raise ValueError(f"classes must be two or more that differ, got {classes}")
        self.stream = stream
        self.source = source
        self.label = label
        self.text = text
        self.objective = objective
        self.templates = templates
        self.split: Split = split

    def needs(self) -> Mapping[str, Need]:
        """Return that any tokens will do."""
        return {self.stream: Need(), self.text: Need()}

    def run(self, probe: Probe) -> list[Score]:
        """Return the accuracy.

        Raises:
            DataError: no row to score, fewer than two classes, or vectors that differ in width.
        """
        words = self._found_in_train(probe) if self.words is None else self.words
        number = {name: place for place, name in enumerate(words)}
        rows = self._rows(probe, self.split)
        truth = class_names(rows.values, label=self.label)
        known = np.isin(truth, list(words))
        if not known.any():
            raise DataError(
                f"no {self.split} row has one of the classes in {self.label!r}: its first label "
                f"is {str(truth[0])!r}, the first class {next(iter(words))!r}"
            )
        truth = truth[known]
        prompts = self._prompts(probe, list(words.values()))
        same_width(rows.vectors, prompts, (self.stream, self.text))
        similar = unit(rows.vectors[known]) @ prompts.T  # sample class
        mine = similar[np.arange(len(truth)), [number[name] for name in truth]]
        rivals = (similar >= mine[:, None] - TIE).sum(axis=1) - 1  # less itself
        value = float((rivals == 0).mean())
        return [Score("accuracy", value, majority_share(truth), samples=len(truth))]

    def _rows(self, probe: Probe, split: Split) -> Labelled:
        return labelled(
            probe,
            self.stream,
            source=self.source,
            label=self.label,
            splits=[split],
            objective=self.objective,
        )

    def _found_in_train(self, probe: Probe) -> dict[str, str]:
        rows = self._rows(probe, "train")
        names = np.unique(class_names(rows.values, label=self.label)).tolist()
        if len(names) < 2:
            raise DataError(
                f"zero-shot needs two classes or more, but {self.label!r} has only {names[0]!r} "
                "in train: list the classes"
            )
        return {name: name for name in names}

    def _prompts(self, probe: Probe, words: Sequence[str]) -> Float[np.ndarray, "class width"]:
        raws = [template.replace("{}", each) for each in words for template in self.templates]
        try:
            vectors = probe.encode(self.text, raws, objective=self.objective)
        except UnreadableError as error:
            raise DataError(f"stream {self.text!r} can't read a prompt: {error}") from error
        each = unit(finite(vectors, stream=self.text)).reshape(len(words), len(self.templates), -1)
        return unit(each.mean(axis=1))
