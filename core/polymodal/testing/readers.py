"""Checks of readers."""

import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.ground.errors import UnreadableError
from polymodal.interfaces.tokenizer import Reader
from polymodal.testing.comparing import random_state_untouched, same
from polymodal.testing.registry import ConformanceError, check


@dataclass
class ReaderSubject:
    """A reader under examination.

    Args:
        make: builds it.
        values: what records hold, and it can read.
    """

    make: Callable[[], Reader]
    values: Sequence[Any]

    def __post_init__(self) -> None:
        if not len(self.values):
            raise ConformanceError(
                "a reader needs values to be checked with: give `values`, or an Example in the "
                "plugin's polymodal_examples"
            )

    @cached_property
    def reader(self) -> Reader:
        """The reader."""
        return self.make()


GARBAGE: tuple[Any, ...] = (
    b"", b"\x00\xff\xfe garbage", "", "/no/such/file.xyz", {}, {"path": None, "bytes": None},
    {"path": None, "bytes": b"garbage"}, {"bytes": "abc"}, {"bytes": 10}, {"path": 5},
    {"path": "a\0b"}, {"path": 5000 * "a"}, [], [None], object(), 3.5, True, -1, float("nan"),
    np.zeros((0,)), np.zeros((2, 0, 3)), np.array(["text"]), np.array([object()]),
    np.full((4, 4), np.nan), np.zeros((1, 1, 1, 1, 1)),
)  # fmt: skip


@check("reader")
def reads(subject: ReaderSubject) -> None:
    """It reads its own examples."""
    if not isinstance(subject.reader, Reader):
        raise ConformanceError(f"{type(subject.reader).__name__} is no Reader: subclass it")
    for value in subject.values:
        subject.reader(value)


@check("reader", after=("reads",))
def repeats(subject: ReaderSubject) -> None:
    """The same value gives the same raw value each time, whatever global random state is."""
    for value in subject.values:
        with random_state_untouched("the reader"):
            first, second = subject.reader(value), subject.reader(value)
        if not same(first, second):
            raise ConformanceError(f"reading {_shown(value)} twice gives two results")


@check("reader", after=("reads",))
def leaves_values_alone(subject: ReaderSubject) -> None:
    """The value in the record is not changed."""
    for value in subject.values:
        before = pickle.dumps(value)
        subject.reader(value)
        if not same(pickle.loads(before), value):
            raise ConformanceError(f"reading changes the value {_shown(value)}: work on a copy")


@check("reader", after=("reads",))
def refusals(subject: ReaderSubject) -> None:
    """What it can't read raises UnreadableError, and nothing else."""
    for value in GARBAGE:
        try:
            subject.reader(value)
        except UnreadableError:
            continue
        except Exception as error:
            raise ConformanceError(
                f"given {_shown(value)} it raises {type(error).__name__}: {error}. Raise "
                "UnreadableError, so that the run skips the record and goes on"
            ) from error


@check("reader", after=("reads",))
def paths(subject: ReaderSubject) -> None:
    """It says by `paths_in` that a string is the path of a file which it opens."""
    for value in subject.values:
        content = value.get("bytes") if isinstance(value, Mapping) else value
        if not isinstance(content, bytes) or not content:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "value")
            Path(path).write_bytes(content)
            for named in (path, {"path": path}, {"path": path, "bytes": None}):
                try:
                    read = subject.reader(named)
                except UnreadableError:
                    continue
                opened = same(read, subject.reader(value))
                if opened and path not in subject.reader.paths_in(named):
                    raise ConformanceError(
                        f"given {_shown(named)} it opens the file, but `paths_in` does not say so: "
                        "data could have any file of the machine opened. Set strings_are_paths, or "
                        "override paths_in"
                    )


@check("reader", after=("reads", "repeats"))
def pickling(subject: ReaderSubject) -> None:
    """It can be sent to a data worker."""
    try:
        sent = pickle.loads(pickle.dumps(subject.reader))
    except Exception as error:
        raise ConformanceError(
            f"it can't be pickled, so no data worker can have it: {type(error).__name__}: {error}"
        ) from error
    for value in subject.values:
        if not same(sent(value), subject.reader(value)):
            raise ConformanceError(f"after it is pickled it reads {_shown(value)} differently")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
