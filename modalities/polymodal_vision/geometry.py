"""Where to cut an image and how large to make it: crops, target sizes, resizing."""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8

ResizeMode = Literal["crop", "squash", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Box = tuple[int, int, int, int]  # top, left, height, width


def centre_box(height: int, width: int, *, ratio: float, share: float = 1.0) -> Box:
    """Return the largest centred box of this ratio (width / height), its sides times `share`.

    Cutting before resizing gives what resizing the shorter side and cutting then would give, up
    to the rounding of one pixel, and never builds the huge middle image of an extreme ratio.
    """
    tall = min(float(height), width / ratio) * share
    box_height = min(max(round(tall), 1), height)
    box_width = min(max(round(tall * ratio), 1), width)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def random_box(
    height: int,
    width: int,
    generator: np.random.Generator,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Box:
    """Return a random box: its share of the area uniform, its ratio log-uniform (Inception).

    After ten boxes that do not fit, the largest centred box of the nearest allowed ratio.
    """
    logs = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * generator.uniform(*scale)
        wanted = math.exp(generator.uniform(*logs))
        box_width, box_height = round(math.sqrt(area * wanted)), round(math.sqrt(area / wanted))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(generator.integers(0, height - box_height + 1))
            left = int(generator.integers(0, width - box_width + 1))
            return top, left, box_height, box_width
    return centre_box(height, width, ratio=min(max(width / height, ratio[0]), ratio[1]))


def plan_crop(
    height: int, width: int, size: tuple[int, int], *, mode: ResizeMode, share: float = 1.0
) -> tuple[Box, tuple[int, int]]:
    """Return the box to cut and the size to bring it to, for a target `size` (height, width).

    "crop" keeps the ratio and cuts the longer side (the shorter side fills size / share, as
    timm's `crop_pct`); "squash" gives the ratio up; "pad" keeps it and stays inside the target,
    so that the size returned may be smaller than asked.
    """
    if mode == "crop":
        return centre_box(height, width, ratio=size[1] / size[0], share=share), size
    whole = (0, 0, height, width)
    if mode == "squash":
        return whole, size
    factor = min(size[0] / height, size[1] / width)
    fitted = (max(round(height * factor), 1), max(round(width * factor), 1))
    return whole, (min(fitted[0], size[0]), min(fitted[1], size[1]))


def native_size(
    height: int, width: int, *, patch: int, max_tokens: int, enlarge: bool
) -> tuple[int, int]:
    """Return the size, in whole patches, that keeps the ratio within a budget of tokens.

    The largest scale at which rows times columns fit (NaFlex; Dehghani et al., 2023, patch n'
    pack), found by bisection; without `enlarge`, never above 1. The ratio is kept up to the
    rounding to whole patches.
    """

    def grid(scale: float) -> tuple[int, int]:
        # A hair less than the product, or rounding noise would add a patch.
        rows = max(math.ceil(height * scale / patch - 1e-6), 1)
        return rows, max(math.ceil(width * scale / patch - 1e-6), 1)

    high = patch * max_tokens / min(height, width)  # the shorter side alone would use it up
    if not enlarge:
        high = min(high, 1.0)
    low = 0.0
    rows, columns = grid(high)
    if rows * columns > max_tokens:
        for _ in range(50):
            middle = (low + high) / 2
            rows, columns = grid(middle)
            low, high = (middle, high) if rows * columns <= max_tokens else (low, middle)
        rows, columns = grid(low)
    return rows * patch, columns * patch


def resize(
    frames: UInt8[np.ndarray, "frame height width 3"],
    box: Box,
    size: tuple[int, int],
    *,
    interpolation: Interpolation = "bicubic",
) -> UInt8[np.ndarray, "frame new_height new_width 3"]:
    """Return the box of every frame at another size, antialiased: Pillow's within 2 levels."""
    top, left, height, width = box
    cut = frames[:, top : top + height, left : left + width]
    if (height, width) == size:
        return cut
    if not cut.flags.writeable:  # torch warns of arrays it could write into by mistake
        cut = cut.copy()
    pixels = torch.from_numpy(cut).permute(0, 3, 1, 2)  # a view: torch calls it channels last
    new = torch.nn.functional.interpolate(pixels, size, mode=interpolation, antialias=True)
    return np.asarray(new.permute(0, 2, 3, 1).numpy())
