"""Constructor options read from source text, so that checking a config imports no torch."""

import ast
import collections.abc
import importlib
import importlib.util
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

from polymodal.interfaces import component
from polymodal.interfaces.groups import Default, Presets, hints_of, marked

MISSING: Final = object()


@dataclass(frozen=True)
class Option:
    """One argument of a component's constructor."""

    name: str
    annotation: Any  # a type pydantic understands; Any where it could not be read
    shown: str  # the annotation as written
    default: str | None = None  # as written; None: it must be given
    summary: str = ""  # from the docstring's Args
    group: str | None = None  # the group of options it is declared in; None: the constructor's own
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what values stand for

    @property
    def part(self) -> str | None:
        """The kind of part it holds, if it holds one."""
        return _part_of(self.annotation)

    @property
    def required(self) -> bool:
        """Whether a config must set it."""
        return self.default is None


@dataclass(frozen=True)
class Signature:
    """What a component's constructor takes: options from the config, the rest from the run."""

    options: Mapping[str, Option]
    from_run: tuple[str, ...]
    summary: str = ""
    docstring: str = field(default="", repr=False)
    groups: Mapping[str, str] = field(default_factory=dict)  # of options: what each is about

    @property
    def own(self) -> Mapping[str, Option]:
        """The options that are the constructor's alone, of no group."""
        return {name: option for name, option in self.options.items() if option.group is None}


def _part_of(annotation: Any) -> str | None:
    """Return the kind of part an annotation asks for, `Hiding` and `Hiding | None` alike."""
    for mark in getattr(annotation, "__metadata__", ()):
        if isinstance(mark, component.PartOf):
            return mark.kind
    found = (_part_of(inner) for inner in typing.get_args(annotation))
    return next((kind for kind in found if kind is not None), None)


# Names an annotation may use; everything else is looked up in the module's own assignments.
_NAMES: Final[Mapping[str, Any]] = {
    **{t.__name__: t for t in (int, float, bool, str, list, dict, tuple, set)},
    "None": None,
    "Any": Any,
    "Literal": typing.Literal,
    "Annotated": typing.Annotated,
    "Optional": typing.Optional,
    "Union": typing.Union,
    "Sequence": collections.abc.Sequence,
    "Iterable": collections.abc.Iterable,
    "Mapping": collections.abc.Mapping,
    "StreamName": component.StreamName,
    "SourceName": component.SourceName,
    "ObjectiveName": component.ObjectiveName,
    "ModuleName": component.ModuleName,
    "FieldName": component.FieldName,
    "FilePath": component.FilePath,
    "FolderPath": component.FolderPath,
    **component.PART_TYPES,
}


@cache
def _tree(module: str) -> ast.Module | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        with open(spec.origin, encoding="utf-8") as file:
            return ast.parse(file.read())
    except (OSError, SyntaxError):
        return None


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Top-level statements, those under `if TYPE_CHECKING` included."""
    for node in tree.body:
        yield node
        if isinstance(node, ast.If):
            yield from node.body


def _imported(tree: ast.Module, name: str) -> tuple[str, str] | None:
    """Return the module and the name there that `name` was imported from."""
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return node.module, alias.name
    return None


def _evaluate(node: ast.expr, module: str, depth: int = 0) -> Any:
    """Evaluate an annotation; Any where it uses a name that can't be followed."""
    names: dict[str, Any] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            names[part.id] = (
                _NAMES[part.id] if part.id in _NAMES else _lookup(module, part.id, depth + 1)
            )
            if names[part.id] is MISSING:
                return Any
    try:
        return eval(compile(ast.Expression(node), module, "eval"), {"__builtins__": {}}, names)
    except Exception:
        return Any


def _lookup(module: str, name: str, depth: int) -> Any:
    tree = _tree(module)
    if tree is None or depth > 8:
        return MISSING
    for node in _statements(tree):
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            if any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                value = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            value = node.value if node.target.id == name else None
        if value is not None:
            found = _evaluate(value, module, depth)
            return MISSING if found is Any else found
    origin = _imported(tree, name)
    return MISSING if origin is None else _lookup(*origin, depth + 1)


