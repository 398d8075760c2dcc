"""Tell how runs of small.yaml cut DNA into words, and what they hide.

python examples/papers/mergedna/words.py RUN [RUN ...]
"""

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

import polymodal
from polymodal import Batch, Step
from polymodal_demo.repeats import Repeats


def figures(path: Path, *, samples: int = 300, show: int = 0) -> dict[str, float]:
    """Return the figures of one run on sequences it was not trained on."""
    run = polymodal.load(path)
    source = Repeats(samples=3 * samples, bases=128, motifs=20, seed=run.config.seed)
    rows: list[dict[str, Any]] = [source.row(3 * number + 2) for number in range(samples)]
    tokens = run.tokenizers["genome"].encode([row["genome"] for row in rows])
    objective, encoder = run.model.objective("learn"), run.model.encoder("genome")
    run.model.eval()
    step = Step(run.model, Batch({"genome": tokens}, samples, torch.arange(samples)))
    with torch.no_grad():
        words = encoder.embed(tokens)
        hidden, _ = objective.hidden(step, words, encoder.contextualize(words, keep=objective.keep))
    word = words.source.numpy()
    motif = np.concatenate([row["motif"] for row in rows]) == 1
    size = np.bincount(word)
    within = np.bincount(word, motif) / size  # share of a word's bases that lie in motifs
    for number, row in enumerate(rows[:show]):
        mine = word[number * 128 : number * 128 + 128]
        cuts = np.flatnonzero(np.diff(mine)) + 1
        marked = [b if m else b.lower() for b, m in zip(row["genome"], row["motif"], strict=True)]
        print(" ".join("".join(part) for part in np.split(np.array(marked), cuts)))
    return {
        "bases a word in repeats": size[within == 0].mean(),
        "bases a word in motifs": size[within == 1].mean(),
        "ratio": size[within == 0].mean() / size[within == 1].mean(),
        "longest word": size.max(),
        "hidden bases in motifs": motif[hidden.numpy()].mean(),
        "all bases in motifs": motif.mean(),
        "lift": motif[hidden.numpy()].mean() / motif.mean(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--show", type=int, default=0, help="print the words of so many sequences")
    arguments = parser.parse_args()
    found = [figures(path, show=arguments.show) for path in arguments.runs]
    for name in found[0]:
        values = [float(each[name]) for each in found]
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        print(f"{name}: {mean(values):.3f}{spread}")


if __name__ == "__main__":
    main()
