"""Files and folders that are there whole or not at all, after a kill or a power cut too."""

import os
from pathlib import Path


def beside(path: Path) -> Path:
    """Return where to write what is to take the place of `path` once it is whole."""
    return path.with_name(f".writing-{path.name}")


def put_in_place(path: Path) -> None:
    """Let what was written `beside` a path, a file or a folder, become it: all of it or nothing."""
    partial = beside(path)
    for written in [*partial.rglob("*"), partial]:
        _flush(written)
    os.replace(partial, path)
    _flush(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    beside(path).write_text(text, encoding="utf-8")
    put_in_place(path)


def _flush(path: Path) -> None:
    """Wait until the disk has a file, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # of which some network file systems can't tell
            raise
    finally:
        os.close(handle)
