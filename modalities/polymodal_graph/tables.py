"""Graphs in tables: a CSV edge list and a node table, as columns and as one graph."""

import codecs
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, Shaped
from pyarrow import ArrowInvalid, csv

from polymodal import DataError, check_growth, nearest

Columns = Mapping[str, Shaped[np.ndarray, " row"]]

PACKED = (".gz", ".bz2", ".zst", ".lz4")  # what Arrow unpacks by the file's name

# How a whole number is written that has one spelling: names that all are such are numbers.
_PLAIN_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_CODE = r"^\s*[+-]?0[0-9]"  # "007": a code, not a quantity


def read_table(path: str, *, needed: Sequence[str] = (), names: Sequence[str] = ()) -> Columns:
    """Return the columns of a CSV file by name; a column with gaps has NaN or None in them.

    Columns of numbers of which any has a leading zero ("007") are text. Names are text without
    blanks around it, whatever they look like ("7" and "007", "1.1" and "1.10" are two), and ""
    where there is none; a column whose names are all plain whole numbers is int64, which tells
    apart the same ones.

    Args:
        path: of the file.
        needed: columns that must be there.
        names: those of them that name things (nodes, graphs).

    Raises:
        DataError: no such file, a broken line, a column that is missing or there twice, bytes that
            are not UTF-8.
    """
    if not _is_file(path):
        raise DataError(f"{path[:200]}: no such file")
    try:
        table = _with_codes(path, csv.read_csv(_opened(path), convert_options=_as_text(names)))
        titles = table.column_names
    except (ArrowInvalid, UnicodeDecodeError, OSError) as error:
        _refuse_other_encodings(path)
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    if any(pa.types.is_binary(column.type) for column in table.columns):
        _refuse_other_encodings(path)  # Arrow makes bytes of what is no UTF-8
    twice = [title for title, count in Counter(titles).items() if count > 1]
    if twice:
        raise DataError(f"{path}: two columns are called {twice[0]!r}: rename one")
    for name in needed:
        if name not in titles:
            raise DataError(f"{path}: no column {name!r}.{nearest(name, titles)}")
    return {
        title: _names(column) if title in names else column.to_numpy(zero_copy_only=False)
        for title, column in zip(titles, table.columns, strict=True)
    }


def _opened(path: str) -> str | pa.BufferReader:
    """Return a path, or what a packed file holds.

    Raises:
        DataError: it unpacks without end.
    """
    if Path(path).suffix not in PACKED:
        return path
    size, parts, total = Path(path).stat().st_size, [], 0
    with pa.input_stream(path) as file:
        while part := file.read(1 << 20):
            parts.append(part)
            total += len(part)
            check_growth(path, size, total)
    return pa.BufferReader(b"".join(parts))


def _as_text(names: Sequence[str], **options: Any) -> csv.ConvertOptions:
    return csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), **options)


def _with_codes(path: str, table: pa.Table) -> pa.Table:
    """Return the table with columns of codes as text; a second look tells them from numbers."""
    numbers = [
        field.name
        for field in table.schema
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    ]
    if len(set(numbers)) < len(numbers) or not numbers:  # a title twice is refused later
        return table
    options = _as_text(numbers, include_columns=numbers, strings_can_be_null=True)
    written = csv.read_csv(_opened(path), convert_options=options)
    for name in numbers:
        if pc.any(pc.match_substring_regex(written[name], _CODE)).as_py():
            table = table.set_column(table.column_names.index(name), name, written[name])
    return table


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long, or with NUL in it
        return False


def _names(column: pa.ChunkedArray) -> Shaped[np.ndarray, " row"]:
    found = pc.utf8_trim_whitespace(pc.fill_null(column, ""))
    names = found.to_numpy(zero_copy_only=False).astype(str)
    if len(names) and all(_PLAIN_NUMBER.fullmatch(name) for name in set(names.tolist())):
        return names.astype(np.int64)
    return names


def _refuse_other_encodings(path: str) -> None:
    """Say where a file stops being UTF-8, if it does.

    Raises:
        DataError: it does, with the place of the first such byte, from 0.
    """
    if Path(path).suffix in PACKED:
        raise DataError(f"{path}: can't be read; is it packed whole, and UTF-8?")
    decoder, before = codecs.getincrementaldecoder("utf-8")(), 0
    with Path(path).open("rb") as file:
        while part := file.read(1 << 20):
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(part)
            except UnicodeDecodeError as error:
                place = before - held + error.start
                raise DataError(
                    f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} at position "
                    f"{place}. Save it as UTF-8"
                ) from None
            before += len(part)


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
    if column.dtype.kind == "f" and np.array_equal(column, np.trunc(column)):  # pandas' 1.0
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
