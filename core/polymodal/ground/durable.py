"""Files and folders that are there whole or not at all, after a kill or a power cut too."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polymodal.ground.errors import DataError, foreign


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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out where to write a file, and put it in place at the end of the `with` block.

    Raises:
        DataError: the disk is full or can't be written to; what was there before is kept.
    """
    with writing(path):
        yield beside(path)
        put_in_place(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what any library raises when it can't write into one line, and drop what it had written.

    Raises:
        DataError: the disk is full or can't be written to; what was there before is kept.
    """
    try:
        yield
    except BaseException as error:  # torch.distributed.checkpoint's is no Exception
        if not _says_of_a_disk(error):
            raise
        partial = beside(path)
        with suppress(OSError):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} can't be written: {_cause(error)}; what was there before is kept"
        ) from error


def _says_of_a_disk(error: BaseException) -> bool:
    # safetensors and torch's writer have errors of their own, with the system's words in them.
    return isinstance(error, OSError) or (
        type(error).__name__ in ("SafetensorError", "RuntimeError", "CheckpointException")
        and any(word in str(error) for word in ("No space", "os error", "PytorchStreamWriter"))
    )


def _cause(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        DataError: the disk is full or can't be written to; what was there before is kept.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def checksum(path: Path) -> str:
    """Return a file's checksum (BLAKE2b of 16 bytes, in hexadecimal)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def damage_of(file: Path) -> str | None:
    """Return what is wrong with a file by the `checksums.json` beside it, or None.

    A file without a checksum, of a run before there were any, is taken as it is.
    """
    known = file.with_name("checksums.json")
    if not known.exists():
        return None
    try:
        sums = json.loads(known.read_text(encoding="utf-8")).get(file.name)
    except (OSError, ValueError, AttributeError) as error:
        return f"{known} is damaged: {foreign(error)}"
    if sums and checksum(file) not in sums:
        return f"{file} is damaged: it is not what was written (its checksum differs)"
    return None


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
