import io

import pytest
from rich.console import Console

from polymodal.ground.progress import ProgressReport

RECORD = {
    "step": 5,
    "loss": {"align": 2.25775, "words": 4.0},
    "samples_per_second": 1234.5,
    "tokens_per_second": 28876.7,
    "waiting": 0.33,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_losses_throughput_waiting_and_time_left_are_shown(monkeypatch, stream):
    out = stream()
    monkeypatch.setattr("sys.stderr", out)
    report = ProgressReport(10)
    report.console = Console(file=out, width=160, force_terminal=stream is Terminal)
    if report._bar:
        report._bar.live.console = report.console
    with report:
        report.step(5)
        report.log(RECORD)
    shown = out.getvalue()
    for text in ("5/10", "align 2.258", "words 4", "1,234 samples/s", "28,877 tokens/s"):
        assert text in shown
    assert "waiting 33%" in shown
    assert "s left" in shown or ":" in shown


def test_quiet_says_nothing(monkeypatch):
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    with ProgressReport(10, quiet=True) as report:
        report.log(RECORD)
        report.say("text")
    assert not out.getvalue()
