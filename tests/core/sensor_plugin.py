"""A modality polymodal does not have, whole: a made-up sensor's signal, in about 60 lines."""

import numpy as np
import torch

from polymodal import (
    Reader,
    Source,
    Tokenizer,
    Tokens,
    TokenSpec,
    UnreadableError,
    hookimpl,
)
from polymodal.packed.layout import Layout
from polymodal.plugins.registry import Registry

polymodal_interface = 1


class Signal(Reader):
    """Numbers, as a list or an array."""

    def __call__(self, value):
        signal = np.asarray(value, dtype=np.float32)
        if not np.isfinite(signal).all():
            raise UnreadableError("the signal holds NaN")
        return signal


class Windows(Tokenizer):
    """A token for each `window` readings; the rest of the signal is dropped."""

    reader = "sensor.signal"

    def __init__(self, *, window: int = 4):
        self.window = window

    @property
    def spec(self) -> TokenSpec:
        return TokenSpec(features=self.window, extent=(64,), max_tokens=64)

    def encode(self, raws, *, generators=None) -> Tokens:
        lengths = [0 if raw is None else len(raw) // self.window for raw in raws]
        kept = [raw[: n * self.window] for raw, n in zip(raws, lengths, strict=True) if n]
        values = np.concatenate(kept) if kept else np.zeros(0, dtype=np.float32)
        return Tokens(Layout.of(lengths), values=torch.from_numpy(values).reshape(-1, self.window))


class Waves(Source):
    """Sines and square waves of random length and phase."""

    def __init__(self, *, samples: int = 64, broken: int | None = None):
        self.samples, self.broken = samples, broken

    def __len__(self):
        return self.samples

    def columns(self):
        return ("signal", "label")

    def row(self, index):
        if index == self.broken:
            raise UnreadableError("the cable came off")
        generator = np.random.default_rng(index)
        wave = np.sin(np.arange(generator.integers(16, 64)) * 0.7 + generator.uniform(0, 6))
        square = bool(index % 2)
        return {"signal": np.sign(wave) if square else wave, "label": int(square)}


@hookimpl
def polymodal_register(registry: Registry) -> None:
    here = __name__
    registry.reader("signal", f"{here}:Signal")
    registry.tokenizer("windows", f"{here}:Windows")
    registry.source("waves", f"{here}:Waves")
    registry.encoder("transformer", "polymodal:TransformerEncoder")
