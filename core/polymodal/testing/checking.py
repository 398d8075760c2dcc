"""Checking a component or a whole plugin by name."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polymodal.ground.errors import PluginError, PolymodalError, nearest
from polymodal.interfaces.example import Example
from polymodal.plugins.discovery import Plugins, installed
from polymodal.plugins.registry import KINDS
from polymodal.testing.building import examples_of, prepared, subject_of
from polymodal.testing.registry import ConformanceError, Examination, Finding, Status


def components_of(target: str, kind: str | None, plugins: Plugins) -> list[tuple[str, str]]:
    """Return the components that a plugin's or component's name stands for: (kind, full name).

    Raises:
        PluginError: no such plugin, component or kind, or a plugin that is broken or blocked.
    """
    if kind is not None and kind not in KINDS:
        raise PluginError(f"{kind!r} is no kind of component.{nearest(kind, KINDS)}")
    owner, dot, _ = target.partition(".")
    plugin = plugins.get(owner)
    plugin.require_usable()
    found = [
        (each, name)
        for each, name in plugin.components
        if kind in (None, each) and (not dot or name == target)
    ]
    if not found and dot and kind:
        plugins.find(target, kind)  # says what is wrong with the name, or of what kind it is
    if not found:
        hint = nearest(target, {name for _, name in plugin.components}) if dot else ""
        what = f"component {target!r}" if dot else kind or "component"
        raise PluginError(f"The plugin {owner!r} has no {what}.{hint}")
    return found


def check_component(
    name: str,
    kind: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    raws: Sequence[Any] | None = None,
    plugins: Plugins | None = None,
) -> list[Finding]:
    """Return what every check finds about a component; about each kind that has this name.

    Args:
        name: "plugin.component".
        kind: of component, where two share the name.
        options: instead of those of its plugin's example.
        raws: inputs instead of the example's: raw values (tokenizer), values of records (reader).
        plugins: those of this environment unless given.

    Raises:
        PluginError: no such component, or its plugin is broken.
    """
    plugins = plugins or installed()
    findings: list[Finding] = []
    for each, full in components_of(name, kind, plugins):
        examples = examples_of(plugins, full, each) or [Example(full, each)]
        if options is not None:
            examples = examples[:1]  # the others differ in their options
        for example in examples:
            findings += check_example(_changed(example, options, raws), plugins=plugins)
    return findings


def _changed(
    example: Example, options: Mapping[str, Any] | None, raws: Sequence[Any] | None
) -> Example:
    if options is not None:
        example = replace(example, options=options)
    if raws is not None and example.kind == "reader":
        return replace(example, values=raws)
    return example if raws is None else replace(example, raws=raws)


def check_example(example: Example, *, plugins: Plugins | None = None) -> list[Finding]:
    """Return what every check finds about one example of a component."""
    plugins = plugins or installed()

    def unbuilt(status: Status, message: str, trace: str | None = None) -> list[Finding]:
        rule = "It is built from its options."
        return [
            Finding(example.component, example.kind, "constructs", status, rule, message, trace)
        ]

    try:
        with prepared(example) as ready:
            subject = subject_of(ready, plugins)
            return Examination(ready.component, ready.kind, subject, ready.skip).findings()
    except (PolymodalError, ConformanceError) as error:
        # A package that is an extra and not installed says nothing about the component.
        lacks = isinstance(error.__cause__, ModuleNotFoundError) and "install" in str(error)
        return unbuilt("skipped" if lacks else "failed", str(error))
    except Exception as error:
        told = f"it can't be built: {type(error).__name__}: {error}"
        return unbuilt("failed", told, traceback.format_exc())


def check_plugin(name: str, *, plugins: Plugins | None = None) -> list[Finding]:
    """Return what every check finds about every component of a plugin.

    Raises:
        PluginError: no such plugin, or it is broken or blocked.
    """
    plugins = plugins or installed()
    findings: list[Finding] = []
    for kind, component in components_of(name, None, plugins):
        findings += check_component(component, kind, plugins=plugins)
    return findings
