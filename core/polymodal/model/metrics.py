"""What a run measures between two lines of metrics.jsonl."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polymodal.ground.distributed import rank, sum_over_ranks
from polymodal.interfaces.objective import Loss
from polymodal.packed.batch import Batch


class Sums:
    """Losses and metrics of some steps, kept as sums and counts where they are until asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float | Tensor, float | Tensor]] = {}

    def add(self, losses: Mapping[str, Loss]) -> None:
        """Add one forward pass."""
        for name, loss in losses.items():
            self._add(name, loss.total, loss.count)
            for metric, (total, count) in loss.metrics.items():
                self._add(f"{name}/{metric}", total, count)

    def _add(self, name: str, total: float | Tensor, count: float | Tensor) -> None:
        pair = (_exact(total), _exact(count))
        if name in self._sums:
            old = self._sums[name]
            pair = (old[0] + pair[0], old[1] + pair[1])
        self._sums[name] = pair

    def totals(self) -> dict[str, tuple[float, float]]:
        """Return the sum and the count of each, over all ranks. Waits for the device."""
        if not self._sums:
            return {}
        values = [value for pair in self._sums.values() for value in pair]
        held = [value.device for value in values if isinstance(value, Tensor)]
        device = held[0] if held else torch.device("cpu")
        table = [torch.as_tensor(value, dtype=torch.float64, device=device) for value in values]
        summed = iter(sum_over_ranks(torch.stack(table)).tolist())
        return dict(zip(self._sums, zip(summed, summed, strict=True), strict=True))

    def load(self, totals: Mapping[str, tuple[float, float]]) -> None:
        """Go on from what `totals` gave; rank 0 keeps it for all."""
        for name, pair in totals.items():
            self._add(name, *(pair if rank() == 0 else (0.0, 0.0)))

    @staticmethod
    def means(totals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        """Return the mean of each of some `totals`; NaN without targets."""
        return {n: total / count if count else math.nan for n, (total, count) in totals.items()}


def _exact(number: float | Tensor) -> float | Tensor:
    """Return a number in float64 without its gradient; one on an accelerator stays there."""
    if not isinstance(number, Tensor):
        return float(number)
    return number.detach().double() if number.device.type != "cpu" else number.detach().item()


class Window:
    """What was seen and done since the last line of metrics.

    Args:
        sums: to go on from, in a run that was cut between two lines.
    """

    def __init__(self, sums: Sums | None = None) -> None:
        self.began = time.perf_counter()
        self.waited = 0.0
        self.samples = 0
        self.tokens = 0
        self.sums = sums or Sums()

    def add(self, batch: Batch, losses: Mapping[str, Loss]) -> None:
        """Add one forward pass."""
        self.samples += batch.samples
        self.tokens += sum(tokens.layout.tokens for tokens in batch.streams.values())
        self.sums.add(losses)

    def astray(self) -> list[str]:
        """Return the objectives whose loss is NaN or infinite. Waits for the device."""
        return [
            name
            for name, (total, count) in self.sums.totals().items()
            if "/" not in name and count and not math.isfinite(total)
        ]


def plain(value: Any) -> Any:
    """Make a record JSON: NaN has no place there."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if plain(item) is not None}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
