"""An exponential moving average of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from polymodal.ground.distributed import placed


class WeightAverage:
    """Follows the trainable weights: average = decay * average + (1 - decay) * weights."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are now."""
        if self.averages:
            torch._foreach_lerp_(
                list(self.averages.values()),
                [p.detach() for p in self._parameters.values()],
                1 - self.decay,
            )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the averaged weights for the length of a `with` block."""
        kept = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._set(self.averages)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])

    def load(self, averages: dict[str, Tensor]) -> None:
        """Take back saved `averages`; without one, start from the weight as it is now."""
        for name, average in self.averages.items():
            value = averages.get(name, self._parameters[name].detach())
            average.copy_(placed(value, average))
