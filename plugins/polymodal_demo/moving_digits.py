"""Handwritten digits on the move."""

from typing import Any

import numpy as np

from polymodal_demo.digits import draw_number
from polymodal_demo.drawings import COLOURS, NUMBERS, drawings, enlarge, levels, paint
from polymodal_demo.generated import GeneratedSource, pick

_FRAMES, _SIDE, _SIZE = 8, 32, 16
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
_TEMPLATES = (
    "a {colour} {number} moving {direction}",
    "the {number} drifts {direction}",
    "a {number} goes {direction}",
    "{direction} goes the {colour} digit {number}",
)


class MovingDigits(GeneratedSource):
    """Videos of 8 frames of 32 x 32 in RGB: a digit moves one of four ways; with captions.

    The drawings are real (scikit-learn's 1,797 digits), at 16 pixels, in one of three colours on a
    dark background of random tint with noise of its own in each frame. A digit starts anywhere
    and moves left, right, up or down by 2 or 3 pixels a frame; at an edge it comes back in
    from the other side. Captions name digit and direction, most the colour too.

    What can be learned: motion, for every single frame of a video, and the set of all its frames,
    is as likely under the opposite direction; beside it shape, colour and words.

    Fields: `video` (uint8 [8, 32, 32, 3]), `text`, `label` (the direction), `digit` (its name),
    `colour`, `drawing` (number of the drawing: split by it).

    Args:
        samples: how many; beyond 1,797 drawings occur again, on another way.
        seed: of order, colour, place and direction.
    """

    fields = ("video", "text", "label", "digit", "colour", "drawing")

    def __init__(self, *, samples: int = 1797, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one video and its caption."""
        images, targets = drawings()
        drawing = draw_number(self, index)
        shape = enlarge(images[drawing], _SIZE)
        colour = pick(generator, list(COLOURS))
        direction = pick(generator, list(DIRECTIONS))
        start = generator.integers(0, _SIDE, size=2)
        step = np.array(DIRECTIONS[direction]) * int(generator.integers(2, 4))
        noise = generator.normal(0, 8, (_FRAMES, _SIDE, _SIDE, 3))
        background = generator.uniform(0, 70, 3)
        frames = []
        for number in range(_FRAMES):
            canvas = np.zeros((_SIDE, _SIDE, 3))
            canvas += background
            paint(canvas, shape, COLOURS[colour], 0, 0)
            frames.append(np.roll(canvas, tuple(start + number * step), axis=(0, 1)))
        name = NUMBERS[targets[drawing]]
        text = pick(generator, _TEMPLATES).format(colour=colour, number=name, direction=direction)
        return {
            "video": levels(np.stack(frames) + noise),
            "text": text,
            "label": direction,
            "digit": name,
            "colour": colour,
            "drawing": drawing,
        }
