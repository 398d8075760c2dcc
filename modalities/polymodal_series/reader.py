"""Reading series: numbers along one axis, and where on it each one lies."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal.errors import UnreadableError
from polymodal.tokenizer import Reader


@dataclass(frozen=True, eq=False)
class Series:
    """Values along one axis, and their positions on it: wavelengths, times, or 0, 1, 2 ..."""

    values: Float[np.ndarray, "sample channel"]
    positions: Float[np.ndarray, " sample"]


class SeriesReader(Reader):
    """Reads `{"values", "positions"}`, the values alone, or a .npy file of them, as a `Series`.

    Values are [sample] or [sample, channel]; without positions they lie at 0, 1, 2 ...

    Raises:
        UnreadableError: no such file, no numbers, NaN or infinity, or positions that are not one
            a sample.
    """

    strings_are_paths = True

    def paths_in(self, value: Any) -> list[str]:
        """Return the paths of .npy files: the values', or the series' own."""
        return super().paths_in(value.get("values") if isinstance(value, Mapping) else value)

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
        values = _numbers(value, "values")
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2:
            raise UnreadableError(
                f"a series is [sample] or [sample, channel], got shape {values.shape}"
            )
        if positions is None:
            positions = np.arange(len(values))
        places = _numbers(positions, "positions")
        if places.shape != values.shape[:1]:
            raise UnreadableError(
                f"{len(values)} samples need as many positions, got shape {places.shape}"
            )
        return Series(values, places)


def _loaded(path: str | os.PathLike[str]) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise UnreadableError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableError(f"{path!s:.200} is not a .npy file: {error}") from error
    if not isinstance(found, np.ndarray):
        raise UnreadableError(f"{path} holds several arrays; save each as its own .npy file")
    return found


def _numbers(values: Any, what: str) -> Float[np.ndarray, "..."]:
    if values is None:
        raise UnreadableError(f"the series has no {what}")
    try:
        found = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UnreadableError(f"the {what} of the series are no numbers: {error}") from error
    bad = int(np.count_nonzero(~np.isfinite(found)))
    if bad:
        raise UnreadableError(f"{bad} of {found.size} {what} of the series are NaN or infinite")
    return found
