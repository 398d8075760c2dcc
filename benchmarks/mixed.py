"""Objectives of six papers together against each alone: what each learns, and what a step costs.

    python -m benchmarks.mixed

`examples/mixed.yaml` is trained as it is and with one objective at a time (the virtual adversary
with the words it is asked about), for three seeds, on the same batches. The table has each
objective's loss at the start and at the end, alone and together. First: a step of all. Second: the
steps of each alone, one after the other.
"""

import itertools
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.ratio import Ratio, compare, write
from polymodal.config.reading import check_config
from polymodal.training.train import Training

CONFIG = Path(__file__).parents[1] / "examples" / "mixed.yaml"
STEPS, SAMPLES, LAST, SEEDS = 100, 48, 20, (0, 1, 2)
NEEDS = {"virtual": ["words"]}  # what an objective can't do without


def config_of(names: list[str], seed: int) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    values["objectives"] = {name: values["objectives"][name] for name in names}
    if not any("fusion" in each for each in values["objectives"].values()):
        values["modules"] = {}
    values["evaluate"] = {}
    values["seed"] = seed
    values["data"]["batch_size"] = SAMPLES
    values["trainer"] = {"max_steps": STEPS, "log_every": LAST, "device": "cpu"}
    return values


def training(folder: Path, names: list[str], seed: int = 0) -> Training:
    config = check_config(config_of(names, seed))
    return Training(config, folder / f"{seed}-{'-'.join(names)}", quiet=True)


def losses(folder: Path, names: list[str], seed: int) -> dict[str, tuple[float, float]]:
    """Return each objective's mean loss over the first and over the last steps."""
    run = training(folder, names, seed)
    run.save = lambda: None  # type: ignore[method-assign]
    run.save_model = lambda: None  # type: ignore[method-assign]
    run.run()
    lines = run.directory.lines("metrics.jsonl")
    return {name: (lines[0]["loss"][name], lines[-1]["loss"][name]) for name in names}


def told(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def table(folder: Path, names: list[str], seeds: tuple[int, ...]) -> None:
    together = [losses(folder, names, seed) for seed in seeds]
    print(f"| objective | first {LAST} steps | last {LAST}, alone | last {LAST}, together |")
    print("| --- | ---: | ---: | ---: |")
    for name in names:
        alone = [losses(folder, [*NEEDS.get(name, []), name], seed)[name] for seed in seeds]
        ends = [told([each[name][1] for each in together]), told([end for _, end in alone])]
        print(f"| `{name}` | {told([first for first, _ in alone])} | {ends[1]} | {ends[0]} |")


def cost(folder: Path, names: list[str], rounds: int) -> Ratio:
    whole = training(folder / "cost", names)
    _, (batch,) = next(iter(itertools.islice(whole.batches(), 1)))
    parts = [(training(folder / "cost", [*NEEDS.get(n, []), n]), [n]) for n in names]

    def step(run: Training, of: list[str]) -> None:
        mine = run.to_device(batch)
        run.optimization.backward([mine], of, number=1, total=STEPS)
        run.optimization.apply([mine], of)

    def one_by_one() -> None:
        for run, of in parts:
            step(run, of)

    name = f"a step of {len(names)} objectives / the steps of each"
    return compare(name, lambda: step(whole, names), one_by_one, rounds=rounds)


def main(seeds: tuple[int, ...] = SEEDS, rounds: int = 9) -> list[Ratio]:
    torch.set_num_threads(1)
    names = list(yaml.safe_load(CONFIG.read_text())["objectives"])
    with tempfile.TemporaryDirectory() as folder:
        found = [cost(Path(folder), names, rounds)]
        table(Path(folder), names, seeds)
    write("mixed", found)
    return found


if __name__ == "__main__":
    main()
