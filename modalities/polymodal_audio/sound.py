"""The reader of sound: any file, bytes or array to one channel at one rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Num

from polymodal.errors import UnreadableError
from polymodal.files import bytes_or_path
from polymodal.tokenizer import Reader
from polymodal_audio.decoding import decode

MOST_CHANNELS = 64
RATES = range(100, 10_000_001)  # a broken header would else ask for gigabytes of resampling


@dataclass(frozen=True, eq=False)
class Waveform:
    """One channel of sound: samples, mostly within [-1, 1], and how many there are a second."""

    samples: Float[np.ndarray, " time"]  # float32
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 1:
            raise ValueError(f"samples must be [time], got shape {self.samples.shape}")
        if self.rate < 1:
            raise ValueError(f"rate must be at least 1, got {self.rate}")

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


class SoundReader(Reader):
    """Reads a sound file, resamples it and mixes its channels.

    Takes a path; bytes; `{"path", "bytes"}`; an array [time] or [channel, time]; `{"array",
    "sampling_rate"}`; or a `Waveform`. An array that comes without a rate is taken to have `rate`
    already. Integers are scaled to [-1, 1). Files are told apart by content, not by extension:
    wav, flac, ogg, mp3, aiff and more by soundfile, m4a, aac and the sound of videos by PyAV where
    it is installed.

    Args:
        rate: samples a second to resample to (soxr, high quality); None keeps each file's own.
        channels: "mean" of all channels, the "first", or the number of one.
        start: seconds to skip; what lies before is not decoded.
        seconds: the most to read from there; None reads to the end.
    """

    strings_are_paths = True

    def __init__(
        self,
        *,
        rate: int | None = 16000,
        channels: Literal["mean", "first"] | int = "mean",
        start: float = 0.0,
        seconds: float | None = None,
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
        channels, rate = self._load(value)
        if channels.shape[1] == 0:
            raise UnreadableError("the sound has no samples")
        if not np.isfinite(channels).all():
            raise UnreadableError("the sound has samples that are NaN or infinite")
        if rate not in RATES:
            raise UnreadableError(f"a sound of {rate} samples a second is no sound")
        samples = self._mix(channels)
        if self.rate is not None and rate != self.rate:
            samples = _resampled(samples, rate, self.rate)
            rate = self.rate
        return Waveform(np.ascontiguousarray(samples, dtype=np.float32), rate)

    def _load(self, value: Any) -> tuple[Float[np.ndarray, "channel time"], int]:
        if isinstance(value, Mapping):
            if value.get("array") is not None:
                rate = value.get("sampling_rate") or self.rate
                return self._window(_channels(value["array"]), rate)
            keys = sorted(map(str, value))
            value = bytes_or_path(value)
            if value is None:
                raise UnreadableError(
                    "a sound given as a mapping needs 'bytes', 'path' or 'array', got the keys "
                    f"{keys}"
                )
        if isinstance(value, Waveform):
            return self._window(_channels(value.samples), value.rate)
        if isinstance(value, bytes | bytearray | memoryview | str | Path):
            source = Path(value) if isinstance(value, str) else value
            return decode(source, start=self.start, seconds=self.seconds)
        return self._window(_channels(value), self.rate)

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
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes inf: refused later
        samples = array.astype(np.float32)
        if kind == "i" and bits <= 32:
            samples = samples / np.float32(2 ** (bits - 1))
        elif kind == "u" and bits <= 32:
            samples = samples / np.float32(2 ** (bits - 1)) - np.float32(1)
    return samples


def _resampled(
    samples: Float[np.ndarray, " time"], rate: int, target: int
) -> Float[np.ndarray, " new_time"]:
    import librosa

    return librosa.resample(samples, orig_sr=rate, target_sr=target, res_type="soxr_hq")
