"""Hidden patches copied from view 2, without a model: what frames.py makes is scored.

    python examples/papers/croco/copying.py runs/croco_frames.parquet

Shown is the mean squared error of normalised patches, and in brackets that of the best multiple of
what is copied, fitted on the pairs of the training part.
"""

import io
import sys

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

PATCH, HIDDEN = 8, 12


def grey(content: bytes) -> np.ndarray:
    """Return the picture of a file."""
    return np.asarray(Image.open(io.BytesIO(content)), float)


def patches(view: np.ndarray) -> np.ndarray:
    """Return a view's normalised patches [patch, pixel]."""
    side = len(view) // PATCH
    rows = view.reshape(side, PATCH, side, PATCH).swapaxes(1, 2).reshape(side * side, -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.sqrt(rows.var(axis=1, ddof=1, keepdims=True) + 1e-6)


def moved(view: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return a view moved down and to the right; its edge is repeated where it shows nothing."""
    reach = max(abs(down), abs(right))
    wide = np.pad(view, reach, mode="edge")
    top, left = reach - down, reach - right
    return wide[top : top + len(view), left : left + len(view)]


def main(path: str) -> None:
    rows = pq.read_table(path).to_pylist()
    reach = max(abs(step) for row in rows for step in row["shift"])
    shifts = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    generator = np.random.default_rng(0)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for row in rows:
        one, other = grey(row["view_1"]), grey(row["view_2"])
        order = generator.permutation(len(patches(one)))
        hidden, visible = order[:HIDDEN], order[HIDDEN:]
        true = patches(one)
        copies = {shift: patches(moved(other, *shift)) for shift in shifts}
        best = min(shifts, key=lambda s: float(np.square(copies[s] - true)[visible].sum()))
        ways = {"same place": (0, 0), "shift found": best, "shift known": tuple(row["shift"])}
        for way, shift in ways.items():
            both = np.stack([true[hidden], copies[shift][hidden]])
            found.setdefault((way, row["split"]), []).append(both)
    for way in ways:
        true, copy = np.stack(found[way, "train"], axis=1)
        factor = (true * copy).sum() / np.square(copy).sum()
        told = []
        for split in ("validation", "test"):
            true, copy = np.stack(found[way, split], axis=1)
            errors = [np.square(true - scale * copy).mean() for scale in (1, factor)]
            told.append(f"{split} {errors[0]:.3f} ({errors[1]:.3f})")
        print(f"{way}: {', '.join(told)}")


if __name__ == "__main__":
    main(sys.argv[1])
