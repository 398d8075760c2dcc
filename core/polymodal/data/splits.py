"""A source with its fields renamed and its rows shared out to training and evaluation."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
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
from polymodal.ground.labels import class_name
from polymodal.interfaces.evaluation import Split
from polymodal.interfaces.source import Sample, Source
from polymodal.packed.noise import hash_words

SPLITS: tuple[Split, ...] = ("train", "validation", "test")

_SPELLINGS: Mapping[str, Split] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


def split_named(value: object) -> Split | None:
    """Return the split that a value says in one of its usual spellings, or None for no split.

    "valid", "val" and "dev" are validation; case and white space around do not matter.
    """
    return _SPELLINGS.get(value.strip().casefold()) if isinstance(value, str) else None


class SplitSource:
    """Rows of a source by split and number, under the field names of the config.

    Args:
        name: of the source in the config.
        source: where rows come from.
        fields: new name of a field: its column; or a list of columns, of which a row's first that
            is not missing is taken; or `{key: column}`, and its value is a mapping of these,
            missing where all of them are (the columns stay fields, too); or None to hide the
            field.
        split: how rows are shared out. Shares are exact to one row (or one group) and do not
            depend on the run's seed.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        fields: Mapping[str, str | Sequence[str] | Mapping[str, str] | None] | None = None,
        split: SplitConfig | None = None,
    ):
        self.name = name
        self.source = source
        fields = fields or {}
        self._records = {new: old for new, old in fields.items() if isinstance(old, Mapping)}
        self._fields: dict[str, tuple[str, ...]] = {
            new: () if old is None else (old,) if isinstance(old, str) else tuple(old)
            for new, old in fields.items()
            if not isinstance(old, Mapping)
        }
        # Names that are no longer, or not only, those of columns.
        taken = (column for columns in self._fields.values() for column in columns)
        self._moved = {*self._fields, *taken, *self._records}
        self._split = split or SplitConfig()
        self._rows: dict[Split, np.ndarray] | None = None

    def mistakes(self) -> list[tuple[str, str]]:
        """Return what its `fields` and `split` say of columns it does not have: (path, what)."""
        columns = self._columns()
        wanted = [(f"fields.{new}", old) for new, names in self._fields.items() for old in names]
        for new, keys in self._records.items():
            wanted += [(f"fields.{new}.{key}", column) for key, column in keys.items()]
        by, column = self._split.by, self._split.column
        wanted += [("split.by", by)] if by is not None else []
        wanted += [("split.column", column)] if column is not None else []
        missing = [(where, column) for where, column in wanted if column not in columns]
        reason = self._unreadable() if missing and not columns else None
        return [
            (where, reason or f"the source has no column {column!r}.{nearest(column, columns)}")
            for where, column in missing
        ]

    def _unreadable(self) -> str | None:
        """Return why the first row can't be read, for want of a single column."""
        if not len(self.source):
            return "the source has no rows"
        first = self.source.rows([0])[0]
        return f"the first row can't be read: {first}" if isinstance(first, Exception) else None

    def fields(self) -> tuple[str, ...]:
        """Return the names of its fields, renamed.

        Raises:
            DataError: `fields` or `split` name a column the source does not have.
        """
        for where, text in self.mistakes():
            raise DataError(f"data.sources.{self.name}.{where}: {text}")
        kept = [column for column in self._columns() if column not in self._moved]
        renamed = [new for new, columns in self._fields.items() if columns]
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
        for new, columns in self._fields.items():
            if columns:
                found = (row[name] for name in columns if row.get(name) is not None)
                kept[new] = next(found, None)
        for new, keys in self._records.items():
            record = {key: row.get(column) for key, column in keys.items()}
            kept[new] = None if all(value is None for value in record.values()) else record
        return kept

    def folders(self) -> Sequence[str | Path] | None:
        """Return the folders below which its rows may name files; None: anywhere."""
        return self.source.folders()

    def _by_column(self, column: str) -> dict[Split, np.ndarray]:
        """Return the rows of each split by what a column says.

        Raises:
            DataError: it says something else in a row that is not to be left out.
        """
        left_out = {_said(value) for value in self._split.leave_out}
        rows: dict[Split, list[int]] = {split: [] for split in SPLITS}
        others: dict[str | None, list[int]] = {}
        for number, value in enumerate(self.source.column(column)):
            split = split_named(value)
            if split is not None:
                rows[split].append(number)
                continue
            name = _said(value)
            if name not in left_out or name is None:
                others.setdefault(name, []).append(number)
        # Nothing stands in rows that can't be read, too: they are counted as training rows.
        missing = others.pop(None, [])
        read = self.source.rows(missing)
        lost = [n for n, row in zip(missing, read, strict=True) if isinstance(row, UnreadableError)]
        rows["train"] = sorted([*rows["train"], *lost])
        counts = Counter({repr(name): len(found) for name, found in others.items()})
        if len(missing) > len(lost) and None not in left_out:
            counts["nothing (null)"] = len(missing) - len(lost)
        if counts:
            said = ", ".join(f"{name} in {count}" for name, count in counts.most_common(5))
            more = "" if len(counts) <= 5 else f" and {len(counts) - 5} more"
            raise DataError(
                f"data.sources.{self.name}.split.column: {column!r} must say train, validation or "
                f"test, but says {said}{more} of {len(self.source)} rows. To do without these "
                f"rows, name what they say under split.leave_out"
            )
        return {split: np.array(found, dtype=np.int64) for split, found in rows.items()}

    def _share_out(self) -> dict[Split, np.ndarray]:
        self.fields()  # refuses columns that do not exist
        split, size = self._split, len(self.source)
        every = np.arange(size)
        if split.column is not None:
            return self._by_column(split.column)
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


def _said(value: object) -> str | None:
    """Return what a column says, None for nothing: null and blank text are one."""
    return None if value is None or not str(value).strip() else class_name(value).strip()
