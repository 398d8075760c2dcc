"""Measures every method in three batch modes: time of a step, nodes a second, peak memory.

    python examples/papers/graphfm/cost.py [BLOCKS] [DEVICE] [MODE ...]

Each runs in a process of its own on a graph of BLOCKS communities of 100 nodes. On a CPU, seconds
are of the processor, and memory is the process's peak above that of a run without a step; on a GPU,
seconds are of the clock and memory is what torch held at most.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from polymodal import read_config
from polymodal.training.train import Training
from polymodal_demo.blocks import Blocks

FOLDER = Path(__file__).parent
WARM, STEPS = 2, 6
SEEDS = 256  # centres, or about as many nodes of parts, in a batch


def main(blocks: int = 20, device: str = "cpu", *chosen: str) -> None:
    """Print the table, of all modes or those chosen."""
    nodes = 100 * blocks
    graph = Blocks(blocks=blocks, between=0.03 / blocks).row(0)["graph"]
    small = yaml.safe_load((FOLDER / "small.yaml").read_text())
    small.update(evaluate={}, trainer={"device": device})
    torch.optim.AdamW([torch.zeros(1)])  # imports what each child would have to otherwise
    idle: dict[str, float] = {}
    arms = yaml.safe_load((FOLDER / "comparison.yaml").read_text())["arms"]
    print("| method | batch | seconds a step | nodes a second | peak memory, MB |")
    print("| --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/graph.npz"
        np.savez(file, edge_index=graph.edges, x=graph.nodes)
        modes = {
            "full": (nodes, 1, {"use": "graph.parts", "path": file}),
            "parts": (SEEDS, 4, {"use": "graph.parts", "path": file, "parts": nodes * 4 // SEEDS}),
            "neighbours": (
                SEEDS, SEEDS, {"use": "graph.neighbourhoods", "path": file, "fanouts": [10, 10]},
            ),
        }  # fmt: skip
        for method, changes in arms.items():
            for mode, (scored, batch, source) in modes.items():
                if method == "raw_features" or mode not in (chosen or modes):
                    continue
                more: dict[str, Any] = dict(changes)
                small["data"] = {"batch_size": batch, "sources": {"graph": source}}
                config = Path(folder, "config.yaml")
                config.write_text(yaml.safe_dump(small))
                if mode == "neighbours":
                    more["encoders.gcn.pool"] = "first"
                    if "each" in more.get("objectives.learn", {}):
                        more["objectives.learn"] = {**more["objectives.learn"], "each": "sample"}
                if mode not in idle:
                    _, idle[mode] = _measured(config, more, [0])
                seconds, peak = _measured(config, more, [WARM, WARM + STEPS])
                print(
                    f"| {method} | {mode} | {seconds:.3f} | {scored / seconds:.0f} | "
                    f"{(peak - idle[mode]) / 2**20:.0f} |",
                    flush=True,
                )


def _measured(
    config: Path, changes: Mapping[str, Any], lengths: Sequence[int]
) -> tuple[float, float]:
    """Return the seconds of a step and the peak memory in bytes, of runs in another process."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, json.dumps(_run(config, changes, lengths)).encode())
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    os.close(write)
    if status:
        raise SystemExit("a run failed")
    seconds, held = json.loads(os.read(read, 1000))
    os.close(read)
    return seconds, held or usage.ru_maxrss * 1024


def _run(file: Path, changes: Mapping[str, Any], lengths: Sequence[int]) -> tuple[float, int]:
    times = []
    for steps in lengths:
        values = {**changes, "trainer.max_steps": steps}
        config = read_config(file, [f"{key}={json.dumps(value)}" for key, value in values.items()])
        with tempfile.TemporaryDirectory() as folder:
            training = Training(config, f"{folder}/run", quiet=True)
            clock = time.perf_counter if training.device.type == "cuda" else time.process_time
            began = clock()
            training.run()
            times.append(clock() - began)
    held = torch.cuda.max_memory_allocated() if training.device.type == "cuda" else 0
    return (times[-1] - times[0]) / STEPS, held


if __name__ == "__main__":
    main(*(int(argument) if argument.isdigit() else argument for argument in sys.argv[1:]))  # type: ignore[arg-type]
