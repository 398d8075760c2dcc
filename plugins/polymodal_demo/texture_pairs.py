"""Pairs of views of random textures, for matching one view with another."""

from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal_demo.drawings import levels
from polymodal_demo.generated import GeneratedSource

_DEVIATION = 48  # of the levels: clipped beyond 2.7 of these


class TexturePairs(GeneratedSource):
    """Two views of a grey random texture, one shifted against the other.

    A texture is white noise smoothed by a Gaussian, so that a patch says little about patches
    some pixels away. View 1 is its middle, view 2 as large a piece, moved by a random number of
    strides down and to the right.

    What can be learned: a hidden part of view 1 can't be guessed from the rest of it, but can be
    read off view 2 by whoever finds the shift.

    Fields: `view_1` and `view_2` (uint8 [size, size, 3]), `shift` ([down, right] of view 2, in
    pixels).

    Args:
        samples: how many.
        size: side of a view in pixels.
        reach: the shift goes so many strides up to so many down, and as far to the left and right.
        stride: of the shift, in pixels; a patch's side for shifts of whole patches.
        smooth: deviation of the Gaussian in pixels.
        unrelated: take view 2 from another texture; a control from which nothing can be read off.
        seed: of textures and shifts.

    Raises:
        ValueError: a size, stride or smoothness that is not above 0, or a negative reach.
    """

    fields = ("view_1", "view_2", "shift")

    def __init__(
        self,
        *,
        samples: int = 5000,
        size: int = 32,
        reach: int = 2,
        stride: int = 1,
        smooth: float = 1.0,
        unrelated: bool = False,
        seed: int = 0,
    ):
        super().__init__(samples=samples, seed=seed)
        for name, value in {"size": size, "stride": stride, "smooth": smooth}.items():
            if value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if reach < 0:
            raise ValueError(f"reach must be 0 or more, got {reach}")
        self.size = size
        self.reach = reach
        self.stride = stride
        self.smooth = smooth
        self.unrelated = unrelated

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return two views and the shift."""
        margin = self.reach * self.stride
        side = self.size + 2 * margin
        down, right = self.stride * generator.integers(-self.reach, self.reach + 1, size=2)
        first = texture(side, self.smooth, generator)
        second = texture(side, self.smooth, generator) if self.unrelated else first
        return {
            "view_1": self._view(first, margin, margin),
            "view_2": self._view(second, margin + int(down), margin + int(right)),
            "shift": [int(down), int(right)],
        }

    def _view(self, pattern: np.ndarray, top: int, left: int) -> np.ndarray:
        piece = pattern[top : top + self.size, left : left + self.size]
        return np.repeat(levels(128 + _DEVIATION * piece)[..., None], 3, axis=2)


def texture(
    side: int, smooth: float, generator: np.random.Generator
) -> Float[np.ndarray, "side side"]:
    """Return white noise smoothed by a Gaussian; every pixel has mean 0 and variance 1."""
    blur = _blur(side, smooth)
    return blur @ generator.standard_normal((side, side)) @ blur.T


@cache
def _blur(side: int, smooth: float) -> np.ndarray:
    place = np.arange(side)
    weights = np.exp(-((place[:, None] - place) ** 2) / (2 * smooth**2))
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)
