"""CPU time to the first batch of a run resumed late against one resumed early.

    python -m benchmarks.resuming

The order of samples is computed from the position, not replayed: going on after 10^7 samples should
cost what going on after 10^3 does, in the thousandth epoch of a small source as in the first of a
large one. Both sides start a loader and read one batch.
"""

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal.config.reading import check_config
from polymodal.training.train import Training

EARLY = 10**3
ROWS = {"10,000 rows": 10**4, "20 million rows": 2 * 10**7}


def training(folder: Path, rows: int) -> Training:
    config = check_config(
        {
            "streams": {
                "graph": {
                    "tokenizer": {"use": "graph.nodes", "vocabulary": 6, "edge_kinds": 3},
                    "encoder": {"use": "graph.gnn", "width": 16, "depth": 1},
                }
            },
            "objectives": {"edges": {"use": "masking.edges", "stream": "graph"}},
            "data": {
                "sources": {"graphs": {"use": "demo.graphs", "samples": rows}},
                "batch_size": 64,
            },
            "trainer": {"max_steps": 10**6, "device": "cpu"},
        }
    )
    return Training(config, folder / str(rows), quiet=True)


def measure(run: Training, name: str, late: int) -> Ratio:
    def first_batch(position: int) -> object:
        run.position = position
        return next(run.batches())

    return compare(
        f"first batch after {late:.0e} samples / after {EARLY:.0e}, {name}",
        lambda: first_batch(late),
        lambda: first_batch(EARLY),
        clock=time.process_time,
    )


def main() -> list[Ratio]:
    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in ROWS.items():
            run = training(Path(folder), rows)
            found += [measure(run, name, late) for late in (10**5, 10**7)]
    write("resuming", found)
    return found


if __name__ == "__main__":
    main()
