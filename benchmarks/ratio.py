"""Timing two ways of doing the same thing so that a noisy machine is noisy for both."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Ratio:
    """Seconds of the first over seconds of the second: the median round, and the middle half."""

    name: str
    ratio: float
    low: float
    high: float
    first_seconds: float
    second_seconds: float
    rounds: int

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.ratio:.3f} ({self.low:.3f} to {self.high:.3f}, {self.rounds} "
            f"rounds; {1e3 * self.first_seconds:.3f} ms against {1e3 * self.second_seconds:.3f} ms)"
        )


def compare(
    name: str,
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    rounds: int = 21,
    repeat: int = 1,
    clock: Callable[[], float] | None = None,
) -> Ratio:
    """Run both in turn, swapping who goes first, and return the ratio of their times.

    The clock is the process's own time where one thread does all the work, which other programs
    on the machine disturb least; else, and on a GPU, the wall's.
    """
    if clock is None:
        alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
        clock = time.process_time if alone else time.perf_counter
    times: tuple[list[float], list[float]] = ([], [])
    for run in (first, second):
        run()  # warm up
    for number in range(rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for which in order:
            run = (first, second)[which]
            began = clock()
            for _ in range(repeat):
                run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[which].append((clock() - began) / repeat)
    ratios = sorted(a / b for a, b in zip(*times, strict=True))
    quarter = len(ratios) // 4
    found = Ratio(
        name,
        statistics.median(ratios),
        ratios[quarter],
        ratios[-1 - quarter],
        statistics.median(times[0]),
        statistics.median(times[1]),
        rounds,
    )
    print(found, flush=True)
    return found


def write(file: str, ratios: list[Ratio]) -> None:
    """Write ratios as JSON, with the machine, versions and date they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ratios": [asdict(ratio) for ratio in ratios],
    }
    (RESULTS / f"{file}.json").write_text(json.dumps(record, indent=2) + "\n")
