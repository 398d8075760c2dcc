"""Heartbeats as tokens."""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy.lib.stride_tricks import sliding_window_view
from polymodal import Layout, Tokenizer, Tokens, TokenSpec, UnreadableError

APART = 0.25  # seconds between two beats at least: the heart muscle can't answer sooner
TICKS = 10  # positions a second

Signal = Float32[np.ndarray, "lead time"]


def r_peaks(signal: Signal, *, rate: int) -> Int64[np.ndarray, " beat"]:
    """Return the places of the R waves, the steepest of each beat.

    After Pan and Tompkins (1985): the squared slope, smoothed, is highest there.
    """
    slope = np.diff(signal, axis=1, prepend=signal[:, :1])
    energy = np.convolve(np.square(slope).sum(axis=0), np.hanning(rate // 10 + 2), mode="same")
    reach = round(APART * rate)
    highest = sliding_window_view(np.pad(energy, reach), 2 * reach + 1).max(axis=1)
    peaks = np.flatnonzero((energy == highest) & (energy > energy.max() / 5))
    return peaks[np.diff(peaks, prepend=-reach - 1) > reach]  # of equal ones, the first


class Beats(Tokenizer):
    """A token a heartbeat: the signal of all leads around the R wave, at the time of the R wave.

    Args:
        rate: of the recordings, in Hz; 20 or more.
        leads: of the recordings.
        seconds: how much of a recording to take; in training from a random start.
        window: seconds of signal a beat.

    Raises:
        ValueError: a number too small.
    """

    reader = "ecg.recording"

    def __init__(
        self, *, rate: int = 100, leads: int = 1, seconds: float = 10.0, window: float = 0.6
    ):
        self.rate, self.leads = rate, leads
        self.length = round(rate * seconds)
        self.half = round(rate * window / 2)
        if rate < 20 or leads < 1 or self.half < 1 or self.length < 2 * self.half:
            raise ValueError(
                "rate must be 20 or more, leads 1 or more, and seconds no less than window, got "
                f"rate {rate}, leads {leads}, seconds {seconds}, window {window}"
            )

    @property
    def spec(self) -> TokenSpec:
        """Values, and the time of each beat in tenths of a second as its position."""
        return TokenSpec(
            features=self.leads * 2 * self.half,
            extent=(self.length * TICKS // self.rate + 1,),
            max_tokens=self.length // round(APART * self.rate) + 1,
        )

    def check(self, raw: Signal) -> None:
        """Refuse a recording with other leads, or shorter than a beat."""
        if raw.shape[0] != self.leads or raw.shape[1] < 2 * self.half:
            raise UnreadableError(
                f"ecg.beats wants leads: {self.leads}, each of {2 * self.half} values or more, got "
                f"[lead, time] of {list(raw.shape)}"
            )

    def encode(
        self,
        raws: Sequence[Signal | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return the beats of each recording in order of time."""
        features = self.spec.features
        values = [np.zeros((0, features), np.float32)]
        peaks, lengths = [np.zeros(0, np.int64)], []
        for raw, generator in zip(raws, generators or repeat(None), strict=False):
            found = np.zeros(0, np.int64)
            if raw is not None:
                spare = max(raw.shape[1] - self.length, 0)
                start = 0 if generator is None else int(generator.integers(spare + 1))
                signal = raw[:, start : start + self.length]
                found = r_peaks(signal, rate=self.rate)
                around = np.pad(signal, ((0, 0), (self.half, self.half)))
                beats = sliding_window_view(around, 2 * self.half, axis=1)[:, found]
                values.append(beats.swapaxes(0, 1).reshape(-1, features))
            peaks.append(found)
            lengths.append(len(found))
        time = torch.from_numpy(np.concatenate(peaks) * TICKS // self.rate)
        layout = Layout.of(lengths, time[:, None])
        return Tokens(layout, values=torch.from_numpy(np.concatenate(values)))
