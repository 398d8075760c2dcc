import subprocess
import sys

import pytest

from polymodal import Plugins
from polymodal.plugins.signature import read_signature

COMPONENTS = Plugins().get("genome").components


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_loads_and_every_option_has_a_type_and_a_summary(name):
    component = COMPONENTS[name]
    assert component.load().__doc__
    assert component.summary
    if component.target.startswith("polymodal."):
        return  # the core's own
    for option in read_signature(component.target).options.values():
        assert option.annotation is not None
        assert option.shown != "Any"
        assert option.summary, f"{name} does not say what {option.name} is"


def test_listing_components_imports_nothing_heavy():
    code = (
        "import sys; from polymodal.plugins.discovery import Plugins; "
        "assert Plugins().get('genome').status == 'ok'; "
        "print({'torch', 'tokenizers', 'open_clip', 'dnaio'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
