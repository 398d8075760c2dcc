"""Two processes with unequal modalities against one on the joined batch: CPU time, summed.

    python -m benchmarks.ranks

First: two gloo processes under DDP, of which one has hardly any text and the other few images.
Second: one process with all of it. Each process has one thread; the clock is the processes' own
CPU time in the steps, without start-up.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import torch

from benchmarks.modalities import model
from benchmarks.ratio import Ratio, write
from polymodal import Batch, Config, rank, world_size
from polymodal.testing.toys import take, toy_tokens
from polymodal.training.optimization import Optimization
from polymodal.training.parallel import processes

SAMPLES, STEPS, ROUNDS = 64, 6, 5


def work() -> None:
    torch.set_num_threads(1)
    trained = model(["image", "text"])
    slot = {"use": "a.b"}  # only rates are looked up
    config = Config.model_validate(
        {
            "streams": {},
            "encoders": dict.fromkeys(trained.encoders, slot),
            "objectives": dict.fromkeys(trained.objectives, slot),
            "trainer": {"max_steps": STEPS + 2},
        }
    )
    optimization = Optimization(trained, config, torch.device("cpu"))
    # The first half of the samples has images, the second texts, and a few of each have both.
    half, both = SAMPLES // 2, 4
    image = [64] * (half + both) + [0] * (half - both)
    text = [0] * (half - both) + [150] * (half + both)
    streams = {
        name: toy_tokens(trained.specs[name], lengths)
        for name, lengths in (("image", image), ("text", text))
    }
    batch = Batch(streams, SAMPLES, torch.arange(SAMPLES), ("rows",) * SAMPLES)
    size = SAMPLES // world_size()
    mine = take(batch, range(rank() * size, (rank() + 1) * size))
    mine = replace(mine, keys=batch.keys[rank() * size : (rank() + 1) * size])
    names = list(trained.objectives)
    for number in range(STEPS + 2):
        if number == 2:
            cpu, wall = time.process_time(), time.perf_counter()
        optimization.backward([mine], names, number=number, total=STEPS + 2)
        optimization.apply([mine], names)
    found = (time.process_time() - cpu) / STEPS, (time.perf_counter() - wall) / STEPS
    print(json.dumps(found), flush=True)


def cpu_seconds(ranks: int) -> tuple[float, float]:
    """Return the CPU time of a step, of all processes, and the time by the clock."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for number in range(ranks):
        places = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": ranks}
        environment = {
            **os.environ,
            **{n: str(v) for n, v in places.items()},
            "OMP_NUM_THREADS": "1",
        }
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-m", "benchmarks.ranks", "work"]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
    found = [json.loads(each.communicate()[0]) for each in started]
    return sum(cpu for cpu, _ in found), max(wall for _, wall in found)


def main() -> list[Ratio]:
    rounds = []
    for number in range(ROUNDS):
        times = {ranks: cpu_seconds(ranks) for ranks in ((2, 1) if number % 2 else (1, 2))}
        rounds.append((times[2][0], times[1][0], times[1][1]))
    ratios = sorted(two / one for two, one, _ in rounds)
    two, one, wall = (statistics.median(each) for each in zip(*rounds, strict=True))
    name = "two processes / one, CPU time of a step"
    found = Ratio(name, statistics.median(ratios), ratios[1], ratios[-2], two, one, ROUNDS)
    print(f"{found} A step of one process took {1000 * wall:.0f} ms by the clock.")
    write("ranks", [found])
    return [found]


if __name__ == "__main__":
    if sys.argv[1:] == ["work"]:
        with processes("cpu"):
            work()
    else:
        main()
