"""Random changes of many images at once, on the training device: each as was drawn for it."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal_vision.augmentation import CHANGES, Augmentation, Changes, gaussian, greyscale

Images = Float[Tensor, "image height width 3"]
Drawn = Float[Tensor, "image number"]

_NUMBERS = {name: number for number, name in enumerate(CHANGES)}


def drawn_rows(changes: Sequence[Changes]) -> Drawn:
    """Return what was drawn for each image as numbers.

    Whether to flip, whether to grey, the blur; then which colours change in turn (-1 for none), and
    by what factors.
    """
    rows = torch.zeros(len(changes), 3 + 2 * len(CHANGES))
    rows[:, 3 : 3 + len(CHANGES)] = -1
    for row, each in zip(rows, changes, strict=True):
        row[:3] = torch.tensor([each.flip, each.grey, each.blur])
        for turn, (name, factor) in enumerate(each.colours):
            row[3 + turn] = _NUMBERS[name]
            row[3 + len(CHANGES) + turn] = factor
    return rows


def change_each(images: Images, drawn: Drawn, augmentation: Augmentation) -> Images:
    """Return images of colours 0 to 1, each changed as `flip_and_colour` would change it alone.

    Up to rounding. No device is waited for: what some images need is computed for all.
    """
    columns = drawn[:, :, None, None, None].unbind(dim=1)  # each image 1 1 1
    flip, grey, blur = columns[:3]
    which, factors = columns[3 : 3 + len(CHANGES)], columns[3 + len(CHANGES) :]
    possible = [name for name in CHANGES if getattr(augmentation, name)]
    if augmentation.flip:
        images = torch.where(flip > 0, images.flip(2), images)
    for number, factor in zip(which[: len(possible)], factors, strict=False):
        changed = images
        for name in possible:
            new = CHANGES[name](images, factor).clamp(0, 1)
            changed = torch.where(number == _NUMBERS[name], new, changed)
        images = changed
    if augmentation.grey:
        images = torch.where(grey > 0, greyscale(images), images)
    if augmentation.blur:
        images = torch.where(blur > 0, _blurred(images, blur, augmentation.blur_sigma), images)
    return images


def _blurred(images: Images, sigma: Tensor, range_of_sigma: tuple[float, float]) -> Images:
    """Return each image smoothed by a Gaussian of its own width; edges are repeated."""
    radius = max(math.ceil(3 * range_of_sigma[1]), 1)
    weights = gaussian(sigma.clamp(min=range_of_sigma[0]), radius).split(1, dim=-1)
    for axis in (2, 1):
        place = torch.arange(images.shape[axis], device=images.device)
        smooth = torch.zeros_like(images)
        for shift, weight in enumerate(weights, start=-radius):
            beside = (place + shift).clamp(0, len(place) - 1)
            smooth += weight * images.index_select(axis, beside)
        images = smooth
    return images
