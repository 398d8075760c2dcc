"""A probe over vectors given by hand."""

import numpy as np

from polymodal import DataError, Features


class FakeProbe:
    """Vectors by (stream, split), with fields, and prompts by text."""

    def __init__(self, *, seed=0, prompts=None):
        self.seed = seed
        self.prompts = prompts or {}
        self.splits = {}
        self.asked = []

    def add(self, stream, split, vectors, *, rows=None, **fields):
        vectors = np.asarray(vectors, dtype=np.float32)
        rows = np.arange(len(vectors)) if rows is None else np.asarray(rows)
        self.splits[stream, split] = Features(vectors, rows, fields)
        return self

    def size(self, source, split):
        return any(known == split for _, known in self.splits)

    def features(self, stream, *, source, split, objective=None, each="sample"):
        self.asked.append((stream, source, split, objective))
        if (stream, split) not in self.splits:
            raise DataError(f"source {source!r} has no {split} rows")
        return self.splits[stream, split]

    def encode(self, stream, raws, *, objective=None):
        self.asked.append((stream, tuple(raws), objective))
        return np.array([self.prompts[raw] for raw in raws], dtype=np.float32)


def blobs(size, *, classes=3, width=5, seed=0, spread=1.0):
    """Vectors around one centre a class, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % classes
    centres = np.random.default_rng(99).normal(size=(classes, width))
    return centres[labels] + spread * rng.normal(size=(size, width)), labels.tolist()
