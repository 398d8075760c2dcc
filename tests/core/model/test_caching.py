"""A comparison over micro-batches, dropout included, is one over the batch they make up."""

import copy

import pytest
import torch
from torch import nn

from polymodal import Comparison, Loss, Need
from polymodal.config.shape import Config
from polymodal.interfaces.step import Step
from polymodal.model.model import PretrainingModel
from polymodal.nn.transformer_encoder import TransformerEncoder
from polymodal.packed.noise import hash_words
from polymodal.testing.toys import take, toy_batch, toy_info
from polymodal.training.optimization import Optimization


class Spread(Comparison):
    """How far the patches' vectors lie from each other's mean, after dropout."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def needs(self):
        return {"patches": Need()}

    def vectors(self, step):
        rows = step.encode("patches").pooled_rows()
        return (rows[torch.tensor(step.rows_with("patches"))], torch.arange(len(rows)))

    def compare(self, step, vectors):
        rows, _ = vectors
        total = self.scale * (rows - rows.mean(dim=0)).square().sum()
        return Loss(total, len(rows), {"rows": (len(rows), 1)})


class Noisy(Spread):
    """Encodes something more, with dropout, before the others do."""

    def vectors(self, step):
        step.encode_tokens("patches", step.tokens("patches"))
        return super().vectors(step)

    def compare(self, step, vectors):
        return Loss(super().compare(step, vectors).total * 0.5, len(vectors[0]))


def make(objectives):
    torch.manual_seed(0)
    spec = toy_info(["patches"])["patches"].spec
    encoder = TransformerEncoder(spec, width=16, depth=1, heads=2, dropout=0.3)
    model = PretrainingModel(
        {"patches": "patches"}, {"patches": encoder}, {"patches": spec}, objectives=objectives
    )
    slot = {"use": "a.b"}
    config = Config.model_validate(
        {
            "streams": {}, "encoders": {"patches": slot},
            "objectives": dict.fromkeys(objectives, slot), "trainer": {"max_steps": 1},
        }
    )  # fmt: skip
    return Optimization(model, config, torch.device("cpu"))


@pytest.mark.parametrize("kinds", [[Spread], [Noisy, Spread]])
def test_dropout_is_the_same_in_both_passes_of_a_micro_batch(kinds):
    optimization = make({kind.__name__: kind() for kind in kinds})
    model = optimization.model
    batch = toy_batch(["patches"], lengths=[3, 5, 2, 6, 1, 4])
    parts = [take(batch, range(2)), take(batch, range(2, 3)), take(batch, range(3, 6))]
    names = list(model.objectives)
    found = optimization.backward(parts, names, number=7, total=9)
    seed = optimization.config.seed

    reference = copy.deepcopy(model)
    reference.zero_grad()
    vectors = {name: [] for name in names}
    for place, part in enumerate(parts):
        torch.manual_seed(hash_words(seed, "micro", 7, 0, place))
        step = Step(reference, part, number=7, total=9)
        for name in names:
            vectors[name].append(reference.comparison(name).vectors(step))
    loss = 0.0
    for name in names:
        rows = tuple(torch.cat(each) for each in zip(*vectors[name], strict=True))
        whole = reference.comparison(name).compare(step, rows)
        torch.testing.assert_close(sum(each[name].total for each in found), whole.total)
        assert sum(each[name].count for each in found) == whole.count == 6
        loss = loss + whole.total / whole.count
    loss.backward()
    for (name, one), other in zip(
        model.named_parameters(), reference.parameters(), strict=True
    ):  # fmt: skip
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    assert found[0]["Spread"].metrics == {"rows": (6, 1)}
