from typing import Any

import pytest

from polymodal import installed
from polymodal.plugins.signature import read_signature

COMPONENTS = [
    ("contrastive.infonce", "objective"),
    ("contrastive.siglip", "objective"),
    ("contrastive.matching", "objective"),
    ("masking.tokens", "objective"),
    ("masking.mae", "objective"),
    ("masking.simmim", "objective"),
    ("masking.nodes", "objective"),
    ("masking.edges", "objective"),
    ("generation.next_token", "objective"),
    ("generation.next_patch", "objective"),
    ("fusion.single_stream", "fusion"),
    ("fusion.cross_attention", "fusion"),
]


@pytest.mark.parametrize(("name", "kind"), COMPONENTS)
def test_components_load_and_describe_every_option(name, kind):
    component = installed().find(name, kind)
    component.load()
    signature = read_signature(component.target)
    assert signature.from_run == ("info",)
    for option in signature.options.values():
        assert option.annotation is not Any, option.name
        assert option.summary, option.name
