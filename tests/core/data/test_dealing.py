import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from polymodal import View, load
from polymodal.config.reading import check_config
from polymodal.data.dealing import Hand, deal
from polymodal.data.loader import PackedDataset, in_order
from polymodal.data.reading import StreamReading
from polymodal.data.splits import SplitSource
from polymodal.ground.errors import ConfigError
from polymodal.interfaces.step import Step
from polymodal.training.optimization import Optimization
from polymodal.training.train import Training

REVIEW = {
    "tags": Hand(1, ("diff",)),
    "lines": Hand(1, ("diff",)),
    "comment": Hand(1, ("comment",)),
    "write": Hand(3, ("reviewed", "comment")),
}


def keys(count):
    return np.arange(count) * 7919 + 1


def test_each_sample_goes_to_one_objective_that_it_has_the_streams_for():
    commented = [n % 2 == 0 for n in range(10_000)]
    plain = [not each for each in commented]
    present = {"diff": plain, "comment": commented, "reviewed": commented}
    dealt = deal({"review": REVIEW}, present, keys(10_000), seed=0)
    takers = np.array([dealt[name] for name in REVIEW])
    assert (takers.sum(axis=0) == 1).all()
    assert not takers[:2, commented].any() and not takers[2:, plain].any()
    shares = takers.sum(axis=1) / 5000
    assert shares == pytest.approx([0.5, 0.5, 0.25, 0.75], abs=0.02)


def test_a_sample_without_the_streams_of_any_goes_to_none():
    present = {"diff": [False, True], "comment": [False] * 2, "reviewed": [True, False]}
    dealt = deal({"review": REVIEW}, present, keys(2), seed=0)
    assert [sum(own) for own in zip(*dealt.values(), strict=True)] == [0, 1]


def test_a_draw_follows_from_the_sample_the_group_and_the_seed_alone():
    everywhere = {name: [True] * 64 for name in ("diff", "comment", "reviewed")}
    whole = deal({"a": REVIEW}, everywhere, keys(64), seed=0)
    part = deal({"a": REVIEW}, {s: p[:9] for s, p in everywhere.items()}, keys(64)[40:49], seed=0)
    assert {name: own[40:49] for name, own in whole.items()} == part
    assert deal({"b": REVIEW}, everywhere, keys(64), seed=0) != whole
    assert deal({"a": REVIEW}, everywhere, keys(64), seed=1) != whole


def test_no_groups_and_no_samples_deal_nothing():
    assert deal({}, {"diff": [True]}, keys(1), seed=0) == {}
    empty = {name: [] for name in ("diff", "comment", "reviewed")}
    assert set(deal({"a": REVIEW}, empty, keys(0), seed=0).values()) == {()}


def backwards(raw, sample, generator):
    return raw[::-1].copy()


def test_an_objective_sees_streams_views_and_fields_of_its_own_samples_alone(sensor_module):
    reading = StreamReading("signal", sensor_module.Windows(), sensor_module.Signal())
    hands = {"one": Hand(1, ("signal",)), "other": Hand(1, ("signal",))}
    source = SplitSource("waves", sensor_module.Waves(samples=30))
    dataset = PackedDataset(
        [source], {"signal": reading}, seed=0, fields=("label",), groups={"both": hands},
        views={"one/back": View("signal", backwards)},
    )  # fmt: skip
    batch = dataset[next(in_order([30], 30))]
    assert batch.streams["one/back"].layout.present == batch.dealt["one"]
    step = Step(None, batch)
    seen = {}
    for step.objective in ("one", "other", "neither"):
        seen[step.objective] = step.tokens("signal").layout.present
    assert seen["one"] == batch.dealt["one"] and any(seen["one"])
    assert [a ^ b for a, b in zip(seen["one"], seen["other"], strict=True)] == [True] * 30
    assert all(seen["neither"])
    step.objective = "one"
    own = step.tokens("signal")
    rows = [row for row, mine in enumerate(batch.dealt["one"]) if mine]
    assert torch.equal(own.values, batch.streams["signal"].take(rows).values)
    missing = [label is None for label in step.labels("label")]
    assert missing == [not mine for mine in batch.dealt["one"]]


@pytest.fixture
def grouped(sensor_config):
    sensor_config["objectives"] = {
        name: {"use": "masking.simmim", "stream": "signal", "group": "both", "share": share}
        for name, share in (("often", 3.0), ("seldom", 1.0))
    }
    return sensor_config


def test_a_resumed_run_deals_as_an_uninterrupted_one(grouped, plugins, tmp_path):
    grouped["trainer"]["checkpoint_every"] = 2
    config = check_config(grouped, plugins=plugins)
    Training(config, tmp_path / "whole", plugins=plugins, quiet=True).run()
    cut = Training(config, tmp_path / "cut", plugins=plugins, quiet=True)
    forward = cut.model.forward

    def stop_at_step_3(batch, *, number, **rest):
        if number == 3:
            raise KeyboardInterrupt
        return forward(batch, number=number, **rest)

    cut.model.forward = stop_at_step_3
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    Training(config, tmp_path / "cut", plugins=plugins, quiet=True, resume=True).run()
    one, other = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_with_or_without_groups_can_be_loaded(grouped, plugins, tmp_path):
    grouped["trainer"]["max_steps"] = 1
    del grouped["objectives"]["seldom"]
    for group in ("both", None):
        config = check_config(grouped, plugins=plugins)
        Training(config, tmp_path / str(group), plugins=plugins, quiet=True).run()
        loaded = load(tmp_path / str(group), plugins=plugins).config
        assert loaded.objectives["often"].group == group
        for key in ("group", "share"):
            grouped["objectives"]["often"].pop(key, None)


def test_an_objective_without_samples_in_a_step_is_left_alone(grouped, plugins, tmp_path):
    config = check_config(grouped, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    _, (batch,) = next(training.batches())
    batch.dealt["seldom"] = (False,) * batch.samples
    optimization: Optimization = training.optimization
    optimization.backward([batch], ["often", "seldom"], number=0, total=6)
    before = {n: p.clone() for n, p in training.model.named_parameters()}
    optimization.apply([batch], ["often", "seldom"])
    moved = {n for n, p in training.model.named_parameters() if not torch.equal(p, before[n])}
    assert not [name for name in moved if "seldom" in name]
    assert [name for name in moved if "often" in name]


def test_a_share_needs_a_group_and_a_group_shares_its_steps(grouped, plugins):
    del grouped["objectives"]["often"]["group"]
    with pytest.raises(ConfigError, match="objectives.often.share: is a share of a group's"):
        check_config(grouped, plugins=plugins)
    grouped["objectives"]["often"]["group"] = "both"
    grouped["trainer"]["objectives"] = "one"
    with pytest.raises(ConfigError, match="objectives.seldom.group: with trainer.objectives one"):
        check_config(grouped, plugins=plugins)
