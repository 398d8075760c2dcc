"""Constructor options read from source text, so that checking a config imports no torch."""

import ast
import collections.abc
import importlib
import importlib.util
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from polymodal.interfaces import component

MISSING: Final = object()


@dataclass(frozen=True)
class Option:
    """One argument of a component's constructor."""

    name: str
    annotation: Any  # a type pydantic understands; Any where it could not be read
    shown: str  # the annotation as written
    default: str | None = None  # as written; None: it must be given
    summary: str = ""  # from the docstring's Args

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
    summary = docstring.partition("\n\n")[0].replace("\n", " ")
    if init is None:
        return Signature({}, (), summary, docstring)
    if init.args.kwarg or init.args.vararg:
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
    return Signature(options, tuple(from_run), summary, docstring)


def _inspect(target: str) -> Signature:
    """Read the signature of the imported class: for constructors whose text can't be read."""
    from polymodal.interfaces.component import FROM_RUN

    module, _, name = target.partition(":")
    cls = getattr(importlib.import_module(module), name)
    hints = typing.get_type_hints(cls.__init__, include_extras=True)
    docstring = inspect.getdoc(cls) or ""
    texts = _argument_texts(docstring)
    options: dict[str, Option] = {}
    from_run = []
    for argument in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        hint = hints.get(argument.name, Any)
        if FROM_RUN in getattr(hint, "__metadata__", ()):
            from_run.append(argument.name)
        elif argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
            default = None if argument.default is argument.empty else repr(argument.default)
            shown = inspect.formatannotation(hint)
            options[argument.name] = Option(
                argument.name, _as_config(hint), shown, default, texts.get(argument.name, "")
            )
    return Signature(options, tuple(from_run), docstring.partition("\n\n")[0], docstring)


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
