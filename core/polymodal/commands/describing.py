"""What a component does and takes, and what the config's sections hold, read from source text."""

import ast
import json
import types
import typing
from typing import Any

from polymodal.ground.errors import PluginError, nearest
from polymodal.plugins.discovery import Plugins, installed
from polymodal.plugins.registry import KINDS, Component
from polymodal.plugins.signature import Option, Signature, read_signature


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
        module, _, attribute = component.target.partition(":")
        found.append(
            {
                "name": component.name,
                "kind": component.kind,
                "import": f"from {module} import {attribute}",
                "summary": component.summary or signature.summary,
                "docstring": signature.docstring,
                "from_run": list(signature.from_run),
                "stands_for": _stands_for(component),
                "groups": dict(signature.groups),
                "options": _options(signature, plugins),
            }
        )
    return found


def describe_section(name: str) -> list[dict[str, Any]] | None:
    """Return the keys of a section of the config, or None if it has no such section.

    Args:
        name: `trainer`, `data`, `data.sources`, `streams` ...; those within it come along.
            `config` is the top level alone.
    """
    from polymodal.config.keys import keys, sections, summary
    from polymodal.config.shape import Config

    found = []
    for path, model in sections():
        inside = path == name or path.startswith(f"{name}.")
        if (not path) if name == "config" else inside:
            rows = [
                {
                    "name": key.name,
                    "type": key.type,
                    "default": None
                    if key.required or key.section
                    else json.loads(json.dumps(key.default, default=str)),
                    "required": key.required,
                    "section": key.section,
                    "summary": key.summary,
                }
                for key in keys(model)
            ]
            found.append({"section": path, "summary": summary(model), "keys": rows})
    if found or name == "config":
        return found
    top = [key for key in keys(Config) if key.name == name]
    # A section of bare components, or a key that is a plain value.
    return [{"section": k.name, "summary": k.summary, "keys": []} for k in top] or None


def _stands_for(component: Component) -> dict[str, Any]:
    """Return what is written for a component with no options, where that is not its own name."""
    try:
        spelt = component.respelled({})
    except ValueError:
        return {}  # some option must be given before it can be told
    if spelt.get("use", component.name) == component.name:
        spelt.pop("use", None)
    return spelt


def _options(signature: Signature, plugins: Plugins) -> list[dict[str, Any]]:
    return [
        {
            "name": option.name,
            "type": type_text(option),
            "default": option.default,
            "required": option.required,
            "summary": option.summary,
            "group": option.group,
            "presets": {value: dict(of) for value, of in option.presets.items()},
            "part": option.part,
            "components": [] if option.part is None else _parts(option.part, plugins),
        }
        for option in signature.options.values()
    ]


def _parts(kind: str, plugins: Plugins) -> list[str]:
    usable = [plugin for plugin in plugins.all() if plugin.status == "ok"]
    return sorted(name for plugin in usable for k, name in plugin.components if k == kind)


def type_text(option: Option) -> str:
    """Return an option's type as a config has it, with a name for several choices spelt out."""
    union = typing.get_origin(option.annotation) in (typing.Union, types.UnionType)
    members = typing.get_args(option.annotation) if union else (option.annotation,)
    if all(typing.get_origin(m) is typing.Literal or m is type(None) for m in members):
        return " | ".join(
            " | ".join(json.dumps(choice) for choice in typing.get_args(member)) or "null"
            for member in members
        )
    return option.shown.replace("None", "null")


def in_yaml(default: str) -> str:
    """Return a default as YAML has it, where it is a plain value."""
    try:
        return json.dumps(ast.literal_eval(default))
    except (ValueError, TypeError):
        return default
