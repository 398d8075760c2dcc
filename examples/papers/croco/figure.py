"""Draw completions with and without the second view, after the runs of comparison.yaml.

    python examples/papers/croco/figure.py runs/croco/croco/seed-0 runs/croco/unrelated/seed-0 OUT

From top to bottom: view 1, what is left of it, completed by each run, view 2. Predictions are of
normalised patches; they are shown with the mean and deviation of the true ones.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from polymodal import Batch, Run, Step, load
from polymodal_demo.texture_pairs import TexturePairs
from polymodal_masking import CrossView

SEED, COUNT, SCALE = 10_000, 6, 3  # textures no run was trained on


def completed(run: Run, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return view 1 without and with its hidden patches filled in, as values of tokens."""
    step = Step(run.model, batch)
    objective = run.model.objective("complete")
    assert isinstance(objective, CrossView)
    with torch.no_grad():
        found = objective.complete(step, "view_1")
    left, filled = found.tokens.rows.clone(), found.tokens.rows.clone()
    true = filled[found.rows]
    left[found.rows] = 0
    filled[found.rows] = found.values * true.std(1, keepdim=True) + true.mean(1, keepdim=True)
    return left, filled


def main(with_view: str, without_view: str, out: str) -> None:
    """Write the figure."""
    rows = TexturePairs(samples=COUNT, reach=1, seed=SEED).rows(range(COUNT))
    runs = [load(with_view), load(without_view)]
    tokenizers = runs[0].tokenizers
    views = ("view_1", "view_2")
    streams = {view: tokenizers[view].encode([row[view] for row in rows]) for view in views}
    batch = Batch(streams, COUNT, torch.arange(COUNT))
    left, filled = completed(runs[0], batch)
    shown = [streams["view_1"].rows, left, filled, completed(runs[1], batch)[1]]
    lines = []
    for values in [*shown, streams["view_2"].rows]:
        images = tokenizers["view_1"].decode(streams["view_1"].with_rows(values))
        lines.append(np.concatenate([np.pad(i, ((2, 2), (2, 2), (0, 0))) for i in images], axis=1))
    picture = Image.fromarray(np.concatenate(lines))
    size = (picture.width * SCALE, picture.height * SCALE)
    picture.convert("L").resize(size, Image.Resampling.NEAREST).save(Path(out), optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
