"""What Pillow has decoded, upright, in sRGB and as levels of 0 to 255."""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, ImageOps, TiffImagePlugin

from polymodal_vision.levels import to_rgba_or_rgb

Channels = UInt8[np.ndarray, "height width channel"]

ROWS_AT_ONCE = 256  # copied out of Pillow, which makes two more copies of what it hands over
_WHITE_IS_ZERO, _SIGNED = 0, 2  # TIFF's photometric interpretation and sample format
_SAME = 2  # levels by which a profile may change colours and still count as sRGB


def channels(image: Image.Image) -> Channels:
    """Return a loaded image as uint8 [H, W, 3], or 4 with alpha, upright and in sRGB.

    Numbers of one channel (signed, 12, 16 and 32 bits, floats) are scaled as `to_levels` scales
    arrays of their type. An ICC profile is applied to images of 8 bits; one that is damaged or is
    for other channels than the image has is ignored, as browsers do.

    Raises:
        UnreadableError: numbers that are no colours.
    """
    kind = _Kind.of(image)  # of the file; what follows are copies that forget it
    image = _upright(image)
    if image.mode[0] in "IF" or kind.signed:
        levels = to_rgba_or_rgb(kind.numbers(image))
        return 255 - levels if kind.white_is_zero and image.mode != "L" else levels
    image = _in_srgb(image)
    wanted = "RGBA" if image.has_transparency_data else "RGB"
    return _copied(image if image.mode == wanted else image.convert(wanted))


@dataclass(frozen=True)
class _Kind:
    """What a file says of its numbers."""

    format: str | None
    bits: int | None = None
    signed: bool = False
    white_is_zero: bool = False

    @classmethod
    def of(cls, image: Image.Image) -> "_Kind":
        if not isinstance(image, TiffImagePlugin.TiffImageFile):
            return cls(image.format)
        bits, white, signed = (_first(image.tag_v2.get(tag)) for tag in (258, 262, 339))
        return cls("TIFF", bits, signed == _SIGNED, white == _WHITE_IS_ZERO)

    def numbers(self, image: Image.Image) -> np.ndarray:
        """Return the numbers of a one-channel image in the type that its file holds."""
        array = np.asarray(image)
        if image.mode == "F":
            return array
        if image.mode == "L":  # signed bytes, which Pillow opens as if they were not
            return array.view(np.int8)
        if image.mode.startswith("I;16"):
            array = array.astype(np.uint16)  # in the machine's own byte order
            if self.format == "FITS":  # whose integers are signed
                return array.view(np.int16)
            if self.bits == 12:
                return np.asarray((array.astype(np.uint32) * 65535 + 2047) // 4095, np.uint16)
            return array
        if self.format == "PPM":  # Pillow stretches grey of more than 8 bits to 0 ... 65535
            return array.clip(0, 65535).astype(np.uint16)
        if self.bits == 32 and not self.signed:  # Pillow keeps the bits and calls them signed
            return array.view(np.uint32)
        return array


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value


def _upright(image: Image.Image) -> Image.Image:
    """Turn by EXIF orientation; EXIF too damaged to read does not cost the image."""
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # exif_transpose would copy it
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever the EXIF parser meets
        return image


def _in_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":  # needs none: the mode says what the numbers mean
        converted = ImageCms.applyTransform(image, _lab())
        assert converted is not None
        return converted
    if not profile or not isinstance(profile, bytes):
        return image
    alpha = None
    plain = image
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
    if image.mode not in ("L", "RGB", "CMYK"):
        plain = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    transform = _to_srgb(profile, plain.mode)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(plain, transform)
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


@lru_cache(maxsize=1)
def _lab() -> Any:
    profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
    return ImageCms.buildTransform(*profiles, "LAB", "RGB")


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> Any:
    """Return the transform from a profile to sRGB; None where there is nothing to change."""
    try:
        held = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(held, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "CMYK":
            return transform
        probe = _probe(mode)
        changed = ImageCms.applyTransform(probe, transform)
    except Exception:  # damaged, or for other channels than the image has
        return None
    # Most files say that they are sRGB: their pixels stay as they are, to the bit.
    before, after = (np.asarray(each, dtype=np.int16) for each in (probe.convert("RGB"), changed))
    return None if np.abs(before - after).max() <= _SAME else transform


def _probe(mode: str) -> Image.Image:
    """Return an image of colours from all over the range of a mode."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    if mode == "L":
        return Image.fromarray(steps[None])
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3))


def _copied(image: Image.Image) -> Channels:
    """Return the pixels of an image some rows at a time, without Pillow's own two copies of all."""
    pixels = np.empty((image.height, image.width, len(image.getbands())), dtype=np.uint8)
    for top in range(0, image.height, ROWS_AT_ONCE):
        bottom = min(top + ROWS_AT_ONCE, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels
