import subprocess
import sys

import polymodal_vision
import polymodal_vision as plugin
from polymodal.plugins import Plugins

COMPONENTS = {
    "vision.image": "reader",
    "vision.patches": "tokenizer",
    "vision.vit": "encoder",
    "vision.timm": "encoder",
    "vision.open_clip": "encoder",
}


def test_every_component_loads_by_name():
    plugins = Plugins([])
    registered = plugins.register("vision", plugin)
    assert registered.status == "ok", registered.error
    for name, kind in COMPONENTS.items():
        assert plugins.find(name, kind).load()


def test_every_public_name_is_there():
    for name in polymodal_vision.__all__:
        assert getattr(polymodal_vision, name) is not None


def test_listing_imports_neither_torch_nor_pillow():
    code = "import sys, polymodal_vision; assert not {'torch', 'PIL', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
