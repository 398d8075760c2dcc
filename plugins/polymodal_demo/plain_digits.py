"""Handwritten digits as they are: 8 x 8 pixels, a training part, and a few labels in it."""

from typing import Any

import numpy as np

from polymodal_demo.drawings import NUMBERS, drawings
from polymodal_demo.generated import GeneratedSource


class PlainDigits(GeneratedSource):
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels, white on black.

    Nothing is added: for experiments with few labels. Three columns say splits: `split` has the
    training part and the rest, `few` has `shots` drawings of each digit from the training part
    and the same rest. `selection` has the same few and, to score, the training part's others: for
    choosing settings without a look at the rest.

    Fields: `image` (uint8 [8, 8, 3]), `label` (the digit's name, "seven"), `split` ("train",
    "validation"), `few` ("train", "validation", or "" for training drawings beyond the few),
    `selection` ("train", "validation", or "" for the rest).

    Args:
        training: drawings in the training part, drawn at random.
        shots: drawings of each digit among the few.
        seed: of both draws.

    Raises:
        ValueError: more training drawings than there are, or shots below 1.
    """

    fields = ("image", "label", "split", "few", "selection")

    def __init__(self, *, training: int = 1400, shots: int = 10, seed: int = 0):
        super().__init__(samples=len(drawings()[0]), seed=seed)
        if not 1 <= training < self.samples:
            raise ValueError(f"training must be 1 to {self.samples - 1}, got {training}")
        if shots < 1:
            raise ValueError(f"shots must be at least 1, got {shots}")
        order = self.generator().permutation(self.samples)[:training]
        digits = drawings()[1][order]
        self.training = frozenset(order.tolist())
        self.few = frozenset(
            row for digit in range(len(NUMBERS)) for row in order[digits == digit][:shots].tolist()
        )

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one drawing."""
        images, digits = drawings()
        levels = (images[index] * 255).round().astype(np.uint8)
        training, few = index in self.training, index in self.few
        return {
            "image": levels[..., None].repeat(3, axis=2),
            "label": NUMBERS[digits[index]],
            "split": "train" if training else "validation",
            "few": "train" if few else "" if training else "validation",
            "selection": "train" if few else "validation" if training else "",
        }
