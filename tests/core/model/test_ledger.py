"""The ledger's gradients are those of one objective alone, and measuring leaves no trace."""

import copy
from collections import defaultdict

import pytest
import torch
from torch import nn

from polymodal import Loss, Need, Objective
from polymodal.interfaces.step import Step
from polymodal.model.ledger import Ledger, summarize
from polymodal.model.model import PretrainingModel, total_loss
from polymodal.plugins.discovery import installed
from polymodal.testing.toys import TOY_STREAMS, toy_batch, toy_info

STREAMS = ("patches", "words")


class Counting(Objective):
    """Counts its passes in a buffer, draws from torch, and reads nothing that is shared."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("passes", torch.zeros(()))

    def needs(self):
        return {"words": Need()}

    def forward(self, step):
        self.passes += 1
        noise = torch.rand(3)
        return Loss((self.weight * noise).sum(), 1)


def make():
    find = installed().find
    info = toy_info(STREAMS)
    torch.manual_seed(0)
    infonce = find("contrastive.infonce", "objective").load()
    tokens = find("masking.tokens", "objective").load()
    half = find("hiding.tokens", "hiding").load()(0.5)
    objectives = {
        "align": infonce(info, streams=list(STREAMS), dim=8),
        "words": tokens(info, stream="words", hide=half),
        "count": Counting(),
    }
    return PretrainingModel(
        {s: s for s in STREAMS},
        {s: TOY_STREAMS[s].encoder() for s in STREAMS},
        {s: TOY_STREAMS[s].spec for s in STREAMS},
        objectives=objectives,
        weights={"align": 0.5},
    )


def ledger_of(model, every=1):
    return Ledger(model, every, lambda: torch.autocast("cpu", enabled=False), torch.device("cpu"))


def measured(model, number):
    ledger = ledger_of(model)
    ledger.begin(number)
    batch = toy_batch(STREAMS, lengths=[3, 4, 2, 5], absent={"words": [1]})
    ledger.measure(batch, list(model.objectives), number, total=9, seed=3)
    ledger.lap("passes")
    return batch, ledger.end(number, 1)


def gradient(model, batch, name, number):
    step = Step(model, batch, number=number, total=9, seed=3)
    step.objective = name
    loss = total_loss({name: model.objective(name)(step)}, model.weights)
    weights = list(model.parameters())
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    pairs = zip(weights, found, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])


def test_norms_and_cosine_are_those_of_each_objective_alone():
    model = make()
    batch, record = measured(model, 0)
    assert record["cosine"]["of"] == ["align", "words"]
    one, other = (gradient(model, batch, name, 0) for name in ("align", "words"))
    for name, found in (("align", one), ("words", other)):
        norm = record["objectives"][name]["gradient_norm"]
        assert norm == pytest.approx(float(found.norm()), rel=1e-5)
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
    assert abs(cosine) > 1e-4
    assert record["cosine"]["value"] == pytest.approx(float(cosine), rel=1e-3)


def test_pairs_take_turns():
    model = make()
    pairs = [measured(model, number)[1]["cosine"]["of"] for number in range(4)]
    assert pairs == [["align", "words"], ["align", "count"], ["words", "count"], ["align", "words"]]


def test_measuring_leaves_weights_buffers_gradients_and_noise_as_they_were():
    model = make()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    measured(model, 0)
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_each_encoding_is_one_line_and_what_an_objective_encodes_itself_is_its_own():
    model = make()
    batch, record = measured(model, 0)
    lengths = {s: batch.streams[s].layout.tokens for s in STREAMS}
    # masking.tokens encodes a corrupted copy of its own, so "words" is shared by "align" alone.
    assert {s: line["tokens"] for s, line in record["encodings"].items()} == lengths
    assert record["objectives"]["align"]["tokens"] == sum(lengths.values())
    assert record["objectives"]["words"]["saved"] > record["objectives"]["count"]["saved"]
    assert min(line["backward"] for line in record["encodings"].values()) > 0


def test_saved_bytes_are_those_that_the_backward_pass_holds():
    model = make()
    record = measured(model, 0)[1]
    seen, total = set(), defaultdict(int)
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen | parameters:
            seen.add(storage.data_ptr())
            total["bytes"] += storage.nbytes()
        return tensor

    batch = toy_batch(STREAMS, lengths=[3, 4, 2, 5], absent={"words": [1]})
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(batch, number=0, total=9, seed=3)
    parts = [*record["objectives"].values(), *record["encodings"].values()]
    assert sum(part["saved"] for part in parts) == pytest.approx(total["bytes"], rel=0.05)


def test_other_steps_are_not_measured():
    ledger = ledger_of(make(), every=2)
    ledger.begin(0)
    ledger.measure(None, [], 0)
    assert ledger.end(0, 1) is None


def test_a_summary_gives_means_of_a_step():
    def record(forward, norm):
        part = {"tokens": 10, "forward": forward, "backward": 0.2, "saved": 8}
        return {
            "step": 1, "micro_batches": 2, "cosine": {"of": ["a", "b"], "value": 0.5},
            "seconds": {"waiting": 0.1, "moving": 0.1, "passes": 2.0, "update": 0.2},
            "objectives": {"a": {**part, "gradient_norm": norm}}, "encodings": {"s": part},
        }  # fmt: skip

    found = summarize([record(0.1, 1.0), record(0.3, 3.0)])
    assert found["step"] == pytest.approx(2.4)
    line = found["parts"][0]
    assert (line["part"], line["tokens"], line["gradient_norm"]) == ("a", 20, 2.0)
    assert line["seconds"] == pytest.approx(2 * (0.2 + 0.2))
    assert found["sum"] == pytest.approx(2 * 0.8 + 0.4)
    assert found["cosines"] == [{"of": ["a", "b"], "value": 0.5, "samples": 2}]
