"""Arrays of colours of any number type as levels of 0 to 255."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from polymodal import UnreadableError


def to_rgba_or_rgb(values: Any) -> UInt8[np.ndarray, "height width channel"]:
    """Return an array or nested list as uint8 with 3 channels, or 4 with alpha.

    Raises:
        UnreadableError: a shape, type or range that is no image.
    """
    if values is None:
        raise UnreadableError("there is no image")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise UnreadableError(f"the image is no array: {error}") from error
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = "; it looks like channels first: move that axis to the end"
        raise UnreadableError(
            f"an image array is [height, width] or [height, width, 1, 3 or 4], got shape "
            f"{tuple(array.shape)}{hint}"
        )
    if array.size == 0:
        raise UnreadableError(f"the image has no pixels: shape {tuple(array.shape)}")
    levels = to_levels(array)
    return np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels


def to_levels(array: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Return colours as levels 0 to 255, a copy: floats lie in 0 to 1, uint16 in 0 to 65535.

    Other integers are levels already, whatever their type could hold: what signed or wider ones
    mean (degrees, counts, Hounsfield units) no type says.

    Raises:
        UnreadableError: values out of range, NaN, or no numbers.
    """
    if array.dtype == np.uint8:
        return array.copy()
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return np.asarray((array.astype(np.uint32) + 128) // 257, dtype=np.uint8)
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 255:
            raise UnreadableError(
                f"integer colours lie in 0 to 255, got {low} to {high}: scale them, or give "
                "uint16, which is scaled by its range, or floats of 0 to 1"
            )
        return np.asarray(array, dtype=np.uint8)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise UnreadableError("the image holds NaN or infinite values")
        if array.min() < -1e-3 or array.max() > 1.001:
            raise UnreadableError(
                f"floating-point colours lie in 0 to 1, got {array.min():g} to {array.max():g}: "
                "scale them, or give integers of 0 to 255"
            )
        return np.asarray((array.clip(0, 1) * 255).round(), dtype=np.uint8)
    raise UnreadableError(f"an image holds numbers, got {array.dtype}")
