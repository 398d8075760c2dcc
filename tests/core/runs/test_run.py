import json
import shutil
from types import ModuleType

import pytest
import torch
from torch import nn

from polymodal import (
    DataError,
    Method,
    PluginError,
    PolymodalError,
    UnreadableError,
    hookimpl,
    load,
)
from polymodal.config.reading import check_config
from polymodal.ground.errors import ConfigError
from polymodal.plugins.discovery import Plugins
from polymodal.runs.directory import RunDirectory
from polymodal.training.train import Training


@pytest.fixture
def two_streams(sensor_config):
    """Two streams that share one tokenizer and one encoder, and one with its own."""
    encoder = sensor_config["streams"]["signal"]["encoder"]
    sensor_config["tokenizers"] = {"windows": {"use": "sensor.windows"}}
    sensor_config["encoders"] = {"shared": encoder}
    sensor_config["streams"] = {
        "signal": {"tokenizer": "windows", "encoder": "shared"},
        "again": {"tokenizer": "windows", "encoder": "shared", "field": "signal"},
        "other": {"tokenizer": "windows", "encoder": encoder, "field": "signal"},
    }
    sensor_config["objectives"] = {
        "align": {"use": "contrastive.infonce", "streams": ["signal", "other"], "dim": 8}
    }
    sensor_config["evaluate"] = {
        "probe": {
            "use": "evaluation.linear_probe",
            "stream": "signal",
            "source": "waves",
            "label": "label",
        }
    }
    return sensor_config


@pytest.fixture
def trained(two_streams, plugins, tmp_path):
    config = check_config(two_streams, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    training.run()
    return tmp_path / "run", training


def test_a_loaded_model_gives_the_vectors_it_was_saved_with(trained, plugins):
    directory, training = trained
    run = load(directory, plugins=plugins)
    signal = [[float(i % 5) for i in range(24)], [1.0] * 8]
    before = training.probe().encode("signal", signal, objective="align")
    assert (run.embed("signal", signal, objective="align") == before).all()
    assert run.model.encoder("signal") is run.model.encoder("again")


def test_scores_stand_beside_chance_and_the_untrained_model(trained):
    found = json.loads((trained[0] / "evaluation.json").read_text())
    (row,) = found["scores"]
    assert row["evaluation"] == "probe" and row["metric"] == "accuracy"
    assert {"value", "chance", "untrained", "samples"} <= set(row)


def test_evaluating_a_saved_run_repeats_its_scores(trained, plugins):
    from polymodal.model.probing import run_evaluations

    directory, _ = trained
    run = load(directory, plugins=plugins)
    scores, failed = run_evaluations(run.builder.evaluations(), run.probe())
    assert not failed
    saved = json.loads((directory / "evaluation.json").read_text())["scores"]
    assert [s.value for s in scores["probe"]] == [row["value"] for row in saved]


def test_what_has_no_vector_is_refused_and_told(trained, plugins):
    with pytest.raises(PolymodalError, match=r"^device: 'cuda:99' can't be used here"):
        load(trained[0], device="cuda:99", plugins=plugins)
    run = load(trained[0], plugins=plugins)
    for value in ("one text", b"bytes", {"path": "a.wav"}):
        with pytest.raises(DataError, match="embedding takes a list of values, got one"):
            run.embed("signal", value)

    for value, reason in ((None, "it is empty"), ([1.0], "it has no tokens")):
        with pytest.raises(UnreadableError, match=f"value 1 of 2 .*'signal': {reason}"):
            run.embed("signal", [[1.0] * 8, value])
    vectors, skipped = run.probe().encode_readable("signal", [None, [2.0] * 8, [], ["x"]])
    assert vectors.shape == (1, 64)
    assert list(skipped) == [0, 2, 3] and skipped[3].startswith("ValueError: ")


DAMAGES = [
    ("config.yaml", b"", "config.yaml is damaged: it holds no config of a run"),
    ("config.yaml", b"\xff\xfe", "config.yaml is damaged: not UTF-8"),
    ("config.yaml", b"streams: [", "config.yaml is damaged: .*not valid YAML"),
    ("requirements.json", b"{", "requirements.json is damaged: JSONDecodeError"),
    ("tokenizers/windows.json", b"[1", "windows.json can't be loaded: JSONDecodeError"),
    ("tokenizers/windows.json", b'{"a": 1}', "windows.json can't be loaded: ValueError"),
    ("model.safetensors", b"\0" * 8, "model.safetensors is damaged: it is not what was"),
    ("checksums.json", b"\0", "checksums.json is damaged: JSONDecodeError"),
]


def test_each_damaged_file_of_a_run_is_one_line(trained, plugins):
    for name, content, message in DAMAGES:
        file = trained[0] / "model" / name
        whole = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(PolymodalError, match=message) as caught:
            load(trained[0], plugins=plugins)
        assert "\n" not in str(caught.value)
        file.write_bytes(whole)
    (trained[0] / "model" / "checksums.json").unlink()  # of a run before there were any
    load(trained[0], plugins=plugins)
    file = trained[0] / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match="model.safetensors is damaged: SafetensorError"):
        load(trained[0], plugins=plugins)


