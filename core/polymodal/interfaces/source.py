"""Source: a data set as rows by number, each a mapping of field names to values."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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

    def fingerprint(self) -> str | None:
        """Return a text that differs once the data does, found cheaply; None if it can't be.

        A resumed run compares it with that of its start, beside the number of rows.
        """
        return None

    def context(self) -> Mapping[str, Any]:
        """Return what the data holds beside samples (a road network, a citation graph)."""
        return {}
