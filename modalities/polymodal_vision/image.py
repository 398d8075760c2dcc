"""Reading images: whatever a record holds, as uint8 RGB."""

import io
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from polymodal import UnreadableError
from polymodal.files import bytes_or_path
from polymodal.tokenizer import Reader

Picture = UInt8[np.ndarray, "height width 3"]
_LIMIT = threading.Lock()


class ImageReader(Reader):
    """Reads a path, bytes, `{"path", "bytes"}`, a Pillow image or an array as uint8 [H, W, 3].

    Files are told by content, not by extension. EXIF orientation is applied, an alpha channel is
    composited on `background`, 16-bit and floating-point grey are brought to 8 bits, CMYK, palette
    and LAB are converted; of an animation the first frame is taken. Arrays are [H, W] or
    [H, W, 1|3|4]: integers of 8 or 16 bits, booleans, or floats in 0 to 1.

    Args:
        background: RGB, 0 to 255, that shows through transparent pixels.
        max_pixels: larger images are refused before they are decoded (Pillow's own limit by
            default), so that a small file can't fill the memory.

    Raises:
        UnreadableError: no such file, no image, a truncated one, too many pixels, or values that
            are no colours.
    """

    strings_are_paths = True

    def __init__(
        self,
        *,
        background: tuple[int, int, int] = (255, 255, 255),
        max_pixels: int = 178_956_970,
    ):
        if len(background) != 3 or not all(0 <= level <= 255 for level in background):
            raise ValueError(f"background must be three levels of 0 to 255, got {background}")
        if max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {max_pixels}")
        self.background = (background[0], background[1], background[2])
        self.max_pixels = max_pixels

    def __call__(self, value: Any) -> Picture:
        """Return the image as uint8 [H, W, 3].

        Raises:
            UnreadableError: why the record can't be used.
        """
        if isinstance(value, Mapping):
            value = bytes_or_path(value)
            if value is None:
                raise UnreadableError("the image has neither bytes nor a path")
        if isinstance(value, str | os.PathLike):
            return self._file(Path(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return self._decode(io.BytesIO(value), "the image")
        if isinstance(value, Image.Image):
            return self._picture(value, "the image")
        return self._blend(to_rgba_or_rgb(value))

    def _file(self, path: Path) -> Picture:
        try:
            stream = path.open("rb")
        except FileNotFoundError as error:
            raise UnreadableError(f"{path}: no such file") from error
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            raise UnreadableError(f"{path}: {error}") from error
        with stream:
            return self._decode(stream, str(path))

    def _decode(self, stream: BinaryIO, name: str) -> Picture:
        try:
            with _no_pillow_limit():
                image = Image.open(stream)
        except UnidentifiedImageError as error:
            if not stream.seek(0, os.SEEK_END):
                raise UnreadableError(f"{name} is empty (0 bytes)") from error
            raise UnreadableError(f"{name} is not an image that Pillow can read") from error
        except Exception as error:  # a decoder may raise anything at damaged input
            raise UnreadableError(f"{name} can't be opened as an image: {error}") from error
        with image:
            return self._picture(image, name)

    def _picture(self, image: Image.Image, name: str) -> Picture:
        pixels = image.width * image.height
        if pixels > self.max_pixels:
            raise UnreadableError(
                f"{name} has {image.width} x {image.height} = {pixels} pixels, more than "
                f"max_pixels {self.max_pixels}"
            )
        if not pixels:
            raise UnreadableError(f"{name} has no pixels")
        try:
            image.load()
        except Exception as error:  # OSError, SyntaxError, struct.error ...: all mean damaged
            kind = image.format or "image"
            raise UnreadableError(f"{name} is a damaged or truncated {kind}: {error}") from error
        try:
            return self._blend(_channels(_upright(image)))
        except UnreadableError as error:
            raise UnreadableError(f"{name}: {error}") from error
        except Exception as error:
            raise UnreadableError(
                f"{name} (mode {image.mode}) can't be converted to RGB: {error}"
            ) from error

    def _blend(self, pixels: UInt8[np.ndarray, "height width channel"]) -> Picture:
        """Composite an alpha channel, if there is one, on the background."""
        if pixels.shape[2] == 3:
            return pixels
        alpha = pixels[..., 3:].astype(np.uint32)
        behind = np.asarray(self.background, dtype=np.uint32)
        total: Picture = (
            (pixels[..., :3] * alpha + behind * (255 - alpha) + 127) // 255  # rounded
        ).astype(np.uint8)
        return total


def to_rgb(values: Any) -> Picture:
    """Return an array or nested list as uint8 [H, W, 3]; alpha is composited on white.

    Raises:
        UnreadableError: a shape, type or range that is no image.
    """
    return ImageReader()._blend(to_rgba_or_rgb(values))


def to_rgba_or_rgb(values: Any) -> UInt8[np.ndarray, "height width channel"]:
    """Return an array or nested list as uint8 with 3 channels, or 4 with alpha.

    Raises:
        UnreadableError: a shape, type or range that is no image.
    """
    if values is None:
        raise UnreadableError("there is no image")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise UnreadableError(f"the image is no array: {error}") from error
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = "; it looks like channels first: move that axis to the end"
        raise UnreadableError(
            f"an image array is [height, width] or [height, width, 1, 3 or 4], got shape "
            f"{tuple(array.shape)}{hint}"
        )
    if array.size == 0:
        raise UnreadableError(f"the image has no pixels: shape {tuple(array.shape)}")
    levels = to_levels(array)
    return np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels


def to_levels(array: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Return colours as levels 0 to 255, a copy: floats lie in 0 to 1, uint16 in 0 to 65535.

    Raises:
        UnreadableError: values out of range, NaN, or no numbers.
    """
    if array.dtype == np.uint8:
        return array.copy()
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return np.asarray((array.astype(np.uint32) + 128) // 257, dtype=np.uint8)
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 255:
            raise UnreadableError(f"integer colours lie in 0 to 255, got {low} to {high}")
        return np.asarray(array, dtype=np.uint8)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise UnreadableError("the image holds NaN or infinite values")
        if array.min() < -1e-3 or array.max() > 1.001:
            raise UnreadableError(
                f"floating-point colours lie in 0 to 1, got {array.min():g} to {array.max():g}: "
                "scale them, or give integers of 0 to 255"
            )
        return np.asarray((array.clip(0, 1) * 255).round(), dtype=np.uint8)
    raise UnreadableError(f"an image holds numbers, got {array.dtype}")


def _upright(image: Image.Image) -> Image.Image:
    """Turn by EXIF orientation; EXIF too damaged to read does not cost the image."""
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # exif_transpose would copy it
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever the EXIF parser meets
        return image


def _channels(image: Image.Image) -> UInt8[np.ndarray, "height width channel"]:
    mode = image.mode
    if mode.startswith("I;16"):
        return to_rgba_or_rgb(np.asarray(image).astype(np.uint16))
    if mode == "I":  # 32 bits wide, but files that open so hold 16
        return to_rgba_or_rgb(np.asarray(image).clip(0, 65535).astype(np.uint16))
    if mode == "F":
        return to_rgba_or_rgb(np.asarray(image))
    if mode == "LAB":
        profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
        transform = ImageCms.buildTransform(*profiles, "LAB", "RGB")
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None
        return np.array(converted)
    wanted = "RGBA" if image.has_transparency_data else "RGB"
    return np.array(image if mode == wanted else image.convert(wanted))


@contextmanager
def _no_pillow_limit() -> Iterator[None]:
    """Open a file without Pillow's fixed limit of pixels; ours is checked before decoding.

    Pillow keeps its limit in a module variable, so it is lifted for the reading of a header only.
    """
    with _LIMIT:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def check_picture(raw: Any, *, shape: Sequence[str] = ("height", "width", "3")) -> None:
    """Refuse what is not a uint8 array of this shape with at least one pixel.

    Raises:
        UnreadableError: what it is instead.
    """
    wanted = f"uint8 [{', '.join(shape)}]"
    if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8:
        kind = raw.dtype if isinstance(raw, np.ndarray) else type(raw).__name__
        raise UnreadableError(f"pixels must be {wanted}, got {kind}")
    if raw.ndim != len(shape) or raw.shape[-1] != 3 or raw.size == 0:
        raise UnreadableError(f"pixels must be {wanted}, got shape {tuple(raw.shape)}")
