"""A source with its fields renamed and its rows shared out to training and evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from polymodal.config.shape import SplitConfig
from polymodal.ground.errors import (
    DataError,
    PolymodalError,
    UnreadableError,
    foreign,
    nearest,
    unreadable,
)
from polymodal.interfaces.evaluation import Split
from polymodal.interfaces.source import Sample, Source
from polymodal.packed.noise import hash_words

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class SplitSource:
    """Rows of a source by split and number, under the field names of the config.

    Args:
        name: of the source in the config.
        source: where rows come from.
        fields: new name of a field: its column; or `{key: column}`, and its value is a mapping of
            these, missing where all of them are (the columns stay fields, too); or None to hide
            the field.
        split: how rows are shared out. Shares are exact to one row (or one group) and do not
            depend on the run's seed.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        fields: Mapping[str, str | Mapping[str, str] | None] | None = None,
        split: SplitConfig | None = None,
    ):
        self.name = name
        self.source = source
        fields = fields or {}
        self._records = {new: old for new, old in fields.items() if isinstance(old, Mapping)}
        self._fields = {new: old for new, old in fields.items() if not isinstance(old, Mapping)}
        # Names that are no longer, or not only, those of columns.
        self._moved = {*self._fields, *self._fields.values(), *self._records}
        self._split = split or SplitConfig()
        self._rows: dict[Split, np.ndarray] | None = None

    def mistakes(self) -> list[tuple[str, str]]:
        """Return what its `fields` and `split` say of columns it does not have: (path, what)."""
        columns = self._columns()
        wanted = {f"fields.{new}": old for new, old in self._fields.items()}
        for new, keys in self._records.items():
            wanted |= {f"fields.{new}.{key}": column for key, column in keys.items()}
        wanted |= {"split.by": self._split.by, "split.column": self._split.column}
        return [
            (where, f"the source has no column {column!r}.{nearest(column, columns)}")
            for where, column in wanted.items()
            if column is not None and column not in columns
        ]

    def fields(self) -> tuple[str, ...]:
        """Return the names of its fields, renamed.

        Raises:
            DataError: `fields` or `split` name a column the source does not have.
        """
        for where, text in self.mistakes():
            raise DataError(f"data.sources.{self.name}.{where}: {text}")
        kept = [column for column in self._columns() if column not in self._moved]
        renamed = [new for new, old in self._fields.items() if old is not None]
        return (*kept, *renamed, *self._records)

    def rows_of(self, split: Split) -> np.ndarray:
        """Return the source's row numbers of a split, ascending.

        Raises:
            DataError: the column to split by does not exist or holds something else.
        """
        if self._rows is None:
            with self._opening():
                self._rows = self._share_out()
        return self._rows[split]

    def size(self, split: Split) -> int:
        """Return how many rows a split has."""
        return len(self.rows_of(split))

    def read(self, split: Split, indices: Sequence[int]) -> list[Sample | UnreadableError]:
        """Return rows of a split, by number within it."""
        wanted = self.rows_of(split)[np.asarray(indices, dtype=np.int64)].tolist()
        try:
            rows = self.source.rows(wanted)
        except Exception:  # of one of them: the others are not to be lost
            rows = [self._row(number) for number in wanted]
        if not self._moved:
            return rows
        return [row if isinstance(row, UnreadableError) else self._rename(row) for row in rows]

    def _row(self, number: int) -> Sample | UnreadableError:
        try:
            return self.source.rows([number])[0]
        except Exception as error:
            return unreadable(error)

    def context(self) -> Mapping[str, Any]:
        """Return what the source holds beside samples.

        Raises:
            DataError: it can't be read.
        """
        with self._opening():
            return self.source.context()

    def record(self) -> dict[str, Any]:
        """Return what tells its data from other data: rows, and a fingerprint if it has one.

        Raises:
            DataError: it can't be read.
        """
        with self._opening():
            return {"rows": len(self.source), "fingerprint": self.source.fingerprint()}

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Turn what any library raises where there is no record to blame into one line."""
        try:
            yield
        except PolymodalError:
            raise
        except Exception as error:
            raise DataError(f"data.sources.{self.name} can't be read: {foreign(error)}") from error

    def _columns(self) -> tuple[str, ...]:
        with self._opening():
            return self.source.columns()

    def _rename(self, row: Sample) -> Sample:
        kept = {name: value for name, value in row.items() if name not in self._moved}
        kept.update({new: row.get(old) for new, old in self._fields.items() if old is not None})
        for new, keys in self._records.items():
            record = {key: row.get(column) for key, column in keys.items()}
            kept[new] = None if all(value is None for value in record.values()) else record
        return kept

    def _share_out(self) -> dict[Split, np.ndarray]:
        self.fields()  # refuses columns that do not exist
        split, size = self._split, len(self.source)
        every = np.arange(size)
        if split.column is not None:
            values = [str(value) for value in self.source.column(split.column)]
            rows = {s: np.array([i for i, v in enumerate(values) if v == s], int) for s in SPLITS}
            if size and not any(len(found) for found in rows.values()):
                raise DataError(
                    f"data.sources.{self.name}.split.column: {split.column!r} holds none of "
                    f"train, validation, test; its first value is {values[0]!r}"
                )
            return rows
        if split.validation + split.test == 0:
            return {"train": every, "validation": every[:0], "test": every[:0]}
        groups = every.tolist() if split.by is None else self.source.column(split.by)
        order = sorted(set(groups), key=lambda group: hash_words(split.seed, group))
        sizes: dict[Any, int] = dict.fromkeys(order, 0)
        for group in groups:
            sizes[group] += 1
        wanted = {"test": round(split.test * size), "validation": round(split.validation * size)}
        home: dict[Any, str] = {}
        for group in order:
            taker = next((s for s, left in wanted.items() if left > 0), "train")
            home[group] = taker
            if taker != "train":
                wanted[taker] -= sizes[group]
        homes = np.array([home[group] for group in groups])
        return {s: every[homes == s] if size else every for s in SPLITS}
