"""Rotation prediction: by how many quarter turns was this rotated? (Gidaris et al., 2018)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from polymodal import FromRun, Loss, Need, Objective, Step, StreamInfo, StreamName, View

TURNS = 4


def turned(
    raw: Any, sample: Mapping[str, Any], generator: np.random.Generator, *, turns: int
) -> np.ndarray:
    """Return an array [..., height, width, channel] rotated by so many quarter turns, to the left.

    Four turns are none.
    """
    return np.ascontiguousarray(np.rot90(raw, turns, axes=(-3, -2)))


class Rotation(Objective):
    """Tell by 0, 90, 180 or 270 degrees a picture was rotated, from its pooled vector.

    All four rotations of each sample are scored, as in the paper (section 3.1), each one count:
    the stream itself is the first, the others are made of the raw value before the tokenizer's
    own augmentation. For streams whose raw values are arrays [..., height, width, channel]:
    images and clips. They should be square, or their shape tells the answer.

    Args:
        info: the streams.
        stream: whose samples.

    Raises:
        ValueError: an unknown stream, or one whose tokens have no places in a plane.
    """

    def __init__(self, info: FromRun[Mapping[str, StreamInfo]], *, stream: StreamName):
        super().__init__()
        Need(values=True).check(info, stream)
        if info[stream].spec.axes < 2:
            raise ValueError(
                f"only what lies in a plane can be rotated, but stream {stream!r} has positions on "
                "one axis"
            )
        self.stream = stream
        self.head = nn.Linear(info[stream].width, TURNS)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with values."""
        return {self.stream: Need(values=True)}

    def views(self) -> Mapping[str, View]:
        """Return the three rotated views."""
        return {
            f"turned_{turns}": View(self.stream, partial(turned, turns=turns))
            for turns in range(1, TURNS)
        }

    def forward(self, step: Step) -> Loss:
        """Return the cross-entropy over all rotations of samples that have the stream."""
        pooled = [step.encode(self.stream).pooled_rows()]
        for turns in range(1, TURNS):
            tokens = step.tokens(f"{step.objective}/turned_{turns}")
            pooled.append(step.encode_tokens(self.stream, tokens).pooled_rows())
        device = pooled[0].device
        rows = torch.tensor(step.rows_with(self.stream), dtype=torch.int64, device=device)
        logits = self.head(torch.cat([each[rows] for each in pooled])).float()
        target = torch.arange(TURNS, device=device).repeat_interleave(len(rows))
        right = (logits.argmax(dim=1) == target).sum()
        count = TURNS * len(rows)
        total = F.cross_entropy(logits, target, reduction="sum")
        return Loss(total, count, {"accuracy": (right, count)})

    def count(self, step: Step) -> int:
        """Return how many rotations of samples there are."""
        return TURNS * len(step.rows_with(self.stream))