def _class(module: str, name: str, depth: int = 0) -> tuple[str, ast.ClassDef] | None:
    """Find a class and its module, following imports by their text."""
    tree = _tree(module)
    if tree is None or depth > 8:
        return None
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
    origin = _imported(tree, name)
    return None if origin is None else _class(*origin, depth + 1)


def _constructor(
    module: str, name: str, depth: int = 0
) -> tuple[str, ast.ClassDef, ast.FunctionDef | None] | None:
    """Find a class and the `__init__` it has or inherits, following imports by their text."""
    tree = _tree(module)
    if tree is None or depth > 8:
        return None
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    return module, node, item
            if node.decorator_list:
                return None  # a dataclass makes its own
            for base in node.bases:
                if isinstance(base, ast.Name):
                    found = _constructor(module, base.id, depth + 1)
                    if found and found[2] is not None:
                        return found[0], node, found[2]
            return module, node, None
    origin = _imported(tree, name)
    return None if origin is None else _constructor(*origin, depth + 1)


def _argument_texts(docstring: str) -> dict[str, str]:
    """Return the text of each entry under "Args:" of a Google-style docstring."""
    texts: dict[str, str] = {}
    current: str | None = None
    inside = False
    indent = 0
    for line in inspect.cleandoc(docstring).splitlines():
        if line.strip() == "Args:":
            inside = True
            continue
        if not inside or not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            break
        indent = indent or depth
        head, colon, rest = line.strip().partition(":")
        if depth == indent and colon:
            current = head.partition(" ")[0]
            texts[current] = rest.strip()
        elif current:
            texts[current] += " " + line.strip()
    return texts


def _opening(docstring: str) -> str:
    """Return a docstring's first paragraph in one line."""
    return docstring.partition("\n\n")[0].replace("\n", " ")


