"""Functions with their docstrings, from installed Python packages or the standard library.

Nothing is imported and nothing is run: packages are found on the import path and read as text.
"""

import sys
import sysconfig
from collections.abc import Sequence
from functools import cached_property
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from polymodal import DataError, Source, UnreadableError, nearest
from polymodal_code.functions import decode_source, functions_of

STANDARD_LIBRARY = "stdlib"
# Parts of the standard library that are no library: tests, an editor, demonstrations.
_LEFT_OUT = {"test", "tests", "idlelib", "idle_test", "turtledemo", "lib2to3", "__phello__"}


def find_module(name: str) -> list[tuple[str, Path]]:
    """Return the source files of a module, or of a package and all below it, with their modules.

    Raises:
        DataError: there is no such module, or it has no Python source.
    """
    top, *rest = name.split(".")
    spec = PathFinder.find_spec(top)
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        try:  # editable installs have finders of their own; a top-level name imports nothing
            spec = find_spec(top)
        except (ImportError, ValueError):
            spec = None
    if spec is None:
        raise DataError(
            f"no module {top!r} is installed here.{nearest(top, sys.stdlib_module_names)}"
        )
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    for depth, part in enumerate(rest):
        folders = [place / part for place in places if (place / part).is_dir()]
        files = [place / f"{part}.py" for place in places if (place / f"{part}.py").is_file()]
        last = depth == len(rest) - 1
        if not folders and not (last and files):
            raise DataError(f"the module {'.'.join([top, *rest[:depth]])!r} has no {part!r}")
        if not folders:
            return [(name, files[0])]
        places = folders
    if places:
        found = [pair for place in places for pair in _below(place, name)]
    else:
        origin = spec.origin or ""
        found = [(name, Path(origin))] if origin.endswith(".py") else []
    if not found:
        raise DataError(f"the module {name!r} has no Python source to read")
    return found


def _below(folder: Path, name: str) -> list[tuple[str, Path]]:
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        inner = parts[:-1] if parts[-1] == "__init__" else parts
        if all(part.isidentifier() for part in inner):
            found.append((".".join([name, *inner]), path))
    return found


def find_standard_library() -> list[tuple[str, Path]]:
    """Return the source files of the standard library, public modules alone, with their names."""
    top = Path(sysconfig.get_paths()["stdlib"])
    found: list[tuple[str, Path]] = []
    for name in sorted(sys.stdlib_module_names - _LEFT_OUT):
        if name.startswith("_"):
            continue
        if (top / f"{name}.py").is_file():
            found.append((name, top / f"{name}.py"))
        elif (top / name).is_dir():
            found += [
                pair for pair in _below(top / name, name) if not _LEFT_OUT & {*pair[0].split(".")}
            ]
    if not found:
        raise DataError(f"the standard library at {top} has no source files")
    return found


class PackageFunctions(Source):
    """One row a function: `code`, `docstring`, `name`, `module`, `path`, `language` (python).

    The docstring is taken out of the code.
    Ordered by module name, then as they stand in the file. A file that does not parse is one
    unreadable row.

    Args:
        modules: packages (with all below them) and modules, by import name; "stdlib" is the whole
            public standard library.
        docstring: its first paragraph on one line, or the whole.
        documented: leave out functions without a docstring.
        private: take names with a leading underscore too.
        min_code: leave out functions with fewer characters of code.
        max_code: leave out functions with more.
        min_docstring: leave out docstrings with fewer characters.
        max_docstring: leave out docstrings with more.

    Raises:
        ValueError: no modules, or bounds that leave nothing.
    """

    def __init__(
        self,
        *,
        modules: Sequence[str],
        docstring: Literal["paragraph", "whole"] = "paragraph",
        documented: bool = True,
        private: bool = False,
        min_code: int = 40,
        max_code: int = 4000,
        min_docstring: int = 10,
        max_docstring: int = 1000,
    ):
        if isinstance(modules, str) or not modules:
            raise ValueError(f"modules must list at least one module, got {modules!r}")
        if min_code > max_code:
            raise ValueError(f"min_code {min_code} exceeds max_code {max_code}")
        if min_docstring > max_docstring:
            raise ValueError(f"min_docstring {min_docstring} exceeds max_docstring {max_docstring}")
        self.modules = tuple(modules)
        self.docstring = docstring
        self.documented = documented
        self.private = private
        self.code_bounds = (min_code, max_code)
        self.docstring_bounds = (min_docstring, max_docstring)

    @cached_property
    def _rows(self) -> list[dict[str, Any] | str]:
        """Rows, and for a file that does not parse the reason."""
        files: dict[Path, str] = {}
        for name in self.modules:
            pairs = find_standard_library() if name == STANDARD_LIBRARY else find_module(name)
            for module, path in pairs:
                files.setdefault(path, module)
        rows: list[dict[str, Any] | str] = []
        for path, module in sorted(files.items(), key=lambda pair: (pair[1], pair[0])):
            try:
                functions = functions_of(decode_source(path.read_bytes()))
            except SyntaxError as error:
                place = f" (line {error.lineno})" if error.lineno else ""
                rows.append(f"{path} does not parse: {error.msg or error}{place}")
                continue
            except OSError as error:
                rows.append(f"{path} can't be read: {error.strerror or error}")
                continue
            for function in functions:
                text = self._docstring(function.docstring)
                if self._takes(function.name, function.code, text):
                    rows.append(
                        {
                            "code": function.code,
                            "docstring": text or None,
                            "name": function.name,
                            "module": module,
                            "path": str(path),
                            "language": "python",
                        }
                    )
        if not rows:
            raise DataError(
                f"{', '.join(self.modules)}: no function is left within these bounds; "
                "widen min_code, max_code, min_docstring or max_docstring"
            )
        return rows

    def _docstring(self, text: str) -> str:
        return " ".join(text.split("\n\n")[0].split()) if self.docstring == "paragraph" else text

    def _takes(self, name: str, code: str, docstring: str) -> bool:
        if not self.private and any(
            part.startswith("_") and not (part.startswith("__") and part.endswith("__"))
            for part in name.split(".")
        ):
            return False
        if not self.code_bounds[0] <= len(code) <= self.code_bounds[1]:
            return False
        if not docstring:
            return not self.documented
        return self.docstring_bounds[0] <= len(docstring) <= self.docstring_bounds[1]

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("code", "docstring", "name", "module", "path", "language")

    def row(self, index: int) -> dict[str, Any]:
        """Return one function.

        Raises:
            UnreadableError: this row stands for a file that does not parse.
        """
        row = self._rows[index]
        if isinstance(row, str):
            raise UnreadableError(row)
        return dict(row)
