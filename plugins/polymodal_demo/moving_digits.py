"""Clips of a handwritten digit on the move, with captions."""

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

SIDE, FRAMES = 32, 8
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # (down, right)
_CAPTIONS = (
    "a {digit} moving {direction}",
    "the digit {digit} moves {direction}",
    "a {digit} that goes {direction}",
    "moving {direction}: a {digit}",
    "a handwritten {digit} slides {direction}",
)


class MovingDigits(DrawnSource):
    """Clips: `video` (uint8 [8, 32, 32, 3]), `text`, `label` (the direction), `digit`.

    One of scikit-learn's real handwritten digits, enlarged to 14 to 18 pixels and tinted at
    random, moves across a dark, noisy ground by 1.2 to 1.8 pixels a frame. The motion is made
    here. `label` is "left", "right", "up" or "down"; `digit` a word; `text` names both in one of
    five phrasings.

    What can be learnt: the direction (4 classes), for which the order of frames must be used: a
    clip run backwards is as likely as the clip itself and bears the opposite label, so no single
    frame and no average of frames tells left from right. Beside it the digit (10 classes). 40
    captions differ in meaning. Rows share handwriting: the digit of each is drawn anew from the
    1,797.

    Args:
        samples: how many rows.
        seed: of all that is drawn.
    """

    def __init__(self, *, samples: int = 2000, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("video", "text", "label", "digit")

    def draw(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """Return a clip; it starts so that the digit stays in sight."""
        ink, kinds = load_handwriting()
        number = int(rng.integers(COUNT))
        digit = WORDS[kinds[number]]
        direction = pick(rng, tuple(DIRECTIONS))
        side = int(rng.integers(14, 19))
        room = SIDE - side
        travel = min(rng.uniform(1.2, 1.8) * (FRAMES - 1), room)
        step = np.array(DIRECTIONS[direction])
        # The middle of the path is drawn, so that a path and its reverse are as likely.
        reach = np.abs(step) * travel / 2
        middle = rng.uniform(reach, room - reach)
        shape, tint = enlarged(ink[number], side)[..., None], tinted(rng, pick(rng, [*COLOURS]))
        ground = rng.uniform(0, 0.2, 3) + rng.normal(0, 0.04, (FRAMES, SIDE, SIDE, 3))
        for frame, share in enumerate(np.linspace(-0.5, 0.5, FRAMES)):
            top, left = (middle + step * travel * share).round().astype(int)
            part = ground[frame, top : top + side, left : left + side]
            part[:] = part * (1 - shape) + tint * shape
        return {
            "video": as_bytes(ground),
            "text": pick(rng, _CAPTIONS).format(digit=digit, direction=direction),
            "label": direction,
            "digit": digit,
        }
