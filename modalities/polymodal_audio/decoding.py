"""Decoding sound files: libsndfile (soundfile) first, PyAV for what it does not know."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
import soundfile
from jaxtyping import Float

from polymodal import UnreadableError

BLOCK = 2**18  # frames read at once
PREROLL = 0.25  # seconds decoded before the start asked for
BEGINS = 2  # flag of an Ogg page

Found = TypeVar("Found")
Block = Float[np.ndarray, "channel time"]


class Track(Protocol):
    """One sound in a file, read in blocks."""

    rate: int
    frames: int | None  # as the header has it; None where nothing says

    def blocks(self, first: int, last: int | None) -> Iterator[Block]:
        """Yield the channels from frame `first` up to `last`, or to the end."""


def decode(source: bytes | Path, read: Callable[[Track], Found]) -> Found:
    """Return what `read` makes of the sound in a file, by the first library that can read it.

    Raises:
        UnreadableError: no such file, an empty one, no sound in it, or what `read` refuses.
    """
    if isinstance(source, Path):
        try:
            size = source.stat().st_size
            folder = source.is_dir()
        except (OSError, ValueError) as error:  # ValueError: half a surrogate pair in the name
            reason = getattr(error, "strerror", None) or error
            raise UnreadableError(f"{source!s:.200}: {reason}") from None
        if folder:
            raise UnreadableError(f"{source}: is a folder, not a sound file")
        name = f"{source.name}: "
    else:
        size, name = len(source), ""
    if size == 0:
        raise UnreadableError(f"{name}the file is empty")
    try:
        return read(_by_soundfile(source))
    except UnreadableError as error:
        raise UnreadableError(f"{name}{error}") from None
    except OSError as error:
        raise UnreadableError(f"{name}{error.strerror or error}") from None
    except (soundfile.SoundFileError, RuntimeError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(". ")
    try:
        return read(AvTrack(source))
    except ModuleNotFoundError:
        raise UnreadableError(
            f"{name}soundfile can't read it ({reason}); m4a and aac need PyAV: pip install av"
        ) from None
    except UnreadableError as error:
        raise UnreadableError(f"{name}not a sound file that can be read ({reason}; {error})") from (
            None
        )


def _opened(source: bytes | Path) -> BinaryIO:
    # A stream without a name: libsndfile then goes by content, never by extension.
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


class SoundFileTrack:
    """A file that libsndfile reads."""

    def __init__(self, source: bytes | Path):
        self.source = source
        with _opened(source) as stream, self._file(stream) as file:
            self.rate = int(file.samplerate)
            self.frames: int | None = int(file.frames)

    def _file(self, stream: BinaryIO) -> Any:
        # A descriptor has no name either, and libsndfile reads it without calls into Python.
        file = stream.fileno() if isinstance(self.source, Path) else stream
        return soundfile.SoundFile(file, closefd=False)

    def blocks(self, first: int, last: int | None) -> Iterator[Block]:
        """Yield the channels of some frames."""
        with _opened(self.source) as stream, self._file(stream) as file:
            if first:
                file.seek(first)
            left = (file.frames if last is None else last) - first
            while left > 0:
                asked = min(left, BLOCK)  # a broken header may promise more than memory holds
                block = file.read(asked, dtype="float32", always_2d=True)
                if len(block):
                    yield block.T
                left -= asked
                if len(block) < asked:
                    return


class Chain:
    """Ogg files one behind the other in one file: libsndfile stops after the first."""

    def __init__(self, links: list[SoundFileTrack]):
        self.links = links
        self.rate = links[0].rate
        if {link.rate for link in links} != {self.rate}:
            rates = ", ".join(str(link.rate) for link in links)
            raise UnreadableError(f"it chains sounds of several rates: {rates}")
        self.frames: int | None = sum(link.frames or 0 for link in links)

    def blocks(self, first: int, last: int | None) -> Iterator[Block]:
        """Yield the channels of some frames."""
        width = None
        for link in self.links:
            size = link.frames or 0
            if first < size and (last is None or last > 0):
                for block in link.blocks(max(first, 0), None if last is None else min(last, size)):
                    width = width or len(block)
                    if len(block) != width:
                        raise UnreadableError(
                            f"it chains sounds of {width} and of {len(block)} channels"
                        )
                    yield block
            first -= size
            last = None if last is None else last - size


def _by_soundfile(source: bytes | Path) -> Track:
    begins = _links(source)
    if len(begins) < 2:
        return SoundFileTrack(source)
    content = source if isinstance(source, bytes) else source.read_bytes()
    ends = [*begins[1:], len(content)]
    parts = [SoundFileTrack(content[a:b]) for a, b in zip(begins, ends, strict=True)]
    return Chain(parts)


def _links(source: bytes | Path) -> list[int]:
    """Return where each link of an Ogg file begins: at a first page behind others (RFC 3533)."""
    begins: list[int] = []
    with _opened(source) as stream:
        place, heads = 0, False
        while len(header := stream.read(27)) == 27 and header[:4] == b"OggS":
            if header[5] & BEGINS:
                if not heads:
                    begins.append(place)
                heads = True
            else:
                heads = False
            lengths = stream.read(header[26])
            place += 27 + header[26] + sum(lengths)
            stream.seek(place)
    return begins


class AvTrack:
    """The first sound of a file that FFmpeg reads; the only place that imports PyAV.

    Frame 0 lies at the container's start, as that of a film's pictures does: a sound that sets in
    later follows on silence.
    """

    frames: int | None = None  # containers' durations are near the truth at best

    def __init__(self, source: bytes | Path):
        import av

        self.source = source
        with _failures(), _opened(source) as stream, av.open(stream) as container:
            audio = self._audio(container)
            frame = next(container.decode(audio), None)
            if frame is None:
                raise UnreadableError("it has no samples")
            # Not the header's: with HE-AAC that may be half the rate of what is decoded.
            self.rate = int(frame.sample_rate)

    def _audio(self, container: Any) -> Any:
        if not container.streams.audio:
            raise UnreadableError("it has no sound")
        audio = container.streams.audio[0]
        if audio.codec_context is None or not audio.codec_context.sample_rate:
            raise UnreadableError("its sound is of a kind that FFmpeg has no decoder for")
        return audio

    def blocks(self, first: int, last: int | None) -> Iterator[Block]:
        """Yield the channels of some frames."""
        if first:
            pieces = self._decoded(first, last, seek=True)
            piece = next(pieces, None)
            if piece is not None:
                yield piece
                yield from pieces
                return
        yield from self._decoded(first, last, seek=False)

    def _decoded(self, first: int, last: int | None, *, seek: bool) -> Iterator[Block]:
        """Yield pieces; after a search nothing at all where it did not land before `first`."""
        import av

        yielded = False
        try:
            with _opened(self.source) as stream, av.open(stream) as container:
                audio = self._audio(container)
                origin = _origin(container)
                if seek:
                    # AAC and MP3 need some frames until what they decode is right.
                    early = max(0.0, first / self.rate - PREROLL) + origin
                    if audio.time_base is None:
                        return
                    container.seek(int(early / audio.time_base), stream=audio, backward=True)
                planar = av.AudioResampler(format="fltp")
                place: int | None = None
                for frame in container.decode(audio):
                    if place is None:
                        if frame.time is None and seek:
                            return
                        place = (
                            0 if frame.time is None else round((frame.time - origin) * self.rate)
                        )
                        if seek and place > max(0, first - round(PREROLL * self.rate / 2)):
                            return
                        if place > first:
                            end = place if last is None else min(place, last)
                            for begin in range(first, end, BLOCK):
                                size = min(BLOCK, end - begin)
                                silence = (frame.layout.nb_channels, size)
                                yield np.zeros(silence, dtype=np.float32)
                                yielded = True
                    for converted in planar.resample(frame):
                        piece = converted.to_ndarray()
                        begin = max(0, first - place)
                        stop = piece.shape[1] if last is None else max(0, last - place)
                        if begin < min(stop, piece.shape[1]):
                            yield piece[:, begin:stop]
                            yielded = True
                        place += piece.shape[1]
                    if last is not None and place >= last:
                        break
        except (av.FFmpegError, OSError, ValueError) as error:
            # ValueError: the rate or channels change midway. A broken tail keeps what came before.
            if not yielded and not seek:
                raise UnreadableError(str(getattr(error, "strerror", None) or error)) from None


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what FFmpeg raises into an UnreadableError."""
    import av

    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UnreadableError(str(getattr(error, "strerror", None) or error)) from None


def _origin(container: Any) -> float:
    """Return the container's start in seconds; the same rule stands in `polymodal_video.pictures`.

    What lies before 0 is what a sound decoder needs to warm up, unless pictures lie there too.
    """
    start = (container.start_time or 0) / 1_000_000
    if start >= 0:
        return start
    shown = [s.start_time * s.time_base for s in container.streams.video if s.start_time]
    return float(min([0, *shown]))
