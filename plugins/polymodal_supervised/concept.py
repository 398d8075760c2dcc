"""Concept: a label of the sample or of each word, read off the vectors a model is trained with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict, Unpack

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import (
    Default,
    Encoded,
    FieldName,
    FromRun,
    Loss,
    Model,
    Need,
    Objective,
    ObjectiveName,
    Pooler,
    Step,
    StreamInfo,
    StreamName,
    class_name,
    filled,
)
from polymodal_hiding import word_numbers
from polymodal_masking import Masked, MaskedTokens, at
from polymodal_supervised.classification import Names
from polymodal_supervised.labels import head, is_absent


@dataclass(frozen=True, eq=False)
class Found:
    """What is to be predicted in one step, and from which vectors."""

    encoded: Encoded
    index: Int[Tensor, " row"]  # of tokens, or of samples
    target: Int[Tensor, " row"]


class ConceptOptions(TypedDict, total=False):
    """Whose classes are predicted, of what, and seen in which copy of the stream.

    Args:
        words: predict the class of each word, from each of its tokens.
        present: in place of classes: labels that carry the concept, against all others.
        ignore: labels that cost nothing.
        masked: objective `masking.tokens` whose copy of the stream is read; the stream as it is
            unless given.
        only_hidden: of words, predict those of hidden tokens alone.
    """

    words: Annotated[bool, Default(False)]
    present: Annotated[list[str] | None, Default(None)]
    ignore: Annotated[list[str] | None, Default(None)]
    masked: Annotated[ObjectiveName | None, Default(None)]
    only_hidden: Annotated[bool, Default(False)]


class ConceptReader(nn.Module):
    """Reads off a stream's vectors what class a sample or each word is of.

    `find` tells what there is to predict, `forward` gives the rows to predict it from.

    Args:
        info: the streams.
        stream: whose vectors.
        label: field that holds a class of the sample; with `words` a list of them, one a word.
        classes: their names, or how many.
        words: predict the class of each word from its tokens, else the sample's from the pooled
            vector.
        present: labels that carry the concept; the classes are then "present" and "absent".
        ignore: labels that cost nothing.
        masked: objective that hides some of the stream's ids: read the vectors of its copy.
        only_hidden: of words, predict those of hidden tokens alone.
        pool: a sample's vector; the encoder's own pooled vector unless given.

    Raises:
        ValueError: options that contradict each other, or fewer than two classes.
    """

    def __init__(
        self,
        info: Mapping[str, StreamInfo],
        *,
        stream: str,
        label: str,
        classes: list[str] | int | None,
        words: bool,
        present: list[str] | None,
        ignore: list[str] | None,
        masked: str | None,
        only_hidden: bool,
        pool: Pooler | None,
    ):
        super().__init__()
        if (classes is None) == (present is None):
            raise ValueError("classes and present are two ways to say the classes: give one")
        if words and pool is not None:
            raise ValueError("words are read from their own tokens: give no pool")
        if only_hidden and not (words and masked):
            raise ValueError("only_hidden needs words, and masked to say which are hidden")
        names: list[str] | int = ["absent", "present"] if classes is None else classes
        self.names = Names(names)
        if self.names.size < 2:
            raise ValueError(f"classes must be 2 or more, got {classes}")
        self.stream = stream
        self.label = label
        self.words = words
        self.present = None if present is None else frozenset(present)
        self.ignore = frozenset(ignore or ())
        self.masked = masked
        self.only_hidden = only_hidden
        self.spec = info[stream].spec if stream in info else None
        self.need.check(info, stream)
        self.pool = pool
        if pool is not None:
            pool.bind(info[stream].width)

    @property
    def need(self) -> Need:
        """What it asks of the stream."""
        return Need(channels=("word",) if self.words else ())

    def check(self, model: Model) -> None:
        """Refuse a `masked` that hides nothing of the stream.

        Raises:
            ValueError: another objective, or one of another stream.
        """
        if self.masked is not None:
            found = model.objective(self.masked)
            if not isinstance(found, MaskedTokens) or found.stream != self.stream:
                raise ValueError(
                    f"masked must name an objective masking.tokens of the stream {self.stream!r}, "
                    f"and {self.masked!r} is none"
                )

    def forward(self, found: Found) -> Float[Tensor, "row width"]:
        """Return the rows to predict from."""
        if self.words:
            return at(found.encoded, found.index)
        pooled = found.encoded.pooled_rows() if self.pool is None else self.pool.pool(found.encoded)
        rows: Tensor = pooled.index_select(0, found.index)
        return rows

    def find(self, step: Step) -> Found:
        """Return what has a label in a step.

        Raises:
            DataError: a label that is no class, or fewer labels than words.
        """
        values: list[Any] = list(step.labels(self.label))
        masked: Masked | None = None
        if self.masked is None:
            encoded, tokens = step.encode(self.stream), step.tokens(self.stream)
        else:
            masked = step.shared(step.model.objective(self.masked))
            encoded, tokens = masked.encoded, masked.hidden.tokens
            if masked.samples is not None:
                values = [values[sample] for sample in masked.samples]
        if not self.words:
            there = tokens.layout.present
            (numbers,) = self._numbers(
                [[v if there[row] else None for row, v in enumerate(values)]]
            )
            rows = [row for row, number in enumerate(numbers) if number >= 0]
            index = torch.tensor(rows, dtype=torch.int64, device=encoded.pooled.device)
            target = torch.tensor([numbers[row] for row in rows], dtype=torch.int64)
            return Found(encoded, index, target.to(index.device))
        assert self.spec is not None
        listed = self._numbers([() if value is None else value for value in values])
        numbers_of = [None if v is None else n for v, n in zip(values, listed, strict=True)]
        classes = word_numbers(tokens, self.spec, numbers_of, field=self.label)
        if self.only_hidden and masked is not None:
            hidden = torch.full_like(classes, -1)
            rows_hidden, counted = masked.hidden.rows, masked.hidden.counted
            found = classes[rows_hidden]
            if counted is not None:  # the others stayed as they are
                found = found.masked_fill(~counted, -1)
            classes = hidden.index_copy(0, rows_hidden, found)
        index = (classes >= 0).nonzero()[:, 0]
        return Found(encoded, index, classes[index])

    def _numbers(self, lists: Sequence[Iterable[Any]]) -> list[list[int]]:
        """Return each label's class, -1 for none; all at once, since ranks learn names together."""
        texts = [[self._text(label) for label in labels] for labels in lists]
        names = dict(enumerate(sorted({text for each in texts for text in each if text})))
        found = self.names.numbers(names, field=self.label)
        number = dict(zip(names.values(), found, strict=True))
        return [[number.get(text, -1) for text in each] for each in texts]

    def _text(self, label: Any) -> str:
        """Return the class's name, "" for a label that costs nothing."""
        if is_absent(label) or class_name(label) in self.ignore:
            return ""
        if self.present is None:
            return class_name(label)
        return "present" if class_name(label) in self.present else "absent"


