"""Log-mel spectrograms cut into patches (Gong et al., AST, 2021; Huang et al., AudioMAE, 2022)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, TypedDict, Unpack

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal import Default, Layout, Tokenizer, Tokens, TokenSpec, filled, ranges
from polymodal_audio.framing import check_waveform, cropped, frame_count, framed, longer, shrunk
from polymodal_audio.sound import Waveform
from polymodal_audio.spectrogram import decibels, filter_bank, mel_power, within_top

HIDDEN_FRAMES, HIDDEN_BANDS = "hidden_frames", "hidden_bands"


class MaskOptions(TypedDict, total=False):
    """What of a spectrogram is hidden when training (SpecAugment: Park et al., 2019, section 2).

    Args:
        time_masks: how many stretches of time to hide; hidden levels become `mean`.
        time_width: the most frames one of them takes, and never more than the sound has.
        frequency_masks: how many ranges of bands to hide.
        frequency_width: the most bands one of them takes.
    """

    time_masks: Annotated[int, Default(0)]
    time_width: Annotated[int, Default(0)]
    frequency_masks: Annotated[int, Default(0)]
    frequency_width: Annotated[int, Default(0)]


class MelPatches(Tokenizer):
    """Cuts the log-mel spectrogram of a sound into patches of time by mel bands.

    Frames are centred as librosa's are. A sound is followed by silence up to a whole patch, so a
    single sample makes one column of patches. Tokens run through the bands of the first stretch
    of time, low to high, then the next stretch; positions are (time, mel), in patches; a token's
    values are [time, mel] flattened.

    With `on_device` the data worker only cuts the waveform, and `finish` computes the spectrogram
    on the training device: the tokens between are the stretches of samples under each column
    of patches, so their number (and the positions) change in `finish`; `spec` and `count` speak of
    the finished tokens. Both ways give the same numbers.

    Args:
        rate: samples a second; the reader must give the same.
        n_fft: samples of a frame (and its Hann window).
        hop: samples from frame to frame.
        n_mels: mel bands.
        f_min: lowest frequency, Hz.
        f_max: highest frequency, Hz; None: half the rate.
        seconds: the most of a sound that is used; None: all of it, and positions have no bound.
        crop: where a longer sound is cut: its "start", or a "random" stretch when training.
        patch: frames and mel bands of a patch.
        top_db: levels more than this below the sound's loudest are raised to it; None: only the
            floor of -100 dB.
        mean: subtracted from the level in dB.
        std: the level is divided by it.
        on_device: compute the spectrogram on the training device.
        masks: what is hidden when training; see `MaskOptions`.
    """

    reader: ClassVar[str | None] = "audio.sound"

    def __init__(
        self,
        *,
        rate: int = 16000,
        n_fft: int = 1024,
        hop: int = 160,
        n_mels: int = 128,
        f_min: float = 0.0,
        f_max: float | None = None,
        seconds: float | None = 10.0,
        crop: Literal["start", "random"] = "start",
        patch: tuple[int, int] = (16, 16),
        top_db: float | None = 80.0,
        mean: float = -30.0,
        std: float = 20.0,
        on_device: bool = False,
        **masks: Unpack[MaskOptions],
    ):
        for name, value in {"rate": rate, "n_fft": n_fft, "hop": hop, "n_mels": n_mels}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if min(patch) < 1:
            raise ValueError(f"patch must be at least 1 by 1, got {list(patch)}")
        if n_mels % patch[1]:
            raise ValueError(f"n_mels must be a multiple of patch[1], got {n_mels} and {patch[1]}")
        if not 0 <= f_min < (rate / 2 if f_max is None else f_max):
            raise ValueError(f"f_min must lie from 0 to below f_max, got {f_min} and {f_max}")
        if f_max is not None and f_max > rate / 2:
            raise ValueError(f"f_max must not pass half the rate, {rate / 2:g} Hz, got {f_max}")
        if seconds is not None and seconds <= 0:
            raise ValueError(f"seconds must be above 0, got {seconds}")
        if top_db is not None and top_db <= 0:
            raise ValueError(f"top_db must be above 0, got {top_db}")
        if std <= 0:
            raise ValueError(f"std must be above 0, got {std}")
        hiding = filled(MaskOptions, masks)
        self.time_masks, self.time_width = hiding["time_masks"], hiding["time_width"]
        self.frequency_masks = hiding["frequency_masks"]
        self.frequency_width = hiding["frequency_width"]
        if min(self.time_masks, self.time_width, self.frequency_masks, self.frequency_width) < 0:
            raise ValueError("numbers and widths of masks must not be negative")
        if self.frequency_width > n_mels:
            raise ValueError(f"frequency_width is {self.frequency_width}, but n_mels is {n_mels}")
        filter_bank(rate, n_fft, n_mels, f_min, f_max)  # refuses empty bands now
        self.rate, self.n_fft, self.hop, self.n_mels = rate, n_fft, hop, n_mels
        self.f_min, self.f_max = f_min, f_max
        self.most = None if seconds is None else max(1, round(seconds * rate))
        self.crop = crop
        self.patch = (int(patch[0]), int(patch[1]))
        self.top_db, self.mean, self.std = top_db, mean, std
        self.on_device = on_device

    @property
    def spec(self) -> TokenSpec:
        """Values [time * mel] of a patch; positions (time, mel), bounded where `seconds` is."""
        extent = None
        if self.most is not None:
            extent = (self._columns(self.most), self.bands)
        return TokenSpec(
            features=self.patch[0] * self.patch[1],
            axes=2,
            extent=extent,
            max_tokens=None if extent is None else extent[0] * extent[1],
        )

    @property
    def bands(self) -> int:
        """How many patches stand above each other."""
        return self.n_mels // self.patch[1]

    @property
    def stretch(self) -> int:
        """How many samples lie under one column of patches."""
        return self.patch[0] * self.hop

    @property
    def _random(self) -> bool:
        time = self.time_masks * self.time_width
        return self.crop == "random" or time + self.frequency_masks * self.frequency_width > 0

    def _columns(self, samples: int) -> int:
        return frame_count(samples, frame=self.stretch, hop=self.stretch)

    def check(self, raw: Waveform) -> None:
        """Refuse a sound of another rate, without samples, or with NaN.

        Raises:
            UnreadableError: why.
        """
        check_waveform(raw, self.rate)

    def count(self, raws: Sequence[Waveform | None]) -> list[int]:
        """Return how many patches each sound has, computing none."""
        lengths = [0 if raw is None else len(raw) for raw in raws]
        if self.most is not None:
            lengths = [min(length, self.most) for length in lengths]
        return [self._columns(length) * self.bands for length in lengths]

    def shrink(self, raw: Waveform, *, generator: np.random.Generator | None = None) -> Waveform:
        """Return the stretch of a sound that `encode` takes.

        Raises:
            UnreadableError: a stretch of a file that can't be decoded.
        """
        return shrunk(raw, most=self.most, random=self.crop == "random", generator=generator)

    def encode(
        self,
        raws: Sequence[Waveform | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return the patches of each sound, or with `on_device` the samples under them."""
        if generators is not None and self._random:
            generators = list(generators)  # a lazy sequence would make each one anew when asked
        waveforms = cropped(
            raws, most=self.most, random=self.crop == "random", generators=generators
        )
        stretches, columns = framed(waveforms, frame=self.stretch, hop=self.stretch)
        channels: dict[str, Tensor] = {}
        if generators is not None and self._random:
            channels = self._hidden(waveforms, columns, generators)
        tokens = Tokens(Layout.of(columns, channels=channels), values=stretches)
        tokens = tokens if self.on_device else self._patches(tokens)
        return replace(tokens, cut=longer(raws, self.most))

    def finish(self, tokens: Tokens) -> Tokens:
        """Turn stretches of samples into patches, where `encode` has not done so."""
        return self._patches(tokens) if self.on_device else tokens

    def _patches(self, tokens: Tokens) -> Tokens:
        layout = tokens.layout
        level = self._level(tokens)  # [column * patch time, mel]
        level = level.sub_(self.mean).div_(self.std)
        for name, each in layout.channels.items():
            hidden = each.reshape(-1, 1) if name == HIDDEN_FRAMES else each
            if name == HIDDEN_BANDS:
                hidden = hidden.repeat_interleave(self.patch[0], dim=0)
            level = level.masked_fill(hidden, 0.0)
        time, mel = self.patch
        values = (
            level.reshape(layout.tokens, time, self.bands, mel)
            .transpose(1, 2)
            .reshape(layout.tokens * self.bands, time * mel)
        )
        column = layout.within.repeat_interleave(self.bands)
        band = torch.arange(self.bands, device=layout.device).repeat(layout.tokens)
        lengths = [columns * self.bands for columns in layout.lengths]
        patches = Layout.of(
            lengths,
            torch.stack([column, band], dim=1),
            owner=layout.owner,
            samples=layout.samples,
        )
        return Tokens(patches, values=values)

    def _level(self, tokens: Tokens) -> Float[Tensor, "frame mel"]:
        """Return the level in dB of every frame of every sound."""
        layout, stretches = tokens.layout, tokens.values
        assert stretches is not None
        # Lay the sounds out with n_fft zeros after each and n_fft // 2 before the first, so that a
        # frame that reaches past its sound's ends meets zeros (librosa's centred frames do too).
        half = self.n_fft // 2
        gap = layout.segment * self.n_fft + half  # before each stretch's sound
        begin = torch.arange(layout.tokens, device=layout.device) * self.stretch + gap
        silence = stretches.new_zeros(self.n_fft)
        sounds = stretches.split(list(layout.lengths))
        followed = [part for sound in sounds for part in (sound.flatten(), silence)]
        signal = torch.cat([silence[:half], *followed])
        frame = torch.arange(self.patch[0], device=layout.device) * self.hop
        level = decibels(
            mel_power(
                signal,
                (begin[:, None] + frame - half).reshape(-1),
                rate=self.rate,
                n_fft=self.n_fft,
                n_mels=self.n_mels,
                f_min=self.f_min,
                f_max=self.f_max,
            )
        )
        if self.top_db is None:
            return level
        segment = layout.segment.repeat_interleave(self.patch[0])
        return within_top(level, segment, layout.segments, top_db=self.top_db)

    def _hidden(
        self,
        waveforms: Sequence[Float[np.ndarray, " time"] | None],
        columns: Sequence[int],
        generators: Sequence[np.random.Generator],
    ) -> dict[str, Tensor]:
        """Draw what SpecAugment hides: frames by column, and bands repeated for each column."""
        time = self.patch[0]
        channels: dict[str, Tensor] = {}
        if self.time_masks and self.time_width:
            starts, widths = [], []
            first = 0
            for waveform, count, generator in zip(waveforms, columns, generators, strict=True):
                frames = 0 if waveform is None else -(-len(waveform) // self.hop)
                start, width = _spans(generator, self.time_masks, self.time_width, frames)
                starts.append(start + first)
                widths.append(width)
                first += count * time
            channels[HIDDEN_FRAMES] = _inside(starts, widths, first).reshape(-1, time)
        if self.frequency_masks and self.frequency_width:
            rows = []
            for generator in generators:
                spans = _spans(generator, self.frequency_masks, self.frequency_width, self.n_mels)
                rows.append(_inside([spans[0]], [spans[1]], self.n_mels))
            repeats = torch.tensor(columns, dtype=torch.int64)
            bands = torch.stack(rows) if rows else torch.zeros(0, self.n_mels, dtype=torch.bool)
            channels[HIDDEN_BANDS] = bands.repeat_interleave(repeats, dim=0)
        return channels


def _spans(
    generator: np.random.Generator, count: int, most: int, length: int
) -> tuple[Int[np.ndarray, " span"], Int[np.ndarray, " span"]]:
    """Draw spans within `length` places: first and width, the width from 0 to `most`."""
    width = generator.integers(0, min(most, length) + 1, size=count)
    return generator.integers(0, length - width + 1), width


def _inside(
    starts: Sequence[Int[np.ndarray, " span"]],
    widths: Sequence[Int[np.ndarray, " span"]],
    size: int,
) -> Tensor:
    """Return which of `size` places lie in a span."""
    start = torch.from_numpy(np.concatenate([*starts, np.zeros(0, np.int64)]))
    width = torch.from_numpy(np.concatenate([*widths, np.zeros(0, np.int64)]))
    inside = torch.zeros(size, dtype=torch.bool)
    inside[ranges(start, width, int(width.sum()))] = True
    return inside
