"""From YAML to a config, with every mistake in it at once.

Nothing here imports torch. A component's options are its constructor's arguments, read from the
source text (`polymodal.plugins.signature`); whether a combination can work is checked when the
parts are built (`polymodal.runs.build`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from polymodal.config.checks import (
    check_names,
    check_slot,
    check_used,
    check_whole,
    places,
    refused_names,
)
from polymodal.config.references import references
from polymodal.config.shape import (
    SECTION_KINDS,
    Config,
)
from polymodal.config.spelling import respelled
from polymodal.config.structure import validated
from polymodal.ground.errors import ConfigError, DataError, PluginError
from polymodal.ground.files import find_files, find_folder
from polymodal.plugins.discovery import Plugins, installed
from polymodal.plugins.options import Refusals
from polymodal.plugins.origin import UNRESOLVED, Origin, Problem, override, plain_values, read_yaml


def read_config(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    plugins: Plugins | None = None,
    files: bool = True,
    absent: list[Problem] | None = None,
) -> Config:
    """Read a YAML file, apply `key=value` overrides, and check everything that text can tell.

    Args:
        path: of the file.
        overrides: changes to it, as on the command line.
        plugins: those of this environment unless given.
        files: refuse options that name files and folders which do not exist.
        absent: takes down those of data sources, path and reason, instead of refusing them.

    Raises:
        ConfigError: every mistake found, each with file, line, path and the nearest right name.
    """
    path = Path(path)
    tree = read_yaml(path)
    origin = Origin(path, overrides)
    problems = override(tree, overrides)
    values, unresolved = plain_values(tree, origin)
    missing: Refusals = {"file": _absent(find_files), "folder": _absent(find_folder)}
    config = _check(
        values, origin, plugins or installed(), [*problems, *unresolved],
        missing if files else {}, absent,
    )  # fmt: skip
    config.references.update(references(tree))
    return config


def check_config(
    values: Mapping[str, Any], origin: Origin | None = None, *, plugins: Plugins | None = None
) -> Config:
    """Turn plain values into a Config, or report every mistake in them.

    Raises:
        ConfigError: every mistake found.
    """
    return _check(values, origin or Origin(), plugins or installed(), [], {})


def _check(
    values: Mapping[str, Any],
    origin: Origin,
    plugins: Plugins,
    unread: list[Problem],
    missing: Refusals,
    absent: list[Problem] | None = None,
) -> Config:
    """Check values of which some could not be read; `missing` refuses files.

    Those of sources are added to `absent` instead, if it is given.
    """
    try:
        spelt: dict[str, Any] = json.loads(json.dumps(_expand(values)))
    except TypeError as error:
        raise ConfigError([f"{origin.path}: {error}; use plain YAML values"]) from error
    misspelt = _respell(spelt, _unblocked(spelt, plugins))
    problems: list[Problem] = list(misspelt.values())
    config = validated(spelt, problems)
    whole = not problems and not unread
    if config is not None:
        try:
            plugins = plugins.without(config.plugins.block)
        except PluginError as error:
            problems.append(("plugins.block", str(error)))
        problems += check_names(config, plugins)
        if whole:
            problems += check_whole(config)
    named = refused_names(spelt, whole=whole)
    refusals = {**missing, **named}
    for where, kind, form, slot in places(spelt):
        if where in misspelt:
            continue  # its options are still in the old spelling
        found = check_slot(where, kind, form, slot, plugins, refusals)
        if absent is not None and _within(where, "data.sources"):
            kept = check_slot(where, kind, form, slot, plugins, named)
            absent += [problem for problem in found if problem not in kept]
            found = kept
        problems += found
    if config is not None and not problems:
        problems += check_used(config)
    # Of what could not be read, nothing further is known.
    silent = tuple(where for where, _ in unread)
    problems = [p for p in problems if not any(_within(p[0], where) for where in silent)]
    if unread or problems or config is None:
        raise origin.error([*unread, *problems])
    return config


def _within(where: str, section: str) -> bool:
    return where == section or where.startswith(f"{section}.")


def _absent(find: Callable[[str], object]) -> Callable[[str], str | None]:
    def refuse(name: str) -> str | None:
        try:
            find(name)
        except DataError as error:
            return str(error)
        return None

    return refuse


def _unblocked(values: Mapping[str, Any], plugins: Plugins) -> Plugins:
    """Return the plugins a config does not block, as far as that can be read."""
    section = values.get("plugins")
    names = section.get("block") if isinstance(section, dict) else None
    try:
        return plugins.without(names if isinstance(names, list) else ())
    except (PluginError, TypeError):
        return plugins


def _respell(values: dict[str, Any], plugins: Plugins) -> dict[str, Problem]:
    """Spell every component of a config as today, in place; by path, what can't be."""
    problems: dict[str, Problem] = {}
    for where, kind, form, slot in list(places(values)):
        if not isinstance(slot, dict):
            continue
        *outer, last = where.split(".")
        section: Any = values
        for step in outer:
            section = section[step]
        try:
            section[last] = respelled(slot, kind, form, plugins)
        except ValueError as error:
            option = str(error).partition(" ")[0]
            place = f"{where}.{option}" if option in slot else where
            problems[where] = (place, f"{slot['use']}: {error}")
    return problems


def _expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Let a bare component name stand for `{use: name}`."""

    def slot(value: Any) -> Any:
        return {"use": value} if isinstance(value, str) and value != UNRESOLVED else value

    values = dict(values)
    for part in SECTION_KINDS:
        if isinstance(values.get(part), Mapping):
            values[part] = {name: slot(value) for name, value in values[part].items()}
    data = values.get("data")
    if isinstance(data, Mapping) and isinstance(data.get("sources"), Mapping):
        sources = {name: slot(value) for name, value in data["sources"].items()}
        values["data"] = {**data, "sources": sources}
    streams = values.get("streams")
    if isinstance(streams, Mapping):
        values["streams"] = {
            name: {
                key: slot(item)
                if key == "reader" or (isinstance(item, str) and "." in item and key != "field")
                else item
                for key, item in stream.items()
            }
            if isinstance(stream, Mapping)
            else stream
            for name, stream in streams.items()
        }
    return values
