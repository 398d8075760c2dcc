"""Dealing: each sample goes to one objective of a group, by shares, wherever it lies in a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from polymodal.packed.layout import Layout
from polymodal.packed.noise import uniform


@dataclass(frozen=True)
class Hand:
    """What decides how many samples an objective of a group is dealt."""

    share: float  # relative to the others that could take the sample
    streams: tuple[str, ...]  # that a sample must have


def deal(
    groups: Mapping[str, Mapping[str, Hand]],
    present: Mapping[str, Sequence[bool]],
    keys: Int[np.ndarray, " sample"],
    *,
    seed: int,
) -> dict[str, tuple[bool, ...]]:
    """Return, for each objective of a group, which samples are its own.

    A sample goes to one of those that it has the streams for, with chances by their shares, and to
    none if there is none. Which one follows from (seed, group, key of the sample) alone.

    Args:
        groups: by name, their objectives by name.
        present: of each stream, which samples have it.
        keys: of the samples.
        seed: of the draws.
    """
    dealt: dict[str, tuple[bool, ...]] = {}
    for group, hands in groups.items():
        one_each = Layout.of([1] * len(keys))
        draw = uniform(torch.from_numpy(keys), one_each, seed=seed, step=0, name=f"deal/{group}")
        able = np.array(
            [np.all([present[s] for s in hand.streams], axis=0) for hand in hands.values()]
        )  # objective sample
        shares = able * np.array([hand.share for hand in hands.values()])[:, None]
        bounds = shares.cumsum(axis=0)
        place = draw.double().numpy() * bounds[-1]
        taker = (place >= bounds).sum(axis=0)  # the first whose bound lies above; all: nobody
        for number, name in enumerate(hands):
            dealt[name] = tuple((taker == number).tolist())
    return dealt
