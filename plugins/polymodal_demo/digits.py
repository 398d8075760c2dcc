"""Handwritten digits as colour images."""

from typing import Any

import numpy as np

from polymodal_demo.drawings import COLOURS, NUMBERS, drawings, enlarge, levels, paint
from polymodal_demo.generated import GeneratedSource, pick

_TEMPLATES = (
    "a {colour} {number}",
    "the digit {number} in {colour}",
    "a handwritten {number}, {colour}",
    "{number} written in {colour}",
)


class Digits(GeneratedSource):
    """Images of handwritten digits, 32 x 32 in RGB, with captions.

    The drawings are real: the 1,797 of 8 x 8 pixels that come with scikit-learn (UCI's optical
    digits, by 43 writers). Each is enlarged to 26 to 29 pixels, painted in one of three colours
    at a random place on a dark background of random tint with a little noise. Captions name
    digit and colour in several ways ("a red seven", "seven written in red").

    What can be learned: the shape whatever its place, size and colour; the colour; and the words
    for both. Pixels at fixed places tell little, for the place varies.

    Fields: `image` (uint8 [32, 32, 3]), `text`, `label` (the digit's name, "seven"), `colour`,
    `drawing` (number of the drawing: split by it where there are more samples than drawings).

    Args:
        samples: how many; beyond 1,797 drawings occur again, in another colour and place.
        seed: of order, colour and place.
    """

    fields = ("image", "text", "label", "colour", "drawing")

    def __init__(self, *, samples: int = 1797, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one image and its caption."""
        images, targets = drawings()
        drawing = draw_number(self, index)
        colour = pick(generator, list(COLOURS))
        size = int(generator.integers(26, 30))
        top, left = generator.integers(0, 33 - size, size=2)
        canvas = generator.uniform(0, 70, 3) + generator.normal(0, 8, (32, 32, 3))
        paint(canvas, enlarge(images[drawing], size), COLOURS[colour], top, left)
        number = NUMBERS[targets[drawing]]
        text = pick(generator, _TEMPLATES).format(colour=colour, number=number)
        return {
            "image": levels(canvas),
            "text": text,
            "label": number,
            "colour": colour,
            "drawing": drawing,
        }


def draw_number(source: GeneratedSource, index: int) -> int:
    """Return the drawing of a row: each once, in random order, before one comes again."""
    count = len(drawings()[0])
    return int(source.generator(2**32, index // count).permutation(count)[index % count])
