"""Cutting frames into patches and back, and the statistics pixels are normalised by."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from polymodal import TokenSpec

Normalization = Literal["imagenet", "clip", "half", "none"]
MeanStd = tuple[tuple[float, float, float], tuple[float, float, float]]

STATISTICS: dict[str, MeanStd] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # to -1 ... 1
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # 0 ... 1
}
"""Mean and standard deviation of red, green and blue, by name, of colours in 0 to 1."""


FLAT = 1e-8  # added to the deviation of a patch before dividing by it


@dataclass(frozen=True)
class PatchSpec(TokenSpec):
    """The spec of tokens that are patches of images or clips: also how to put them together.

    `values` of a token are `patch` (height, width) times `tube` frames of RGB, in the order
    (frame, row, column, channel), normalised by `statistics`.
    """

    patch: tuple[int, int] = (1, 1)
    tube: int = 1
    statistics: MeanStd = STATISTICS["none"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features != self.tube * prod(self.patch) * 3:
            raise ValueError(
                f"{self.tube} frames of {self.patch[0]} x {self.patch[1]} RGB pixels are no "
                f"{self.features} features"
            )

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The extent, where every full sample fills it; None at native aspect ratio."""
        if self.extent is None or self.max_tokens != prod(self.extent):
            return None
        return self.extent


def patch_rows(
    clips: UInt8[np.ndarray, "clip frame height width 3"], *, patch: int, tube: int = 1
) -> UInt8[np.ndarray, "clip token feature"]:
    """Cut clips into tubelets: tokens by (time, row, column), features by (frame, y, x, colour).

    Frames, height and width must be whole multiples of `tube` and `patch`.
    """
    count, frames, height, width, _ = clips.shape
    times, rows, columns = frames // tube, height // patch, width // patch
    cut = clips.reshape(count, times, tube, rows, patch, columns, patch, 3)
    # clip time frame row y column x colour -> clip (time row column) (frame y x colour)
    ordered = cut.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return np.ascontiguousarray(ordered).reshape(count, times * rows * columns, -1)


def patches_of_images(
    images: Shaped[Tensor, "image height width 3"], patch: int
) -> Shaped[Tensor, "token feature"]:
    """Cut images into patches as `patch_rows` does, on any device."""
    _, height, width, _ = images.shape
    cut = images.reshape(-1, height // patch, patch, width // patch, patch, 3)
    return cut.transpose(2, 3).reshape(-1, patch * patch * 3)


def frames_of_rows(
    rows: Float[Tensor, "token feature"],
    cell: Int[Tensor, " token"],
    *,
    images: int,
    grid: tuple[int, int],
    patch: tuple[int, int],
    tube: int = 1,
) -> Float[Tensor, "image tube 3 height width"]:
    """Put patches back into images; cells that no token fills are 0, the mean colour.

    `cell` says where a token goes: (image * grid rows + row) * grid columns + column.
    """
    flat = rows.new_zeros(images * grid[0] * grid[1], rows.shape[1]).index_copy(0, cell, rows)
    cut = flat.reshape(images, *grid, tube, *patch, 3)
    # image row column frame y x colour -> image frame colour (row y) (column x)
    ordered = cut.permute(0, 3, 6, 1, 4, 2, 5)
    return ordered.reshape(images, tube, 3, grid[0] * patch[0], grid[1] * patch[1])


def normalize(
    levels: UInt8[Tensor, "token feature"], statistics: MeanStd
) -> Float[Tensor, "token feature"]:
    """Return colours of 0 to 255 as (colour / 255 - mean) / std, channel by channel."""
    mean, std = (np.asarray(each, dtype=np.float64) for each in statistics)
    scale, shift = (
        torch.from_numpy(each.astype(np.float32)).to(levels.device)
        for each in (1 / (255 * std), mean / std)
    )
    return levels.reshape(-1, 3).float().mul_(scale).sub_(shift).reshape(levels.shape)


def standardized(values: Float[Tensor, "token feature"]) -> Float[Tensor, "token feature"]:
    """Return each row less its mean, over its deviation (over n - 1); a flat row becomes zeros."""
    exact = values.double()  # in float32 the mean of equal numbers may be off by more than FLAT
    apart = exact - exact.mean(dim=1, keepdim=True)
    deviation = (apart.square().sum(dim=1, keepdim=True) / (values.shape[1] - 1)).sqrt()
    return (apart / (deviation + FLAT)).to(values.dtype)


def denormalize(
    values: Float[Tensor, "token feature"], statistics: MeanStd
) -> UInt8[np.ndarray, "token feature"]:
    """Return normalised colours as levels 0 to 255, rounded and clipped."""
    mean, std = (np.asarray(each, dtype=np.float32) for each in statistics)
    colours = values.detach().float().cpu().numpy().reshape(-1, 3) * std + mean
    levels: UInt8[np.ndarray, "..."] = (colours.clip(0, 1) * 255).round().astype(np.uint8)
    return levels.reshape(tuple(values.shape))
