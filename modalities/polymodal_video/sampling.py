"""Which frames of a clip to look at."""

from typing import Literal

import numpy as np
from jaxtyping import Int

Sampling = Literal["uniform", "dense", "random"]


def frame_indices(
    available: int,
    wanted: int,
    *,
    sampling: Sampling,
    stride: int = 1,
    generator: np.random.Generator | None = None,
) -> Int[np.ndarray, " frame"]:
    """Return the frames to take, ascending: `wanted` of them, or all of a clip with fewer.

    "uniform" cuts the clip into equal stretches and takes the middle frame of each; "random" a
    random frame of each (TSN: Wang et al., 2016, section 3.1), the middle one without a generator;
    "dense" takes frames `stride` apart from a random start, or around the middle without a
    generator; where the clip is too short for that, fewer.
    """
    if sampling == "dense":
        count = min(wanted, (available - 1) // stride + 1)
        room = available - (count - 1) * stride  # possible starts
        start = room // 2 if generator is None else int(generator.integers(room))
        return start + np.arange(count) * stride
    count = min(wanted, available)
    edges = np.arange(count + 1) * available / count
    if sampling == "uniform" or generator is None:
        middles: Int[np.ndarray, " frame"] = ((edges[:-1] + edges[1:]) / 2).astype(np.int64)
        return middles
    drawn = edges[:-1] + generator.random(count) * np.diff(edges)
    return drawn.astype(np.int64).clip(max=available - 1)
