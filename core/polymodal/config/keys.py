"""What the config's sections hold, read from the shape's own source text: keys and comments."""

import ast
import importlib.util
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from polymodal.config.shape import SECTION_KINDS, Config, Slot


@dataclass(frozen=True)
class Key:
    """A key of a section, as a reader of the config needs it."""

    name: str
    type: str  # as YAML has it: null for None, choices spelt out
    default: Any  # None where `required`
    required: bool
    section: bool  # its value is a section or component of its own
    summary: str  # what it is, with its bounds


def sections(model: type[BaseModel] = Config, path: str = "") -> Iterator[tuple[str, type]]:
    """Yield every section's class with its path, outermost first: "data.sources.NAME.split"."""
    yield path, model
    for name, field in model.model_fields.items():
        for inner, mapped in _models(field.annotation):
            if inner is not Slot:  # nothing but `use`
                yield from sections(inner, f"{path}.{name}".lstrip(".") + ".NAME" * mapped)


def keys(model: type[BaseModel]) -> list[Key]:
    """Return the keys of a section, inherited ones first."""
    return [_key(model.model_fields[name], name, *rest) for name, *rest in _fields(model)]


def summary(model: type[BaseModel]) -> str:
    """Return what a section is about."""
    return (model.__doc__ or "").partition("\n\n")[0]


def _key(field: FieldInfo, name: str, written: str, comment: str) -> Key:
    inner = next(_models(field.annotation), (None, False))[0]
    if not comment and inner is Slot:
        comment = f"{SECTION_KINDS.get(name, 'component')}s by name"
    elif not comment and inner:
        comment = summary(inner)
    elif name == "use":
        comment = "the component"
    bounds = ", ".join(filter(None, map(_bound, field.metadata)))
    shown = re.sub(r"\b[A-Za-z]*Slot\b", "component", re.sub(r"\b\w+Config\b", "section", written))
    shown = re.sub(r"Literal\[(.+)\]", lambda m: m[1].replace("'", '"').replace(", ", " | "), shown)
    return Key(
        name,
        shown.replace("None", "null"),
        None if field.is_required() else field.default,
        field.is_required(),
        inner is not None,
        "; ".join(filter(None, [comment.rstrip("."), bounds])),
    )


def _models(annotation: object, mapped: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, mapped
    for inner in typing.get_args(annotation):
        yield from _models(inner, mapped or typing.get_origin(annotation) is dict)


@cache
def _text(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Yield each key of a section, inherited ones first: name, type as written, comment.

    The comment is that after the key, or the lines of comment right above it.
    """
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        text = _text(base.__module__)
        lines = text.splitlines()
        classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
        (node,) = (each for each in classes if each.name == base.__name__)
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                if item.target.id.startswith("_"):
                    continue
                comment = lines[(item.end_lineno or item.lineno) - 1].partition("  # ")[2]
                annotation = item.annotation
                if isinstance(annotation, ast.Subscript) and (
                    ast.unparse(annotation.value) == "Annotated"
                ):
                    assert isinstance(annotation.slice, ast.Tuple)
                    annotation = annotation.slice.elts[0]
                written = ast.unparse(annotation)
                yield item.target.id, written, comment or _above(lines, item.lineno - 1)


def _above(lines: list[str], line: int) -> str:
    found: list[str] = []
    while line and lines[line - 1].strip().startswith("# "):
        line -= 1
        found.insert(0, lines[line].strip()[2:])
    return " ".join(found)


def _bound(rule: object) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{w} {getattr(rule, a)}" for a, w in words.items() if hasattr(rule, a))
