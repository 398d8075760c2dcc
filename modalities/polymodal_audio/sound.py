"""The reader of sound: any file, bytes or array to one channel at one rate."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from jaxtyping import Float, Num

from polymodal import Reader, UnreadableError, bytes_or_path
from polymodal_audio.decoding import Track, decode

MOST_CHANNELS = 64
LONG = 2**21  # samples of each channel above which a file is not decoded at once
SETTLING = 4000  # samples that a resampler takes, amply, until what came before is forgotten
RATES = range(100, 10_000_001)  # a broken header would else ask for gigabytes of resampling


@dataclass(frozen=True, eq=False)
class Waveform:
    """One channel of sound: samples, mostly within [-1, 1], and how many there are a second."""

    samples: Float[np.ndarray, " time"]  # float32
    rate: int
    whole: int | None = None  # samples of the sound it is a stretch of; None: it is whole

    def __post_init__(self) -> None:
        if self.samples.ndim != 1:
            raise ValueError(f"samples must be [time], got shape {self.samples.shape}")
        if self.rate < 1:
            raise ValueError(f"rate must be at least 1, got {self.rate}")

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self) / self.rate

    def __len__(self) -> int:
        return len(self.samples)

    def cut(self, start: int, stop: int) -> Float[np.ndarray, " time"]:
        """Return the samples from one place up to another, by themselves.

        Raises:
            UnreadableError: a stretch of a file that can't be decoded.
        """
        return self.samples[start:stop].copy()


class Recording(Waveform):
    """A long sound that stays in its file; `cut` decodes no more than the stretch asked for.

    Args:
        rate: samples a second.
        length: how many samples there are.
        decode: returns those from one place up to another.
    """

    def __init__(self, rate: int, length: int, decode: Callable[[int, int], np.ndarray]):
        object.__setattr__(self, "rate", rate)
        object.__setattr__(self, "_length", length)
        object.__setattr__(self, "_decode", decode)

    def __len__(self) -> int:
        return int(self._length)  # type: ignore[attr-defined]

    @cached_property
    def samples(self) -> Float[np.ndarray, " time"]:  # type: ignore[override]
        """All samples at once."""
        return self.cut(0, len(self))

    def cut(self, start: int, stop: int) -> Float[np.ndarray, " time"]:
        """Return the samples from one place up to another.

        Raises:
            UnreadableError: they can't be decoded, or are NaN or infinite.
        """
        found: np.ndarray = self._decode(start, min(stop, len(self)))  # type: ignore[attr-defined]
        return found


class SoundReader(Reader):
    """Reads a sound file, resamples it and mixes its channels.

    Takes a path; bytes; `{"path", "bytes"}`; an array [time] or [channel, time]; `{"array",
    "sampling_rate"}`; or a `Waveform`. An array that comes without a rate is taken to have `rate`
    already. Integers of 8, 16 and 32 bits are scaled to [-1, 1) by their type; those of 64 bits,
    and lists of integers, are taken for samples only where all lie in -1 to 1. Files are told apart
    by content, not by extension: wav, flac, ogg (all links of a chain), mp3, aiff and more by
    soundfile, m4a, aac and the sound of videos by PyAV where it is installed. Seconds count from
    the container's start, as those of `video.clip` do.

    Of a file with more than 2 million samples a `Recording` is returned, which decodes what the
    tokenizer takes of it: a stretch from the beginning is the same to the bit as if all were
    decoded, a resampled one from elsewhere to 1e-6.

    Args:
        rate: samples a second to resample to (soxr, high quality); None keeps each file's own.
        channels: "mean" of all channels, the "first", or the number of one.
        start: seconds to skip; what lies before is not decoded.
        seconds: the most to read from there; None reads to the end.
        max_seconds: a file of which more has to be decoded is refused, so that a small one can't
            fill the memory; six hours by default.

    Raises:
        ValueError: a number out of range.
    """

    strings_are_paths = True

    def __init__(
        self,
        *,
        rate: int | None = 16000,
        channels: Literal["mean", "first"] | int = "mean",
        start: float = 0.0,
        seconds: float | None = None,
        max_seconds: float = 21600.0,
    ):
        if rate is not None and rate < 1:
            raise ValueError(f"rate must be at least 1 (or null to keep the file's), got {rate}")
        if isinstance(channels, str):
            if channels not in ("mean", "first"):
                raise ValueError(f"channels must be mean, first or a number, got {channels!r}")
        elif channels < 0:
            raise ValueError(f"channels must be mean, first or a number from 0, got {channels}")
        if start < 0:
            raise ValueError(f"start must not be negative, got {start}")
        if seconds is not None and seconds <= 0:
            raise ValueError(f"seconds must be above 0, got {seconds}")
        if max_seconds <= 0:
            raise ValueError(f"max_seconds must be above 0, got {max_seconds}")
        self.max_seconds = max_seconds
        self.rate, self.channels = rate, channels
        self.start, self.seconds = start, seconds

    def paths_in(self, value: Any) -> list[str]:
        """Return the path of a file, unless the samples are there."""
        held = isinstance(value, Mapping) and value.get("array") is not None
        return [] if held else super().paths_in(value)

    def __call__(self, value: Any) -> Waveform:
        """Return the sound of a path, bytes, array or mapping.

        Raises:
            UnreadableError: no sound file, no samples, NaN or infinite samples, no such channel,
                or nothing left after `start`.
        """
        if not (isinstance(value, Mapping) and value.get("array") is not None):
            value = bytes_or_path(value, "sound", others=("array",))
        if isinstance(value, bytes | Path):
            return decode(value, self._read)
        if isinstance(value, Mapping):
            channels, rate = _channels(value["array"]), value.get("sampling_rate") or self.rate
        elif isinstance(value, Waveform):
            channels, rate = _channels(value.samples), value.rate
        else:
            channels, rate = _channels(value), self.rate
        channels, rate = self._window(channels, rate)
        if channels.shape[1] == 0:
            raise UnreadableError("the sound has no samples")
        return Waveform(self._resampled([channels], rate), self.rate or rate)

    def _read(self, track: Track) -> Waveform:
        """Return the sound of a file, all of it or, where that is much, a promise of it."""
        _check_rate(track.rate)
        first = round(self.start * track.rate)
        last = None if self.seconds is None else first + max(1, round(self.seconds * track.rate))
        if first and track.frames is not None and first >= track.frames:
            raise UnreadableError(
                f"start is {self.start:g} s, but the sound lasts {track.frames / track.rate:g} s"
            )
        rate = self.rate or track.rate
        if track.frames is not None:
            end = track.frames if last is None else min(last, track.frames)
            # A header that promises more than there is would send a random cut into nothing.
            if end - first > LONG and any(b.shape[1] for b in track.blocks(end - 1, end)):
                length = math.ceil((end - first) * (float(rate) / track.rate))
                return Recording(rate, length, _Stretch(self, track, first, end))
        samples = self._resampled(track.blocks(first, last), track.rate)
        if not len(samples):
            where = f" from {self.start:g} s on" if first else ""
            raise UnreadableError(f"it has no samples{where}: the sound has no samples")
        return Waveform(samples, rate)

    def _resampled(
        self, blocks: Iterable[Float[np.ndarray, "channel time"]], rate: int
    ) -> Float[np.ndarray, " time"]:
        """Return blocks end to end in one channel at the reader's rate, mixing each as it comes."""
        _check_rate(rate)
        target = self.rate or rate
        stream = None
        if target != rate:
            import soxr

            stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
        parts = [np.zeros(0, dtype=np.float32)]
        count = 0
        for block in blocks:
            if not np.isfinite(block).all():
                raise UnreadableError("the sound has samples that are NaN or infinite")
            count += block.shape[1]
            if count > self.max_seconds * rate:
                raise UnreadableError(
                    f"the sound is longer than max_seconds {self.max_seconds:g}: read less of it "
                    "with `seconds`"
                )
            mixed = np.array(self._mix(block), dtype=np.float32)  # by itself, without its block
            parts.append(mixed if stream is None else stream.resample_chunk(mixed))
        if stream is None:
            return parts[1] if len(parts) == 2 else np.concatenate(parts)
        parts.append(stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
        whole = np.concatenate(parts)
        length = math.ceil(count * (float(target) / rate))  # as librosa.resample counts
        return whole[:length] if len(whole) >= length else np.pad(whole, (0, length - len(whole)))

    def _window(
        self, channels: Float[np.ndarray, "channel time"], rate: int | None
    ) -> tuple[Float[np.ndarray, "channel time"], int]:
        if rate is None or rate < 1:
            raise UnreadableError("an array of samples needs its 'sampling_rate'")
        first = round(self.start * rate)
        if first and first >= channels.shape[1]:
            raise UnreadableError(
                f"start is {self.start:g} s, but the sound lasts {channels.shape[1] / rate:g} s"
            )
        last = None if self.seconds is None else first + max(1, round(self.seconds * rate))
        return channels[:, first:last], int(rate)

    def _mix(self, channels: Float[np.ndarray, "channel time"]) -> Float[np.ndarray, " time"]:
        if self.channels == "mean":
            return channels[0] if len(channels) == 1 else channels.mean(axis=0)
        chosen = 0 if self.channels == "first" else int(self.channels)
        if chosen >= len(channels):
            raise UnreadableError(
                f"channels is {chosen}, but the sound has {len(channels)} (counted from 0)"
            )
        return channels[chosen]


def _channels(value: Any) -> Float[np.ndarray, "channel time"]:
    try:
        array: Num[np.ndarray, "..."] = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UnreadableError(f"this is no array of samples: {error}") from None
    if array.dtype.kind not in "fiu":
        raise UnreadableError(
            f"a sound must be a path, bytes or numbers, got {type(value).__name__} of {array.dtype}"
        )
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2:
        raise UnreadableError(f"samples must be [time] or [channel, time], got {array.shape}")
    if array.shape[0] > MOST_CHANNELS:
        raise UnreadableError(
            f"samples must be [channel, time]; {array.shape[0]} channels are more than "
            f"{MOST_CHANNELS}: transpose the array"
        )
    if array.shape[0] == 0:
        raise UnreadableError("the sound has no channels")
    kind, bits = array.dtype.kind, 8 * array.dtype.itemsize
    if kind in "iu" and bits == 64 and array.size:  # what lists of whole numbers become, too
        low, high = int(array.min()), int(array.max())
        if low < -1 or high > 1:
            raise UnreadableError(
                f"whole numbers of 64 bits, or a list of them, have no scale, got {low} to {high}: "
                "store samples as int16, which is scaled by its type, or as floats within -1 to 1"
            )
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes inf: refused later
        samples = array.astype(np.float32)
        if kind == "i" and bits <= 32:
            samples = samples / np.float32(2 ** (bits - 1))
        elif kind == "u" and bits <= 32:
            samples = samples / np.float32(2 ** (bits - 1)) - np.float32(1)
    return samples


def _check_rate(rate: int) -> None:
    if rate not in RATES:
        raise UnreadableError(f"a sound of {rate} samples a second is no sound")


class _Stretch:
    """Decodes part of a long file for a `Recording`."""

    def __init__(self, reader: SoundReader, track: Track, first: int, last: int):
        self.reader, self.track, self.first, self.last = reader, track, first, last

    def __call__(self, start: int, stop: int) -> Float[np.ndarray, " time"]:
        own = self.track.rate
        target = self.reader.rate or own
        skipped, begin, end = start, start, stop
        if target != own:
            common = math.gcd(own, target)
            down, up = own // common, target // common
            # Where both rates have a sample at the same moment, well before what is wanted.
            steps = max(0, start - SETTLING) // up
            begin, skipped = steps * down, steps * up
            end = math.ceil((stop + SETTLING) * own / target)
        try:
            blocks = self.track.blocks(self.first + begin, min(self.first + end, self.last))
            found = self.reader._resampled(blocks, own)[start - skipped : stop - skipped]
        except (soundfile.SoundFileError, RuntimeError, OSError) as error:
            raise UnreadableError(f"the sound can't be decoded: {error}") from error
        if len(found) < stop - start:
            raise UnreadableError(
                f"the sound breaks off before second {stop / target:g} of {self.last / own:g}"
            )
        return found.copy()
