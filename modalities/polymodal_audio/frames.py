"""Raw samples as tokens: frames of the waveform itself."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch

from polymodal import Layout, Tokenizer, Tokens, TokenSpec
from polymodal_audio.framing import check_waveform, cropped, frame_count, framed, longer, shrunk
from polymodal_audio.sound import Waveform

QUIET = 1e-7  # added to the variance of a sound before dividing: silence stays silence


class WaveformFrames(Tokenizer):
    """Cuts a sound into frames of raw samples, one token each; the last is filled with silence.

    Args:
        rate: samples a second; the reader must give the same.
        frame: samples of a token.
        hop: samples from token to token; None: `frame`, so that none overlap.
        seconds: the most of a sound that is used; None: all of it, and positions have no bound.
        crop: where a longer sound is cut: its "start", or a "random" stretch when training.
        normalize: give each sound mean 0 and variance 1 (Baevski et al., wav2vec 2.0, 2020).
    """

    reader: ClassVar[str | None] = "audio.sound"

    def __init__(
        self,
        *,
        rate: int = 16000,
        frame: int = 400,
        hop: int | None = None,
        seconds: float | None = 10.0,
        crop: Literal["start", "random"] = "start",
        normalize: bool = False,
    ):
        hop = frame if hop is None else hop
        if rate < 1 or frame < 1:
            raise ValueError(f"rate and frame must be at least 1, got {rate} and {frame}")
        if not 1 <= hop <= frame:
            raise ValueError(f"hop must lie from 1 to frame, {frame}, got {hop}")
        if seconds is not None and seconds <= 0:
            raise ValueError(f"seconds must be above 0, got {seconds}")
        self.rate, self.frame, self.hop = rate, frame, hop
        self.most = None if seconds is None else max(1, round(seconds * rate))
        self.crop = crop
        self.normalize = normalize

    @property
    def spec(self) -> TokenSpec:
        """Values [frame]; one axis, time, bounded where `seconds` is."""
        most = None if self.most is None else self._tokens(self.most)
        extent = None if most is None else (most,)
        return TokenSpec(features=self.frame, extent=extent, max_tokens=most)

    def _tokens(self, samples: int) -> int:
        return frame_count(samples, frame=self.frame, hop=self.hop)

    def check(self, raw: Waveform) -> None:
        """Refuse a sound of another rate, without samples, or with NaN.

        Raises:
            UnreadableError: why.
        """
        check_waveform(raw, self.rate)

    def count(self, raws: Sequence[Waveform | None]) -> list[int]:
        """Return how many frames each sound has, cutting none."""
        lengths = [0 if raw is None else len(raw) for raw in raws]
        if self.most is not None:
            lengths = [min(length, self.most) for length in lengths]
        return [self._tokens(length) for length in lengths]

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
        """Return the frames of each sound."""
        waveforms = cropped(
            raws, most=self.most, random=self.crop == "random", generators=generators
        )
        if self.normalize:
            waveforms = [
                None if w is None or not len(w) else (w - w.mean()) / np.sqrt(w.var() + QUIET)
                for w in waveforms
            ]
        rows, lengths = framed(waveforms, frame=self.frame, hop=self.hop)
        return Tokens(Layout.of(lengths), values=rows, cut=longer(raws, self.most))

    def decode(self, tokens: Tokens) -> list[Waveform | None]:
        """Lay each segment's frames over each other; None for no frames.

        Where frames overlap the later one stands. The silence that filled the last frame stays,
        and so does `normalize`.
        """
        values = tokens.rows.detach().float().cpu()
        sounds: list[Waveform | None] = []
        for frames in values.split(list(tokens.layout.lengths)):
            if not len(frames):
                sounds.append(None)
                continue
            whole = torch.cat([frames[:-1, : self.hop].reshape(-1), frames[-1]])
            sounds.append(Waveform(whole.numpy(), self.rate))
        return sounds
