"""Source: a data set as rows by number, each a mapping of field names to values."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from polymodal.ground.errors import UnreadableError

Sample = Mapping[str, Any]


class Source(ABC):
    """Rows by number. Building one reads nothing; the first `len` or row may.

    Must be picklable: data workers read rows. A row that can't be read is an UnreadableError in
    its place, so that order never shifts.
    """

    columns_from_data: ClassVar[bool] = False
    """Whether `columns` has to read data; if not, wrong field names are refused without."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many rows there are, unreadable ones included.

        Raises:
            DataError: the data is missing or of the wrong kind.
        """

    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Return the names of the fields its rows can have."""

    @abstractmethod
    def row(self, index: int) -> Sample:
        """Return one row; the same each time.

        Raises:
            UnreadableError: why this row can't be read.
        """

    def rows(self, indices: Sequence[int]) -> list[Sample | UnreadableError]:
        """Return several rows, in order; override where that is quicker than one by one."""
        found: list[Sample | UnreadableError] = []
        for index in indices:
            try:
                found.append(self.row(index))
            except UnreadableError as error:
                found.append(error)
        return found

    def column(self, name: str) -> list[Any]:
        """Return one field of every row, None where it is missing or the row unreadable."""
        return [
            None if isinstance(row, UnreadableError) else row.get(name)
            for row in self.rows(range(len(self)))
        ]

    def context(self) -> Mapping[str, Any]:
        """Return what the data holds beside samples (a road network, a citation graph)."""
        return {}

    def folders(self) -> Sequence[str | Path] | None:
        """Return the folders below which paths in its rows may lead; None: anywhere.

        A path that stands in a record as text (or as `{"path": ...}`) is opened by the stream's
        reader only if it leads below one of them. What a source's own code lists may be handed
        over as a `pathlib.Path`, which no record can hold, and is opened wherever it leads.
        """
        return ()

    def fingerprint(self) -> str:
        """Return a name for the data as it is now: another one if a run should not go on with it.

        By default of the number of rows and the names of fields. Override it where a cheap look
        tells more: `polymodal.fingerprint_files` takes names, sizes and pieces of content.
        """
        return hashlib.sha256(repr((len(self), self.columns())).encode()).hexdigest()[:32]
