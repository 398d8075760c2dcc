import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

from polymodal import PluginError, Plugins
from polymodal_tracking.names import plain_name

CONFIG = {"seed": 3, "streams": {"image": {"field": "png"}}, "notes": "x" * 600}


def test_metric_names_become_what_every_service_accepts():
    assert plain_name("recall@1 image>text") == "recall_at_1_image_to_text"
    assert plain_name("loss/clip-2.x") == "loss/clip-2.x"


def fresh(monkeypatch, module):
    """Import a component's module anew, against the fakes now in place."""
    monkeypatch.delitem(sys.modules, module, raising=False)
    found = importlib.import_module(module)
    monkeypatch.delitem(sys.modules, module)
    return found


def test_tensorboard_writes_scalars_and_the_config(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from polymodal_tracking.tensorboard import TensorBoard

    tracker = TensorBoard()
    tracker.begin(CONFIG, str(tmp_path))
    tracker.log(1, {"loss/clip": 2.5})
    tracker.log(2, {"loss/clip": 1.25, "find/recall@1 image>text": 0.5})
    tracker.end()
    tracker.end()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/clip")] == [(1, 2.5), (2, 1.25)]
    assert events.Scalars("find/recall_at_1_image_to_text")[0].value == 0.5
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    seed: 3" in text


def test_wandb_gets_the_options_the_config_and_the_numbers(monkeypatch):
    calls = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("end")
    )
    fake = ModuleType("wandb")
    fake.init = lambda **options: calls.append(options) or run
    monkeypatch.setitem(sys.modules, "wandb", fake)
    module = fresh(monkeypatch, "polymodal_tracking.weights_and_biases")
    tracker = module.WeightsAndBiases(project="p", name="n", mode="offline", run_id="abc")
    tracker.begin(CONFIG, "runs/1")
    tracker.log(5, {"loss/clip": 1.0})
    tracker.end()
    tracker.end()
    options, *rest = calls
    assert options["config"] == CONFIG
    assert (options["project"], options["name"], options["dir"]) == ("p", "n", "runs/1")
    assert (options["id"], options["resume"], options["mode"]) == ("abc", "allow", "offline")
    assert rest == [(5, {"loss/clip": 1.0}), "end"]


class FakeClient:
    """Keeps what it is told."""

    made = None

    def __init__(self, tracking_uri=None):
        FakeClient.made = self
        self.uri = tracking_uri
        self.params, self.metrics, self.files, self.ended = [], [], {}, []

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="7") if name == "known" else None

    def create_experiment(self, name):
        return f"new {name}"

    def create_run(self, experiment, *, run_name, tags):
        self.run = (experiment, run_name, tags)
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def log_batch(self, run_id, *, metrics=(), params=()):
        assert run_id == "r1"
        assert len(params) <= 100
        self.params += params
        self.metrics += metrics

    def log_dict(self, run_id, values, name):
        self.files[name] = values

    def set_terminated(self, run_id):
        self.ended.append(run_id)


@pytest.mark.parametrize(("experiment", "home"), [("known", "7"), ("other", "new other")])
def test_mlflow_gets_parameters_the_whole_config_and_metrics(monkeypatch, experiment, home):
    fake, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    fake.MlflowClient = FakeClient
    entities.Metric = lambda key, value, timestamp, step: (key, value, step)
    entities.Param = lambda key, value: (key, value)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    module = fresh(monkeypatch, "polymodal_tracking.mlflow_client")
    tracker = module.MLflow(experiment=experiment, tracking_uri="file:x", tags={"a": "b"})
    tracker.begin({**CONFIG, **{f"k{i}": i for i in range(150)}}, "runs/1")
    tracker.log(5, {"find/recall@1 image>text": 0.5})
    tracker.end()
    tracker.end()
    client = FakeClient.made
    assert client.uri == "file:x"
    assert client.run == (home, None, {"polymodal.directory": "runs/1", "a": "b"})
    assert ("streams.image.field", "png") in client.params
    assert len(client.params) == 152  # all but the long note,
    assert client.files["config.yaml"]["notes"] == "x" * 600  # which is here
    assert client.metrics == [("find/recall_at_1_image_to_text", 0.5, 5)]
    assert client.ended == ["r1"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_not_installed_is_named_when_a_config_names_its_tracker(
    monkeypatch, name
):
    component = Plugins().find(f"tracking.{name}", "tracker")
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, component.target.partition(":")[0], raising=False)
    with pytest.raises(PluginError, match=rf"needs the package '{name}'.*polymodal\[{name}\]"):
        component.load()
