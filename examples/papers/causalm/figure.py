"""Draw what comparison.yaml found: the true effect of gender, and three estimates of it.

python examples/papers/causalm/figure.py 0.8=runs/causalm [0.65=OTHER ...] --out effect.svg
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

BARS = (  # what, the metric, the arm
    ("ATE: names and pronouns swapped", "ate", "original"),
    ("TReATE: gender forgotten", "treate", "forgets gender"),
    ("TReATE: a coin forgotten", "treate", "random labels"),
    ("CONEXP: women against men", "conexp", "original"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparisons", nargs="+", help="correlation=directory")
    parser.add_argument("--out", type=Path, default=Path("effect.svg"))
    arguments = parser.parse_args()

    labels, found = [], []
    for each in arguments.comparisons:
        correlation, _, directory = each.partition("=")
        rows = json.loads((Path(directory) / "results.json").read_text(encoding="utf-8"))["rows"]
        labels.append(f"correlation {correlation}")
        found.append({row["metric"]: row["arms"] for row in rows if row["evaluation"] == "effect"})
    figure, axis = plt.subplots(figsize=(2.6 + 2.2 * len(found), 3.2), layout="constrained")
    place = np.arange(len(found))
    for number, (name, metric, arm) in enumerate(BARS):
        values = [metrics[metric][arm]["values"] for metrics in found]
        axis.bar(
            place + 0.2 * (number - 1.5),
            [mean(each) for each in values],
            width=0.18,
            yerr=[stdev(each) if len(each) > 1 else 0 for each in values],
            label=name,
            color=("0.3", "C0", "C9", "C1")[number],
        )
    axis.set_xticks(place, labels)
    axis.set_ylabel("change of probabilities (L1)")
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(arguments.out)


if __name__ == "__main__":
    main()
