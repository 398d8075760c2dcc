"""Checking a component or a whole plugin by name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polymodal.errors import PluginError, PolymodalError, nearest
from polymodal.plugins import KINDS, Plugins, installed
from polymodal.testing.building import examples_of, prepared, subject_of
from polymodal.testing.example import Example
from polymodal.testing.registry import Examination, Finding, Status


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
    if kind is not None and kind not in KINDS:
        raise PluginError(f"{kind!r} is no kind of component.{nearest(kind, KINDS)}")
    owner = name.partition(".")[0]
    kinds: Sequence[str] = [kind] if kind else KINDS
    if kind is None and owner in plugins.names():
        known = plugins.get(owner).components
        kinds = [k for k in KINDS if (k, name) in known]
        if not kinds and plugins.get(owner).status == "ok":
            hint = nearest(name, {full for _, full in known})
            raise PluginError(f"The plugin {owner!r} has no component {name!r}.{hint}")
    findings: list[Finding] = []
    for each in kinds or KINDS:
        plugins.find(name, each)  # a wrong name, a broken plugin
        examples = examples_of(plugins, name, each) or [Example(name, each)]
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
    with prepared(example) as ready:
        try:
            subject = subject_of(ready, plugins)
        except PluginError as error:
            # A package that is an extra and not installed says nothing about the component.
            lacks = isinstance(error.__cause__, ModuleNotFoundError) and "install" in str(error)
            status: Status = "skipped" if lacks else "failed"
            return [Finding(ready.component, ready.kind, "constructs", status, str(error))]
        except (PolymodalError, ValueError, TypeError, AssertionError) as error:
            return [Finding(ready.component, ready.kind, "constructs", "failed", str(error))]
        return Examination(ready.component, ready.kind, subject, ready.skip).findings()


def check_plugin(name: str, *, plugins: Plugins | None = None) -> list[Finding]:
    """Return what every check finds about every component of a plugin.

    Raises:
        PluginError: no such plugin, or it is broken or blocked.
    """
    plugins = plugins or installed()
    plugin = plugins.get(name)
    if plugin.status != "ok":
        error = PluginError(f"The plugin {name!r} is {plugin.status}: {plugin.error}")
        error.plugin_traceback = plugin.traceback  # type: ignore[attr-defined]
        raise error
    findings: list[Finding] = []
    for kind, component in plugin.components:
        findings += check_component(component, kind, plugins=plugins)
    return findings