def test_damaged_lines_and_files_of_a_run_stop_nothing_without_a_word(tmp_path):
    directory = RunDirectory(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n5\n\xff\n{"step": 2')
    assert directory.lines("metrics.jsonl") == [{"step": 1}]
    (tmp_path / "untrained.json").write_text("{")
    with pytest.raises(DataError, match="untrained.json is damaged"):
        directory.read_json("untrained.json")


def test_a_missing_plugin_is_named_and_other_streams_still_load(
    two_streams, plugins, tmp_path, sensor_module
):
    two_streams["streams"]["plain"] = {
        "tokenizer": {"use": "audio.waveform", "rate": 100, "frame": 4},
        "reader": {"use": "audio.sound", "rate": 100},
        "encoder": {"use": "audio.transformer", "size": "pico"},
        "field": "signal",
    }
    config = check_config(two_streams, plugins=plugins)
    Training(config, tmp_path / "run", plugins=plugins, quiet=True).save_model()
    with pytest.raises(PluginError, match=r"'sensor'.*registered by hand.*streams=\[\"plain\"\]"):
        load(tmp_path / "run", plugins=Plugins())
    whole = load(tmp_path / "run", plugins=plugins).model.encoder("plain").state_dict()
    alone = load(tmp_path / "run", plugins=Plugins(), streams=["plain"])
    assert alone.model.encoder("plain").state_dict().keys() == whole.keys()
    for name, weight in alone.model.encoder("plain").state_dict().items():
        assert torch.equal(weight, whole[name])
    with pytest.raises(ConfigError, match="No stream is called 'plian'. Did you mean 'plain'"):
        load(tmp_path / "run", plugins=plugins, streams=["plian"])


class Adapter(Method):
    """Puts a layer of its own into every encoder."""

    def attach(self, model):
        for encoder in model.encoders.values():
            encoder.trunk.norm = nn.Sequential(encoder.trunk.norm, nn.Linear(64, 64, bias=False))


def test_a_stream_loaded_alone_is_still_changed_by_the_methods_of_the_run(
    sensor_config, plugins, tmp_path
):
    def register(registry):
        registry.method("adapter", f"{__name__}:Adapter")

    module = ModuleType("tuning")
    module.polymodal_register = hookimpl(register)
    plugins.register("tuning", module)
    stream = sensor_config["streams"]["signal"]
    sensor_config["streams"]["other"] = {**stream, "field": "signal"}
    sensor_config["methods"] = {"adapter": {"use": "tuning.adapter"}}
    config = check_config(sensor_config, plugins=plugins)
    Training(config, tmp_path / "run", plugins=plugins, quiet=True).save_model()
    values = [[1.0, 2.0, 3.0, 4.0] * 3]
    whole = load(tmp_path / "run", plugins=plugins).embed("other", values)
    alone = load(tmp_path / "run", plugins=plugins, streams=["other"]).embed("other", values)
    assert (alone == whole).all()


def test_what_is_no_run_is_refused_in_one_line(tmp_path, plugins):
    with pytest.raises(DataError, match="holds no run"):
        load(tmp_path, plugins=plugins)


def test_a_value_that_can_not_be_read_is_named(trained, plugins):
    run = load(trained[0], plugins=plugins)
    with pytest.raises(UnreadableError, match="NaN"):
        run.embed("signal", [[1.0, float("nan"), 2.0]])
    with pytest.raises(DataError, match="No stream is called 'signl'"):
        run.embed("signl", [[1.0]])


def test_a_broken_weights_file_is_refused(trained, plugins):
    directory, _ = trained
    config = directory / "model" / "config.yaml"
    text = config.read_text().replace("size: pico", "size: nano")
    config.write_text(text)
    with pytest.raises(DataError, match="does not fit its config"):
        load(directory, plugins=plugins)


def test_a_loaded_model_needs_no_weights_but_its_own(sensor_config, plugins, tmp_path):
    config = check_config(sensor_config, plugins=plugins)
    Training(config, tmp_path / "first", plugins=plugins, quiet=True).run()
    sensor_config["streams"]["signal"]["encoder"]["initialize"] = str(tmp_path / "first#signal")
    sensor_config["objectives"]["rebuild"]["initialize"] = str(tmp_path / "first#rebuild")
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    training.run()
    shutil.rmtree(tmp_path / "first")
    signal = [[float(i % 5) for i in range(24)]]
    run = load(tmp_path / "run", plugins=plugins)
    assert (run.embed("signal", signal) == training.probe().encode("signal", signal)).all()
    assert run.config == config


def test_a_pretrained_tower_is_loaded_without_the_file_it_came_from(tmp_path):
    timm = pytest.importorskip("timm")
    weights = tmp_path / "weights.pt"
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), weights)
    values = {
        "streams": {
            "image": {
                "tokenizer": {
                    "use": "vision.patches", "size": 32, "patch": 32, "normalize": "imagenet"
                },
                "encoder": {"use": "vision.timm", "model": "resnet10t", "pretrained": str(weights)},
            }
        },
        "objectives": {"rebuild": {"use": "masking.simmim", "stream": "image"}},
        "data": {"batch_size": 2, "sources": {"digits": {"use": "demo.digits", "samples": 4}}},
        "trainer": {"max_steps": 1, "device": "cpu"},
    }  # fmt: skip
    training = Training(check_config(values), tmp_path / "run", quiet=True)
    training.run()
    weights.unlink()
    wanted = training.model.encoder("image").state_dict()
    found = load(tmp_path / "run").model.encoder("image").state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
