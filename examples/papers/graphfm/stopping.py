"""Prints what each method scores when it is stopped where one task is at its best.

    python examples/papers/graphfm/stopping.py runs/graphfm

Reads scores.jsonl of every arm and seed of a comparison. The best step is chosen on the scores
themselves: it says how far the tasks agree, not what a run would reach on new data.
"""

import json
import sys
from pathlib import Path
from statistics import mean

TASKS = {"nodes": "nodes/accuracy", "links": "links/auc", "clusters": "clusters/nmi"}


def main(directory: str) -> None:
    """Print the table."""
    print(f"| method | stopped by | step | {' | '.join(TASKS)} |")
    print("| --- | --- " + "| ---: " * (len(TASKS) + 1) + "|")
    results = json.loads(Path(directory, "results.json").read_text())
    for method in results["rows"][0]["arms"]:
        runs = [
            [json.loads(line) for line in file.read_text().splitlines()]
            for file in sorted(Path(directory, method).glob("*/scores.jsonl"))
        ]
        if not all(len(run) > 1 for run in runs):
            continue
        for task, name in TASKS.items():
            best = [max(run, key=lambda line: line["scores"][name]) for run in runs]
            scores = [mean(line["scores"][each] for line in best) for each in TASKS.values()]
            cells = " | ".join(f"{score:.3f}" for score in scores)
            print(f"| {method} | {task} | {mean(line['step'] for line in best):.0f} | {cells} |")


if __name__ == "__main__":
    main(sys.argv[1])
