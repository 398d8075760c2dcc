import ast
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from polymodal import PluginError, load

ROOT = Path(__file__).parents[2]
ECG = ROOT / "examples" / "third_party" / "polymodal-ecg"
TEMPLATES = ROOT / "core" / "polymodal" / "templates"
CODE = [*ECG.rglob("*.py"), *TEMPLATES.rglob("*.py-tpl")]


@pytest.mark.parametrize("path", CODE, ids=lambda path: "/".join(path.parts[-3:]))
def test_plugins_to_copy_import_only_what_is_public(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if module.partition(".")[0] == "polymodal":
                assert module in ("polymodal", "polymodal.testing")


def plugins(outside):
    listed = json.loads(outside.run("-m", "polymodal", "plugins", "--json").stdout)
    return {plugin["name"]: plugin for plugin in listed}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_outside_plugin_is_found_mixed_trained_loaded_and_missed(outside, tmp_path):
    run = tmp_path / "run"
    assert "ecg" not in plugins(outside)
    outside.install(ECG)
    ecg = plugins(outside)["ecg"]
    assert (ecg["distribution"], ecg["version"], ecg["status"]) == ("polymodal-ecg", "0.1.0", "ok")

    sizes = ("trainer.max_steps=3", "data.sources.rhythms.samples=60",
             "data.sources.digits.samples=60")  # fmt: skip
    outside.polymodal("train", ECG / "example.yaml", *sizes, "--quiet", "--out", run)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 3
    np.save(tmp_path / "one.npy", np.random.default_rng(0).normal(size=500))
    embed = ("embed", run, tmp_path / "one.npy", "--stream", "ecg", "--json")
    found = outside.polymodal(*embed, "-o", tmp_path / "one.parquet")
    assert json.loads(found.stdout)["rows"] == 1

    outside.uninstall("polymodal-ecg")
    assert "ecg" not in plugins(outside)
    found = outside.polymodal("evaluate", run, code=2)
    assert found.stderr == (
        "error: The run needs the plugin 'ecg' of polymodal-ecg 0.1.0, which is not installed: "
        'pip install "polymodal-ecg==0.1.0". To load the streams that do without: '
        'streams=["image", "text"]\n'
    )

    # The environment of this test never had it.
    with pytest.raises(PluginError, match='pip install "polymodal-ecg==0.1.0"'):
        load(run)
    others = load(run, streams=["image", "text"])
    assert others.embed("text", ["a fast rhythm"]).shape == (1, 64)
    saved = load_file(run / "model" / "model.safetensors")
    weights = others.model.state_dict()
    assert {name.split(".")[1] for name in weights} == {"image", "text"}
    for name, weight in weights.items():
        assert weight.equal(saved[name]), name
