"""Leaving a run on a signal: the first lets the step end and is saved, the second ends at once.

SIGINT is Ctrl-C, SIGTERM what schedulers and `torchrun` send, SIGUSR1 what SLURM sends ahead of its
time limit when asked to (`--signal=USR1@120`).
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from polymodal.ground.errors import Stopped

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)


class Stop:
    """Whether a signal asked a run to end."""

    def __init__(self) -> None:
        self.signal: int | None = None  # the first that came

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals instead of dying by the first, within a `with` block.

        Only a program's main thread can; in another nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {each: signal.signal(each, self._note) for each in SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                # None: a handler that was not set from Python can't be put back from here.
                signal.signal(each, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            return
        signal.signal(number, signal.SIG_DFL)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        os.kill(os.getpid(), number)

    def raised(self, text: str) -> Stopped:
        """Return the error to end with."""
        assert self.signal is not None
        return Stopped(f"stopped by {signal.Signals(self.signal).name} {text}", self.signal)


def spare_worker(number: int) -> None:
    """Let a data worker outlive the first signal, which comes to all processes of a group.

    A worker that dies makes the training process fail at any moment, even within an update.
    """
    stop = Stop()
    for each in SIGNALS:
        signal.signal(each, stop._note)
