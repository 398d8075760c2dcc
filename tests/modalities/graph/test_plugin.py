import typing

import pytest

import polymodal_graph
from polymodal import Plugins
from polymodal.plugins.signature import read_signature

pytest.importorskip("torch_geometric")
pytest.importorskip("rdkit")

PLUGINS = Plugins(entry_points=[])
PLUGIN = PLUGINS.register("graph", polymodal_graph)
COMPONENTS = list(PLUGIN.components.values())


def test_the_plugin_registers():
    assert PLUGIN.status == "ok", PLUGIN.traceback
    assert PLUGIN.interface == 1


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_every_component_loads_and_its_options_have_types_a_config_can_check(component):
    assert component.load().__doc__
    options = read_signature(component.target).options
    assert not [name for name, option in options.items() if option.annotation is typing.Any]


def test_the_default_readers_exist():
    for component in COMPONENTS:
        if component.kind == "tokenizer":
            assert PLUGINS.find(component.load().reader, "reader").load()
