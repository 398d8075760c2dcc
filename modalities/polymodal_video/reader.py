"""Reading video: whatever a record holds, as RGB frames with their times. The one user of PyAV.

PyAV's source is under BSD, its wheels bundle x264 and x265 (GPL): nothing else imports it.
"""

import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

from polymodal import UnreadableError
from polymodal.files import bytes_or_path
from polymodal.tokenizer import Reader
from polymodal_video.clip import SLACK, Clip, Span, clip_of_array, no_frames


class ClipReader(Reader):
    """Reads a path, bytes, `{"path", "bytes"}`, an array or `{"frames", "fps"}` as a `Clip`.

    Times come from the stream's own stamps, so a variable frame rate is kept, or made even by
    `fps`. Decoding starts at the key frame before `start` and ends with the last frame wanted. Of
    a file that breaks off, the frames before the break are taken. Frames are turned as the file
    says (phones film sideways). A bare array has no rate: it is taken to have `fps`, else 1 a
    second.

    Args:
        start: second of the first frame.
        seconds: how long the clip may be; None: to the end.
        fps: frames a second to keep, each the one shown at that moment; None: all.
        max_frames: at most so many, the first; with a long video set `fps` or `seconds` too.
        shorter: frames are scaled while decoding so that the shorter side has so many pixels at
            most, which saves memory; None: as they are.

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
    ):
        if start < 0:
            raise ValueError(f"start must not be negative, got {start}")
        for name, value in {"seconds": seconds, "fps": fps, "shorter": shorter}.items():
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {max_frames}")
        self.span = Span(start=start, seconds=seconds, fps=fps, max_frames=max_frames)
        self.shorter = shorter

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
        if isinstance(value, Mapping):
            if value.get("frames") is not None:
                return self._array(value["frames"], value.get("fps"))
            value = bytes_or_path(value)
            if value is None:
                raise UnreadableError("the video has neither bytes, a path nor frames")
        if isinstance(value, str | os.PathLike):
            path = Path(value)
            try:
                there = path.is_file()
            except OSError as error:  # a name that is too long, say
                raise UnreadableError(f"{path!s:.200}: {error.strerror}") from error
            if not there:
                reason = "is a directory" if path.is_dir() else "no such file"
                raise UnreadableError(f"{path}: {reason}")
            if not path.stat().st_size:
                raise UnreadableError(f"{path} is empty (0 bytes)")
            return self._decode(str(path), str(path))
        if isinstance(value, bytes | bytearray | memoryview):
            if not value:
                raise UnreadableError("the video is empty (0 bytes)")
            return self._decode(io.BytesIO(value), "the video")
        return self._array(value, None)

    def _array(self, frames: Any, fps: Any) -> Clip:
        if fps is not None and not (isinstance(fps, int | float) and fps > 0):
            raise UnreadableError(f"the video's fps must be a number above 0, got {fps!r}")
        return clip_of_array(frames, fps=float(fps or self.span.fps or 1), span=self.span)

    def _decode(self, source: str | io.BytesIO, name: str) -> Clip:
        try:
            container = av.open(source, mode="r", metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UnreadableError(f"{name} is not a video that FFmpeg can read: {error}") from error
        with container:
            if not container.streams.video:
                raise UnreadableError(f"{name} has no video stream")
            pictures = Pictures(container, self.span.start)
            frames: list[np.ndarray] = []
            seconds: list[float] = []
            size: tuple[int, int] | None = None
            for second, frame in self.span.choose(pictures):
                size = size or self._size(frame)  # of all, should it change on the way
                frames.append(_pixels(frame, size))
                seconds.append(second)
        if frames:
            return Clip(np.stack(frames), np.array(seconds, dtype=np.float64))
        if pictures.last is not None:
            raise UnreadableError(f"{name}: {no_frames(self.span, pictures.last)}")
        reason = "" if pictures.broken is None else f": {pictures.broken}"
        raise UnreadableError(f"{name} has no frame that can be decoded{reason}")

    def _size(self, frame: av.VideoFrame) -> tuple[int, int]:
        height, width = frame.height, frame.width
        factor = min(1.0, (self.shorter or min(height, width)) / min(height, width))
        return max(round(height * factor), 1), max(round(width * factor), 1)


class Pictures:
    """The decoded frames of a container's first video stream with their seconds, once.

    Seeks to the key frame before `start`. Damage ends it early; `broken` then says why, and `last`
    is the second of the last frame that came.
    """

    def __init__(self, container: Any, start: float):
        self.container = container
        self.start = start
        self.broken: Exception | None = None
        self.last: float | None = None

    def __iter__(self) -> Iterator[tuple[float, av.VideoFrame]]:
        stream = self.container.streams.video[0]
        origin = stream.start_time or 0
        if self.start and self._seek(origin + int(self.start / stream.time_base), stream):
            frames = self._decoded(stream, origin)
            first = next(frames, None)
            if first is not None and first[0] <= self.start + SLACK:
                yield first
                yield from frames
                return
            # An index that leads too far, or none: from the beginning, then.
            self.broken = self.last = None
            self._seek(origin, stream)
        yield from self._decoded(stream, origin)

    def _seek(self, offset: int, stream: Any) -> bool:
        try:
            self.container.seek(offset, stream=stream, backward=True)
        except (av.error.FFmpegError, OSError):
            return False
        return True

    def _decoded(self, stream: Any, origin: int) -> Iterator[tuple[float, av.VideoFrame]]:
        step = 1 / float(stream.average_rate or 25)
        second = -step
        try:
            for frame in self.container.decode(stream):
                # Without a stamp, a frame follows the one before at the stream's average rate.
                stamp = frame.pts
                second = second + step if stamp is None else float(
                    (stamp - origin) * frame.time_base
                )  # fmt: skip
                if frame.is_corrupt:
                    continue
                self.last = second
                yield second, frame
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.broken = error


def _pixels(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    # A turned frame has its sides exchanged after this; all of a stream are turned alike.
    height, width = size
    pixels = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as np.rot90 counts
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
