"""A research code base has packages of its own called core, plugins and modalities."""

import json
import os
import subprocess
import sys

NAMES = ("core", "plugins", "modalities")
MAIN = """
import json
import core, modalities, plugins
import polymodal, polymodal_masking, polymodal_text
from core.encoder import encoder, spec
from plugins.objective import Count
from polymodal import Batch, Layout, PretrainingModel, Tokens
from polymodal.plugins.discovery import Plugins

model = PretrainingModel(
    {"text": "text"}, {"text": encoder}, {"text": spec}, objectives={"count": Count()}
)
tokens = Tokens(Layout.of([2, 3]), ids=modalities.ids(5))
import torch
loss = model(Batch({"text": tokens}, 2, torch.arange(2)))["count"]
print(json.dumps({
    "theirs": [core.__file__, modalities.__file__, plugins.__file__],
    "broken": {p.name: p.error for p in Plugins().all() if p.status != "ok"},
    "loss": [float(loss.total.detach()), loss.count],
}))
"""
FILES = {
    "core/__init__.py": "",
    "core/encoder.py": """
from polymodal import TokenSpec, TransformerEncoder
spec = TokenSpec(vocabulary=9, extent=(8,), max_tokens=8)
encoder = TransformerEncoder(spec, width=8, depth=1, heads=1)
""",
    "modalities/__init__.py": "import torch\nids = torch.arange\n",
    "plugins/__init__.py": "",
    "plugins/objective.py": """
from polymodal import Loss, Need, Objective
class Count(Objective):
    def needs(self):
        return {"text": Need(ids=True)}
    def forward(self, step):
        encoded = step.encode("text")
        return Loss(encoded.vectors.sum() * 0.0, encoded.layout.tokens)
""",
    "main.py": MAIN,
}


def run(folder, *arguments, **environment):
    ran = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, cwd=folder, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_toolkit_works_beside_packages_called_core_plugins_and_modalities(tmp_path):
    for name, content in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    found = json.loads(run(tmp_path, "main.py"))
    assert found["theirs"] == [
        str(tmp_path / name / "__init__.py") for name in ("core", "modalities", "plugins")
    ]
    assert found["broken"] == {}
    assert found["loss"] == [0.0, 5]
    # The command line, too, with their packages first on the path.
    listed = run(tmp_path, "-m", "polymodal", "plugins", PYTHONPATH=str(tmp_path))
    assert "masking" in listed and "broken" not in listed


def test_the_toolkit_puts_no_such_package_on_the_path(tmp_path):
    code = (
        "import importlib.util, polymodal, polymodal_vision; "
        f"print([n for n in {NAMES} if importlib.util.find_spec(n)])"
    )
    assert run(tmp_path, "-c", code).strip() == "[]"
