"""Functions of Python's standard library with what their docstrings say first."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from polymodal import Source
from polymodal.errors import UnreadableError
from polymodal_code.package import PackageFunctions

MODULES = (
    "asyncio",
    "email",
    "http",
    "importlib",
    "inspect",
    "logging",
    "mailbox",
    "multiprocessing",
    "pathlib",
    "unittest",
    "urllib",
    "xml",
)
# A stop that ends a sentence: white space follows, and it is not that of "e.g." or "i.e.".
_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!etc)[.!?](?=\s)")


class Functions(Source):
    """Functions this Python is delivered with: `code`, `text`, `label` (the module), `name`.

    Read from the standard library's source on this machine and not run, so the rows depend on the
    version of Python. `code` is a function or method with a docstring, the docstring taken out;
    `text` is the docstring's first sentence; `label` the package or module it stands in; `name`
    the function's, with its class. Functions come from twelve modules, at most as many from each
    as an even share of `samples`, shuffled; of functions with the same code one is kept.

    What can be learnt: to find a function by its description, mostly by words that code and
    description share (nearly every description is different), and the module (12 classes of
    some 50 to 125). Written by people and not made for this, so harder than its neighbours.

    Args:
        samples: the most rows; there may be fewer.
        seed: of the choice and order.
        modules: other modules or packages, by import name, with all below them.

    Raises:
        ValueError: no modules, fewer samples than modules, or a negative seed.
    """

    def __init__(self, *, samples: int = 1500, seed: int = 0, modules: Sequence[str] = MODULES):
        if isinstance(modules, str) or not modules:
            raise ValueError(f"modules must list at least one module, got {modules!r}")
        if samples < len(modules):
            raise ValueError(
                f"samples must be at least the number of modules, {len(modules)}, got {samples}"
            )
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.samples = samples
        self.seed = seed
        self.modules = tuple(modules)

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        rng = np.random.default_rng(self.seed)
        rows: list[dict[str, str]] = []
        for module in self.modules:
            found = _functions(module)
            share = rng.permutation(len(found))[: self.samples // len(self.modules)]
            rows += [found[number] for number in share]
        return [rows[number] for number in rng.permutation(len(rows))]

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("code", "text", "label", "name")

    def row(self, index: int) -> Mapping[str, Any]:
        """Return one function."""
        return dict(self._rows[index])


def _functions(module: str) -> list[dict[str, str]]:
    """Return a module's documented functions, its own tests' left out."""
    source = PackageFunctions(modules=[module], max_code=2000)
    found: dict[str, dict[str, str]] = {}
    for row in source.rows(range(len(source))):
        if isinstance(row, UnreadableError) or {"test", "tests"} & {*row["module"].split(".")}:
            continue
        text = first_sentence(row["docstring"])
        found.setdefault(
            row["code"], {"code": row["code"], "text": text, "label": module, "name": row["name"]}
        )
    return list(found.values())


def first_sentence(text: str) -> str:
    """Return a text up to its first sentence's end, without the stop."""
    return _END.split(text, maxsplit=1)[0].rstrip(" .")
