"""Synthesised sounds with captions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal_demo.drawn import DrawnSource, pick

RATE, SECONDS = 8000, 0.5
PITCHES = {"low": (300.0, 600.0), "high": (1200.0, 2000.0)}  # Hz
LEVELS = {"quiet": (0.08, 0.2), "loud": (0.4, 0.8)}  # peak
_CAPTIONS = (
    "a {level} {kind}, {pitch} in pitch",
    "a {pitch} {kind}",
    "{kind}, {pitch} and {level}",
    "the sound of a {pitch} {kind}",
    "you hear a {pitch}, {level} {kind}",
)

Wave = Float[np.ndarray, " time"]


def _tone(rng: np.random.Generator, time: Wave, pitch: float) -> Wave:
    return np.sin(2 * np.pi * pitch * time)


def _chirp(time: Wave, pitch: float, octaves: float) -> Wave:
    """Pass through `pitch` halfway, gliding by so many octaves in all."""
    rate = octaves / time[-1]
    start = pitch * 2 ** (-octaves / 2)
    phase = start * (2 ** (rate * time) - 1) / (rate * np.log(2))
    return np.sin(2 * np.pi * phase)


def _rising(rng: np.random.Generator, time: Wave, pitch: float) -> Wave:
    return _chirp(time, pitch, rng.uniform(0.7, 1.3))


def _falling(rng: np.random.Generator, time: Wave, pitch: float) -> Wave:
    return _chirp(time, pitch, -rng.uniform(0.7, 1.3))


def _burst(rng: np.random.Generator, time: Wave, pitch: float) -> Wave:
    """Noise of a band half an octave to either side of `pitch`."""
    spectrum = np.fft.rfft(rng.normal(size=len(time)))
    frequency = np.fft.rfftfreq(len(time), 1 / RATE)
    spectrum[(frequency < pitch / 2**0.5) | (frequency > pitch * 2**0.5)] = 0
    noise: Wave = np.fft.irfft(spectrum, len(time))
    return noise / np.abs(noise).max()


def _two_tones(rng: np.random.Generator, time: Wave, pitch: float) -> Wave:
    other = pitch * rng.uniform(1.35, 1.65)
    return (np.sin(2 * np.pi * pitch * time) + np.sin(2 * np.pi * other * time)) / 2


def _tremolo(rng: np.random.Generator, time: Wave, pitch: float) -> Wave:
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(14, 24) * time + rng.random()))
    return swell * np.sin(2 * np.pi * pitch * time)


def _clicks(rng: np.random.Generator, time: Wave, pitch: float) -> Wave:
    """A train of rings at `pitch` that die away within some milliseconds."""
    since = (time * rng.uniform(14, 24) + rng.random()) % 1 / 20
    return np.exp(-since / 0.004) * np.sin(2 * np.pi * pitch * since)


KINDS = {
    "tone": _tone,
    "rising chirp": _rising,
    "falling chirp": _falling,
    "noise burst": _burst,
    "two-tone chord": _two_tones,
    "tremolo": _tremolo,
    "click train": _clicks,
}


class Sounds(DrawnSource):
    """Sounds made here: `audio`, `text`, `label` (the kind), `pitch`, `loudness`.

    Half a second at 8 kHz, `{"array": float32 [4000], "sampling_rate": 8000}`: a tone, a rising or
    falling chirp, a burst of noise, a chord of two tones, a tremolo or a train of clicks, of 0.3
    to 0.45 s and starting at random, over white noise of random strength. `pitch` is "low" (300
    to 600 Hz) or "high" (1,200 to 2,000 Hz) and `loudness` "quiet" or "loud" for every kind.
    `text` names kind and pitch, and in most of its five phrasings loudness.

    What can be learnt: the kind (7 classes), whatever its pitch, loudness and place. A rising
    chirp goes through the same frequencies as a falling one, so only their order tells them
    apart. 14 captions differ in kind or pitch.

    Args:
        samples: how many rows.
        seed: of all that is drawn.
    """

    def __init__(self, *, samples: int = 2000, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("audio", "text", "label", "pitch", "loudness")

    def draw(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """Return a sound of a kind, pitch, loudness and start drawn apart from each other."""
        kind, pitch, level = pick(rng, [*KINDS]), pick(rng, [*PITCHES]), pick(rng, [*LEVELS])
        low, high = np.log(PITCHES[pitch])
        whole = round(RATE * SECONDS)
        length = round(RATE * rng.uniform(0.3, 0.45))
        start = int(rng.integers(whole - length + 1))
        wave = KINDS[kind](rng, np.arange(length) / RATE, float(np.exp(rng.uniform(low, high))))
        ramp = np.minimum(np.arange(length) / (0.01 * RATE), 1)  # 10 ms in and out: no clicks
        peak = rng.uniform(*LEVELS[level])
        sound = rng.normal(0, rng.uniform(0.002, 0.02), whole)
        sound[start : start + length] += peak * wave * ramp * ramp[::-1]
        text = pick(rng, _CAPTIONS).format(kind=kind, pitch=pitch, level=level)
        return {
            "audio": {
                "array": np.clip(sound, -1, 1).astype(np.float32),
                "sampling_rate": RATE,
            },
            "text": text,
            "label": kind,
            "pitch": pitch,
            "loudness": level,
        }
