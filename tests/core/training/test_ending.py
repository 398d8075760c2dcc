"""How runs end that must not go on: nothing wrong is kept, nothing done is lost."""

import json
import os
import signal
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from polymodal import DataError, Evaluation, PluginError, PolymodalError, hookimpl, load
from polymodal.config.reading import check_config
from polymodal.ground.errors import ConfigError, Stopped
from polymodal.training.checkpoint import checkpoints
from polymodal.training.train import Training


@pytest.fixture
def small(sensor_config):
    sensor_config["streams"]["signal"]["encoder"] = {
        "use": "sensor.transformer", "width": 8, "depth": 1, "heads": 1
    }  # fmt: skip
    sensor_config["trainer"] |= {"max_steps": 3}
    return sensor_config


def training_of(values, directory, plugins, **options):
    config = check_config(values, plugins=plugins)
    return Training(config, directory, plugins=plugins, quiet=True, **options)


def weights_of(training):
    return {name: p.detach().clone() for name, p in training.model.named_parameters()}


def spoil_gradient(training, objective, at):
    """Let one parameter's gradient be NaN in one step, the loss being what it is."""
    model, seen = training.model, {"number": None}
    forward = model.forward

    def noting(batch, *, number, **rest):
        seen["number"] = number
        return forward(batch, number=number, **rest)

    def spoil(gradient):
        return gradient * float("nan") if seen["number"] == at else gradient

    model.forward = noting
    next(model.objective(objective).parameters()).register_hook(spoil)


@pytest.mark.parametrize(("waits", "at"), [(True, 2), (False, 1)])
def test_a_gradient_that_is_no_number_moves_nothing(small, plugins, tmp_path, at, waits):
    small["objectives"]["other"] = dict(small["objectives"]["rebuild"])
    small["trainer"] |= {"checkpoint_every": 1, "log_every": 3}
    training = training_of(small, tmp_path / "run", plugins)
    training.optimization.waits = waits  # an accelerator is only asked when a line is written
    spoil_gradient(training, "rebuild", at)
    message = f"gradient of objective 'rebuild' is not finite at step {at + 1}"
    with pytest.raises(PolymodalError, match=message) as caught:
        training.run()
    said = str(caught.value)
    assert f"go on from the last checkpoint, of step {at}, by --resume with a lower" in said
    (*_, last) = checkpoints(tmp_path / "run" / "checkpoints")
    kept = load_file(last / "model.safetensors")
    found = weights_of(training)
    assert all(value.isfinite().all() for value in found.values())
    assert all(torch.equal(kept[name], found[name]) for name in kept if name in found)
    # The advice can be followed.
    small["optimizer"] = {"learning_rate": 1e-4}
    again = training_of(small, tmp_path / "run", plugins, resume=True)
    again.run()
    assert again.step == 3 and "not those of the run's last start" in again.warnings[0]


def test_a_signal_saves_the_run_which_then_goes_on(small, plugins, tmp_path):
    whole = training_of(small, tmp_path / "whole", plugins)
    whole.run()
    training = training_of(small, tmp_path / "run", plugins)
    batches = training.batches

    def signalled():
        for number, each in enumerate(batches()):
            if number == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield each

    training.batches = signalled
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 2 of 3; all is saved"):
        training.run()
    load(tmp_path / "run", plugins=plugins)
    again = training_of(small, tmp_path / "run", plugins, resume=True)
    assert again.step == 2
    again.run()
    one, other = weights_of(whole), weights_of(again)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_checkpoints_come_by_time(small, plugins, tmp_path):
    small["trainer"]["checkpoint_minutes"] = 1e-9
    training = training_of(small, tmp_path / "run", plugins)
    saved = []
    training.save = lambda: saved.append(training.step)
    training.run()
    assert saved == [1, 2, 3]


def test_data_that_changed_is_refused_or_gone_on_with(small, plugins, tmp_path):
    training_of(small, tmp_path / "run", plugins).run()
    small["trainer"]["max_steps"] = 4
    small["data"]["sources"]["waves"]["samples"] = 60
    config = tmp_path / "run" / "config.yaml"
    old, new = "use: sensor.waves", "use: sensor.waves\n      samples: 60"
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(DataError, match=r"'waves' has 60 rows, but had 64.*changed_data=true"):
        training_of(small, tmp_path / "run", plugins, resume=True)
    small["trainer"]["changed_data"] = True
    again = training_of(small, tmp_path / "run", plugins, resume=True)
    again.run()
    assert again.step == 4 and "60 rows" in again.warnings[0]


def test_a_fingerprint_tells_data_of_as_many_rows_apart():
    from polymodal.training.resuming import changes

    old = {"a": {"rows": 3, "fingerprint": "x"}, "b": {"rows": 3, "fingerprint": None}}
    new = {"a": {"rows": 3, "fingerprint": "y"}, "b": {"rows": 3, "fingerprint": "z"},
           "c": {"rows": 1, "fingerprint": None}}  # fmt: skip
    assert changes(old, new) == ["source 'a' holds other data than when the run began"]


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_gone_on_from(small, plugins, tmp_path):
    small["trainer"]["checkpoint_every"] = 1
    whole = training_of(small, tmp_path / "run", plugins)
    whole.run()
    newest = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    (newest / "state.pt").write_bytes((newest / "state.pt").read_bytes()[:-9])
    again = training_of(small, tmp_path / "run", plugins, resume=True)
    assert again.step == 2
    again.run()
    assert "state.pt is not what was written" in again.warnings[0]
    one, other = weights_of(whole), weights_of(again)
    assert all(torch.equal(one[name], other[name]) for name in one)


