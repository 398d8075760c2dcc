"""scikit-learn's handwritten digits, enlarged and coloured."""

from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNT = 1797

# RGB, 0 to 1; each digit's tint strays a little from its colour's.
COLOURS = {
    "red": (0.9, 0.15, 0.15),
    "green": (0.15, 0.8, 0.2),
    "blue": (0.2, 0.3, 0.95),
    "yellow": (0.9, 0.85, 0.15),
    "purple": (0.65, 0.2, 0.85),
    "white": (0.9, 0.9, 0.9),
}


@cache
def load_handwriting() -> tuple[UInt8[np.ndarray, "digit 8 8"], UInt8[np.ndarray, " digit"]]:
    """Return the digits' ink, 0 to 16, and what each one is; shared by all, so read only."""
    from sklearn.datasets import load_digits  # heavy; its data come within the package

    found = load_digits()
    ink, kinds = found.images.astype(np.uint8), found.target.astype(np.uint8)
    ink.flags.writeable = kinds.flags.writeable = False
    return ink, kinds


def enlarged(ink: UInt8[np.ndarray, "8 8"], side: int) -> Float[np.ndarray, "side side"]:
    """Return the digit with soft edges at another size, ink from 0 to 1."""
    picture = Image.fromarray((ink * 15).astype(np.uint8))
    large = picture.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(large, dtype=np.float32) / 240.0


def tinted(rng: np.random.Generator, colour: str) -> Float[np.ndarray, " 3"]:
    """Return the colour, its strength and hue astray by some hundredths."""
    tint = np.asarray(COLOURS[colour]) * rng.uniform(0.8, 1.1) + rng.normal(0, 0.03, 3)
    return np.clip(tint, 0, 1).astype(np.float32)


def as_bytes(picture: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Return values from 0 to 1 as 0 to 255; what lies outside is clipped."""
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
