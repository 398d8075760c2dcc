"""Recordings from arrays and files."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from polymodal import Reader, UnreadableError


class Recording(Reader):
    """Return a recording as [lead, time] in millivolts.

    Reads arrays and lists, [time] or [lead, time], and `.npy` files that hold one.
    """

    strings_are_paths = True

    def __call__(self, value: Any) -> Float32[np.ndarray, "lead time"]:
        """Return the recording.

        Raises:
            UnreadableError: no numbers, no time axis, or values that are not finite.
        """
        try:
            found = np.load(value) if isinstance(value, str | Path) else np.asarray(value)
            signal = np.atleast_2d(found.astype(np.float32))
        except (OSError, EOFError, TypeError, ValueError) as error:
            raise UnreadableError(f"no recording: {error}") from error
        if signal.ndim != 2 or not signal.size:
            raise UnreadableError(f"a recording is [lead, time], got shape {list(found.shape)}")
        if not np.isfinite(signal).all():
            raise UnreadableError("the recording holds NaN or infinity")
        return signal
