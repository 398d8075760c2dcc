"""Mistakes in the shape of a config, as pydantic finds them, in our words."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from pydantic import BaseModel
from pydantic import ValidationError as PydanticError

from polymodal.config.shape import (
    Config,
)
from polymodal.ground.errors import closest, nearest
from polymodal.plugins.options import leads_in, reason, shown
from polymodal.plugins.origin import Problem

_MISSING = ("is missing", "names no component: write use: plugin.component")


def validated(values: Mapping[str, Any], problems: list[Problem]) -> Config | None:
    """Return the config without what is wrong in it, and note what that is; None: too much is."""
    for again in range(4):  # what is left can be wrong for another reason
        try:
            return Config.model_validate_json(json.dumps(values), strict=True)
        except PydanticError as error:
            found = _told(error, values)
            # What is missing after the first time was taken out here.
            problems += [p for p in found if not (again and p[1].startswith(_MISSING))]
            values = deepcopy(values)
            for where, _ in found:
                _remove(values, where.split("."))
    return None


def _remove(values: Any, steps: Sequence[str]) -> None:
    """Take out a value; for one that is missing, the section that lacks it."""
    places = []
    for step in steps:
        if not isinstance(values, dict) or step not in values:
            break
        places.append((values, step))
        values = values[step]
    if places:
        section, key = places[-1]
        section.pop(key)


def _told(error: PydanticError, values: Mapping[str, Any]) -> list[Problem]:
    """Say what pydantic found in our words, each path once."""
    found: dict[str, str] = {}
    unknown: dict[str, str] = {}  # what was meant by unknown keys: path, nearest known path
    items = error.errors(include_url=False)
    for item in items:
        if item["type"] == "extra_forbidden":
            *outer, key = (str(step) for step in item["loc"])
            section = _section(outer)
            match = closest(key, section)
            where = ".".join([*outer, key])
            found[where] = f"unknown key {key!r}.{nearest(key, section)}"
            if match:
                unknown[".".join([*outer, match])] = where
    for item in items:
        steps, value, branch = _follow(item, values)
        where = ".".join(steps)
        if item["type"] == "extra_forbidden" or where in found or where in unknown:
            continue
        if branch == "other":
            continue
        if item["type"] == "missing" and steps[-1] == "use":
            assert isinstance(value, dict)
            meant = closest("use", value)
            found[where] = _MISSING[1] + (f". Did you mean 'use' by {meant!r}?" if meant else "")
        elif item["type"] == "missing":
            found[where] = _MISSING[0]
        elif item["type"] in ("model_type", "dict_type", "model_attributes_type"):
            found[where] = (
                "is empty: give it keys and values, or remove it"
                if item["input"] is None
                else f"must hold keys and values, got {shown(item['input'])}"
            )
        elif branch == "name":
            found[where] = (
                f"must be a component ({{use: ...}}) or the name of one under '{steps[-1]}s', "
                f"got {shown(item['input'])}"
            )
        else:
            told = item["type"] == "value_error" or isinstance(item["input"], dict | list)
            found[where] = reason(item) + ("" if told else f", got {item['input']!r}")
    return list(found.items())


def _follow(item: Any, values: Any) -> tuple[list[str], Any, str | None]:
    """Return the keys of pydantic's location, the value there, and which form it speaks of.

    Where a name or a component may stand: "name", "component", or "other" for the form that was
    not meant.
    """
    steps, form = [], None
    *_, last = item["loc"] or [None]
    for step in item["loc"]:
        if leads_in(values, step):
            values = values[step]
        elif step in ("str", "Slot", "EncoderSlot"):
            form = "name" if step == "str" else "component"
            if isinstance(values, dict) == (step == "str"):
                form = "other"
            continue
        elif step is not last or item["type"] != "missing":
            continue  # a branch of another union
        steps.append(str(step))
    return steps, values, form


def _section(steps: Sequence[str]) -> list[str]:
    """Return the keys that the section of this path can have."""
    section: Any = Config
    for step in steps:
        fields = getattr(section, "model_fields", None)
        if fields is None or step not in fields:
            continue  # a name the user chose
        annotation = fields[step].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None
        )
    return list(getattr(section, "model_fields", {}))
