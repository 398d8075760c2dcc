"""No constructor of ours grows beyond what a reader can hold."""

from polymodal.plugins.discovery import Plugins
from polymodal.plugins.signature import _read, read_signature

MOST = 14
COMPONENTS = {
    f"{component.kind} {component.name}": component
    for plugin in Plugins().all()
    if plugin.distribution == "polymodal"
    for component in plugin.components.values()
}


def test_constructors_take_few_options_of_their_own():
    """More are several ideas: a group of options, a part, or a second component."""
    own = {name: read_signature(c.target).own for name, c in COMPONENTS.items()}
    over = {name: list(options) for name, options in own.items() if len(options) > MOST}
    assert not over


def test_every_option_of_a_group_is_explained_and_may_be_left_out():
    for name, component in COMPONENTS.items():
        signature = read_signature(component.target)
        assert all(signature.groups.values()), f"a group of {name} says nothing of itself"
        for option in signature.options.values():
            if option.group is not None:
                assert option.summary and not option.required, f"{name}: {option.name}"


def test_sizes_by_name_are_listed_with_what_they_stand_for():
    presets = read_signature("polymodal:TransformerEncoder").options["size"].presets
    assert presets["tiny"] == {"width": 192, "depth": 12, "heads": 3}
    assert presets["base"] == {"width": 768, "depth": 12, "heads": 12}


def test_groups_are_read_without_importing_the_component():
    for name, component in COMPONENTS.items():
        if read_signature(component.target).groups:
            assert _read(component.target) is not None, name
