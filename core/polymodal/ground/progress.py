"""What a run says while it trains: a bar on a terminal, a line each few steps elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressReport:
    """Shows losses by objective, throughput, the share of time spent waiting, and time left.

    Args:
        total: steps of the run.
        done: steps already done.
        quiet: show nothing.
    """

    def __init__(self, total: int, *, done: int = 0, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet, markup=False, emoji=False)
        self._total = total
        self._began = time.monotonic()
        self._first = done
        self._bar: Progress | None = None
        # rich draws its bar into files when FORCE_COLOR is set: ask the stream itself.
        if sys.stderr.isatty() and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}", markup=False),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("training", total=total, completed=done, text="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, done: int) -> None:
        """Move the bar."""
        if self._bar:
            self._bar.update(self._task, completed=done)

    def log(self, record: Mapping[str, Any]) -> None:
        """Show a line of metrics.jsonl."""
        losses = "  ".join(f"{name} {value:.4g}" for name, value in record["loss"].items())
        speed = (
            f"{record['samples_per_second']:,.0f} samples/s  "
            f"{record['tokens_per_second']:,.0f} tokens/s  waiting {record['waiting']:.0%}"
        )
        if self._bar:
            self._bar.update(self._task, text=f"{losses}  {speed}")
            return
        done = record["step"]
        seconds = time.monotonic() - self._began
        left = seconds / max(1, done - self._first) * (self._total - done)
        self.console.print(
            f"step {done}/{self._total}  {losses}  {speed}  {left:,.0f} s left",
            highlight=False,
            soft_wrap=True,
        )

    def say(self, text: str) -> None:
        """Show a line of text."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """Show a line of text that matters even where no progress is wanted."""
        console = Console(stderr=True) if self.console.quiet else self.console
        console.print(f"warning: {text}", highlight=False, soft_wrap=True, markup=False)
