"""Reading images: whatever a record holds, as uint8 RGB."""

import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from polymodal import Reader, UnreadableError, bytes_or_path
from polymodal_vision.decoded import ROWS_AT_ONCE, channels
from polymodal_vision.levels import to_rgba_or_rgb

Picture = UInt8[np.ndarray, "height width 3"]
_LIMIT = threading.Lock()


class ImageReader(Reader):
    """Reads a path, bytes, `{"path", "bytes"}`, a Pillow image or an array as uint8 [H, W, 3].

    Files are told by content, not by extension. EXIF orientation is applied, an alpha channel is
    composited on `background`, 16-bit and floating-point grey are brought to 8 bits, CMYK, palette
    and LAB are converted; of an animation the first frame is taken. Colours are brought to sRGB by
    the image's ICC profile, where it has one and it is not sRGB already; grey of more than 8 bits,
    and PNG's gamma and chromaticities without a profile, are taken as they stand. Arrays are
    [H, W] or [H, W, 1|3|4]: booleans, uint8, uint16 (scaled by its range), floats in 0 to 1, or
    other integers in 0 to 255; files and Pillow images of such numbers (signed or 32-bit TIFF,
    mode "I") are read as the arrays are.

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
        value = bytes_or_path(value, "image")
        if isinstance(value, Path):
            return self._file(value)
        if isinstance(value, bytes):
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
            return self._blend(channels(image))
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
        total = np.empty((*pixels.shape[:2], 3), dtype=np.uint8)
        behind = np.asarray(self.background, dtype=np.uint32)
        for top in range(0, len(pixels), ROWS_AT_ONCE):  # numbers of 32 bits, so not all at once
            rows = pixels[top : top + ROWS_AT_ONCE]
            alpha = rows[..., 3:].astype(np.uint32)
            blended = (rows[..., :3] * alpha + behind * (255 - alpha) + 127) // 255  # rounded
            total[top : top + ROWS_AT_ONCE] = blended
        return total


def to_rgb(values: Any) -> Picture:
    """Return an array or nested list as uint8 [H, W, 3]; alpha is composited on white.

    Raises:
        UnreadableError: a shape, type or range that is no image.
    """
    return ImageReader()._blend(to_rgba_or_rgb(values))


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
