"""Telling input files apart: what they hold, and whether they have changed."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from polymodal import file_pieces


def fingerprint(files: Iterable[Path], *parts: object) -> str:
    """Return a name for what the files hold now and how it is read.

    By path, time, size and pieces of the content: a copy may keep the time of what it replaces.
    """
    digest = hashlib.sha256(repr(parts).encode())
    for file in files:
        state = file.stat()
        name = f"\n{file.absolute()}\0{state.st_mtime_ns}\0{state.st_size}\0"
        digest.update(name.encode("utf-8", "surrogateescape"))
        digest.update(file_pieces(file))
    return digest.hexdigest()[:32]


def extension(path: Path) -> str:
    """Return the lower-case extension that tells the format, ".gz" taken off."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