def scored(
    logits: Float[Tensor, "row class"], target: Int[Tensor, " row"]
) -> tuple[Float[Tensor, " row"], Int[Tensor, ""]]:
    """Return each row's cross-entropy in float32, and how many rows are right."""
    each = F.cross_entropy(logits.float(), target, reduction="none")
    return each, (logits.argmax(dim=1) == target).sum()


class Concept(Objective):
    """Predict a concept, so that the encoder keeps it: CausaLM's control (Feder et al., 2021).

    Unlike `supervised.classification` it can read the copy of a stream that another objective
    hides ids of, which costs no pass of its own, and can predict a label of each word. The count
    is the samples or tokens with a label; the metric is `accuracy`.

    Args:
        info: the streams.
        stream: whose vectors.
        label: field that holds a class of the sample; with `words` a list of them, one a word.
        classes: their names, or how many: then they are numbered as they come.
        pool: a sample's vector; the encoder's own pooled vector unless given.
        hidden: width of a hidden layer; a linear head unless given.

    Raises:
        ValueError: options that contradict each other, or fewer than two classes; in a step a
            DataError for a label that is no class, or fewer labels than words.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        label: FieldName,
        classes: list[str] | int | None = None,
        pool: Pooler | None = None,
        hidden: int | None = None,
        **concept: Unpack[ConceptOptions],
    ):
        super().__init__()
        self.reader = ConceptReader(
            info,
            stream=stream,
            label=label,
            classes=classes,
            pool=pool,
            **filled(ConceptOptions, concept),
        )
        self.head = head(info[stream].width, self.reader.names.size, hidden=hidden, dropout=0.0)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with words if their labels are read."""
        return {self.reader.stream: self.reader.need}

    def attach(self, model: Model) -> None:
        """Refuse a `masked` that hides nothing of the stream."""
        self.reader.check(model)

    def fields(self) -> tuple[str, ...]:
        """Return the field that holds the labels."""
        return (self.reader.label,)

    def forward(self, step: Step) -> Loss:
        """Return the cross-entropy over what has a label."""
        found = self.reader.find(step)
        each, right = scored(self.head(self.reader(found)), found.target)
        return Loss(each.sum(), len(each), {"accuracy": (right, len(each))})
