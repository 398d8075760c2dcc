"""Synthesised sounds."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal_demo.generated import GeneratedSource, pick

RATE = 8000
_SECONDS = 0.5
Wave = Float[np.ndarray, " time"]


def _sine(frequency: Wave | float, time: Wave) -> Wave:
    """Return a sine whose frequency may change with time."""
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(frequency, time.shape)) / RATE)


def _tone(pitch: float, time: Wave, generator: np.random.Generator) -> Wave:
    return _sine(pitch, time)


def _rising(pitch: float, time: Wave, generator: np.random.Generator) -> Wave:
    return _sine(pitch * 2 ** (time / time[-1] - 0.5), time)


def _falling(pitch: float, time: Wave, generator: np.random.Generator) -> Wave:
    return _sine(pitch * 2 ** (0.5 - time / time[-1]), time)


def _warble(pitch: float, time: Wave, generator: np.random.Generator) -> Wave:
    return _sine(pitch * 2 ** (0.4 * np.sin(2 * np.pi * generator.uniform(6, 10) * time)), time)


def _tremolo(pitch: float, time: Wave, generator: np.random.Generator) -> Wave:
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * generator.uniform(8, 14) * time)
    return _sine(pitch, time) * swell


def _chord(pitch: float, time: Wave, generator: np.random.Generator) -> Wave:
    return (_sine(pitch, time) + _sine(pitch * 2 ** (7 / 12), time)) / 2


def _beeps(pitch: float, time: Wave, generator: np.random.Generator) -> Wave:
    return _sine(pitch, time) * ((time * generator.uniform(9, 13)) % 1 < 0.4)


def _hiss(pitch: float, time: Wave, generator: np.random.Generator) -> Wave:
    """Noise around the pitch, about two octaves wide."""
    spectrum = np.fft.rfft(generator.normal(0, 1, len(time)))
    frequency = np.fft.rfftfreq(len(time), 1 / RATE)
    octaves = np.log2(np.maximum(frequency, 1) / pitch)
    found = np.fft.irfft(spectrum * (np.abs(octaves) < 1), len(time))
    return np.asarray(found / np.abs(found).max())


KINDS: Mapping[str, Callable[[float, Wave, np.random.Generator], Wave]] = {
    "steady tone": _tone,
    "rising tone": _rising,
    "falling tone": _falling,
    "warble": _warble,
    "tremolo": _tremolo,
    "chord": _chord,
    "row of beeps": _beeps,
    "hiss": _hiss,
}
PITCHES = {"low": (250, 450), "middle": (600, 1000), "high": (1300, 2200)}  # Hz
_TEMPLATES = (
    "a {pitch} {kind}",
    "a {loudness} {kind}, {pitch}",
    "{pitch} and {loudness}: a {kind}",
    "the sound of a {pitch} {kind}",
)


class Sounds(GeneratedSource):
    """Half a second of synthesised sound at 8 kHz, of eight kinds, with captions.

    Steady tone, rising tone, falling tone (an octave each), warble, tremolo, chord (a fifth), row
    of beeps, hiss (noise in a band); each low, middle or high, at a random pitch within, loud or
    quiet, fading in after up to 0.1 s, in background noise. Captions name kind and pitch, some
    the loudness.

    What can be learned: how a sound changes over time and which partials it has, whatever its
    pitch, loudness and noise; and the words for it. A mean spectrum tells the pitch but not, for
    instance, rising from falling.

    Fields: `audio` (`{"array", "sampling_rate"}`, float32), `text`, `label` (the kind), `pitch`
    (low, middle or high).

    Args:
        samples: how many.
        seed: of everything drawn.
    """

    fields = ("audio", "text", "label", "pitch")

    def __init__(self, *, samples: int = 2000, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one sound and its caption."""
        kind, pitch = pick(generator, list(KINDS)), pick(generator, list(PITCHES))
        time = np.arange(int(RATE * _SECONDS)) / RATE
        low, high = PITCHES[pitch]
        wave = KINDS[kind](float(np.exp(generator.uniform(np.log(low), np.log(high)))), time,
                           generator)  # fmt: skip
        loud = bool(generator.integers(2))
        onset = generator.uniform(0, 0.1)
        wave = wave * np.clip((time - onset) / 0.01, 0, 1)
        wave = wave * generator.uniform(*((0.5, 0.9) if loud else (0.08, 0.2)))
        wave = wave + generator.normal(0, generator.uniform(0.005, 0.04), len(time))
        text = pick(generator, _TEMPLATES).format(
            kind=kind, pitch=pitch, loudness="loud" if loud else "quiet"
        )
        return {
            "audio": {"array": wave.clip(-1, 1).astype(np.float32), "sampling_rate": RATE},
            "text": text,
            "label": kind,
            "pitch": pitch,
        }
