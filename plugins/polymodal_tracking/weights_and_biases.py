"""Weights & Biases."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import wandb

from polymodal import Tracker


class WeightsAndBiases(Tracker):
    """Logs to a Weights & Biases run; options are those of `wandb.init`.

    The key is taken from the environment or from `wandb login`, never from a config.

    Args:
        project: name of the project.
        entity: user or team; by default your own.
        name: of the run; by default wandb makes one up.
        group: of runs that belong together.
        tags: of the run.
        notes: about the run.
        mode: offline writes to the run's directory for `wandb sync`; disabled does nothing; by
            default what WANDB_MODE says, else online.
        run_id: id of the wandb run, to go on with it when a run is resumed.
    """

    def __init__(
        self,
        *,
        project: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        run_id: str | None = None,
    ):
        self.project = project
        self.entity = entity
        self.name = name
        self.group = group
        self.tags = list(tags)
        self.notes = notes
        self.mode = mode
        self.run_id = run_id
        self._run: Any = None

    def begin(self, config: Mapping[str, Any], directory: str) -> None:
        """Start the wandb run."""
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=self.name,
            group=self.group,
            tags=self.tags,
            notes=self.notes,
            mode=self.mode,
            id=self.run_id,
            resume=None if self.run_id is None else "allow",
            dir=directory,
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the numbers."""
        assert self._run is not None, "log comes after begin"
        self._run.log(dict(values), step=step)

    def end(self) -> None:
        """Finish the wandb run."""
        if self._run is not None:
            self._run.finish()
            self._run = None
