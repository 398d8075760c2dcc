"""Telling input files apart: what they hold, and whether they have changed."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def fingerprint(files: Iterable[Path], *parts: object) -> str:
    """Return a name for what the files hold now (by path, time and size) and how it is read."""
    digest = hashlib.sha256(repr(parts).encode())
    for file in files:
        state = file.stat()
        digest.update(f"\n{file.absolute()}\0{state.st_mtime_ns}\0{state.st_size}".encode())
    return digest.hexdigest()[:32]


def extension(path: Path) -> str:
    """Return the lower-case extension that tells the format, ".gz" taken off."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
