"""How a stream's raw values are made of a sample: its field, its reader, its tokenizer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.ground.errors import (
    UnreadableError,
    unreadable,
)
from polymodal.ground.files import confine
from polymodal.interfaces.source import Sample
from polymodal.interfaces.tokenizer import Reader, Tokenizer


@dataclass(frozen=True)
class StreamReading:
    """How a stream's tokens are made from a sample."""

    field: str
    tokenizer: Tokenizer
    reader: Reader | None = None
    many: bool = False  # the field holds a list, each item a segment of its own
    augment: bool = True

    def raws(self, sample: Sample, *, folders: Sequence[str | Path] | None) -> list[Any]:
        """Return the raw values of a sample's segments; none if the field is missing.

        Args:
            sample: a row of a source.
            folders: below which it may name files (`Source.folders`).

        Raises:
            UnreadableError: one can't be read or tokenized, or leads outside of the folders.
        """
        value = sample.get(self.field)
        if value is None:
            return []
        if not self.many:
            return [self.raw(self.confined(value, folders))]
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise UnreadableError(
                f"{self.field!r} must hold a list, got {type(value).__name__}: {value!r:.60}"
            )
        return [self.raw(self.confined(item, folders)) for item in value]

    def confined(self, value: Any, folders: Sequence[str | Path] | None) -> Any:
        """Return a value from data as it is, if the files it names lie below the folders.

        Raises:
            UnreadableError: one does not.
        """
        if self.reader is None:
            return value
        try:
            for path in self.reader.paths_in(value):
                confine(path, folders)
        except Exception as error:
            raise unreadable(error) from error
        return value

    def raw(self, value: Any) -> Any:
        """Return the raw value of one segment, None for None.

        Raises:
            UnreadableError: it can't be read or tokenized.
        """
        if value is None:
            return None
        try:
            raw = value if self.reader is None else self.reader(value)
            if raw is not None:
                self.tokenizer.check(raw)
        except Exception as error:
            raise unreadable(error) from error
        return raw

    def shrunk(self, value: Any) -> Any:
        """Return what the tokenizer needs of one segment, without random changes.

        Raises:
            UnreadableError: it can't be read or tokenized.
        """
        raw = self.raw(value)
        try:
            return None if raw is None else self.tokenizer.shrink(raw)
        except Exception as error:
            raise unreadable(error) from error
