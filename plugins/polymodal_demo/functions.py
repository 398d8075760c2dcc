"""Functions of the Python standard library with what their docstrings say."""

import re
from functools import cached_property
from typing import Any

from polymodal import Sample, Source, installed

FAMILIES = {
    "concurrency": ("asyncio", "concurrent", "multiprocessing", "subprocess", "threading", "queue"),
    "data": ("collections", "copy", "csv", "dataclasses", "enum", "json", "pickle", "plistlib",
             "shelve", "sqlite3", "xml"),
    "files": ("fileinput", "glob", "gzip", "os", "pathlib", "shutil", "tarfile", "tempfile",
              "zipfile", "zipimport"),
    "language": ("ast", "dis", "functools", "importlib", "inspect", "pkgutil", "pydoc", "tokenize",
                 "traceback", "types", "typing"),
    "mathematics": ("bisect", "calendar", "datetime", "decimal", "fractions", "heapq", "numbers",
                    "random", "statistics"),
    "network": ("email", "ftplib", "http", "imaplib", "ipaddress", "mailbox", "poplib", "smtplib",
                "socket", "socketserver", "ssl", "urllib", "wsgiref", "xmlrpc"),
    "testing": ("bdb", "cProfile", "doctest", "logging", "pdb", "timeit", "trace", "unittest"),
    "text": ("argparse", "codecs", "difflib", "getopt", "gettext", "html", "locale", "optparse",
             "re", "string", "textwrap"),
}  # fmt: skip
_FAMILY = {module: family for family, modules in FAMILIES.items() for module in modules}


class Functions(Source):
    """Functions of the Python standard library of this interpreter, with captions.

    Real code, found on disk and parsed, never imported or run: functions and methods of about 90
    modules that have a docstring. `code` is the function without it, `text` the docstring's first
    sentence. Which rows there are depends on the version of Python.

    What can be learned: which words of a description go with which names and calls in code; and,
    from both, what part of the library a function belongs to.

    Fields: `code`, `text`, `label` (concurrency, data, files, language, mathematics, network,
    testing or text), `name`, `module`.

    Args:
        samples: take this many, spread evenly over the modules; None: all.
        mask_name: call every function `f`, so that its name does not give the description away.
        max_code: leave out longer functions, in characters.

    Raises:
        ValueError: a negative number of samples.
    """

    def __init__(
        self, *, samples: int | None = 1500, mask_name: bool = False, max_code: int = 1200
    ):
        if samples is not None and samples < 0:
            raise ValueError(f"samples must not be negative, got {samples}")
        self.samples = samples
        self.mask_name = mask_name
        self.max_code = max_code

    @cached_property
    def _rows(self) -> list[Sample]:
        source = (
            installed()
            .find("code.package", "source")
            .load()(modules=sorted(_FAMILY), max_code=self.max_code, max_docstring=400)
        )
        rows = [row for row in source.rows(range(len(source))) if isinstance(row, dict)]
        if self.samples is not None and self.samples < len(rows):
            rows = [rows[n * len(rows) // self.samples] for n in range(self.samples)]
        return [self._caption(row) for row in rows]

    def _caption(self, row: dict[str, Any]) -> Sample:
        name, code = row["name"].rpartition(".")[2], row["code"]
        if self.mask_name:
            code = re.sub(rf"\b{re.escape(name)}\b", "f", code)
        return {
            "code": code,
            "text": first_sentence(row["docstring"]),
            "label": _FAMILY[row["module"].partition(".")[0]],
            "name": row["name"],
            "module": row["module"],
        }

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("code", "text", "label", "name", "module")

    def row(self, index: int) -> Sample:
        """Return one function."""
        return self._rows[index]


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop that ends a sentence."""
    found = re.match(r"(.+?[.!?])(?=\s+[A-Z]|\s*$)", text, re.DOTALL)
    return " ".join((found[1] if found else text).split())
