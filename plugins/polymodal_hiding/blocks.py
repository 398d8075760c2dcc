"""Rectangles of the plane, and tubes through time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import (
    Candidates,
    Hidden,
    Hiding,
    Layout,
    Rounding,
    StreamInfo,
    by_score,
    check_ratio,
)
from polymodal_hiding.units import choose_units, tube_units


class Blocks(Hiding):
    """Hide rectangles of the last two position axes (BEiT, algorithm 1).

    Args:
        ratio: share of each segment's tokens that may be hidden.
        area: share of the places that a rectangle covers, drawn from this range.
        aspect: its height to width lies between this and its inverse.
        rounding: of the number hidden.
        at_least: hide so many tokens of every segment that has them.

    Raises:
        ValueError: a number out of range, or a stream whose positions have one axis.
    """

    def __init__(
        self,
        ratio: float = 0.4,
        *,
        area: tuple[float, float] = (0.08, 0.4),
        aspect: float = 0.3,
        rounding: Rounding = "nearest",
        at_least: int = 1,
    ):
        super().__init__()
        self.ratio = check_ratio(ratio)
        if not 0 < area[0] <= area[1] <= 1 or not 0 < aspect <= 1:
            raise ValueError(
                f"area must be a range within 0 to 1 and aspect lie between 0 and 1, got "
                f"{area} and {aspect}"
            )
        self.area = area
        self.aspect = aspect
        self.rounding: Rounding = rounding
        self.at_least = at_least

    def bind(self, info: StreamInfo) -> None:
        """Refuse positions without a plane."""
        _check_axes(info, "blocks")

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden."""
        scores = block_scores(
            among.noise("choice"),
            among.noise("area"),
            among.noise("aspect"),
            among.tokens.layout,
            area=self.area,
            aspect=self.aspect,
        )
        return among.lowest(scores, self.ratio, rounding=self.rounding, at_least=self.at_least)


class Tubes(Hiding):
    """Hide the same places at all times: all position axes but the first (VideoMAE).

    Args:
        ratio: share of each segment's tokens that may be hidden.
        rounding: of the number hidden.
        at_least: hide so many tokens of every segment that has them.

    Raises:
        ValueError: a ratio out of range, or a stream whose positions have one axis.
    """

    def __init__(self, ratio: float = 0.9, *, rounding: Rounding = "nearest", at_least: int = 1):
        super().__init__()
        self.ratio = check_ratio(ratio)
        self.rounding: Rounding = rounding
        self.at_least = at_least

    def bind(self, info: StreamInfo) -> None:
        """Refuse positions without places beside the time."""
        _check_axes(info, "tubes")

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden; waits for the device."""
        layout = among.tokens.layout
        counts = among.counts(self.ratio, rounding=self.rounding, at_least=self.at_least)
        choice = choose_units(
            among.noise("choice"), tube_units(layout), layout, counts, allowed=among.allowed
        )
        return Hidden(among.tokens, choice)


def _check_axes(info: StreamInfo, what: str) -> None:
    if info.spec.axes < 2:
        raise ValueError(
            f"{what} need positions with two axes or more, but the stream's have "
            f"{info.spec.axes}; use hiding.tokens"
        )


def block_scores(
    centre_noise: Float[Tensor, " token"],
    area_noise: Float[Tensor, " token"],
    shape_noise: Float[Tensor, " token"],
    layout: Layout,
    *,
    area: tuple[float, float] = (0.08, 0.4),
    aspect: float = 0.3,
    most: int = 16,
) -> Float[Tensor, " token"]:
    """Return scores that hide rectangles of the last two position axes (BEiT, algorithm 1).

    Each covers a share of the places drawn from `area` with a height to width between `aspect` and
    its inverse, at every place of the axes before (all frames of a video). The rectangles come in
    random order, up to `most` a segment; what no rectangle covers comes last. The last one is cut
    where the segment's count is reached.

    Raises:
        ValueError: positions with fewer than two axes.
    """
    if layout.positions.shape[1] < 2:
        raise ValueError("blocks need positions with two axes or more")
    if layout.tokens == 0:
        return centre_noise
    place = layout.positions[:, -2:].float()
    # Places of the plane: tokens of a segment over how many each place has.
    units = torch.cat([layout.segment[:, None], layout.positions[:, -2:].long()], dim=1)
    _, plane = units.unique(dim=0, return_inverse=True)
    deep = torch.bincount(plane)[plane]
    places = (layout.offsets.diff()[layout.segment] / deep).float()
    size = (area[0] + area_noise * (area[1] - area[0])) * places
    ratio = torch.exp((2 * shape_noise - 1) * -math.log(aspect))
    half = torch.stack([(size * ratio).sqrt(), (size / ratio).sqrt()], dim=1) / 2  # token 2

    order = by_score(centre_noise, layout)
    number = torch.arange(most, device=layout.device)
    lengths = layout.offsets.diff()
    at = layout.offsets[:-1, None] + torch.minimum(number, (lengths[:, None] - 1).clamp(min=0))
    centres = order[at.clamp(max=layout.tokens - 1)]  # segment most
    centre = centres[layout.segment]  # token most
    inside = ((place[:, None] - place[centre]).abs() <= half[centre]).all(dim=2)
    first = torch.where(inside, number, most).amin(dim=1)
    return torch.where(first < most, first.float(), most + centre_noise)
