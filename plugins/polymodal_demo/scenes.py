"""Scenes of handwritten digits as sets of regions, with the digits' words."""

from typing import Any

import numpy as np

from polymodal_demo.drawings import NUMBERS, drawings
from polymodal_demo.generated import GeneratedSource

SIDE = 100.0  # of a scene, in pixels
HELD_OUT = 1400  # drawings from this one on are for validation


class Scenes(GeneratedSource):
    """Scenes of handwritten digits, a region each, as a detector might give them, with captions.

    A region's features are the 64 intensities of one of scikit-learn's 8 x 8 digits, 0 to 1, its
    box lies anywhere in a scene of 100 x 100 pixels, and its soft labels are sure of its digit. The
    caption has the digits' words, in an order that tells nothing of the regions'. Digits are drawn
    with repeats, so that a word can be guessed from the others no better than by chance.

    What can be learned: to read a digit, and which word belongs to which region. Validation rows
    show drawings that training rows never do (numbers 1400 to 1796).

    Fields: `regions` (as `vision.region_set` reads them), `text` ("three one three ..."),
    `partners` (for each word of the text, the regions with that digit), `split` ("train" or
    "validation"; use `split: {column: split}`).

    Args:
        samples: how many.
        regions: of a scene.
        validation: share of the rows, evenly spread.
        blank: leave the regions' features out, all zero: what can be told without looking.
        seed: of everything drawn.

    Raises:
        ValueError: fewer than one region, or a share out of range.
    """

    fields = ("regions", "text", "partners", "split")

    def __init__(
        self,
        *,
        samples: int = 10_000,
        regions: int = 5,
        validation: float = 0.1,
        blank: bool = False,
        seed: int = 0,
    ):
        super().__init__(samples=samples, seed=seed)
        if regions < 1 or not 0 <= validation <= 1:
            raise ValueError(
                f"regions must be 1 or more and validation lie between 0 and 1, got {regions} and "
                f"{validation}"
            )
        self.regions = regions
        self.validation = validation
        self.blank = blank

    def column(self, name: str) -> list[Any]:
        """Return a field of every row; which split a row is of takes no drawing."""
        if name == "split":
            return [self._split(index) for index in range(self.samples)]
        return super().column(name)

    def _split(self, index: int) -> str:
        due = int((index + 1) * self.validation) > int(index * self.validation)
        return "validation" if due else "train"

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one scene and its caption."""
        images, targets = drawings()
        split = self._split(index)
        first, stop = (0, HELD_OUT) if split == "train" else (HELD_OUT, len(images))
        drawn = generator.integers(first, stop, self.regions)
        digits = targets[drawn]
        features = images[drawn].reshape(self.regions, -1)
        size = generator.uniform(10, 30, (self.regions, 1))
        corner = generator.uniform(0, SIDE - size, (self.regions, 2))
        words = digits[generator.permutation(self.regions)]
        return {
            "regions": {
                "features": np.zeros_like(features) if self.blank else features,
                "boxes": np.concatenate([corner, corner + size], axis=1),
                "width": SIDE,
                "height": SIDE,
                "classes": np.eye(1 + len(NUMBERS), dtype=np.float32)[1 + digits],
            },
            "text": " ".join(NUMBERS[word] for word in words),
            "partners": [np.flatnonzero(digits == word).tolist() for word in words],
            "split": split,
        }
