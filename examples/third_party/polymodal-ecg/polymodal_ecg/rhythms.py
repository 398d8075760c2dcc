"""Made-up recordings, so that the example runs without a download."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from polymodal import Source

WAVES = np.array(  # seconds from the R wave, millivolts, spread in seconds; P first
    [
        (-0.16, 0.15, 0.03),
        (-0.03, -0.12, 0.01),
        (0, 1, 0.012),
        (0.03, -0.2, 0.01),
        (0.24, 0.3, 0.05),
    ]
)
GAPS = {"calm": (0.75, 1.0), "fast": (0.4, 0.5), "irregular": (0.45, 1.1)}  # seconds a beat
NOISE = 0.02  # millivolts


class Rhythms(Source):
    """One-lead recordings at 100 Hz of three rhythms, each with a text.

    A calm and a fast regular rhythm, and an irregular one without P waves, as in atrial
    fibrillation. Fields: `ecg` ([1, time], millivolts), `text`, `label` (the rhythm).

    Args:
        samples: how many.
        seconds: of each.
        seed: of everything drawn.
    """

    def __init__(self, *, samples: int = 600, seconds: float = 10.0, seed: int = 0):
        self.samples, self.seconds, self.seed = samples, seconds, seed

    def __len__(self) -> int:
        return self.samples

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("ecg", "text", "label")

    def row(self, index: int) -> Mapping[str, Any]:
        """Return one recording."""
        generator = np.random.default_rng([self.seed, index])
        label = list(GAPS)[index % len(GAPS)]
        regular = label != "irregular"
        shortest, longest = GAPS[label]
        gaps = generator.uniform(shortest, longest, 1 + int(self.seconds / shortest))
        if regular:
            gaps = gaps[0] * generator.normal(1, 0.02, len(gaps))
        time = np.arange(round(self.seconds * 100)) / 100
        signal = generator.normal(0, NOISE, len(time))
        for place, height, spread in WAVES if regular else WAVES[1:]:
            far = time - (np.cumsum(gaps) + place - gaps[0] / 2)[:, None]  # beat time
            signal = signal + (height * np.exp(-np.square(far / spread) / 2)).sum(axis=0)
        text = f"{label} rhythm, {round(60 / gaps.mean())} beats a minute"
        return {"ecg": signal[None].astype(np.float32), "text": text, "label": label}
