from dataclasses import replace

import pytest
import torch
from torch import nn

from polymodal import Teacher
from polymodal.step import Step
from polymodal_contrastive import pairs
from polymodal_contrastive.infonce import InfoNCE
from polymodal_contrastive.moco import MoCo
from polymodal_contrastive.siglip import SigLIP
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


@pytest.mark.parametrize("kind", [InfoNCE, SigLIP])
@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("cuts", [[(0, 3), (3, 6)], [(0, 1), (1, 1), (1, 6)]])
def test_any_number_of_ranks_gives_the_loss_and_gradients_of_one(
    toys, monkeypatch, kind, tile, cuts
):
    specs = dict.fromkeys(("image", "text", "sound"), toys.VALUES)
    model = toys.model(
        specs,
        objective=lambda info: kind(info, streams=list(specs), same="label", tile=tile),
    )
    batch = toys.batch(
        image=toys.value_tokens([2, 0, 1, 3, 1, 2], seed=1),
        text=toys.value_tokens([1, 2, 2, 1, 1, 0], seed=2),
        sound=toys.value_tokens([0, 1, 1, 2, 1, 1], seed=3),
    )
    batch = replace(batch, fields={"label": ("a", "b", "a", "c", None, "b")})
    whole = toys.loss(model, batch)
    parameters = [p for p in model.parameters() if p.requires_grad]
    expected = torch.autograd.grad(whole.total, parameters)
    losses = on_ranks(model, batch, cuts, monkeypatch)
    total = sum(loss.total for loss in losses)
    torch.testing.assert_close(total, whole.total)
    assert sum(loss.count for loss in losses) == whole.count
    assert sum(int(loss.metrics["accuracy"][0] * 2) for loss in losses) == int(
        whole.metrics["accuracy"][0] * 2
    )
    found = torch.autograd.grad(total, parameters)
    for one, many in zip(expected, found, strict=True):
        torch.testing.assert_close(many, one, atol=1e-5, rtol=1e-4)


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
