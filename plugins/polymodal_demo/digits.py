"""Handwritten digits in colour, with captions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from polymodal_demo.drawn import DrawnSource, pick
from polymodal_demo.handwriting import (
    COLOURS,
    COUNT,
    WORDS,
    as_bytes,
    enlarged,
    load_handwriting,
    tinted,
)

SIDE = 32  # of the picture
_CAPTIONS = (
    "a {colour} {digit}",
    "the digit {digit} in {colour}",
    "a {digit}, written in {colour}",
    "a handwritten {digit} in {colour} ink",
    "{colour} {digit} on a dark ground",
)


class Digits(DrawnSource):
    """Real handwriting, coloured here: `image`, `text`, `label` (the digit), `colour`.

    The writing is scikit-learn's `load_digits`: 1,797 digits of 8x8 pixels that 43 people wrote
    (the UCI test set of optical recognition). Row n shows digit n, enlarged to 20 to 26 pixels,
    tinted in one of six colours and placed at random on a dark, noisy ground of 32x32. `image` is
    RGB uint8 [32, 32, 3]; `label` is a word from "zero" to "nine"; `text` names the digit and its
    colour in one of five phrasings.

    What can be learnt: which shape is which digit, whatever its colour, size and place (10
    classes, nearly equal), and its colour (6). 60 captions differ in meaning.

    Args:
        samples: how many rows. The default shows every digit once; beyond it the same writing
            comes again in other colours and places, so then a random split of the rows shares
            handwriting between its parts.
        seed: of colours, sizes, places and captions; the order of digits is scikit-learn's.
    """

    def __init__(self, *, samples: int = COUNT, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("image", "text", "label", "colour")

    def draw(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """Return the digit of this number in a colour and place of its own."""
        ink, kinds = load_handwriting()
        digit = WORDS[kinds[index % COUNT]]
        colour = pick(rng, tuple(COLOURS))
        side = int(rng.integers(20, 27))
        top, left = rng.integers(0, SIDE - side + 1, 2)
        ground = rng.uniform(0, 0.25, 3) + rng.normal(0, 0.05, (SIDE, SIDE, 3))
        cover = np.zeros((SIDE, SIDE, 1), np.float32)
        cover[top : top + side, left : left + side, 0] = enlarged(ink[index % COUNT], side)
        return {
            "image": as_bytes(ground * (1 - cover) + tinted(rng, colour) * cover),
            "text": pick(rng, _CAPTIONS).format(colour=colour, digit=digit),
            "label": digit,
            "colour": colour,
        }
