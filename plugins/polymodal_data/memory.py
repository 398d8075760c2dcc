"""Rows written in the config itself."""

import hashlib
from typing import Any

from polymodal import Sample, Source


class Memory(Source):
    """Rows as they stand in the config: for tests and tiny examples.

    Args:
        rows: mappings of field names to values.
    """

    def __init__(self, *, rows: list[dict[str, Any]]):
        self._given = [dict(row) for row in rows]

    def __len__(self) -> int:
        return len(self._given)

    def folders(self) -> None:
        """Return None: paths in the config are its owner's own."""
        return

    def fingerprint(self) -> str:
        """Return a name for the rows."""
        return hashlib.sha256(repr(self._given).encode()).hexdigest()[:32]

    def columns(self) -> tuple[str, ...]:
        """Return the fields of all rows, in the order they first appear."""
        return tuple(dict.fromkeys(name for row in self._given for name in row))

    def row(self, index: int) -> Sample:
        """Return one row."""
        return self._given[index]