class Scoreless(Evaluation):
    def needs(self):
        return {}

    def run(self, probe):
        raise DataError("the split has one class")


class Buggy(Scoreless):
    def run(self, probe):
        return [1, 2][7]


def test_an_evaluation_that_cannot_score_fails_alone(small, plugins, tmp_path):
    small["evaluate"] = {
        "held": {"use": "evaluation.held_out", "objective": "rebuild", "source": "waves"}
    }
    training = training_of(small, tmp_path / "run", plugins)
    training.evaluations |= {"one_class": Scoreless(), "buggy": Buggy()}
    rows = training.run()
    assert {row["evaluation"] for row in rows} == {"held"}
    failed = {
        "one_class": "the split has one class",
        "buggy": "IndexError: list index out of range",
    }
    assert training.failed == failed
    (line,) = (tmp_path / "run" / "scores.jsonl").read_text().splitlines()
    assert json.loads(line)["failed"] == failed
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["failed"] == failed


def plugin_with(hook):
    module = ModuleType("falling")
    module.polymodal_register = hookimpl(specname="polymodal_register")(lambda registry: None)

    def fall(**_):
        raise KeyError("nope")

    def started(directory, config):
        fall()

    def ended(directory, error):
        fall()

    def built(model, config):
        fall()

    makes = {"run_started": started, "run_ended": ended, "model_built": built}
    setattr(module, f"polymodal_{hook}", hookimpl(makes[hook]))
    return module


@pytest.mark.parametrize("hook", ["model_built", "run_started", "run_ended"])
def test_a_hook_that_raises_is_one_line_with_its_plugin(small, plugins, tmp_path, hook):
    plugins.register("falling", plugin_with(hook))
    with pytest.raises(PluginError, match=f"'falling' failed in its hook polymodal_{hook}: KeyErr"):
        training_of(small, tmp_path / "run", plugins).run()


def test_a_hook_that_raises_at_the_end_hides_no_error(small, plugins, tmp_path):
    plugins.register("falling", plugin_with("run_ended"))
    training = training_of(small, tmp_path / "run", plugins)
    spoil_gradient(training, "rebuild", 0)
    with pytest.raises(PolymodalError, match="gradient of objective"):
        training.run()


def test_a_run_without_any_target_is_no_success(small, plugins, tmp_path):
    small["streams"]["other"] = {**small["streams"]["signal"], "field": "label", "many": True}
    small["objectives"]["rebuild"]["stream"] = "other"
    small["data"]["max_skipped"] = 1.0
    training = training_of(small, tmp_path / "run", plugins)
    with pytest.raises(DataError, match="could not be used|nothing was trained"):
        training.run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["objectives"].clear(), "objectives: there is nothing to train"),
        (lambda v: v["objectives"]["rebuild"].update(weight=0), "every objective has weight 0"),
        (lambda v: v["trainer"].update(epochs=1), "give one of the two"),
        (
            lambda v: v["data"]["sources"].update(more={"use": "sensor.waves", "weight": 2}),
            "data.sources.waves: has no weight, but 'more' has one",
        ),
        (
            lambda v: (
                v["data"].update(batch_size=1),
                v["objectives"].update(c={"use": "contrastive.simclr", "stream": "signal"}),
            ),
            "data.batch_size: is 1, but contrastive.simclr compares",
        ),
    ],
)
def test_a_training_of_nothing_or_of_something_else_is_refused(
    small, plugins, tmp_path, change, message
):
    change(small)
    with pytest.raises(ConfigError, match=message):
        training_of(small, tmp_path / "run", plugins)
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_may_be_meant(small, plugins, tmp_path):
    small["objectives"] = {}
    small["data"] = {}
    small["trainer"]["max_steps"] = 0
    training_of(small, tmp_path / "run", plugins).run()
    assert load(tmp_path / "run", plugins=plugins).embed("signal", [[1.0] * 8]).shape == (1, 8)


def test_a_source_of_fewer_rows_than_its_share_of_a_batch_is_told(small, plugins, tmp_path):
    small["objectives"]["c"] = {"use": "contrastive.simclr", "stream": "signal", "dim": 4}
    small["data"]["sources"]["waves"] |= {"samples": 4}
    training = training_of(small, tmp_path / "run", plugins)
    training.run()
    assert "source 'waves' has 3 rows, but some 8 samples of a batch: 'c'" in training.warnings[0]


def test_a_label_that_is_no_class_is_told_with_its_objective_and_row(small, plugins, tmp_path):
    small["objectives"]["kind"] = {
        "use": "supervised.classification", "stream": "signal", "label": "label",
        "classes": ["0", "2"],
    }  # fmt: skip
    with pytest.raises(DataError, match=r"^objectives.kind: row \d+ of 'waves': .*'label' holds 1"):
        training_of(small, tmp_path / "run", plugins).run()
