import re
import subprocess
import sys
from pathlib import Path

import polymodal_video as plugin
from polymodal import Plugins

COMPONENTS = {
    "video.clip": "reader",
    "video.tubelets": "tokenizer",
    "video.vit": "encoder",
    "video.timm_frames": "encoder",
}


def test_every_component_loads_by_name():
    plugins = Plugins([])
    registered = plugins.register("video", plugin)
    assert registered.status == "ok", registered.error
    for name, kind in COMPONENTS.items():
        assert plugins.find(name, kind).load()


def test_listing_imports_neither_torch_nor_pyav():
    code = "import sys, polymodal_video; assert not {'torch', 'av', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_file_alone_imports_pyav():
    folder = Path(plugin.__file__).parent
    found = {path.name for path in folder.glob("*.py") if re.search(r"(import|from) av\b",
             path.read_text())}  # fmt: skip
    assert found == {"pictures.py"}
