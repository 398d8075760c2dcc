"""Rows to fit and score on: vectors of one or all splits with a field's values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal import DataError, Each, Features, Probe, Split, class_name, nearest, split_named

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TIE = 1e-10  # cosines of equal vectors differ by rounding alone


@dataclass(frozen=True, eq=False)
class Labelled:
    """Vectors with the value of a field, rows without a value left out."""

    vectors: Float[np.ndarray, "sample width"]
    values: list[Any]
    groups: list[Any]  # empty if no field to group by was named

    def __len__(self) -> int:
        return len(self.values)


def read_splits(
    probe: Probe,
    stream: str,
    *,
    source: str,
    splits: Sequence[Split] = SPLITS,
    objective: str | None = None,
    each: Each = "sample",
) -> dict[Split, Features]:
    """Return the features of those of several splits that have rows.

    Raises:
        DataError: none has; or the source or stream does not exist.
    """
    found = {
        split: probe.features(stream, source=source, split=split, objective=objective, each=each)
        for split in splits
        if probe.size(source, split)  # a source need not have all three splits
    }
    if not found:
        raise DataError(f"source {source!r} has no rows")
    return found


def labelled(
    probe: Probe,
    stream: str,
    *,
    source: str,
    label: str,
    splits: Sequence[Split],
    objective: str | None = None,
    group: str | None = None,
    each: Each = "sample",
    split_by: str | None = None,
) -> Labelled:
    """Return the rows of splits, joined, that have the stream and the label.

    A label is missing if it is None, "" or not a number. Vectors come as float64: the solvers
    then stop at the same place on every machine. With `each: token`, a row is a token. With
    `split_by`, a row's split is what this field says, whatever split its sample is in.

    Raises:
        DataError: no row is left, the source lacks a field, or a vector is not finite.
    """
    if len(splits) == 1 and split_by is None:
        parts = [
            probe.features(stream, source=source, split=splits[0], objective=objective, each=each)
        ]
    else:
        wanted = SPLITS if split_by else splits
        read = read_splits(
            probe, stream, source=source, objective=objective, splits=wanted, each=each
        )
        parts = list(read.values())
    vectors, values, groups = [], [], []
    for part in parts:
        column = field_of(part.fields, label, source=source)
        kept = [row for row, value in enumerate(column) if not is_missing(value)]
        if split_by is not None:
            homes = field_of(part.fields, split_by, source=source)
            kept = [row for row in kept if split_named(homes[row]) in splits]
        vectors.append(finite(part.vectors, stream=stream)[kept])
        values += [column[row] for row in kept]
        if group is not None:
            by = field_of(part.fields, group, source=source)
            groups += [by[row] for row in kept]
    if not values:
        where = "/".join(splits)
        raise DataError(
            f"no {where} row of source {source!r} has both the stream {stream!r} and a value "
            f"in the field {label!r}"
        )
    return Labelled(np.concatenate(vectors), values, groups)


def field_of(fields: Mapping[str, Sequence[Any]], name: str, *, source: str) -> Sequence[Any]:
    """Return a field's values.

    Raises:
        DataError: the source has no such field.
    """
    if name not in fields:
        raise DataError(f"source {source!r} has no field {name!r}.{nearest(name, fields)}")
    return fields[name]


def is_missing(value: Any) -> bool:
    """Tell whether a field holds nothing: None, "" or NaN."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)


def finite(vectors: np.ndarray, *, stream: str) -> Float[np.ndarray, "sample width"]:
    """Return the vectors as float64.

    Raises:
        DataError: one holds NaN or infinity.
    """
    bad = int((~np.isfinite(vectors)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(vectors)} vectors of stream {stream!r} are not finite: "
            "the model has diverged"
        )
    return vectors.astype(np.float64)


def class_names(values: Sequence[Any], *, label: str) -> np.ndarray:
    """Return labels as text, so that 1, 1.0 and "1" are one class.

    Raises:
        DataError: a label is a list or a mapping.
    """
    for value in values:
        if isinstance(value, list | tuple | dict | set | np.ndarray):
            raise DataError(
                f"the field {label!r} must hold a single label a row, got {value!r:.60}"
            )
    return np.array([class_name(value) for value in values])


def unit(vectors: np.ndarray) -> Float[np.ndarray, "sample width"]:
    """Return vectors of length 1; zero vectors stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def majority_share(labels: np.ndarray) -> float:
    """Return how often the most frequent label occurs: what always answering it scores."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def same_width(one: np.ndarray, other: np.ndarray, streams: Sequence[str]) -> None:
    """Check that two streams' vectors can be compared.

    Raises:
        DataError: they can't.
    """
    if one.shape[1] != other.shape[1]:
        raise DataError(
            f"streams {streams[0]!r} and {streams[1]!r} have vectors of widths {one.shape[1]} and "
            f"{other.shape[1]}: name the objective that projects both into one space"
        )
