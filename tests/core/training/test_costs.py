"""What a step is said to cost, against what one that is made does cost."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from polymodal.commands.planning import make_plan
from polymodal.config.reading import check_config
from polymodal.ground.errors import ConfigError
from polymodal.training.costs import Expected, Tally
from polymodal.training.train import Training

SMALL = {"width": 64, "depth": 3, "heads": 2}
CONTRASTED = {
    "streams": {
        "image": {
            "tokenizer": {"use": "vision.patches", "size": 32, "patch": 4},
            "encoder": {"use": "vision.vit", **SMALL},
        },
        "text": {
            "tokenizer": {"use": "text.wordpiece", "vocabulary_size": 300, "max_tokens": 48},
            "encoder": {"use": "text.transformer", **SMALL},
        },
    },
    "objectives": {
        "align": {"use": "contrastive.infonce", "streams": ["text", "image"], "anchor": "text"},
        "words": {"use": "masking.tokens", "stream": "text"},
        "pixels": {"use": "masking.mae", "stream": "image"},
    },
    "data": {"sources": {"digits": "demo.digits"}, "batch_size": 24},
    "trainer": {"max_steps": 1, "device": "cpu"},
}
STRUCTURED = {
    "streams": {
        "graph": {
            "tokenizer": {"use": "graph.nodes", "vocabulary": 6, "edge_kinds": 3},
            "encoder": {"use": "graph.transformer", "edges": "bias", **SMALL},
        },
        "text": {
            "tokenizer": {"use": "text.bpe", "vocabulary_size": 300, "max_tokens": 48},
            "encoder": {"use": "text.transformer", "causal": True, "pool": "last", **SMALL},
        },
    },
    "objectives": {
        "nodes": {"use": "masking.tokens", "stream": "graph"},
        "next": {"use": "generation.next_token", "stream": "text"},
    },
    "data": {
        "sources": {
            "graphs": {"use": "demo.graphs", "weight": 1},
            "digits": {"use": "demo.digits", "weight": 1},
        },
        "batch_size": 32,
    },
    "trainer": {"max_steps": 1, "device": "cpu"},
}


def measured(run, batches):
    """Return the operations of a step, and the most memory its passes took, by torch's profiler."""
    run.model.train()
    names = list(run.model.objectives)
    with FlopCounterMode(display=False) as flops:
        run.optimization.backward(batches, names, number=0, total=1)
    # Gradients are there now: nothing but activations and gradients on their way comes on top.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run.optimization.backward(batches, names, number=0, total=1)
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = torch.tensor([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]).cumsum(0)
    return flops.get_total_flops(), int(held.max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "trainer"),
    [
        (CONTRASTED, {}),
        (CONTRASTED, {"gradient_checkpointing": True}),
        (CONTRASTED, {"gradient_checkpointing": "selective", "precision": "bfloat16"}),
        (CONTRASTED, {"accumulate": 2}),
        (STRUCTURED, {}),
    ],
    ids=["contrasted", "checkpointed", "selective", "cached", "structured"],
)
def test_costs_are_those_of_a_step_that_is_made(values, trainer, tmp_path):
    config = check_config({**values, "trainer": {**values["trainer"], **trainer}})
    run = Training(config, tmp_path / "run", quiet=True)
    _, batches = next(run.batches())
    expected = {}
    for name in config.streams:
        lengths = torch.tensor([n for b in batches for n in b.streams[name].layout.lengths])
        full = lengths[lengths > 0]
        expected[name] = Expected(int(full.min()), int(full.max()), len(full) / len(lengths))
    flops, held = measured(run, batches)
    costs = make_plan(config, tokens=expected)["costs"]
    assert abs(costs["flops"] / flops - 1) < 0.15
    assert abs(costs["activation_bytes"] / held - 1) < 0.15


def test_operations_count_their_multiplications_and_what_is_held_of_their_results():
    a, b = torch.ones(4, 8), torch.ones(8, 16)
    with Tally() as tally:
        c = a @ b
        view = c.t()
        assert tally.bytes == 4 * 4 * 16
        other = view * 2
        del c
        assert tally.bytes == 2 * 4 * 4 * 16
        del view
        assert tally.bytes == 4 * 4 * 16
        tally.forget(other)
        del other
    assert tally.flops == 2 * 4 * 8 * 16
    assert (tally.bytes, tally.peak) == (0, 2 * 4 * 4 * 16)


@pytest.mark.parametrize("text", ["signal", "signal=x", "signal=-1", "signal=4:2", "signal=4-3"])
def test_expectations_that_say_something_else_are_refused(text):
    with pytest.raises(ConfigError, match=f"--tokens {text}: write STREAM=TOKENS"):
        Expected.parse(["signal=4", text])


def test_expectations_name_a_stream_its_tokens_and_its_share():
    found = Expected.parse(["signal=4", "text=2-20:0.25"])
    assert found == {"signal": Expected(4, 4), "text": Expected(2, 20, 0.25)}
    lengths = found["text"].lengths(8)
    assert [bool(n) for n in lengths] == [False, False, False, True] * 2
    assert sorted(filter(None, lengths)) == [2, 20]
    assert sorted(Expected(2, 5).lengths(4)) == [2, 3, 4, 5]


def test_costs_follow_what_is_expected(sensor_config, plugins):
    config = check_config(sensor_config, plugins=plugins)

    def costs(**streams):
        return make_plan(config, plugins=plugins, tokens=streams)["costs"]

    whole, half = costs(signal=Expected(16, 16)), costs(signal=Expected(16, 16, 0.5))
    assert whole["flops"] > 0 and abs(half["flops"] / whole["flops"] - 0.5) < 0.05
    assert half["activation_bytes"] < 0.6 * whole["activation_bytes"]
    none = costs(signal=Expected(0, 0))
    assert none["flops"] < 0.05 * whole["flops"]
    assert "costs" not in make_plan(config, plugins=plugins)
    with pytest.raises(ConfigError, match="no stream is called 'signl'. Did you mean 'signal'"):
        costs(signl=Expected(3, 3))


def test_a_stream_without_a_bound_must_be_told():
    values = {**STRUCTURED, "trainer": {"max_steps": 1}}
    found = make_plan(check_config(values), tokens={})["costs"]
    assert found == {"unknown": "streams without a bound on their length: give --tokens graph=N"}
