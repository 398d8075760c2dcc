"""Every component this distribution registers passes every check."""

import pytest

from polymodal.plugins.discovery import Plugins
from polymodal.testing.building import examples_of
from polymodal.testing.checking import check_example

PLUGINS = Plugins()
OURS = [plugin for plugin in PLUGINS.all() if plugin.distribution == "polymodal"]
EXTRAS = {
    "vision": ("timm", "open_clip", "PIL"),
    "video": ("timm",),
    "audio": ("soundfile", "soxr"),
    "graph": ("torch_geometric", "rdkit"),
    "text": ("open_clip", "tokenizers"),
    "code": ("tokenizers",),
    "genome": ("tokenizers",),
    "data": ("datasets",),
    "demo": ("sklearn",),
    "evaluation": ("sklearn",),
}
SLOW = {"demo.functions"}  # reads the whole standard library for a start
EXAMPLES = [
    pytest.param(
        plugin.name,
        example,
        id=f"{name}-{kind}-{number}",
        marks=pytest.mark.slow if name in SLOW else (),
    )
    for plugin in OURS
    for kind, name in plugin.components
    for number, example in enumerate(examples_of(PLUGINS, name, kind))
]


def test_every_component_has_an_example():
    components = [(kind, name) for plugin in OURS for kind, name in plugin.components]
    assert components
    assert [c for c in components if not examples_of(PLUGINS, c[1], c[0])] == []


@pytest.mark.parametrize(("plugin", "example"), EXAMPLES)
def test_the_component_passes_every_check(plugin, example):
    for package in EXTRAS.get(plugin, ()):
        pytest.importorskip(package)
    findings = check_example(example, plugins=PLUGINS)
    assert findings
    if [finding.check for finding in findings if finding.status == "skipped"] == ["constructs"]:
        pytest.skip(findings[0].message)
    assert [f"{f.check}: {f.message}" for f in findings if f.status == "failed"] == []
    # What is skipped has its reason in the example, not in a failure before it.
    skipped = {finding.check for finding in findings if finding.status == "skipped"}
    assert skipped == set(example.skip)
