"""Today's spelling: short names of components, options as they were once spelt, bare parts."""

from collections.abc import Mapping
from typing import Any

from polymodal.config.shape import Slot
from polymodal.ground.errors import PluginError
from polymodal.plugins.discovery import Plugins
from polymodal.plugins.options import parts_of


def respelled(slot: Any, kind: str, form: type[Slot], plugins: Plugins) -> Any:
    """Return what stands in a place for a component, spelt as its constructor wants it.

    What can't be understood is returned as it is, for the checks to say what is wrong.

    Raises:
        ValueError: options of an old spelling that were wrong even then; it starts with the option.
    """
    if isinstance(slot, str):
        slot = {"use": slot}
    if not isinstance(slot, Mapping) or not isinstance(slot.get("use"), str):
        return slot
    try:
        component = plugins.find(slot["use"], kind)
        own = {key: value for key, value in slot.items() if key in form.model_fields}
        options = {key: value for key, value in slot.items() if key not in form.model_fields}
        found = {**own, **component.respelled(options)}
        component = plugins.find(found["use"], kind)
    except PluginError:
        return slot
    for option, part in parts_of(component).items():
        if found.get(option) is not None:
            found[option] = respelled(found[option], part, Slot, plugins)
    return found
