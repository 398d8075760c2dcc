"""Views on several ranks, in one process; real ranks: tests/core/test_ranks.py."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from polymodal import Step, Teacher
from polymodal_contrastive import pairs
from polymodal_contrastive.moco import MoCo
from polymodal_contrastive.simclr import SimCLR


class Ranked(Step):
    """A step of one rank of several, in one process: first it records its rows, then it gathers."""

    recorded: list
    everyone: list | None = None

    def gather(self, rows):
        self.recorded.append(rows)
        if self.everyone is None:
            return rows
        return torch.cat([rank.pop(0) for rank in self.everyone])


def on_ranks(model, batch, cuts, monkeypatch):
    """The losses of each rank's share of the batch, their candidates from all ranks."""
    objective, steps = model.objective("objective"), []
    for start, end in cuts:
        rows = list(range(start, end))
        share = replace(
            batch,
            streams={name: tokens.take(rows) for name, tokens in batch.streams.items()},
            samples=len(rows),
            keys=batch.keys[start:end],
            fields={name: values[start:end] for name, values in batch.fields.items()},
        )
        steps.append(share)
    recorded = []
    for number, share in enumerate(steps):
        monkeypatch.setattr(pairs, "rank", lambda number=number: number)
        step = Ranked(model, share)
        step.recorded = []
        objective(step)
        recorded.append(step.recorded)
    losses = []
    for number, share in enumerate(steps):
        monkeypatch.setattr(pairs, "rank", lambda number=number: number)
        step = Ranked(model, share)
        step.recorded, step.everyone = [], [list(rows) for rows in recorded]
        losses.append(objective(step))
    return losses


@pytest.mark.parametrize("kind", [SimCLR, MoCo])
@pytest.mark.parametrize("cuts", [[(0, 3), (3, 6)], [(0, 1), (1, 1), (1, 6)]])
def test_views_of_all_ranks_are_each_others_negatives(toys, monkeypatch, kind, cuts):
    model = toys.model(
        {"image": toys.VALUES}, objective=lambda info: kind(info, stream="image", dim=4)
    )
    objective = model.objective("objective")
    # Without batch norm, whose own sums over ranks are tested beside it.
    objective.projector = nn.Linear(8, 4)
    if kind is MoCo:
        objective.predictor = nn.Linear(4, 4)
        objective.key_projector = Teacher(objective.projector)
    image, again = (toys.value_tokens([2, 0, 1, 3, 1, 2], seed=seed) for seed in (1, 2))
    batch = replace(toys.batch(image=image), streams={"image": image, "/again": again})
    whole = toys.loss(model, batch)
    losses = on_ranks(model, batch, cuts, monkeypatch)
    torch.testing.assert_close(sum(loss.total for loss in losses), whole.total)
    assert sum(loss.count for loss in losses) == whole.count
