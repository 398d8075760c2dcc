"""What a component does and which options it takes, read from its signature and docstring."""

from typing import Any

from polymodal.errors import PluginError
from polymodal.plugins import KINDS, Plugins, installed
from polymodal.signature import read_signature


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
    owner = name.partition(".")[0]
    kinds = [kind] if kind else KINDS
    if owner in plugins.names():
        known = plugins.get(owner).components
        kinds = [k for k in kinds if (k, name) in known]
    found = []
    for each in kinds or [kind or "component"]:
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
