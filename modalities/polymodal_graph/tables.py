"""Graphs in tables: a CSV edge list and a node table, as columns and as one graph."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from pyarrow import ArrowInvalid, csv

from polymodal import DataError, nearest

Columns = Mapping[str, Shaped[np.ndarray, " row"]]


def read_table(path: str, *, needed: Sequence[str] = ()) -> Columns:
    """Return the columns of a CSV file by name; a column with gaps has NaN or None in them.

    Raises:
        DataError: no such file, a broken line, or a column that is missing.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    try:
        table = csv.read_csv(path)
    except (ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    columns = {
        name: column.to_numpy(zero_copy_only=False)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    for name in needed:
        if name not in columns:
            raise DataError(f"{path}: no column {name!r}.{nearest(name, columns)}")
    return columns


def is_number(column: Shaped[np.ndarray, " row"]) -> bool:
    """Whether a column holds numbers (or truth values)."""
    return column.dtype.kind in "biuf"


def matrix(columns: Columns, names: Sequence[str], path: str) -> Shaped[np.ndarray, "row name"]:
    """Return these columns side by side as float32.

    Raises:
        DataError: one that does not hold numbers.
    """
    for name in names:
        if not is_number(columns[name]):
            raise DataError(f"{path}: column {name!r} must hold numbers to be a feature")
    rows = len(next(iter(columns.values()), np.zeros(0)))
    out = np.zeros((rows, len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        out[:, place] = columns[name]
    return out


def kinds(column: Shaped[np.ndarray, " row"], path: str, name: str) -> Int[np.ndarray, " row"]:
    """Return whole numbers as they are, and words by their place among the column's, sorted.

    Raises:
        DataError: fractions or gaps.
    """
    if column.dtype.kind in "biu":
        return column.astype(np.int64)
    if column.dtype.kind == "f" or any(item is None for item in column):
        raise DataError(f"{path}: column {name!r} must hold whole numbers or words, without gaps")
    return np.unique(column.astype(str), return_inverse=True)[1].astype(np.int64)


def numbered(
    names: Shaped[np.ndarray, " node"], ends: Shaped[np.ndarray, " end"]
) -> Int[np.ndarray, " end"]:
    """Return the place of each end among the names; -1 where it is none of them."""
    if is_number(names) != is_number(ends):
        names, ends = names.astype(str), ends.astype(str)
    if not len(names):
        return np.full(len(ends), -1, dtype=np.int64)
    try:
        order = np.argsort(names, kind="stable")
        at = order[np.minimum(np.searchsorted(names[order], ends), len(names) - 1)]
    except TypeError:  # gaps (None) among words
        return numbered(names.astype(str), ends.astype(str))
    return np.where(names[at] == ends, at, -1)


def distinct(column: Shaped[np.ndarray, " row"]) -> Shaped[np.ndarray, " value"]:
    """Return the values of a column, sorted; gaps among words count as the word None."""
    try:
        return np.unique(column)
    except TypeError:
        return np.unique(column.astype(str))


def label_of(column: Shaped[np.ndarray, " row"], row: int) -> Any:
    """Return one value as a plain Python one; None for a gap."""
    value = column[row]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and value != value else value
