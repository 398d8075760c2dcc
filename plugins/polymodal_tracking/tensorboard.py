"""TensorBoard: event files that its server shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorboard  # noqa: F401  # torch's own error hides which package is missing
import yaml
from torch.utils.tensorboard import SummaryWriter

from polymodal import Tracker
from polymodal_tracking.names import plain_name


class TensorBoard(Tracker):
    """Writes event files; show them with `tensorboard --logdir DIRECTORY`.

    Args:
        directory: where to; by default `tensorboard` in the run's directory.
        flush_seconds: how often what is in memory is written.
    """

    def __init__(self, *, directory: str | None = None, flush_seconds: int = 30):
        if flush_seconds < 1:
            raise ValueError(f"flush_seconds must be at least 1, got {flush_seconds}")
        self.directory = directory
        self.flush_seconds = flush_seconds
        self._writer: SummaryWriter | None = None

    def begin(self, config: Mapping[str, Any], directory: str) -> None:
        """Open an event file and write the config to it as text."""
        home = self.directory or str(Path(directory) / "tensorboard")
        self._writer = SummaryWriter(home, flush_secs=self.flush_seconds)
        lines = yaml.safe_dump(dict(config), sort_keys=False).splitlines()
        self._writer.add_text("config", "\n".join(f"    {line}" for line in lines), 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the numbers as scalars."""
        assert self._writer is not None, "log comes after begin"
        for name, value in values.items():
            self._writer.add_scalar(plain_name(name), value, step)

    def end(self) -> None:
        """Write what is left and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
