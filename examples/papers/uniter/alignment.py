"""Draw how much of each word's mass goes to which region, in runs of small.yaml.

python examples/papers/uniter/alignment.py RUN [RUN ...] --out alignment.png
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

import polymodal
from polymodal_contrastive import alignment
from polymodal_demo.scenes import Scenes
from polymodal_vision.regions import RegionReader


def plan_of(run: Any, scene: dict[str, Any]) -> np.ndarray:
    """Return the transport plan from the words of a scene to its regions."""
    raws = {"text": scene["text"], "regions": RegionReader()(scene["regions"])}
    with torch.no_grad():
        parts = {
            stream: run.model.encoder(stream)(run.tokenizers[stream].encode([raw]))
            for stream, raw in raws.items()
        }
        fused = run.model.module("joint")(parts)
        _, plan = alignment(fused["text"], fused["regions"])
    content = parts["text"].layout.kinds == 0
    return plan[0][content].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("alignment.png"))
    parser.add_argument("--scene", type=int, default=0, help="which validation scene")
    arguments = parser.parse_args()

    source = Scenes(samples=20_000, validation=0.025)
    rows = [number for number, split in enumerate(source.column("split")) if split == "validation"]
    scene = source.row(rows[arguments.scene])
    words, regions = scene["text"].split(), scene["regions"]
    figure, axes = plt.subplots(
        1, len(arguments.runs), figsize=(3.4 * len(arguments.runs), 3.6), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, path in zip(axes[0], arguments.runs, strict=True):
        axis.imshow(plan_of(polymodal.load(path), scene), cmap="Blues")
        axis.set_yticks(range(len(words)), words)
        axis.set_xticks([])
        axis.set_title(path.parent.name or path.name, fontsize=10)
        for word, right in enumerate(scene["partners"]):
            for region in right:
                corner = (region - 0.46, word - 0.46)
                axis.add_patch(plt.Rectangle(corner, 0.92, 0.92, fill=False, color="C1", lw=1.5))
        for number, pixels in enumerate(regions["features"]):
            inset = axis.inset_axes((number / len(words), -0.22, 1 / len(words), 0.2))
            inset.imshow(pixels.reshape(8, 8), cmap="gray_r")
            inset.axis("off")
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
