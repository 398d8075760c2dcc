"""From frames of any size to frames of the target's: cut, resized, changed at random, padded."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from polymodal_vision.augmentation import Augmentation, flip_and_colour
from polymodal_vision.geometry import Box, Interpolation, ResizeMode, plan_crop, random_box, resize

Frames = UInt8[np.ndarray, "frame height width 3"]
Framed = UInt8[np.ndarray, "frame new_height new_width 3"]


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How frames come to their target size; all frames of a clip alike.

    Raises:
        ValueError: a `crop_share` that is no share.
    """

    resize: ResizeMode = "crop"
    crop_share: float = 1.0
    padding: tuple[int, int, int] = (0, 0, 0)
    interpolation: Interpolation = "bicubic"
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if not 0 < self.crop_share <= 1:
            raise ValueError(f"crop_share lies above 0 and up to 1, got {self.crop_share}")
        if len(self.padding) != 3 or not all(0 <= level <= 255 for level in self.padding):
            raise ValueError(f"padding must be three levels of 0 to 255, got {self.padding}")

    def apply(
        self,
        frames: Frames,
        target: Callable[[int, int], tuple[int, int]],
        generator: np.random.Generator | None = None,
    ) -> Framed:
        """Return the frames at `target(height, width)` of what was cut; random given a generator.

        A random crop takes the place of the resize mode: its box is squashed to the target.
        """
        height, width = frames.shape[1:3]
        plan = self.plan(height, width, target, generator)
        return self.changed(plan.fit(frames), plan, generator)

    def plan(
        self,
        height: int,
        width: int,
        target: Callable[[int, int], tuple[int, int]],
        generator: np.random.Generator | None = None,
    ) -> "Plan":
        """Return what to cut of frames of this size and what size to bring it to."""
        if generator is None or self.augment.crop is None:
            goal = target(height, width)
            box, size = plan_crop(height, width, goal, mode=self.resize, share=self.crop_share)
        else:
            draw = {"scale": self.augment.crop, "ratio": self.augment.ratio}
            box = random_box(height, width, generator, **draw)
            size = goal = target(box[2], box[3])
        return Plan(box, size, goal, self.interpolation)

    def changed(
        self, frames: Framed, plan: "Plan", generator: np.random.Generator | None = None
    ) -> Framed:
        """Return frames that fit the plan, flipped and coloured given a generator, and padded."""
        if generator is not None:
            frames = flip_and_colour(frames, self.augment, generator)
        return self._padded(frames, plan.goal)

    def _padded(self, frames: Frames, size: tuple[int, int]) -> Framed:
        height, width = frames.shape[1:3]
        if (height, width) == size:
            return frames
        canvas = np.empty((len(frames), *size, 3), dtype=np.uint8)
        canvas[:] = self.padding
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        canvas[:, top : top + height, left : left + width] = frames
        return canvas


@dataclass(frozen=True)
class Plan:
    """The box to cut, the size to bring it to, and the size that padding brings that to."""

    box: Box
    size: tuple[int, int]
    goal: tuple[int, int]
    interpolation: Interpolation

    def fit(self, frames: Frames) -> Framed:
        """Return the frames cut and resized, nothing else changed."""
        return resize(frames, self.box, self.size, interpolation=self.interpolation)


def whole_patches(size: int | tuple[int, int], patch: int) -> tuple[int, int]:
    """Return (height, width).

    Raises:
        ValueError: a side that is no multiple of the patch, with the nearest that is.
    """
    if patch < 1:
        raise ValueError(f"patch must be at least 1, got {patch}")
    height, width = (size, size) if isinstance(size, int) else size
    for side in (height, width):
        if side < 1 or side % patch:
            near = max(round(side / patch), 1) * patch
            raise ValueError(f"size must be a multiple of patch {patch}, got {side}: try {near}")
    return height, width
