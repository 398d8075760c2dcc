"""What a run of real.yaml gets wrong by the size of the shift, beside copying the same place.

    python examples/papers/croco/shifts.py runs/croco_frames.parquet runs/croco_real/croco/seed-0

The size is the larger of the shift's two numbers. Copied is the best multiple of the same place of
view 2, as in copying.py. The last column is the run's error with `unrelated` for view 2.
"""

import sys

import numpy as np
import pyarrow.parquet as pq
import torch
from copying import grey, patches

from polymodal import Batch, Run, Step, load
from polymodal_masking import CrossView
from polymodal_targets import normalized

Row = dict[str, bytes]
AT_ONCE = 64


def missed(run: Run, rows: list[Row], reference: str) -> list[float]:
    """Return the run's error on each row, with a field of it for view 2."""
    errors: list[float] = []
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        streams = {
            view: run.tokenizers[view].encode(
                [np.repeat(grey(row[field])[..., None], 3, 2).astype(np.uint8) for row in part]
            )
            for view, field in (("view_1", "view_1"), ("view_2", reference))
        }
        step = Step(run.model, Batch(streams, len(part), torch.arange(len(part))))
        objective = run.model.objective("complete")
        assert isinstance(objective, CrossView)
        with torch.no_grad():
            found = objective.complete(step, "view_1")
        target = normalized(found.tokens.rows[found.rows])
        error = (found.values - target).square().mean(dim=1)
        errors += error.reshape(len(part), -1).mean(dim=1).tolist()
    return errors


def main(table: str, path: str) -> None:
    rows = pq.read_table(table).to_pylist()
    both = [[patches(grey(row[view])) for view in ("view_1", "view_2")] for row in rows]
    train = [pair for row, pair in zip(rows, both, strict=True) if row["split"] == "train"]
    factor = sum((a * b).sum() for a, b in train) / sum((b * b).sum() for _, b in train)
    copied = [float(np.square(a - factor * b).mean()) for a, b in both]
    torch.manual_seed(0)  # what is hidden
    run = load(path)
    for split in ("validation", "test"):
        at = [i for i, row in enumerate(rows) if row["split"] == split]
        kept = [rows[i] for i in at]
        sizes = np.array([max(map(abs, row["shift"])) for row in kept])
        columns = [missed(run, kept, "view_2"), [copied[i] for i in at]]
        columns.append(missed(run, kept, "unrelated"))
        for size in sorted(set(sizes)):
            shown = (np.array(column)[sizes == size].mean() for column in columns)
            print(split, size, "run {:.3f}, copied {:.3f}, unrelated {:.3f}".format(*shown))


if __name__ == "__main__":
    main(*sys.argv[1:])
