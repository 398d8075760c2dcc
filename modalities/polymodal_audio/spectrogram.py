"""Mel spectrograms in torch, for many sounds at once; the numbers are librosa's."""

import math
import warnings
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

BANDS_AT_ONCE = 32
FLOOR = 1e-10  # power below it counts as it, as in librosa.power_to_db


@lru_cache(maxsize=16)
def filter_bank(
    rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float,
    f_max: float | None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Float[Tensor, "frequency mel"]:
    """Return librosa's mel filters (Slaney's scale and area normalisation), kept once made.

    Raises:
        ValueError: bands so narrow that some hold no frequency at all.
    """
    from librosa.filters import mel

    with warnings.catch_warnings():  # it warns of empty filters, which are refused below
        warnings.simplefilter("ignore")
        bank = mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, dtype="float64")
    empty = int((bank.max(axis=1) == 0).sum())
    if empty:
        raise ValueError(
            f"{empty} of the {n_mels} mel bands hold no frequency of a spectrum of {n_fft} samples "
            f"at {rate} Hz: lower n_mels or raise n_fft"
        )
    return torch.from_numpy(bank.T.copy()).to(device=device, dtype=dtype)


@lru_cache(maxsize=16)
def _filters(
    rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float,
    f_max: float | None,
    dtype: torch.dtype,
    device: torch.device,
) -> list[tuple[slice, slice, Float[Tensor, "part mel"]]]:
    """Return the filters of some bands at a time: the bands, the parts of the spectrum they read.

    A spectrum's parts are real and imaginary in turn, so each frequency stands here twice. Most
    filters are zero at most frequencies, which are left out.
    """
    bank = filter_bank(rate, n_fft, n_mels, f_min, f_max, torch.float64).numpy()
    found = []
    for first in range(0, n_mels, BANDS_AT_ONCE):
        bands = slice(first, first + BANDS_AT_ONCE)
        heard = np.flatnonzero(bank[:, bands].any(axis=1))
        parts = slice(2 * heard[0], 2 * heard[-1] + 2)
        filters = torch.from_numpy(bank.repeat(2, axis=0)[parts, bands].copy())
        found.append((bands, parts, filters.to(device=device, dtype=dtype)))
    return found


@lru_cache(maxsize=16)
def _window(n_fft: int, dtype: torch.dtype, device: torch.device | None) -> Tensor:
    return torch.hann_window(n_fft, dtype=torch.float64).to(device=device, dtype=dtype)


def mel_power(
    signal: Float[Tensor, " time"],
    first: Int[Tensor, " frame"],
    *,
    rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    frames_at_once: int | None = None,
) -> Float[Tensor, "frame mel"]:
    """Return the mel power of the stretches of `n_fft` samples that begin at `first`.

    The windows, transform and filters are those of `librosa.feature.melspectrogram`: in float64
    the result agrees to 1e-6 of each number (far better, in fact); in float32 to 1e-6 of the
    loudest band of its frame, as librosa's own float32 does. It works through
    `frames_at_once` frames at a time, which bounds the memory: unless given, as many as a CPU's
    cache holds, or as keep another device busy.
    """
    if frames_at_once is None:
        frames_at_once = 128 if signal.device.type == "cpu" else 8192
    window = _window(n_fft, signal.dtype, signal.device)
    filters = _filters(rate, n_fft, n_mels, f_min, f_max, signal.dtype, signal.device)
    power = signal.new_empty(len(first), n_mels)
    if signal.shape[0] < n_fft:
        return power  # too short for one stretch: `first` must be empty
    stretches = signal.unfold(0, n_fft, 1)  # every stretch there is, as a view
    with torch.autocast(signal.device.type, enabled=False):  # bfloat16 would ruin quiet bands
        for begin in range(0, len(first), frames_at_once):
            chosen = slice(begin, begin + frames_at_once)
            spectrum = torch.fft.rfft(stretches[first[chosen]] * window)
            squares = torch.view_as_real(spectrum).flatten(1).square()
            for bands, parts, weights in filters:
                power[chosen, bands] = squares[:, parts] @ weights
    return power


def decibels(power: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return 10 log10 of the power, floored at -100 dB: `librosa.power_to_db`, no `top_db`."""
    return power.clamp(min=FLOOR).log10_().mul_(10)


def within_top(
    level: Float[Tensor, "row mel"], segment: Int[Tensor, " row"], segments: int, *, top_db: float
) -> Float[Tensor, "row mel"]:
    """Raise what lies more than `top_db` below its segment's loudest band to that level."""
    loudest = level.new_full((segments,), -math.inf)
    loudest = loudest.scatter_reduce(0, segment, level.amax(dim=1), "amax", include_self=False)
    return torch.maximum(level, (loudest[segment] - top_db)[:, None])
