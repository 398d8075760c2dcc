"""Checks of sources."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from polymodal.ground.errors import UnreadableError
from polymodal.interfaces.source import Source
from polymodal.testing.comparing import random_state_kept, random_state_untouched, same
from polymodal.testing.registry import ConformanceError, check

ROWS = 16  # at most so many are read by a check


@dataclass
class SourceSubject:
    """A source under examination; `make` builds it."""

    make: Callable[[], Source]

    @cached_property
    def source(self) -> Source:
        """The source."""
        return self.make()

    @property
    def indices(self) -> list[int]:
        """Some rows, first and last among them."""
        size = len(self.source)
        return sorted({round(i * (size - 1) / (ROWS - 1)) for i in range(ROWS)}) if size else []


@check("source")
def reads(subject: SourceSubject) -> None:
    """It tells its length and reads its rows; a row that can't be read is an UnreadableError."""
    source = subject.source
    if not isinstance(source, Source):
        raise ConformanceError(f"{type(source).__name__} is no Source: subclass it")
    if not len(source):
        raise ConformanceError("it has no rows: give the example some")
    for index in subject.indices:
        try:
            row = source.row(index)
        except UnreadableError:
            continue
        if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
            raise ConformanceError(f"row {index} must be a mapping by field name, got {type(row)}")


def _rows(source: Source, indices: list[int]) -> list[object]:
    found: list[object] = []
    for index in indices:
        try:
            found.append(source.row(index))
        except UnreadableError as error:
            found.append(error)
    return found


@check("source", after=("reads",))
def repeats(subject: SourceSubject) -> None:
    """The same row is equal each time, in any order and in a second instance."""
    with random_state_kept(1):
        first = _rows(subject.source, subject.indices)
    with random_state_kept(2):
        second = _rows(subject.source, subject.indices[::-1])[::-1]
        third = _rows(subject.make(), subject.indices)
    for index, a, b, c in zip(subject.indices, first, second, third, strict=True):
        if not same(a, b) or not same(a, c):
            raise ConformanceError(
                f"row {index} differs from one reading to the next: draw from a generator seeded "
                "by the options and the row's number"
            )


@check("source", after=("reads",))
def global_state(subject: SourceSubject) -> None:
    """Global random state is neither drawn from nor set."""
    with random_state_untouched("the source"):
        _rows(subject.make(), subject.indices)


@check("source", after=("reads",))
def columns(subject: SourceSubject) -> None:
    """`columns` names every field that rows have, each once."""
    named = subject.source.columns()
    if not isinstance(named, tuple):
        raise ConformanceError(f"`columns` must return a tuple, got {type(named).__name__}")
    if len(set(named)) != len(named):
        raise ConformanceError(f"`columns` names a field twice: {list(named)}")
    for index, row in zip(subject.indices, _rows(subject.source, subject.indices), strict=True):
        if isinstance(row, Mapping):
            unknown = sorted(set(row) - set(named))
            if unknown:
                raise ConformanceError(f"row {index} has fields that `columns` lacks: {unknown}")


@check("source", after=("reads", "repeats"))
def rows_agree(subject: SourceSubject) -> None:
    """`rows` and `column` give what `row` gives, unreadable ones in their place."""
    indices = [*subject.indices[::-1], *subject.indices[:1]]
    single = _rows(subject.source, indices)
    many = subject.source.rows(indices)
    if len(many) != len(indices) or not all(same(a, b) for a, b in zip(single, many, strict=True)):
        raise ConformanceError("`rows` gives other rows than `row`, or in another order")
    if subject.source.rows([]) != []:
        raise ConformanceError("`rows` of no indices must be an empty list")
    for name in subject.source.columns():
        column = subject.source.column(name)
        if len(column) != len(subject.source):
            raise ConformanceError(
                f"`column({name!r})` has {len(column)} values for {len(subject.source)} rows"
            )
        for index, row in zip(indices, single, strict=True):
            value = row.get(name) if isinstance(row, Mapping) else None
            if not same(column[index], value):
                raise ConformanceError(f"`column({name!r})` differs from row {index}")


@check("source", after=("reads", "repeats"))
def pickling(subject: SourceSubject) -> None:
    """It can be sent to a data worker, before and after it has been read from."""
    for source in (subject.make(), subject.source):
        try:
            sent = pickle.loads(pickle.dumps(source))
        except Exception as error:
            raise ConformanceError(
                f"it can't be pickled, so no data worker can have it: "
                f"{type(error).__name__}: {error}"
            ) from error
        if len(sent) != len(subject.source) or not all(
            same(a, b)
            for a, b in zip(
                _rows(sent, subject.indices), _rows(subject.source, subject.indices), strict=True
            )
        ):
            raise ConformanceError("after it is pickled it gives other rows")


@check("source", after=("reads",))
def fingerprint(subject: SourceSubject) -> None:
    """`fingerprint` is text, and the same while the data is."""
    first, second = subject.source.fingerprint(), subject.make().fingerprint()
    if not isinstance(first, str) or first != second:
        raise ConformanceError(f"`fingerprint` gives {first!r}, then {second!r}, for the same data")


@check("source", after=("reads",))
def context(subject: SourceSubject) -> None:
    """`context` is a mapping by name."""
    found = subject.source.context()
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ConformanceError("`context` must return a mapping by name")
