"""What the cost ledger costs, and whether its parts add up to the step.

    python -m benchmarks.ledger

First: steps of six objectives that are all measured. Second: the same steps, none measured. At one
measured step in a hundred the overhead is a hundredth of what the ratio has above 1. Then: the
seconds of the parts over those of the step by the clock.
"""

import itertools
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal.config.reading import check_config
from polymodal.model.ledger import summarize
from polymodal.training.train import Training

STEPS = 8
SIZE = {"width": 96, "depth": 3, "heads": 3}


def training(folder: Path, every: int | None) -> Training:
    config: dict[str, Any] = {
        "streams": {
            "image": {
                "tokenizer": {"use": "vision.patches", "size": 32, "patch": 4},
                "encoder": {"use": "vision.vit", **SIZE},
            },
            "text": {
                "tokenizer": {"use": "text.wordpiece", "vocabulary_size": 300},
                "encoder": {"use": "text.transformer", **SIZE},
            },
        },
        "objectives": {
            "clip": {"use": "contrastive.infonce", "streams": ["image", "text"], "dim": 64},
            "pairs": {"use": "contrastive.siglip", "streams": ["image", "text"], "dim": 64},
            "mae": {"use": "masking.mae", "stream": "image"},
            "simmim": {"use": "masking.simmim", "stream": "image"},
            "words": {"use": "masking.tokens", "stream": "text"},
            "views": {"use": "contrastive.simclr", "stream": "image"},
        },
        "data": {"sources": {"digits": "demo.digits"}, "batch_size": 32},
        "trainer": {"max_steps": STEPS, "log_every": STEPS, "device": "cpu"},
    }
    if every:
        config["trainer"]["ledger_every"] = every
    return Training(check_config(config), folder / str(every), quiet=True)


def ready(run: Training) -> Training:
    made = list(itertools.islice(run.batches(), 4))
    run.batches = lambda: itertools.cycle(made)  # type: ignore[method-assign]
    run.save = lambda: None  # type: ignore[method-assign]
    run.save_model = lambda: None  # type: ignore[method-assign]
    return run


def main() -> list[Ratio]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        all_measured, none = (ready(training(Path(folder), every)) for every in (1, None))

        def steps(run: Training) -> None:
            run.step = 0
            run._train()

        found = [
            compare(
                "measured steps / steps",
                lambda: steps(all_measured),
                lambda: steps(none),
                rounds=9,
            )
        ]
        overhead = (found[0].ratio - 1) / 100
        print(f"overhead of the ledger at one step in a hundred: {overhead:.2%}")
        records = all_measured.directory.lines("ledger.jsonl")[STEPS:]
        sums = [s["sum"] / s["step"] for s in (summarize([record]) for record in records)]
        low, middle, high = statistics.quantiles(sums, n=4)
        print(f"sum of the parts / step: {middle:.3f} ({low:.3f} to {high:.3f})")
        step = summarize(records)
        name = "sum of the ledger's parts / step"
        found.append(Ratio(name, middle, low, high, step["sum"], step["step"], len(records)))
    write("ledger", found)
    return found


if __name__ == "__main__":
    main()
