"""Decoding video by PyAV: frames with their seconds, turned and mirrored as the file says.

The only module that imports PyAV: its source is under BSD, its wheels bundle x264 and x265 (GPL).
"""

import io
from collections import deque
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import Type
from av.stream import Disposition

from polymodal import UnreadableError
from polymodal_video.clip import SLACK

NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# AVI stores no time of presentation: what FFmpeg makes up is late by a frame, or out of order.
WITHOUT_STAMPS = ("avi",)
Frame = VideoFrame
ERRORS = (av.error.FFmpegError, OSError, ValueError)


class StampsFall(Exception):
    """The stream's stamps do not rise from frame to frame: times have to be counted."""


class Pictures:
    """The decoded frames of a file's first film with their seconds, once.

    Seconds count from the container's start, as those of the sound beside the film do. Decoding
    begins at the key frame before `start` where the file can be searched for it, else at the
    beginning. Damage ends it early; `broken` then says why, and `last` is the second of the last
    frame that came.

    Args:
        source: a path, or the file's bytes.
        name: of the file, for messages.
        start: second from which frames are wanted.
        counted: whether times follow from the order of frames instead of their stamps.
    """

    def __init__(self, source: str | bytes, name: str, *, start: float, counted: bool = False):
        self.source = source
        self.name = name
        self.start = start
        self.counted = counted
        self.broken: Exception | None = None
        self.last: float | None = None
        self.aspect = 1.0  # of a pixel: width / height

    def __iter__(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield the second and the frame.

        Raises:
            UnreadableError: no video that FFmpeg can read, or no film in it.
            StampsFall: the frames have to be counted, from the beginning.
        """
        if self.start and not self.counted:
            with self._opened() as container:
                stream = self._film(container)
                # The order of unstamped pictures is known from the beginning on alone.
                lost = _unstamped(container) and stream.codec_context.has_b_frames
                if stream.start_time is not None and not lost and self._seek(container, stream):
                    frames = self._decoded(container, stream)
                    first = next(frames, None)
                    # Without a key frame at its head, some frames would be lost or be rubbish.
                    if first and first[1].key_frame and first[0] <= self.start + SLACK:
                        yield first
                        yield from frames
                        return
        self.broken = self.last = None
        with self._opened() as container:  # anew: not every format can be wound back
            yield from self._decoded(container, self._film(container))

    def _opened(self) -> Any:
        source = io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source
        try:
            return av.open(source, mode="r", metadata_errors="replace")
        except ERRORS as error:
            raise UnreadableError(
                f"{self.name} is not a video that FFmpeg can read: {error}"
            ) from error

    def _film(self, container: Any) -> Any:
        films = [s for s in container.streams.video if not s.disposition & NO_FILM]
        if not films:
            cover = " (a cover picture is none)" if container.streams.video else ""
            raise UnreadableError(f"{self.name} has no video stream{cover}")
        stream = films[0]
        if stream.codec_context is None:
            raise UnreadableError(f"{self.name}: FFmpeg has no decoder for its video")
        self.aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        return stream

    def _seek(self, container: Any, stream: Any) -> bool:
        offset = int((self.start + _origin(container)) / stream.time_base)
        try:
            container.seek(offset, stream=stream, backward=True)
        except ERRORS:
            return False
        return True

    def _decoded(self, container: Any, stream: Any) -> Iterator[tuple[float, VideoFrame]]:
        origin = _origin(container)
        step = 1 / float(_rate(stream))
        in_order = _unstamped(container) and not self.counted
        second: float | None = None
        waiting: deque[float] = deque()  # times of decoding of what has not come out yet
        try:
            for packet in container.demux(stream):
                if packet.size and packet.dts is not None:
                    waiting.append(float(packet.dts * packet.time_base) - origin)
                for frame in packet.decode():
                    decoding = waiting.popleft() if waiting else None
                    stamp = None if frame.pts is None else float(frame.pts * frame.time_base)
                    if in_order:
                        # One frame comes out for each that goes in, in another order: the n-th
                        # shown has the n-th time of decoding.
                        moment = decoding
                    elif self.counted or stamp is None:
                        moment = None
                    else:
                        moment = stamp - origin
                    if moment is None:
                        moment = 0.0 if second is None else second + step
                    if second is not None and moment <= second:
                        raise StampsFall
                    second = moment
                    if frame.is_corrupt:
                        continue
                    self.last = second
                    yield second, frame
        except ERRORS as error:
            self.broken = error


def _unstamped(container: Any) -> bool:
    return container.format.name in WITHOUT_STAMPS


def _origin(container: Any) -> float:
    """Return the container's start in seconds; the same rule stands in `polymodal_audio.decoding`.

    What lies before 0 is what a sound decoder needs to warm up, unless pictures lie there too.
    """
    start = (container.start_time or 0) / av.time_base
    if start >= 0:
        return start
    shown = [s.start_time * s.time_base for s in container.streams.video if s.start_time]
    return float(min([0, *shown]))


def _rate(stream: Any) -> Any:
    """Return frames a second; of a bare stream what its own header says, if anything."""
    if stream.start_time is None and stream.codec_context.framerate:
        return stream.codec_context.framerate
    return stream.average_rate or 25


def pixels_of(frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Return a frame at (height, width), then turned and mirrored by its display matrix."""
    height, width = size
    pixels = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].astype(np.int64)
    if a * d == b * c:  # it would flatten the picture
        return pixels
    # A pixel at (x, y) is shown at (a x + c y, b x + d y), moved into view.
    if abs(a) >= abs(b):
        down, right = d, a
    else:
        pixels = pixels.swapaxes(0, 1)
        down, right = b, c
    turned = pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
    return np.ascontiguousarray(turned)
