"""Reading video: whatever a record holds, as RGB frames with their times."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from polymodal import Reader, UnreadableError, bytes_or_path
from polymodal_video.clip import Clip, Film, Span, clip_of_array, no_frames
from polymodal_video.pictures import Frame, Pictures, StampsFall, pixels_of

HELD = 2**26  # bytes of decoded frames kept, so that what fits is not decoded twice


class ClipReader(Reader):
    """Reads a path, bytes, `{"path", "bytes"}`, an array or `{"frames", "fps"}` as a `Clip`.

    Times come from the stream's own stamps, so a variable frame rate is kept, or made even by
    `fps`. They count from the container's start, as those of `audio.sound` do. Where there are no
    stamps, or they do not rise (AVI with B-frames), frames are counted, at the rate the stream
    says, else 25. Decoding starts at the key frame before `start`, or at the beginning where none
    can be found, and ends with the last frame wanted. Of a file that breaks off, the frames before
    the break are taken. Frames are turned and mirrored as the file says (phones film sideways), and
    stretched where pixels are no squares; a cover picture is no video. A bare array has no rate: it
    is taken to have `fps`, else 1 a second.

    What is returned is a `Film`: frames are turned to RGB when a tokenizer takes them. Up to 64 MiB
    of decoded frames are kept for that; those of a larger clip are decoded once more.

    Args:
        start: second of the first frame.
        seconds: how long the clip may be; None: to the end.
        fps: frames a second to keep, each the one shown at that moment; None: all.
        max_frames: at most so many, the first; with a long video set `fps` or `seconds` too.
        shorter: frames are scaled while decoding so that the shorter side has so many pixels at
            most, which saves memory; None: as they are.
        max_pixels: larger frames are refused.

    Raises:
        UnreadableError: no such file, no video, no picture stream, or no frame in the span.
    """

    strings_are_paths = True

    def __init__(
        self,
        *,
        start: float = 0.0,
        seconds: float | None = None,
        fps: float | None = None,
        max_frames: int = 128,
        shorter: int | None = None,
        max_pixels: int = 178_956_970,
    ):
        if start < 0:
            raise ValueError(f"start must not be negative, got {start}")
        for name, value in {"seconds": seconds, "fps": fps, "shorter": shorter}.items():
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        for name, least in {"max_frames": max_frames, "max_pixels": max_pixels}.items():
            if least < 1:
                raise ValueError(f"{name} must be at least 1, got {least}")
        self.span = Span(start=start, seconds=seconds, fps=fps, max_frames=max_frames)
        self.shorter = shorter
        self.max_pixels = max_pixels

    def paths_in(self, value: Any) -> list[str]:
        """Return the path of a file, unless the frames are there."""
        held = isinstance(value, Mapping) and value.get("frames") is not None
        return [] if held else super().paths_in(value)

    def __call__(self, value: Any) -> Clip:
        """Return the clip.

        Raises:
            UnreadableError: why the record can't be used.
        """
        if isinstance(value, Clip):
            return value
        if isinstance(value, Mapping) and value.get("frames") is not None:
            return self._array(value["frames"], value.get("fps"))
        value = bytes_or_path(value, "video", others=("frames",))
        if isinstance(value, Path):
            try:
                found, folder = value.is_file(), value.is_dir()
                size = value.stat().st_size if found else 0
            except OSError as error:  # a name too long, no right to look
                raise UnreadableError(f"{str(value)!r:.80}: {error.strerror}") from error
            if not found:
                raise UnreadableError(f"{value}: {'is a directory' if folder else 'no such file'}")
            if not size:
                raise UnreadableError(f"{value} is empty (0 bytes)")
            return self._film(str(value), str(value))
        if isinstance(value, bytes):
            if not value:
                raise UnreadableError("the video is empty (0 bytes)")
            return self._film(value, "the video")
        return self._array(value, None)

    def _array(self, frames: Any, fps: Any) -> Clip:
        if fps is not None and not (isinstance(fps, int | float) and fps > 0):
            raise UnreadableError(f"the video's fps must be a number above 0, got {fps!r}")
        return clip_of_array(frames, fps=float(fps or self.span.fps or 1), span=self.span)

    def _film(self, source: str | bytes, name: str) -> Film:
        try:
            return self._read(Pictures(source, name, start=self.span.start))
        except StampsFall:
            return self._read(Pictures(source, name, start=self.span.start, counted=True))

    def _read(self, pictures: Pictures) -> Film:
        """Find out which frames there are, keeping them only as far as they are small."""
        numbers: list[int] = []
        seconds: list[float] = []
        kept: dict[int, Frame] | None = {}
        size: tuple[int, int] | None = None
        taken = 0
        numbered = ((second, (n, frame)) for n, (second, frame) in enumerate(pictures))
        for second, (number, frame) in self.span.choose(numbered):
            size = size or self._size(frame, pictures)  # of all, should it change on the way
            numbers.append(number)
            seconds.append(second)
            if kept is not None and number not in kept:
                taken += sum(plane.buffer_size for plane in frame.planes)
                kept[number] = frame
                if taken > HELD:
                    kept = None
        if size is None:
            if pictures.last is not None:
                raise UnreadableError(f"{pictures.name}: {no_frames(self.span, pictures.last)}")
            reason = "" if pictures.broken is None else f": {pictures.broken}"
            raise UnreadableError(f"{pictures.name} has no frame that can be decoded{reason}")
        decoded = _Frames(pictures, np.array(numbers), kept, size)
        return Film(np.array(seconds, dtype=np.float64), decoded)

    def _size(self, frame: Frame, pictures: Pictures) -> tuple[int, int]:
        height, width = frame.height, frame.width
        if height * width > self.max_pixels:
            raise UnreadableError(
                f"{pictures.name} has frames of {width} x {height} = {width * height} pixels, more "
                f"than max_pixels {self.max_pixels}"
            )
        if pictures.aspect > 1:  # pixels that are no squares are stretched, as players do
            width = round(width * min(pictures.aspect, 16))
        elif pictures.aspect < 1:
            height = round(height / max(pictures.aspect, 1 / 16))
        factor = min(1.0, (self.shorter or min(height, width)) / min(height, width))
        return max(round(height * factor), 1), max(round(width * factor), 1)


class _Frames:
    """The frames of a film as RGB, from those kept or decoded once more."""

    def __init__(
        self,
        pictures: Pictures,
        numbers: Int[np.ndarray, " frame"],
        kept: dict[int, Frame] | None,
        size: tuple[int, int],
    ):
        self.pictures, self.numbers, self.kept, self.size = pictures, numbers, kept, size

    def __call__(self, indices: Int[np.ndarray, " frame"]) -> Iterator[np.ndarray]:
        wanted = self.numbers[indices].tolist()
        source: Iterator[tuple[int, Frame]]
        if self.kept is None:
            source = ((number, each) for number, (_, each) in enumerate(self.pictures))
        else:
            source = iter(self.kept.items())
        number, frame = -1, None
        for goal in wanted:
            while number < goal:
                number, frame = next(source, (goal + 1, None))
            if frame is None or number != goal:
                raise UnreadableError(f"{self.pictures.name} changed while it was read")
            yield pixels_of(frame, self.size)
