"""A plugin of another's that adds one way to hide tokens, with none of ours beside it."""

import importlib.util
import sys

import pytest
import torch

from polymodal import ConfigError
from polymodal.commands.describing import describe_component
from polymodal.config.reading import check_config
from polymodal.plugins.discovery import Plugins
from polymodal.runs.build import Builder
from polymodal.testing.checking import check_component

OUTSIDER = '''"""outsider: hide the first tokens of each segment."""

from polymodal import Hiding, hookimpl

polymodal_interface = 1


class First(Hiding):
    """Hide the first tokens of each segment.

    Args:
        share: of the tokens.
    """

    def __init__(self, share: float = 0.5):
        super().__init__()
        self.share = share

    def choose(self, among):
        return among.lowest(among.tokens.layout.within.float(), self.share)


@hookimpl
def polymodal_register(registry):
    registry.hiding("first", "outsider_of_tests:First", "the first tokens")
'''


@pytest.fixture
def outsider(tmp_path, monkeypatch):
    """This environment's plugins, and the outsider's."""
    path = tmp_path / "outsider_of_tests.py"
    path.write_text(OUTSIDER)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.spec_from_file_location("outsider_of_tests", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "outsider_of_tests", module)
    spec.loader.exec_module(module)
    plugins = Plugins()
    plugins.register("outsider", module)
    return plugins


def config_of(plugins, hide):
    return check_config(
        {
            "streams": {
                "image": {
                    "tokenizer": {"use": "vision.patches", "size": 8, "patch": 4},
                    "encoder": {"use": "vision.vit", "width": 16, "depth": 1, "heads": 2},
                }
            },
            "data": {"sources": {"digits": {"use": "demo.digits", "samples": 4}}},
            "objectives": {"pixels": {"use": "masking.tokens", "stream": "image", "hide": hide}},
            "trainer": {"max_steps": 2, "device": "cpu"},
        },
        plugins=plugins,
    )


def test_thirty_lines_add_a_way_to_hide(outsider):
    assert len(OUTSIDER.splitlines()) <= 30
    (told,) = describe_component("outsider.first", plugins=outsider)
    assert told["kind"] == "hiding" and [o["name"] for o in told["options"]] == ["share"]
    findings = check_component("outsider.first", plugins=outsider)
    assert len(findings) > 3 and {f.status for f in findings} == {"passed"}


def test_an_outsiders_part_is_built_into_an_objective_and_trains(outsider):
    from polymodal.packed.batch import Batch
    from polymodal.packed.layout import Layout
    from polymodal.packed.tokens import Tokens

    config = config_of(outsider, {"use": "outsider.first", "share": 0.25})
    assert {"outsider.first", "masking.tokens"} <= config.uses()
    builder = Builder(config, plugins=outsider)
    assert "outsider" in {r.plugin for r in builder.requirements()}
    model = builder.model()
    objective = model.objective("pixels")
    assert type(objective.hide).__name__ == "First" and objective.hide.share == 0.25
    places = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(3, 1)
    values = torch.randn(12, 48, generator=torch.Generator().manual_seed(0))
    batch = Batch(
        {"image": Tokens(Layout.of([4, 4, 4], places), values=values)}, 3, torch.arange(3)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    for number in range(2):
        (loss,) = model(batch, number=number).values()
        assert loss.count == 3  # the first of each
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        seen.append(loss.total.item())
    assert seen[1] < seen[0]


def test_a_mistake_within_an_outsiders_part_is_told_by_its_path(outsider):
    for hide, where in (({"use": "outsider.frist"}, "hide.use"),
                        ({"use": "outsider.first", "shar": 1}, "hide.shar")):  # fmt: skip
        with pytest.raises(ConfigError, match=f"objectives.pixels.{where}.*Did you mean"):
            config_of(outsider, hide)
