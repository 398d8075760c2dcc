"""Method and Tracker: what acts on a run or watches it."""

from abc import ABC
from collections.abc import Mapping
from typing import Any

from torch import nn

from polymodal.interfaces.model import Model
from polymodal.interfaces.step import Step


class Method(nn.Module, ABC):
    """Acts on a run: prompts, adapters, masks, curricula, freezing.

    It is a module: its parameters are trained, its buffers saved in the checkpoint.
    """

    def attach(self, model: Model) -> None:
        """Change the model once, when it is built: before objectives, weights and optimiser."""

    def before_step(self, number: int, total: int | None) -> None:
        """Prepare for a step, before its forward pass."""

    def after_update(self, step: Step) -> None:
        """Follow an optimiser step."""


class Tracker(ABC):
    """Watches a run and passes its numbers on to a service or a library."""

    def begin(self, config: Mapping[str, Any], directory: str) -> None:
        """Receive the resolved config and the run's directory."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Receive named numbers after a step."""

    def end(self) -> None:
        """Finish; called also when the run fails."""
