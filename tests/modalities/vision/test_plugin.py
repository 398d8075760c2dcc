import subprocess
import sys

import numpy as np

import polymodal_vision as plugin
from polymodal import Plugins

COMPONENTS = {
    "vision.image": "reader",
    "vision.region_set": "reader",
    "vision.patches": "tokenizer",
    "vision.regions": "tokenizer",
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
    for name in plugin.__all__:
        assert getattr(plugin, name) is not None


def test_listing_imports_neither_torch_nor_pillow():
    code = "import sys, polymodal_vision; assert not {'torch', 'PIL', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_packed_vit_takes_images_of_any_ratio():
    plugins = Plugins([])
    plugins.register("vision", plugin)
    patches = plugins.find("vision.patches", "tokenizer").load()(max_tokens=12, patch=8)
    vit = plugins.find("vision.vit", "encoder").load()(patches.spec, size="pico").eval()
    images = [np.zeros((h, w, 3), dtype=np.uint8) for h, w in ((40, 90), (1, 1), (16, 8))]
    together = vit(patches.encode([*images, None]))
    alone = vit(patches.encode(images[:1]))
    assert together.layout.lengths[1:] == (1, 2, 0)
    assert together.pooled.shape == (4, 64)
    difference = together.pooled[0] - alone.pooled[0]
    assert difference.abs().max() < 1e-5


def test_options_are_read_from_the_source_with_their_types():
    import typing

    from polymodal.plugins.signature import read_signature

    options = read_signature("polymodal_vision.patches:Patches").options
    assert options["normalize"].annotation == typing.Literal["imagenet", "clip", "half", "none"]
    assert options["augment"].summary
    timm = read_signature("polymodal_vision.timm_encoder:TimmEncoder")
    assert timm.from_run == ("spec",)
    assert timm.options["model"].required