def _mark(annotation: ast.expr, mark: str) -> ast.expr | None:
    """Return what a mark such as `Default(4.0)` holds, if an annotation bears it."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == mark and node.args:
            return node.args[0]
    return None


def _group_name(annotation: ast.expr | None) -> str | None:
    """Return `Sizes` of `**sizes: Unpack[Sizes]`."""
    if (
        isinstance(annotation, ast.Subscript)
        and ast.unparse(annotation.value) == "Unpack"
        and isinstance(annotation.slice, ast.Name)
    ):
        return annotation.slice.id
    return None


def _group(module: str, name: str, *, group: str) -> tuple[dict[str, Option], str] | None:
    """Read the options of a group (`polymodal.interfaces.groups`) and what it is about."""
    found = _class(module, name)
    if found is None:
        return None
    home, node = found
    docstring = ast.get_docstring(node) or ""
    texts = _argument_texts(docstring)
    own: dict[str, Option] = {}
    inherited: dict[str, Option] = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            option = _group_option(item.target.id, item.annotation, home)
            summary = texts.get(option.name, "")
            own[option.name] = replace(option, summary=summary, group=group)
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id != "TypedDict":
            above = _group(home, base.id, group=group)
            if above is None:
                return None
            inherited |= above[0]
    return own | inherited, _opening(docstring)


def _group_option(name: str, annotation: ast.expr, home: str) -> Option:
    default, presets = _mark(annotation, "Default"), _mark(annotation, "Presets")
    bare = annotation
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        bare = annotation.slice.elts[0]
    values = {} if presets is None else _evaluate(presets, home)
    return Option(
        name,
        _evaluate(bare, home),
        ast.unparse(bare),
        None if default is None else ast.unparse(default),
        presets=values if isinstance(values, dict) else {},
    )


def _from_run(annotation: ast.expr) -> bool:
    return (
        isinstance(annotation, ast.Subscript)
        and isinstance(annotation.value, ast.Name)
        and annotation.value.id == "FromRun"
    )


def _read(target: str) -> Signature | None:
    module, _, name = target.partition(":")
    found = _constructor(module, name)
    if found is None:
        return None
    home, node, init = found
    docstring = ast.get_docstring(node) or ""
    summary = _opening(docstring)
    if init is None:
        return Signature({}, (), summary, docstring)
    grouped: dict[str, Option] = {}
    groups: dict[str, str] = {}
    if init.args.kwarg:
        group = _group_name(init.args.kwarg.annotation)
        read = None if group is None else _group(home, group, group=group)
        if group is None or read is None:
            return None
        grouped, groups[group] = read
    if init.args.vararg:
        return None
    texts = _argument_texts(docstring) | _argument_texts(ast.get_docstring(init) or "")
    positional = [*init.args.posonlyargs, *init.args.args][1:]
    defaults: list[ast.expr | None] = [
        *[None] * (len(positional) - len(init.args.defaults)),
        *init.args.defaults,
    ]
    options: dict[str, Option] = {}
    from_run = []
    for argument, default in zip(
        [*positional, *init.args.kwonlyargs], [*defaults, *init.args.kw_defaults], strict=True
    ):
        annotation = argument.annotation
        if annotation is not None and _from_run(annotation):
            from_run.append(argument.arg)
            continue
        options[argument.arg] = Option(
            argument.arg,
            Any if annotation is None else _evaluate(annotation, home),
            "Any" if annotation is None else ast.unparse(annotation),
            None if default is None else ast.unparse(default),
            texts.get(argument.arg, ""),
        )
    for name, option in grouped.items():
        options[name] = replace(option, summary=texts.get(name, option.summary))
    return Signature(options, tuple(from_run), summary, docstring, groups)


def _inspect(target: str) -> Signature:
    """Read the signature of the imported class: for constructors whose text can't be read."""
    module, _, name = target.partition(":")
    cls = getattr(importlib.import_module(module), name)
    hints = typing.get_type_hints(cls.__init__, include_extras=True)
    docstring = inspect.getdoc(cls) or ""
    texts = _argument_texts(docstring)
    options: dict[str, Option] = {}
    groups: dict[str, str] = {}
    from_run = []
    for argument in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        hint = hints.get(argument.name, Any)
        if component.FROM_RUN in getattr(hint, "__metadata__", ()):
            from_run.append(argument.name)
        elif argument.kind is argument.VAR_KEYWORD and typing.get_origin(hint) is typing.Unpack:
            (group,) = typing.get_args(hint)
            options |= _inspect_group(group, texts)
            groups[group.__name__] = _opening(inspect.getdoc(group) or "")
        elif argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
            default = None if argument.default is argument.empty else repr(argument.default)
            shown = inspect.formatannotation(hint)
            options[argument.name] = Option(
                argument.name, _as_config(hint), shown, default, texts.get(argument.name, "")
            )
    return Signature(options, tuple(from_run), docstring.partition("\n\n")[0], docstring, groups)


def _with_bases(group: type) -> list[type]:
    """Return a group after those it inherits; a TypedDict has no other trace of them."""
    bases = [base for base in getattr(group, "__orig_bases__", ()) if base is not typing.TypedDict]
    return [each for base in bases for each in _with_bases(base)] + [group]


def _inspect_group(group: type, texts: Mapping[str, str]) -> dict[str, Option]:
    docstrings = [inspect.cleandoc(each.__doc__ or "") for each in _with_bases(group)]
    texts = {k: v for text in docstrings for k, v in _argument_texts(text).items()} | dict(texts)
    options = {}
    for name, hint in hints_of(group).items():
        default, presets = marked(hint, Default), marked(hint, Presets)
        bare = hint.__origin__ if typing.get_origin(hint) is typing.Annotated else hint
        options[name] = Option(
            name,
            bare,
            inspect.formatannotation(bare),
            None if default is None else repr(default.value),
            texts.get(name, ""),
            group.__name__,
            {} if presets is None else presets.options,
        )
    return options


def _as_config(hint: Any) -> Any:
    """Return a hint with the classes of parts as what a config holds in their place."""
    name = getattr(hint, "__name__", "")
    if name in component.PART_TYPES and hint.__module__ == "polymodal.interfaces.parts":
        return component.PART_TYPES[name]
    inner = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.Union[tuple(map(_as_config, inner))]  # noqa: UP007
    return hint


@cache
def read_signature(target: str) -> Signature:
    """Return what the constructor of "module:Class" takes, importing the module only if it must.

    Raises:
        ImportError: the text could not be read and the module can't be imported.
    """
    return _read(target) or _inspect(target)
