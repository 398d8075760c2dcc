"""Decoding sound files: libsndfile (soundfile) first, PyAV for what it does not know."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float

from polymodal.errors import UnreadableError

BLOCK = 2**20  # frames read at once
PREROLL = 0.25  # seconds decoded before the start asked for


def decode(
    source: bytes | bytearray | memoryview | Path, *, start: float = 0.0, seconds: float | None
) -> tuple[Float[np.ndarray, "channel time"], int]:
    """Return the channels of a sound file from `start` on, at its own rate, and that rate.

    Raises:
        UnreadableError: no such file, an empty one, no sound in it, or nothing after `start`.
    """
    if isinstance(source, Path):
        try:
            size = source.stat().st_size
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            reason = getattr(error, "strerror", None) or error
            raise UnreadableError(f"{source!s:.200}: {reason}") from None
        if source.is_dir():
            raise UnreadableError(f"{source}: is a folder, not a sound file")
        name = f"{source.name}: "
    else:
        size, name = len(source), ""
    if size == 0:
        raise UnreadableError(f"{name}the file is empty")
    try:
        with _opened(source) as stream:
            # A descriptor has no name either, and libsndfile reads it without calls into Python.
            file = stream.fileno() if isinstance(source, Path) else stream
            return _by_soundfile(file, start, seconds)
    except UnreadableError as error:
        raise UnreadableError(f"{name}{error}") from None
    except OSError as error:
        raise UnreadableError(f"{name}{error.strerror or error}") from None
    except (soundfile.SoundFileError, RuntimeError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(". ")
    try:
        with _opened(source) as stream:
            return _by_av(stream, start, seconds)
    except ModuleNotFoundError:
        raise UnreadableError(
            f"{name}soundfile can't read it ({reason}); m4a and aac need PyAV: pip install av"
        ) from None
    except UnreadableError as error:
        raise UnreadableError(f"{name}not a sound file that can be read ({reason}; {error})") from (
            None
        )


def _opened(source: bytes | bytearray | memoryview | Path) -> Any:
    # A stream without a name: libsndfile then goes by content, never by extension.
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def _by_soundfile(
    source: Any, start: float, seconds: float | None
) -> tuple[Float[np.ndarray, "channel time"], int]:
    with soundfile.SoundFile(source, closefd=False) as file:
        rate = int(file.samplerate)
        first = round(start * rate)
        if first:
            if first >= file.frames:
                raise UnreadableError(
                    f"start is {start:g} s, but the sound lasts {file.frames / rate:g} s"
                )
            file.seek(first)
        left = file.frames if seconds is None else max(1, round(seconds * rate))
        # Block by block: a broken header may promise more than memory holds.
        blocks: list[np.ndarray] = []
        while left > 0 or not blocks:
            asked = min(left, BLOCK)
            block = file.read(asked, dtype="float32", always_2d=True)
            blocks.append(block)
            left -= asked
            if len(block) < asked:
                break
    whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return whole.T, rate


def _by_av(
    stream: Any, start: float, seconds: float | None
) -> tuple[Float[np.ndarray, "channel time"], int]:
    """The same by FFmpeg; the only place that imports PyAV."""
    import av

    pieces: list[np.ndarray] = []
    try:
        with av.open(stream) as container:
            if not container.streams.audio:
                raise UnreadableError("it has no sound")
            audio = container.streams.audio[0]
            if audio.codec_context is None or not audio.codec_context.sample_rate:
                raise UnreadableError("its sound is of a kind that FFmpeg has no decoder for")
            rate = int(audio.codec_context.sample_rate)
            first = round(start * rate)
            last = None if seconds is None else first + max(1, round(seconds * rate))
            if first and audio.time_base is not None:
                # Lands before the time asked for, and what comes before it is cut off below. AAC
                # and MP3 need some frames until what they decode is right.
                early = max(0.0, start - PREROLL)
                container.seek(int(early / audio.time_base), stream=audio, backward=True)
            planar = av.AudioResampler(format="fltp")
            place: int | None = None
            for frame in container.decode(audio):
                if place is None:
                    place = 0 if frame.time is None else round(frame.time * rate)
                for converted in planar.resample(frame):
                    piece = converted.to_ndarray()
                    begin = max(0, first - place)
                    end = piece.shape[1] if last is None else max(0, last - place)
                    if begin < min(end, piece.shape[1]):
                        pieces.append(piece[:, begin:end])
                    place += piece.shape[1]
                if last is not None and place >= last:
                    break
    except (av.FFmpegError, ValueError) as error:  # ValueError: the rate or channels change midway
        if not pieces:  # a broken tail keeps what came before it
            raise UnreadableError(str(getattr(error, "strerror", None) or error)) from None
    if not pieces:
        raise UnreadableError(f"it has no samples from {start:g} s on")
    return np.concatenate(pieces, axis=1), rate
