"""What the training loop adds to a step: our loop against a bare one, same model and batches.

    python -m benchmarks.overhead

The bare loop is forward, backward, clip and AdamW in five lines; ours adds schedule, noise, counts,
metrics and progress. Batches are made beforehand for both.
"""

import itertools
import tempfile
from pathlib import Path

import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal import total_loss
from polymodal.config.reading import check_config
from polymodal.training.train import Training

STEPS = 20


def training(folder: Path, batch_size: int, depth: int) -> Training:
    config = check_config(
        {
            "streams": {
                "image": {
                    "tokenizer": {"use": "vision.patches", "size": 32, "patch": 8},
                    "encoder": {"use": "vision.vit", "width": 64, "depth": depth, "heads": 2},
                }
            },
            "objectives": {"rebuild": {"use": "masking.simmim", "stream": "image"}},
            "data": {"sources": {"digits": "demo.digits"}, "batch_size": batch_size},
            "trainer": {"max_steps": STEPS, "log_every": STEPS, "device": "cpu"},
            "optimizer": {"schedule": "constant"},
        }
    )
    return Training(config, folder / f"{batch_size}-{depth}", quiet=True)


def measure(folder: Path, batch_size: int, depth: int) -> Ratio:
    run = training(folder, batch_size, depth)
    made = list(itertools.islice(run.batches(), 4))
    run.batches = lambda: itertools.cycle(made)  # type: ignore[method-assign]
    run.save = lambda: None  # type: ignore[method-assign]
    run.save_model = lambda: None  # type: ignore[method-assign]
    bare = training(folder / "bare", batch_size, depth)
    parameters = list(bare.model.parameters())
    optimizer = bare.optimization.optimizers["main"]

    def ours() -> None:
        run.step = 0
        run._train()

    def bare_loop() -> None:
        bare.model.train()
        for number, (_, batches) in enumerate(itertools.islice(itertools.cycle(made), STEPS)):
            loss = total_loss(bare.model(batches[0], number=number), bare.model.weights)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    bare_loop()
    return compare(f"our loop / bare loop, batch {batch_size}, depth {depth}", ours, bare_loop)


def main() -> list[Ratio]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(Path(folder), *shape) for shape in ((1, 1), (4, 3), (16, 6))]
    write("overhead", found)
    return found


if __name__ == "__main__":
    main()
