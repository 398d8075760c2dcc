import pytest
import torch

from polymodal import Sharing
from polymodal.interfaces.component import Need
from polymodal.interfaces.objective import Loss, Objective
from polymodal.model.model import PretrainingModel
from polymodal.testing.toys import TOY_STREAMS, toy_batch


class Hiding(Sharing):
    """Shares noise of its own."""

    made = 0

    def needs(self):
        return {"words": Need()}

    def share(self, step):
        self.made += 1
        return step.uniform("choice", step.tokens("words"))

    def forward(self, step):
        return Loss(step.shared(self).sum(), 1)


class Reading(Objective):
    """Reads what another objective shares."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def needs(self):
        return {"words": Need()}

    def forward(self, step):
        total = step.shared(step.model.objective(self.other)).sum()
        assert step.objective == "reading"
        return Loss(total, 1)


def model(order):
    stream = TOY_STREAMS["words"]
    objectives = {"hiding": Hiding(), "reading": Reading("hiding")}
    return PretrainingModel(
        {"words": "words"}, {"words": stream.encoder()}, {"words": stream.spec},
        objectives={name: objectives[name] for name in order},
    )  # fmt: skip


def test_what_is_shared_is_made_once_a_step_with_the_makers_noise():
    batch = toy_batch(["words"])
    losses = []
    for order in (["hiding", "reading"], ["reading", "hiding"]):
        found = model(order)
        result = found(batch, number=3)
        assert found.objective("hiding").made == 1
        losses += [result["hiding"].total, result["reading"].total]
    losses.append(
        model(["hiding", "reading"])(batch, number=3, objectives=["hiding"])["hiding"].total
    )
    assert all(torch.equal(each, losses[0]) for each in losses)


def test_an_objective_that_shares_nothing_says_so():
    found = model(["hiding", "reading"])
    found.objective("reading").other = "reading"
    with pytest.raises(TypeError, match="Reading shares nothing"):
        found(toy_batch(["words"]), objectives=["reading"])
