"""Checks of trackers."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from polymodal.interfaces.method import Tracker
from polymodal.testing.comparing import random_state_untouched
from polymodal.testing.registry import ConformanceError, check


@dataclass
class TrackerSubject:
    """A tracker under examination; `make` builds it."""

    make: Callable[[], Tracker]


@check("tracker")
def builds(subject: TrackerSubject) -> None:
    """It is built without contacting anything."""
    tracker = subject.make()
    if not isinstance(tracker, Tracker):
        raise ConformanceError(f"{type(tracker).__name__} is no Tracker: subclass it")


@check("tracker", after=("builds",))
def tracks(subject: TrackerSubject) -> None:
    """It takes a run from beginning to end, NaN and a gap in the steps included."""
    with tempfile.TemporaryDirectory() as folder, random_state_untouched("the tracker"):
        tracker = subject.make()
        config = {"streams": {"image": {"field": None}}, "trainer": {"max_steps": 3}}
        tracker.begin(config, folder)
        try:
            tracker.log(0, {"loss": 1.0, "objectives/mae/loss": 0.5})
            tracker.log(1, {"loss": float("nan")})
            tracker.log(10, {})
        finally:
            tracker.end()
