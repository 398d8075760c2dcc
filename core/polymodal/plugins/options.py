"""A component's options: what is wrong with those of a config, and their Python values."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter
from pydantic import ValidationError as PydanticError

from polymodal.ground.errors import closest, nearest, suggest
from polymodal.plugins.origin import Problem
from polymodal.plugins.registry import Component
from polymodal.plugins.signature import Option, Signature, read_signature

Refusals = Mapping[str, Callable[[str], str | None]]
"""By kind of name (`polymodal.interfaces.component.Names`): what is wrong with a name, or None."""


def check_options(
    component: Component, options: Mapping[str, Any], refusals: Refusals | None = None
) -> list[Problem]:
    """Return what is wrong with the options of a component; a path is empty, or starts with one.

    Args:
        component: whose constructor is read, without importing it where that can be.
        options: from a config.
        refusals: check what options name, too.
    """
    try:
        signature = read_signature(component.target)
    except ImportError:
        return []  # loading it will say which package is missing
    problems = []
    misspelt = {closest(n, signature.options) for n in options if n not in signature.options}
    for name, option in signature.options.items():
        if option.required and name not in options and name not in misspelt:
            problems.append(("", f"{component.name} needs the option {name!r} ({option.shown})"))
    for name, value in options.items():
        if name in signature.options:
            problems += _check_value(signature.options[name], value, refusals or {})
        else:
            hint = nearest(name, signature.options) or " It has no options."
            problems.append((name, f"{component.name} has no option {name!r}.{hint}"))
    return problems


def parts_of(component: Component) -> dict[str, str]:
    """Return the options of a component that hold parts, and the kind of each."""
    try:
        signature = read_signature(component.target)
    except ImportError:
        return {}
    return {n: option.part for n, option in signature.options.items() if option.part is not None}


def _check_value(option: Option, value: Any, refusals: Refusals) -> list[Problem]:
    """Return what is wrong with a YAML value of an option.

    JSON's strict mode is YAML's sense of types: a list will do for a tuple, "3" not for 3.
    """
    try:
        adapter = TypeAdapter(option.annotation)
    except PydanticSchemaGenerationError:
        return []  # not a type YAML can give; the constructor decides
    try:
        adapter.validate_json(json.dumps(value), strict=True, context=refusals)
    except PydanticError as error:
        found = error.errors(include_url=False)
        named = [item for item in found if item["type"] == "value_error"]
        if named:  # of the right type, but no such stream, source or file
            return [
                (".".join([option.name, *_steps(value, item["loc"])]), str(item["ctx"]["error"]))
                for item in named
            ]
        where = ".".join([option.name, *_steps(value, found[0]["loc"])])
        why = reason(found[0])
        return [(where, f"must be {option.shown}, got {shown(value)} ({why})")]
    return []


def leads_in(value: Any, step: str | int) -> bool:
    """Whether a step of a path leads into a YAML value."""
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _steps(value: Any, location: Sequence[str | int]) -> list[str]:
    """Return the steps of pydantic's location that lead into a value, not into a type."""
    steps = []
    for step in location:
        if leads_in(value, step):
            value = value[step]
            steps.append(str(step))
    return steps


def reason(item: Any) -> str:
    """Return what pydantic found in our words, with the nearest right spelling of a word."""
    text: str = item["msg"][0].lower() + item["msg"][1:]
    if item["type"] == "value_error":
        text = str(item["ctx"]["error"])
    elif item["type"] == "literal_error" and isinstance(item["input"], str):
        words = re.findall("'([^']*)'", text)
        text += suggest(item["input"], words).replace(" Did", "; did")
    elif item["type"] in ("string_type", "literal_error") and isinstance(item["input"], bool):
        text += "; YAML takes yes, no, on and off for true and false: put the word in quotes"
    return text


def shown(value: Any) -> str:
    """Return a value as an error message shows it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def convert(annotation: Any, value: Any) -> Any:
    """Return a YAML value as the annotation's type (a list as a tuple, say)."""
    try:
        return TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except PydanticSchemaGenerationError:
        return value


def blamed(signature: Signature, options: Mapping[str, Any], message: str) -> str | None:
    """Return the option that a constructor's error is about, if that can be told.

    A message that starts with an option ("size must be a multiple of patch 3") is about the first
    one it names that the config sets; any other, about the option whose value it quotes.
    """
    words = re.findall(r"\w+", message)
    if words and words[0] in signature.options:
        return next((word for word in words if word in options), None)
    quoted = (name for name, v in options.items() if isinstance(v, str) and repr(v) in message)
    return next(quoted, None)
