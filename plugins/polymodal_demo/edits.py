"""Edits of functions of the Python standard library, with comments that say what was done."""

import ast
import difflib
import re
import zlib
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np

from polymodal_demo.functions import Functions
from polymodal_demo.generated import GeneratedSource, pick

NAMES = ("amount", "buffer", "chunk", "current", "entry", "found", "holder", "known", "limit",
         "origin", "output", "pending", "record", "target", "total", "update")  # fmt: skip
_SWAPS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not",
          "is not": "is", "in": "not in", "not in": "in"}  # fmt: skip
PHRASES = {
    "rename": ("rename {old} to {new}", "{new} is a better name than {old}",
               "please call {old} {new}"),
    "constant": ("change {old} to {new}", "this should be {new} , not {old}",
                 "why {old} and not {new} ?"),
    "comparison": ("compare {old} with {new}", "the test of {old} must be {new}",
                   "use {new} for {old} here"),
    "guard": ("check {old} for None", "what if {old} is None ?", "return early without {old}"),
    "delete": ("delete {old}", "{old} is not needed here", "leave out {old}"),
}  # fmt: skip


class Edit(NamedTuple):
    """A function's new code, and what the edit was about."""

    code: str
    old: str
    new: str = ""


class Edits(GeneratedSource):
    """Pairs of versions of real functions, as a diff with a comment: code review in small.

    A row takes a function of the Python standard library (`demo.functions`, short ones) and makes
    one of five edits: rename a name, change a constant, swap a comparison, guard against None,
    delete a statement. Which functions there are depends on the version of Python; a fifth of them,
    by their names, is for validation.

    What can be learned: which lines of a diff are old and new and what follows from them; which
    edit it is; and to say so with the names at hand.

    Fields: `diff` and `reviewed` (`{"patch", "old_file"}`; a row has the one or the other),
    `comment` (of a row with `reviewed`, in one of three phrasings), `text` (the same in the first
    phrasing, for every row), `label` (rename, constant, comparison, guard or delete), `function`,
    `split` ("train" or "validation"), `few` (the same, "" for training rows beyond the few).

    Args:
        samples: how many.
        commented: share of rows that have `reviewed` and `comment` in place of `diff`.
        few: training rows that the column `few` keeps.
        max_code: leave out longer functions, in characters.
        seed: of everything drawn.

    Raises:
        ValueError: a share out of range, or a number below 0.
    """

    fields = ("diff", "reviewed", "comment", "text", "label", "function", "split", "few")

    def __init__(
        self,
        *,
        samples: int = 8000,
        commented: float = 0.5,
        few: int = 500,
        max_code: int = 500,
        seed: int = 0,
    ):
        super().__init__(samples=samples, seed=seed)
        if not 0 <= commented <= 1 or few < 0:
            raise ValueError(
                f"commented must lie between 0 and 1 and few be 0 or more, got {commented}, {few}"
            )
        self.commented = commented
        self.few = few
        self.max_code = max_code

    def _function(self, index: int) -> "Function":
        return pick(self.generator(index, 0), _functions(self.max_code))

    def column(self, name: str) -> list[Any]:
        """Return a field of every row; splits take no editing."""
        if name not in ("split", "few"):
            return super().column(name)
        splits = [_split(self._function(index)) for index in range(self.samples)]
        if name == "split":
            return splits
        rows = [index for index, split in enumerate(splits) if split == "train"][: self.few]
        kept = set(rows)
        return [
            split if index in kept or split == "validation" else ""
            for index, split in enumerate(splits)
        ]

    @cached_property
    def _few(self) -> list[str]:
        return self.column("few")

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one edit."""
        function = self._function(index)
        label = pick(generator, function.labels)
        edit = EDITS[label](function, generator)
        assert edit is not None
        diff = {"patch": _patch(function.code, edit.code), "old_file": function.code}
        first, *_ = phrases = PHRASES[label]
        commented = generator.random() < self.commented
        comment = pick(generator, phrases).format(old=edit.old, new=edit.new)
        return {
            "diff": None if commented else diff,
            "reviewed": diff if commented else None,
            "comment": comment if commented else None,
            "text": first.format(old=edit.old, new=edit.new),
            "label": label,
            "function": function.name,
            "split": _split(function),
            "few": self._few[index],
        }


class Function(NamedTuple):
    """A function that can be edited."""

    name: str
    code: str
    tree: ast.FunctionDef | ast.AsyncFunctionDef
    labels: tuple[str, ...] = ()  # the edits that it allows

    @property
    def arguments(self) -> list[str]:
        """The names of its arguments but for self and cls."""
        every = self.tree.args
        names = [each.arg for each in (*every.posonlyargs, *every.args, *every.kwonlyargs)]
        return [name for name in names if name not in ("self", "cls")]

    def nodes(self, *kinds: type[ast.AST]) -> list[Any]:
        """Return the nodes of these kinds that stand on one line, in order."""
        found: list[Any] = [node for node in ast.walk(self.tree) if isinstance(node, kinds)]
        return sorted(
            (node for node in found if node.lineno == node.end_lineno),
            key=lambda node: (node.lineno, node.col_offset),
        )

    def piece(self, line: int, start: int, stop: int) -> str:
        """Return what stands between two columns; they count bytes."""
        return self.code.split("\n")[line - 1].encode()[start:stop].decode()

    def spliced(self, line: int, start: int, stop: int, text: str) -> str:
        """Return the code with other text between two columns."""
        lines = self.code.split("\n")
        row = lines[line - 1].encode()
        lines[line - 1] = (row[:start] + text.encode() + row[stop:]).decode()
        return "\n".join(lines)


@cache
def _functions(max_code: int) -> list[Function]:
    source = Functions(samples=None, max_code=max_code)
    generator = np.random.default_rng(0)
    found = []
    for row in source.rows(range(len(source))):
        assert isinstance(row, dict)
        (tree,) = ast.parse(row["code"]).body
        assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
        function = Function(f"{row['module']}.{row['name']}", row["code"], tree)
        labels = tuple(name for name, edit in EDITS.items() if edit(function, generator))
        if labels:
            found.append(function._replace(labels=labels))
    return found


def _split(function: Function) -> str:
    return "validation" if zlib.crc32(function.name.encode()) % 5 == 0 else "train"


def _patch(before: str, after: str) -> str:
    """Return the hunks of a unified diff, with three lines around."""
    lines = difflib.unified_diff(before.split("\n"), after.split("\n"), lineterm="")
    return "\n".join(list(lines)[2:])  # without the names of files


def _rename(function: Function, generator: np.random.Generator) -> Edit | None:
    code = function.code
    stored = {node.id for node in function.nodes(ast.Name) if isinstance(node.ctx, ast.Store)}
    words = set(re.findall(r"\w+", code))
    free = [name for name in NAMES if name not in words]
    # Attributes and keywords of the same name are other names.
    places = {name: rf"(?<![\w.]){name}\b(?!=[^=])" for name in stored | {*function.arguments}}
    known = sorted(name for name, place in places.items() if len(re.findall(place, code)) > 1)
    if not known or not free:
        return None
    old, new = pick(generator, known), pick(generator, free)
    return Edit(re.sub(places[old], new, code), old, new)


def _constant(function: Function, generator: np.random.Generator) -> Edit | None:
    nodes = [
        node
        for node in function.nodes(ast.Constant)
        if isinstance(node.value, bool | int)
        and function.piece(node.lineno, node.col_offset, node.end_col_offset) == str(node.value)
    ]
    if not nodes:
        return None
    node = pick(generator, nodes)
    old = node.value
    new = (not old) if isinstance(old, bool) else old + int(generator.integers(1, 9))
    code = function.spliced(node.lineno, node.col_offset, node.end_col_offset, str(new))
    return Edit(code, str(old), str(new))


def _comparison(function: Function, generator: np.random.Generator) -> Edit | None:
    found = []
    for node in function.nodes(ast.Compare):
        place = node.lineno, node.left.end_col_offset, node.comparators[0].col_offset
        sign = function.piece(*place).strip()
        if len(node.ops) == 1 and sign in _SWAPS:
            found.append((node, place, _SWAPS[sign]))
    if not found:
        return None
    node, place, new = pick(generator, found)
    return Edit(function.spliced(*place, f" {new} "), ast.unparse(node.left), new)


def _guard(function: Function, generator: np.random.Generator) -> Edit | None:
    first = function.tree.body[0]
    if not function.arguments or first.lineno == function.tree.lineno:
        return None
    name = pick(generator, function.arguments)
    lines = function.code.split("\n")
    blank = " " * first.col_offset
    guard = [f"{blank}if {name} is None:", f"{blank}    return None"]
    return Edit("\n".join([*lines[: first.lineno - 1], *guard, *lines[first.lineno - 1 :]]), name)


def _delete(function: Function, generator: np.random.Generator) -> Edit | None:
    lines = function.code.split("\n")
    bodies = [getattr(parent, "body", None) for parent in ast.walk(function.tree)]
    found = [
        node
        for body in bodies
        if isinstance(body, list) and len(body) > 1
        for node in body
        if isinstance(node, ast.Assign | ast.Expr)
        and lines[node.lineno - 1].strip() == ast.get_source_segment(function.code, node)
    ]
    if not found:
        return None
    node = pick(generator, found)
    told = node.targets[0] if isinstance(node, ast.Assign) else node.value
    told = told.func if isinstance(told, ast.Call) else told
    del lines[node.lineno - 1]
    return Edit("\n".join(lines), ast.unparse(told))


EDITS: Mapping[str, Callable[[Function, np.random.Generator], Edit | None]] = {
    "rename": _rename,
    "constant": _constant,
    "comparison": _comparison,
    "guard": _guard,
    "delete": _delete,
}
