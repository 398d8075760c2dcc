import re

import pytest

from polymodal import Plugins
from polymodal.commands.describing import describe_component, describe_section
from polymodal.commands.pages import component_page, section_page


@pytest.fixture(scope="module")
def plugins():
    return Plugins()


def test_every_page_says_each_option_once_and_keeps_to_its_width(plugins):
    for plugin in map(plugins.get, ("masking", "data", "hiding")):  # prose, lists, parts, groups
        for kind, name in plugin.components:
            (found,) = describe_component(name, kind, plugins=plugins)
            for width in (80, 100):
                lines = component_page(found, width).splitlines()
                heads = re.findall(r"^  (\w+): ", "\n".join(lines), flags=re.MULTILINE)
                for option in found["options"]:
                    assert heads.count(option["name"]) == 1, (name, option["name"])
                wide = [line for line in lines if len(line) > width]
                assert all(line.startswith("    ") for line in wide), wide  # code alone


def test_an_encoder_is_imported_by_its_public_name_and_lists_its_sizes(plugins):
    (found,) = describe_component("text.transformer", "encoder", plugins=plugins)
    assert found["import"] == "from polymodal import TransformerEncoder"
    size = next(option for option in found["options"] if option["name"] == "size")
    assert size["presets"]["base"] == {"width": 768, "depth": 12, "heads": 12}
    rows = [line.split() for line in component_page(found, 80).splitlines()]
    assert ["size", "width", "depth", "heads"] in rows
    assert ["base", "768", "12", "12"] in rows


def test_an_option_that_is_a_part_names_the_components_it_may_be(plugins):
    (found,) = describe_component("masking.tokens", plugins=plugins)
    hide = next(option for option in found["options"] if option["name"] == "hide")
    assert hide["part"] == "hiding"
    assert "hiding.spans" in hide["components"]
    assert not set(hide["components"]) & {"heads.linear"}
    assert "A hiding, one of: " in component_page(found, 80)


def test_a_short_name_says_what_it_stands_for(plugins):
    (found,) = describe_component("masking.simmim", plugins=plugins)
    assert found["stands_for"]["use"] == "masking.tokens"
    page = component_page(found, 80)
    assert "A short name for masking.tokens with:" in page
    assert "    hide: {use: hiding.tokens, ratio: 0.6, rounding: nearest}" in page
    (plain,) = describe_component("masking.tokens", plugins=plugins)
    assert plain["stands_for"] == {}


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("trainer", "  max_steps: int | null = null"),
        ("data", "  batch_size: int = 64"),
        ("data.sources", "  use: str (required)"),
        ("optimizer", '  schedule: "cosine" | "linear" | "constant" = "cosine"'),
        ("streams", "  tokenizer: component | str (required)"),
        ("objectives", "  own_update_rate: float | null = null"),
        ("config", "  seed: int = 0"),
    ],
)
def test_a_section_of_the_config_says_its_keys_types_and_defaults(section, line):
    page = section_page(describe_section(section), 80).splitlines()
    assert line in page
    assert all(len(each) <= 80 for each in page)


def test_comments_above_a_key_and_after_it_are_both_what_it_is():
    found = {k["name"]: k for s in describe_section("objectives") for k in s["keys"]}
    assert found["own_update_rate"]["summary"].startswith("Its loss makes an update of its own")
    assert found["share"]["summary"].endswith("relative to the others; or 1; above 0")
    trainer = {k["name"]: k for s in describe_section("trainer") for k in s["keys"]}
    assert trainer["ema"]["summary"] == "decay of an average of the weights; above 0, below 1"


def test_a_name_of_no_section_is_left_to_the_components():
    assert describe_section("vision.patches") is None
    assert describe_section("train") is None
