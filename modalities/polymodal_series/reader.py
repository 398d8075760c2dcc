"""Reading series: numbers along one axis, and where on it each one lies."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal import Reader, UnreadableError, read_npy


@dataclass(frozen=True, eq=False)
class Series:
    """Values along one axis, and their positions on it: wavelengths, times, or 0, 1, 2 ..."""

    values: Float[np.ndarray, "sample channel"]  # float32
    positions: Float[np.ndarray, " sample"]  # float64: seconds since 1970 need more than 24 bits


class SeriesReader(Reader):
    """Reads `{"values", "positions"}`, the values alone, or a .npy file of them, as a `Series`.

    Values are [sample] or [sample, channel]; without positions they lie at 0, 1, 2 ... Dates are
    refused: their unit is a table's own (pandas' varies), so the data must say which number is
    meant, for example seconds.

    Raises:
        UnreadableError: no such file, no numbers, NaN or infinity, or positions that are not one
            a sample.
    """

    strings_are_paths = True

    def paths_in(self, value: Any) -> list[str]:
        """Return the paths of .npy files: the values' and positions', or the series' own."""
        if not isinstance(value, Mapping):
            return super().paths_in(value)
        parts = value.get("values"), value.get("positions")
        return [path for part in parts for path in super(SeriesReader, self).paths_in(part)]

    def __call__(self, value: Any) -> Series:
        """Return the series.

        Raises:
            UnreadableError: why the record can't be used.
        """
        if isinstance(value, Series):
            return value
        positions = None
        if isinstance(value, Mapping):
            positions, value = value.get("positions"), value.get("values")
        if isinstance(value, str | os.PathLike):
            value = _loaded(value)
        values = _numbers(value, "values", np.float32)
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2:
            raise UnreadableError(
                f"a series is [sample] or [sample, channel], got shape {values.shape}"
            )
        if positions is None:
            positions = np.arange(len(values))
        if isinstance(positions, str | os.PathLike):
            positions = _loaded(positions)
        places = _numbers(positions, "positions", np.float64)
        if places.shape != values.shape[:1]:
            raise UnreadableError(
                f"{len(values)} samples need as many positions, got shape {places.shape}"
            )
        return Series(values, places)


def _loaded(path: str | os.PathLike[str]) -> np.ndarray:
    shown = str(path)[:200].replace("\0", "\\0")
    try:
        return read_npy(Path(path))
    except FileNotFoundError as error:
        raise UnreadableError(f"{shown}: no such file") from error
    except OSError as error:
        raise UnreadableError(f"{shown} can't be read: {error.strerror or error}") from error
    except ValueError as error:  # NUL or half a surrogate pair in the path, too
        raise UnreadableError(f"{shown} is not a .npy file: {error}") from error


def _numbers(values: Any, what: str, dtype: type[np.floating[Any]]) -> Float[np.ndarray, "..."]:
    if values is None:
        raise UnreadableError(f"the series has no {what}")
    try:
        given = np.asarray(values)
        if given.dtype.kind in "Mm":
            raise UnreadableError(
                f"the {what} of the series are dates, {given.dtype}: give numbers, of a unit of "
                "your choice, such as seconds"
            )
        if given.dtype.kind == "c":
            raise UnreadableError(
                f"the {what} of the series are complex: give real and imaginary parts as channels"
            )
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            found = given.astype(dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableError(f"the {what} of the series are no numbers: {error}") from error
    bad = int(np.count_nonzero(~np.isfinite(found)))
    if bad:
        raise UnreadableError(
            f"{bad} of {found.size} {what} of the series are NaN or infinite (as {found.dtype})"
        )
    return np.asarray(found)
