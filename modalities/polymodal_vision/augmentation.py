"""Random changes of images that keep what they show; every draw comes from the sample's generator.

One call changes all frames of a clip alike; an image is a clip of one frame.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from polymodal import nearest

GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may be changed, each off unless asked for.

    `crop` is the range of the share of the area kept (0.08, 1 for ImageNet) and `ratio` that of
    the box's width / height; `flip` the probability of mirroring left and right; `brightness`,
    `contrast` and `saturation` draw a factor from 1 - x to 1 + x and `hue` a turn from -x to x
    (0 to 0.5), all four in random order and together with probability `jitter`; `grey` and
    `blur` are probabilities, `blur_sigma` the range of the Gaussian's width in pixels. SimCLR
    (Chen et al., 2020, appendix A) is crop (0.08, 1), flip 0.5, jitter 0.8, brightness, contrast
    and saturation 0.8, hue 0.2, grey 0.2, blur 0.5.

    Raises:
        ValueError: a probability, share or range that is none.
    """

    crop: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    jitter: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}  # a misspelt key is an error

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grey", "blur"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a probability, 0 to 1, got {value}")
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue is a part of a turn, 0 to 0.5, got {self.hue}")
        ranges = {"ratio": self.ratio, "blur_sigma": self.blur_sigma}
        if self.crop is not None:
            ranges["crop"] = self.crop
            if not 0 < self.crop[0] <= self.crop[1] <= 1:
                raise ValueError(f"crop is a range of shares, above 0 to 1, got {self.crop}")
        for name, (low, high) in ranges.items():
            if not 0 < low <= high:
                raise ValueError(f"{name} must be a rising range above 0, got {(low, high)}")

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> "Augmentation":
        """Return what a config's mapping asks for; None asks for nothing.

        Raises:
            ValueError: an unknown name, with the nearest, or a value of another type or range.
        """
        try:
            return TypeAdapter(cls).validate_python(dict(options or {}))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "unexpected_keyword_argument":
                hint = nearest(name, (each.name for each in fields(cls)))
                raise ValueError(f"augment has no option {name!r}.{hint}") from error
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"augment{'.' * bool(name)}{name}: {message}") from error

    @property
    def colours(self) -> bool:
        """Whether the brightness, contrast, saturation or hue may change."""
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0


@dataclass(frozen=True)
class Changes:
    """What was drawn for one image or clip."""

    flip: bool = False
    colours: tuple[tuple[str, float], ...] = ()  # name and factor (of hue, the turn), in order
    grey: bool = False
    blur: float = 0.0  # width of the Gaussian in pixels, 0 for none

    @classmethod
    def draw(cls, augmentation: Augmentation, generator: np.random.Generator) -> "Changes":
        """Draw what is to be changed."""
        flip = bool(augmentation.flip and generator.random() < augmentation.flip)
        jitter = augmentation.colours and generator.random() < augmentation.jitter
        factors = [
            (name, generator.uniform(max(0.0, 1 - strength), 1 + strength))
            for name in ("brightness", "contrast", "saturation")
            if jitter and (strength := getattr(augmentation, name))
        ]
        if jitter and augmentation.hue:
            factors.append(("hue", generator.uniform(-augmentation.hue, augmentation.hue)))
        grey = bool(augmentation.grey and generator.random() < augmentation.grey)
        blur = 0.0
        if augmentation.blur and generator.random() < augmentation.blur:
            blur = generator.uniform(*augmentation.blur_sigma)
        order = generator.permutation(len(factors)) if factors else ()
        return cls(flip, tuple(factors[place] for place in order), grey, blur)


def flip_and_colour(
    frames: UInt8[np.ndarray, "frame height width 3"],
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Return the frames flipped, jittered, grey and blurred by one draw for all of them."""
    drawn = Changes.draw(augmentation, generator)
    if drawn.flip:
        frames = frames[:, :, ::-1]
    if not (drawn.colours or drawn.grey or drawn.blur):
        return frames
    colours = torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32) / 255)
    for name, factor in drawn.colours:
        colours = CHANGES[name](colours, factor).clamp(0, 1)
    if drawn.grey:
        colours = greyscale(colours).expand_as(colours)
    if drawn.blur:
        colours = gaussian_blur(colours, drawn.blur)
    return np.asarray((colours * 255).round().to(torch.uint8).numpy())


Colours = Float[Tensor, "frame height width 3"]
Factor = float | Float[Tensor, "frame #height #width #3"]


def greyscale(colours: Colours) -> Float[Tensor, "frame height width 1"]:
    """Return how bright each colour is."""
    return (colours * colours.new_tensor(GREY)).sum(dim=-1, keepdim=True)


def change_brightness(colours: Colours, factor: Factor) -> Colours:
    """Return the colours times a factor."""
    return colours * factor


def change_contrast(colours: Colours, factor: Factor) -> Colours:
    """Return the colours moved away from the mean grey of their frame by a factor."""
    mean = greyscale(colours).mean(dim=(1, 2, 3), keepdim=True)
    return mean + (colours - mean) * factor


def change_saturation(colours: Colours, factor: Factor) -> Colours:
    """Return the colours moved away from their own grey by a factor."""
    grey = greyscale(colours)
    return grey + (colours - grey) * factor


def change_hue(colours: Colours, turn: Factor) -> Colours:
    """Return the colours with their hue turned by a part of the circle (HSV)."""
    value, strongest = colours.max(dim=-1)
    chroma = value - colours.amin(dim=-1)
    red, green, blue = (colours / chroma.clamp(min=1e-12)[..., None]).unbind(dim=-1)
    sixth = torch.stack([green - blue, 2 + blue - red, 4 + red - green], dim=-1)
    hue = sixth.gather(-1, strongest[..., None]) / 6 + turn  # grey has chroma 0: any hue will do
    # Each channel is value - chroma * k, where k is a trapezoid over the hue circle.
    place = (hue * 6 + hue.new_tensor([5.0, 3.0, 1.0])) % 6
    share = torch.minimum(place, 4 - place).clamp(0, 1)
    return value[..., None] - chroma[..., None] * share


CHANGES = {
    "brightness": change_brightness,
    "contrast": change_contrast,
    "saturation": change_saturation,
    "hue": change_hue,
}


def gaussian(sigma: Tensor, radius: int) -> Float[Tensor, "*shape place"]:
    """Return the weights of Gaussians from -radius to radius, cut off at three widths each."""
    place = torch.arange(-radius, radius + 1, dtype=sigma.dtype, device=sigma.device)
    reach = (3 * sigma).ceil().clamp(min=1)
    weight = torch.exp(-place.square() / (2 * sigma.square())) * (place.abs() <= reach)
    return weight / weight.sum(dim=-1, keepdim=True)


def gaussian_blur(colours: Colours, sigma: float) -> Colours:
    """Return the colours smoothed by a Gaussian of this width in pixels; edges are repeated."""
    radius = max(math.ceil(3 * sigma), 1)
    weight = gaussian(torch.tensor([sigma], dtype=colours.dtype), radius).repeat(3, 1)
    pixels = colours.permute(0, 3, 1, 2)
    padded = torch.nn.functional.pad(pixels, (radius,) * 4, mode="replicate")
    rows = torch.nn.functional.conv2d(padded, weight[:, None, None, :], groups=3)
    smooth = torch.nn.functional.conv2d(rows, weight[:, None, :, None], groups=3)
    return smooth.permute(0, 2, 3, 1)
