"""Cutting waveforms into frames, a whole batch at once."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import UnreadableError, ranges
from polymodal_audio.sound import Recording, Waveform


def frame_count(samples: int, *, frame: int, hop: int) -> int:
    """Return how many frames hold all of these samples, at least one; 0 for no samples."""
    if samples == 0:
        return 0
    return max(0, -(-(samples - frame) // hop)) + 1


def framed(
    waveforms: Sequence[Float[np.ndarray, " time"] | None], *, frame: int, hop: int
) -> tuple[Float[Tensor, "token {frame}"], list[int]]:
    """Return the frames of all waveforms, end to end, and how many each has.

    A waveform is followed by silence up to its last whole frame; None has no frames.
    """
    counts = [0 if w is None else frame_count(len(w), frame=frame, hop=hop) for w in waveforms]
    sizes = [(count - 1) * hop + frame if count else 0 for count in counts]
    flat = np.zeros(sum(sizes), dtype=np.float32)
    at = 0
    for waveform, size in zip(waveforms, sizes, strict=True):
        if waveform is not None:
            piece = waveform[:size]  # with hop > frame the last gap is left out
            flat[at : at + len(piece)] = piece
        at += size
    samples = torch.from_numpy(flat)
    if hop == frame:
        return samples.reshape(sum(counts), frame), counts
    length = torch.tensor(counts, dtype=torch.int64)
    taken = torch.tensor(sizes, dtype=torch.int64)
    starts = taken.cumsum(0) - taken
    within = ranges(torch.zeros_like(length), length, sum(counts))
    first = starts.repeat_interleave(length, output_size=sum(counts)) + within * hop
    return samples[first[:, None] + torch.arange(frame)], counts


def cropped(
    raws: Sequence[Waveform | None],
    *,
    most: int | None,
    random: bool,
    generators: Sequence[np.random.Generator] | None,
) -> list[Float[np.ndarray, " time"] | None]:
    """Return the samples of each waveform, at most `most`: the first ones, or a random stretch."""
    kept: list[np.ndarray | None] = []
    for number, raw in enumerate(raws):
        if raw is None:
            kept.append(None)
            continue
        start = 0
        if most is not None and len(raw.samples) > most and random and generators is not None:
            start = int(generators[number].integers(len(raw.samples) - most + 1))
        stop = None if most is None else start + most
        kept.append(raw.samples[start:stop])
    return kept


def shrunk(
    raw: Waveform, *, most: int | None, random: bool, generator: np.random.Generator | None
) -> Waveform:
    """Return the stretch that `cropped` would keep, by itself; of a file no more is decoded.

    Raises:
        UnreadableError: a stretch of a file that can't be decoded.
    """
    if most is None or len(raw) <= most:
        return Waveform(raw.samples, raw.rate)
    start = 0
    if random and generator is not None:
        start = int(generator.integers(len(raw) - most + 1))
    return Waveform(raw.cut(start, start + most), raw.rate, whole=len(raw))


def longer(raws: Sequence[Waveform | None], most: int | None) -> tuple[bool, ...]:
    """Return which sounds have more than `most` samples."""
    return tuple(
        raw is not None and most is not None and (raw.whole or len(raw)) > most for raw in raws
    )


def check_waveform(raw: Waveform, rate: int) -> None:
    """Refuse a waveform that has another rate, no samples, or samples that are not finite.

    Raises:
        UnreadableError: which of these it is, and what to do.
    """
    if raw.rate != rate:
        raise UnreadableError(
            f"the sound has {raw.rate} samples a second, the tokenizer takes {rate}: give reader "
            "and tokenizer the same rate"
        )
    if len(raw) == 0:
        raise UnreadableError("the sound has no samples")
    if not isinstance(raw, Recording) and not np.isfinite(raw.samples).all():  # read later, then
        raise UnreadableError("the sound has samples that are NaN or infinite")
