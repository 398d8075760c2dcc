"""What a component does and which options it takes, read from its signature and docstring."""

from typing import Any

from polymodal.ground.errors import PluginError, nearest
from polymodal.plugins.discovery import Plugins, installed
from polymodal.plugins.registry import KINDS
from polymodal.plugins.signature import read_signature


def describe_component(
    name: str, kind: str | None = None, *, plugins: Plugins | None = None
) -> list[dict[str, Any]]:
    """Return a description for each kind of component of this name.

    Raises:
        PluginError: no component has this name.
    """
    plugins = plugins or installed()
    if kind is not None and kind not in KINDS:
        raise PluginError(f"{kind!r} is no kind of component. Known: {', '.join(KINDS)}.")
    owner = plugins.get(name.partition(".")[0])
    owner.require_usable()
    kinds = [k for k, full in owner.components if full == name and kind in (None, k)]
    if not kinds:
        known = [full for _, full in owner.components]
        what = kind or "component"
        raise PluginError(
            f"The plugin {owner.name!r} has no {what} {name!r}.{nearest(name, known)}"
        )
    found = []
    for each in kinds:
        component = plugins.find(name, each)
        try:
            signature = read_signature(component.target)
        except ImportError:
            component.load()  # says which package is missing
            raise
        found.append(
            {
                "name": component.name,
                "kind": component.kind,
                "summary": component.summary or signature.summary,
                "docstring": signature.docstring,
                "from_run": list(signature.from_run),
                "options": [
                    {
                        "name": option.name,
                        "type": option.shown,
                        "default": option.default,
                        "required": option.required,
                        "summary": option.summary,
                    }
                    for option in signature.options.values()
                ],
            }
        )
    return found
