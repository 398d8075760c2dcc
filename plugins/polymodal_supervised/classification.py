"""Classification: a class of the sample from a stream's pooled vectors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import (
    DataError,
    Encoded,
    FieldName,
    FromRun,
    Loss,
    Need,
    Pooler,
    Predicted,
    Predicting,
    Representing,
    Scoring,
    Step,
    StreamInfo,
    StreamName,
    class_name,
    gather_rows,
    hash_words,
    nearest,
)
from polymodal_contrastive import BatchNorm
from polymodal_supervised.labels import head, labelled


class Names(nn.Module):
    """Numbers for class names, kept as hashes in a buffer: given, or learned as they come.

    Learned names are numbered in the order of the steps that bring them, and of their hashes
    within a step, so that the order of a batch and the number of ranks do not matter.

    Args:
        names: every class, or how many classes there are.
    """

    hashes: Tensor

    def __init__(self, names: list[str] | int):
        super().__init__()
        self.names = None if isinstance(names, int) else list(names)
        known = [] if self.names is None else [hash_words(name) for name in self.names]
        self.size = names if isinstance(names, int) else len(known)
        # 0 marks a free place; no name is likely to hash to it.
        self.register_buffer("hashes", torch.tensor(known + [0] * (self.size - len(known))))
        self._numbers: dict[int, int] | None = None  # read from the buffer when first asked for
        self.register_load_state_dict_post_hook(_forget_numbers)

    def numbers(self, labels: Mapping[int, Any], *, field: str) -> list[int]:
        """Return the class number of each label; new names are learned, on all ranks alike.

        Raises:
            DataError: a name that was not given, more names than classes, several in one label.
        """
        for value in labels.values():
            if isinstance(value, list | tuple | set | Mapping | np.ndarray):
                raise DataError(
                    f"the field {field!r} must hold a single label a row, got {value!r:.60}"
                )
        if self._numbers is None:
            self._numbers = {h: number for number, h in enumerate(self.hashes.tolist()) if h}
        hashes = [hash_words(self._name(value)) for value in labels.values()]
        if self.names is None:
            self._learn(hashes, field)
        for value, name in zip(labels.values(), hashes, strict=True):
            if name not in self._numbers:
                hint = nearest(class_name(value), self.names or ())
                raise DataError(f"the field {field!r} holds {value!r}, which is no class.{hint}")
        return [self._numbers[name] for name in hashes]

    def _name(self, value: Any) -> str:
        # A class may have been named as fractions print: "0.0".
        return str(value) if str(value) in (self.names or ()) else class_name(value)

    def _learn(self, hashes: list[int], field: str) -> None:
        assert self._numbers is not None
        if len(self._numbers) == self.size:  # the same on every rank
            return
        here = torch.tensor(hashes, dtype=torch.int64, device=self.hashes.device)
        everywhere = gather_rows(here[:, None])[:, 0].tolist()
        new = sorted(set(everywhere) - set(self._numbers))
        free = self.size - len(self._numbers)
        if len(new) > free:
            raise DataError(
                f"the field {field!r} has more than {self.size} different values: set classes to "
                "how many there are"
            )
        for name in new:
            self.hashes[len(self._numbers)] = name
            self._numbers[name] = len(self._numbers)


def _forget_numbers(module: nn.Module, _: Any) -> None:
    assert isinstance(module, Names)
    module._numbers = None


class Classification(Scoring, Predicting, Representing):
    """Predict a class of the sample from a stream's pooled vector, or from its tokens'.

    Labels are compared as text, so that 1, 1.0 and "1" are one class. A sample without a label or
    without the stream costs nothing. The count is the samples that have both; the metric is
    `accuracy`. `project` gives the logits, so that `polymodal embed --objective` predicts.

    Args:
        info: the streams.
        stream: whose pooled vectors.
        label: field that holds the class.
        classes: their names in the order of the logits, or how many: then they are numbered as
            they come.
        pool: a sample's vector; the encoder's own pooled vector unless given.
        standardize: the vector to mean 0 and deviation 1 over the batch, before the head: what a
            frozen encoder says in a whisper is learned sooner.
        hidden: width of a hidden layer; a linear head unless given.
        dropout: of the pooled vector, in training.
        label_smoothing: share of the target spread over all classes.

    Raises:
        ValueError: fewer than two classes, a name twice, or a share out of range; in a step a
            DataError for a label that is no class.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        label: FieldName,
        classes: list[str] | int,
        pool: Pooler | None = None,
        standardize: bool = False,
        hidden: int | None = None,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        Need().check(info, stream)
        if isinstance(classes, list) and len(set(classes)) < len(classes):
            raise ValueError(f"classes must differ, got {classes}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1: {label_smoothing}")
        self.logits_of = "sample"
        self.names = Names(classes)
        if self.names.size < 2:
            raise ValueError(f"classes must be 2 or more, got {classes}")
        self.stream = stream
        self.label = label
        self.label_smoothing = label_smoothing
        self.pool = pool
        if pool is not None:
            pool.bind(info[stream].width)
        self.norm = BatchNorm(info[stream].width, affine=False) if standardize else nn.Identity()
        self.separable = not standardize
        self.head = head(info[stream].width, self.names.size, hidden=hidden, dropout=dropout)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream; any tokens will do."""
        return {self.stream: Need()}

    def fields(self) -> tuple[str, ...]:
        """Return the field that holds the class."""
        return (self.label,)

    def forward(self, step: Step) -> Loss:
        """Return the cross-entropy over samples that have the stream and a label."""
        labels = labelled(step, self.stream, self.label)
        vectors = self._vectors(step.encode(self.stream))
        rows = torch.tensor(list(labels), dtype=torch.int64, device=vectors.device)
        numbers = self.names.numbers(labels, field=self.label)
        target = torch.tensor(numbers, dtype=torch.int64, device=vectors.device)
        logits = self.head(self.norm(vectors[rows])).float()
        total = F.cross_entropy(
            logits, target, reduction="sum", label_smoothing=self.label_smoothing
        )
        right = (logits.argmax(dim=1) == target).sum()
        return Loss(total, len(rows), {"accuracy": (right, len(rows))})

    def count(self, step: Step) -> int:
        """Return how many samples have the stream and a label."""
        return len(labelled(step, self.stream, self.label))

    def predictions(self, step: Step) -> Predicted:
        """Return the likeliest class of each sample that has the stream.

        Raises:
            DataError: the classes' names are not known.
        """
        if self.names.names is None:
            raise DataError("classes must be named, not counted, for predictions to be told")
        rows = step.rows_with(self.stream)
        best = self.head(step.encode(self.stream).pooled_rows()).argmax(dim=1).tolist()
        return Predicted(rows, [self.names.names[best[row]] for row in rows])

    def project(self, stream: str, encoded: Encoded) -> Float[Tensor, "sample class"]:
        """Return the logits of each sample."""
        if stream != self.stream:
            return super().project(stream, encoded)
        logits: Tensor = self.head(self.norm(self._vectors(encoded)))
        return logits

    def _vectors(self, encoded: Encoded) -> Float[Tensor, "sample width"]:
        vectors: Tensor = encoded.pooled_rows() if self.pool is None else self.pool.pool(encoded)
        return vectors

    def logits(self, step: Step, stream: str, encoded: Encoded) -> Float[Tensor, "sample class"]:
        """Return the logits of each sample."""
        return self.project(stream, encoded)
