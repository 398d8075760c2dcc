"""Stretches of a series as tokens (AstroPT's spectra, Smith et al., 2024)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float

from polymodal import Layout, Tokenizer, Tokens, TokenSpec, UnreadableError
from polymodal_series.reader import Series

FLAT = 1e-8  # added to the deviation before dividing: what is flat becomes zeros


class SeriesPatches(Tokenizer):
    """Cuts a series into patches: values [token, patch * channels], positions real numbers.

    The last patch is filled up with zeros. A token's position is the mean position of its samples,
    less `origin`, in units of `scale`: sinusoids tell apart what lies some units apart, so the
    distance of two samples or patches is a good scale. (AstroPT maps the positions of all samples
    of a patch by a learned linear layer instead.) A value is (sample, channel).

    Args:
        patch: samples a token.
        channels: values a sample.
        standardize: less the mean and over the deviation (over n - 1): each channel of the whole
            "series", or each "patch" by itself. A next-patch objective can then read the scale of
            what is still to come off what it has seen.
        origin: position that becomes 0.
        scale: of a unit of position.

    Raises:
        ValueError: a number that must be above 0.
    """

    reader: ClassVar[str | None] = "series.samples"

    def __init__(
        self,
        *,
        patch: int = 16,
        channels: int = 1,
        standardize: Literal["none", "series", "patch"] = "none",
        origin: float = 0.0,
        scale: float = 1.0,
    ):
        if patch < 1 or channels < 1:
            raise ValueError(f"patch and channels must be at least 1, got {patch} and {channels}")
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}")
        self.patch = patch
        self.channels = channels
        self.standardize = standardize
        self.origin = origin
        self.scale = scale

    @property
    def spec(self) -> TokenSpec:
        """Values [patch * channels]; one axis, without bound."""
        return TokenSpec(features=self.patch * self.channels)

    def check(self, raw: Series) -> None:
        """Refuse a series without samples, with another number of channels, or with positions
        that single precision can't tell apart.

        Raises:
            UnreadableError: why.
        """
        if not len(raw.values):
            raise UnreadableError("the series has no samples")
        exact = self._places(raw)
        if ((np.diff(exact) != 0) & (np.diff(exact.astype(np.float32)) == 0)).any():
            raise UnreadableError(
                f"positions from {raw.positions[0]:.10g} on fall together in single precision: set "
                "origin near them"
            )
        if raw.values.shape[1] != self.channels:
            raise UnreadableError(
                f"the series has {raw.values.shape[1]} values a sample, the tokenizer takes "
                f"channels: {self.channels}"
            )

    def _places(self, raw: Series) -> Float[np.ndarray, " sample"]:
        return (raw.positions.astype(np.float64) - self.origin) / self.scale

    def count(self, raws: Sequence[Series | None]) -> list[int]:
        """Return how many patches each series has, cutting none."""
        return [0 if raw is None else -(-len(raw.values) // self.patch) for raw in raws]

    def encode(
        self,
        raws: Sequence[Series | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return the patches of each series."""
        lengths = self.count(raws)
        values = np.zeros((sum(lengths), self.patch * self.channels), dtype=np.float32)
        positions = np.zeros((sum(lengths), 1), dtype=np.float32)
        end = 0
        for raw, length in zip(raws, lengths, strict=True):
            start, end = end, end + length
            if raw is None or not length:
                continue
            samples = raw.values.astype(np.float64)
            if self.standardize == "series":
                samples = standardized(samples)
            cuts = np.arange(self.patch, len(samples), self.patch)
            if self.standardize == "patch":
                samples = np.concatenate([standardized(part) for part in np.split(samples, cuts)])
            values[start:end].reshape(-1)[: samples.size] = samples.reshape(-1)
            parts = np.split(self._places(raw), cuts)
            positions[start:end, 0] = [part.mean() for part in parts]
        layout = Layout.of(lengths, torch.from_numpy(positions))
        return Tokens(layout, values=torch.from_numpy(values))


def standardized(
    samples: Float[np.ndarray, "sample channel"],
) -> Float[np.ndarray, "sample channel"]:
    """Return each channel less its mean, over its deviation; zeros where it is flat."""
    apart = samples - samples.mean(axis=0)
    deviation = np.sqrt(np.square(apart).sum(axis=0) / max(len(samples) - 1, 1))
    return np.asarray(apart / (deviation + FLAT))
