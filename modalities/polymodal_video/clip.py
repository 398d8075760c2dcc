"""A clip: frames and when each is shown; and which frames of a stream to keep."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int, UInt8

from polymodal import UnreadableError
from polymodal_vision import to_levels

Frame = TypeVar("Frame")
SLACK = 1e-4  # seconds: time bases are fractions, and 0.1 s is none of them


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames, and the second each is shown, counted from the beginning of its video."""

    frames: UInt8[np.ndarray, "frame height width 3"]
    seconds: Float[np.ndarray, " frame"]

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.seconds):
            raise ValueError(f"{len(self.seconds)} times for {len(self.frames)} frames")

    def __len__(self) -> int:
        return len(self.seconds)

    def take(
        self, indices: Int[np.ndarray, " frame"]
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Yield some frames one by one; `indices` must not fall.

        Raises:
            UnreadableError: a frame of a file that can't be decoded any more.
        """
        for index in indices:
            yield self.frames[index]


class Film(Clip):
    """A clip whose frames stay in their file until they are asked for.

    Args:
        seconds: when each frame is shown.
        decode: yields the frames of ascending indices as RGB, upright.
    """

    def __init__(
        self,
        seconds: Float[np.ndarray, " frame"],
        decode: Callable[[Int[np.ndarray, " frame"]], Iterator[np.ndarray]],
    ):
        object.__setattr__(self, "seconds", seconds)
        object.__setattr__(self, "_decode", decode)

    @cached_property
    def frames(self) -> UInt8[np.ndarray, "frame height width 3"]:  # type: ignore[override]
        """All frames at once."""
        return np.stack(list(self.take(np.arange(len(self)))))

    def take(
        self, indices: Int[np.ndarray, " frame"]
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Yield some frames one by one; `indices` must not fall.

        Raises:
            UnreadableError: a frame that can't be decoded any more.
        """
        yield from self._decode(indices)  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which frames to keep: those of `seconds` from `start` on, at most `max_frames`.

    With `fps` there is a frame for every 1 / fps seconds, the one shown at that moment, however
    unevenly the frames of the video lie; without, every frame is kept.
    """

    start: float = 0.0
    seconds: float | None = None
    fps: float | None = None
    max_frames: int = 128

    def choose(self, frames: Iterable[tuple[float, Frame]]) -> Iterator[tuple[float, Frame]]:
        """Yield the frames to keep and their seconds, reading no further than needed.

        `frames` come with the second each is first shown, ascending.
        """
        chosen = self._every(frames) if self.fps is None else self._ticks(frames, self.fps)
        for count, item in enumerate(chosen, start=1):
            yield item
            if count >= self.max_frames:
                return

    @property
    def end(self) -> float:
        """The second before which the last frame is shown."""
        return float("inf") if self.seconds is None else self.start + self.seconds

    def _every(self, frames: Iterable[tuple[float, Frame]]) -> Iterator[tuple[float, Frame]]:
        for second, frame in frames:
            if second >= self.end - SLACK:
                return
            if second >= self.start - SLACK:
                yield second, frame

    def _ticks(
        self, frames: Iterable[tuple[float, Frame]], fps: float
    ) -> Iterator[tuple[float, Frame]]:
        ticks = 0
        shown: Frame | None = None  # the frame on screen before the one just read
        second = -1.0
        for second, frame in frames:
            while shown is not None and (tick := self.start + ticks / fps) < second - SLACK:
                if tick >= self.end - SLACK:
                    return
                yield tick, shown
                ticks += 1
            shown = frame
        # The last frame is on screen at its own second; how much longer, nothing says.
        while shown is not None and (tick := self.start + ticks / fps) <= second + SLACK:
            if tick >= self.end - SLACK:
                return
            yield tick, shown
            ticks += 1


def clip_of_array(values: Any, *, fps: float, span: Span) -> Clip:
    """Return an array or nested list of frames at an even rate as the clip that `span` keeps.

    Frames are [T, H, W] or [T, H, W, 1|3], in the types that images may have.

    Raises:
        UnreadableError: a shape, type or range that is no video, or no frames to keep.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise UnreadableError(f"the video is no array: {error}") from error
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3):
        hint = ""
        if array.ndim == 4 and array.shape[1] in (1, 3):
            hint = "; it looks like channels first: move that axis to the end"
        raise UnreadableError(
            "a video array is [frame, height, width] or [frame, height, width, 1 or 3], got shape "
            f"{tuple(array.shape)}{hint}"
        )
    if array.size == 0:
        raise UnreadableError(f"the video has no frames or no pixels: shape {tuple(array.shape)}")
    chosen = list(span.choose((i / fps, i) for i in range(len(array))))
    if not chosen:
        raise UnreadableError(no_frames(span, (len(array) - 1) / fps))
    frames = to_levels(array[[index for _, index in chosen]])
    if frames.shape[3] == 1:
        frames = np.repeat(frames, 3, axis=3)
    return Clip(frames, np.array([second for second, _ in chosen], dtype=np.float64))


def no_frames(span: Span, last: float) -> str:
    """Return why nothing was kept of a video whose last frame is shown at a second."""
    return (
        f"there is no frame from second {span.start:g} to {span.end:g}: the last is at {last:.3g} s"
    )
