"""What a config takes from the environment, kept as a reference in everything that is written.

A key to a service is named in a config as `${oc.env:KEY}`. The run uses its value; its directory,
its model and its trackers get the reference.
"""

import os
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from polymodal.config.shape import Config

_REFERENCE = re.compile(r"\$\{oc\.env:([A-Za-z_][A-Za-z0-9_]*)(?:,([^{}]*))?\}")
_BEGINS = "${oc.env:"
_KEPT = re.compile(r"polymodal_kept_([0-9a-f]+)_")  # stands in for a reference, in hexadecimal


def references(tree: DictConfig) -> dict[str, str]:
    """Return the values that come from the environment by path, all else in them resolved."""
    raw = OmegaConf.to_container(tree, resolve=False)
    if _BEGINS not in repr(raw):
        return {}
    marked = OmegaConf.create(_each(raw, _marked))
    found: dict[str, str] = {}

    def walk(node: Any, real: Any, where: str) -> None:
        for key in range(len(node)) if OmegaConf.is_list(node) else list(node):
            place = f"{where}.{key}" if where else str(key)
            try:
                value, actual = node[key], real[key]
            except OmegaConfBaseException:
                continue  # said elsewhere
            if OmegaConf.is_config(value) and OmegaConf.is_config(actual):
                walk(value, actual, place)
            elif isinstance(value, str) and isinstance(actual, str):  # a number is no secret
                text = _KEPT.sub(lambda match: bytes.fromhex(match[1]).decode(), value)
                if text != value:
                    found[place] = text

    walk(marked, tree, "")
    return found


def with_references(values: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return a config's plain values with references where the environment gave them."""
    found: dict[str, Any] = deepcopy(dict(values))
    for where, text in config.references.items():
        *outer, last = where.split(".")
        place: Any = found
        for step in outer:
            place = _at(place, step)
        if isinstance(place, list) and last.isdigit() and int(last) < len(place):
            place[int(last)] = text
        elif isinstance(place, dict) and last in place:
            # A bare component name stands for {use: name}.
            slot = isinstance(place[last], dict) and "use" in place[last]
            if slot:
                place[last]["use"] = text
            else:
                place[last] = text
    return found


def with_environment(values: dict[str, Any]) -> dict[str, Any]:
    """Return a run's plain values with its references filled in, as far as they can be.

    One whose variable is not set, without a default, stays as it is: what needs it will say so.
    """

    def fill(match: re.Match[str]) -> str:
        return os.environ.get(match[1], match[2] if match[2] is not None else match[0])

    found: dict[str, Any] = _each(values, lambda text: _REFERENCE.sub(fill, text))
    return found


def _marked(text: str) -> str:
    """Return a text in which plain words stand in for references."""
    while (start := text.find(_BEGINS)) >= 0:
        depth, end = 0, start
        while end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if text[end] == "}" and not depth:
                break
            end += 1
        kept = text[start : end + 1].encode().hex()
        text = f"{text[:start]}polymodal_kept_{kept}_{text[end + 1 :]}"
    return text


def _at(place: Any, step: str) -> Any:
    if isinstance(place, list):
        return place[int(step)] if step.isdigit() and int(step) < len(place) else None
    return place.get(step) if isinstance(place, dict) else None


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain values with every text within them changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _each(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    return value
