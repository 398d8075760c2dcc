"""Handwritten digits as intensities, and painting them onto a canvas."""

from functools import cache

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from sklearn.datasets import load_digits

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = {"red": (230, 60, 50), "green": (60, 190, 80), "blue": (70, 110, 240)}


@cache
def drawings() -> tuple[Float[np.ndarray, "drawing 8 8"], Int[np.ndarray, " drawing"]]:
    """Return the 1,797 digits that come with scikit-learn, 0 to 1, and which digit each is."""
    found = load_digits()
    return found.images.astype(np.float32) / 16, found.target.astype(np.int64)


def enlarge(drawing: Float[np.ndarray, "8 8"], size: int) -> Float[np.ndarray, "size size"]:
    """Return a drawing at another size, bicubic, 0 to 1."""
    image = Image.fromarray(drawing).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).clip(0, 1)


def paint(
    canvas: Float[np.ndarray, "height width 3"],
    drawing: Float[np.ndarray, "size size"],
    colour: tuple[int, int, int],
    top: int,
    left: int,
) -> None:
    """Paint a drawing onto a canvas of levels 0 to 255, with its intensity as opacity."""
    size = len(drawing)
    part = canvas[top : top + size, left : left + size]
    part += drawing[..., None] * (np.array(colour, dtype=np.float32) - part)


def levels(canvas: Float[np.ndarray, "... 3"]) -> UInt8[np.ndarray, "... 3"]:
    """Return whole levels of 0 to 255."""
    return canvas.clip(0, 255).round().astype(np.uint8)
