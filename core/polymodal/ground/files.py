"""Finding the files a config names, keeping data to its own folders, and telling changed files."""

import glob
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from polymodal.ground.errors import DataError, UnreadableError, nearest

_WHOLE = 2**20  # bytes up to which all of a file is looked at
_PIECE = 2**14  # bytes of each piece of a larger one
_PIECES = 16
_READ = 64  # of many files, so many are looked into; all are known by name and size


def find_files(patterns: str | Sequence[str], *, allow: Sequence[str] | None = None) -> list[Path]:
    """Return the files of paths and globs (`**` too), in the order given, a glob's by name.

    With `allow`, a link that a glob finds may lead to folders of that list, or stay below the
    folder the glob begins with; a path that is written out may be any link.

    Raises:
        DataError: a path that is no file, with the nearest name beside it; a glob without match;
            a link that leads elsewhere.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = Path(pattern).expanduser()
        if _is_file(path):
            found[path] = None
        elif path.is_dir():
            raise DataError(f"{pattern} is a folder; name its files, for example {pattern}/*.csv")
        elif glob.has_magic(str(path)):
            matches = sorted(glob.glob(str(path), recursive=True))
            files = [Path(match) for match in matches if Path(match).is_file()]
            if not files:
                raise DataError(f"no file matches {pattern}.{_taken_from(path)}".removesuffix("."))
            if allow is not None:
                _refuse_stray_links(_beginning(path), files, allow)
            found.update(dict.fromkeys(files))
        else:
            raise DataError(f"{pattern}: no such file.{_beside(path)}{_taken_from(path)}")
    return list(found)


def find_folder(name: str) -> Path:
    """Return an existing folder.

    Raises:
        DataError: there is none, with the nearest name beside it.
    """
    path = Path(name).expanduser()
    if _is_file(path):
        raise DataError(f"{name} is a file, not a folder")
    if not path.is_dir():
        raise DataError(f"{name}: no such folder.{_beside(path)}{_taken_from(path)}")
    return path


def confine(path: str | Path, folders: Sequence[str | Path] | None) -> None:
    """Refuse a path from data that leads outside of the folders its source answers for.

    Links and ".." are followed first, so that neither gets out. What a run reads is often not its
    owner's own: without this, a line of a table could have any file of the machine opened.

    Args:
        path: as it stands in a record; a relative one is taken from the working directory.
        folders: those it may lie below; None: it may lie anywhere.

    Raises:
        UnreadableError: it leads elsewhere, or is nothing that could be the path of a file.
    """
    try:
        os.lstat(path)
        real = os.path.realpath(path)
    except ValueError as error:
        raise UnreadableError(f"{_shown(path)} is no path: {error}") from error
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        real = os.path.realpath(path)  # the reader says it better
    except OSError as error:
        raise UnreadableError(f"{_shown(path)} is no path: {error.strerror}") from error
    if folders is None or any(_below(real, _real(_absolute(folder))) for folder in folders):
        return
    if "://" in str(path):
        raise UnreadableError(f"{_shown(path)} is an address: fetch the file, and give its path")
    where = ", ".join(str(folder) for folder in folders) or "any folder its source answers for"
    raise UnreadableError(
        f"{_shown(path)} leads to {real}, outside of {where}. If the data may open it, give the "
        f"source `allow: [{os.path.dirname(real)}]`"
    )


def bytes_or_path(value: Any, what: str = "record", *, others: Sequence[str] = ()) -> Any:
    """Return the bytes or the `Path` that a record's value holds; other values as they are.

    Args:
        value: bytes, a path, or `{"path", "bytes"}`, whose bytes go before its path.
        what: it stands for, for the message: "image".
        others: further keys of which its caller takes one, for the message.

    Raises:
        UnreadableError: a mapping with neither, bytes that are none, or a name no file can have.
    """
    if isinstance(value, Mapping):
        content, path = value.get("bytes"), value.get("path")
        if content is None and path is None:
            keys = ", ".join(sorted(map(str, value))) or "none"
            *first, last = map(repr, ("bytes", "path", *others))
            wanted = f"{', '.join(first)} or {last}"
            raise UnreadableError(f"the {what} needs {wanted}, got the keys {keys:.200}")
        if content is not None and not isinstance(content, bytes | bytearray | memoryview):
            raise UnreadableError(
                f"the {what}'s 'bytes' must be bytes, got {type(content).__name__}: {content!r:.40}"
            )
        if content is None and not isinstance(path, str | os.PathLike):
            raise UnreadableError(
                f"the {what}'s 'path' must be a path, got {type(path).__name__}: {path!r:.40}"
            )
        value = path if content is None else content
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str | os.PathLike):
        return value
    name = os.fsdecode(value)
    if "\0" in name:
        raise UnreadableError(f"the {what}'s path {name!r:.60} is no path: it has a null character")
    return Path(name)


def fingerprint_files(files: Iterable[tuple[str, Path]], *parts: object) -> str:
    """Return a name for what files hold: from their names, sizes and pieces of their content.

    Times do not count: they change when files are copied, and may not when content does.

    Args:
        files: each with the name it counts by, so that data may be moved.
        parts: whatever else it depends on.
    """
    digest = hashlib.sha256(repr(parts).encode())
    listed = list(files)
    looked_into = {round(n * (len(listed) - 1) / (_READ - 1)) for n in range(_READ)}
    for number, (name, path) in enumerate(listed):
        digest.update(f"\n{name}\0".encode("utf-8", "surrogateescape"))
        try:
            digest.update(f"{path.stat().st_size}\0".encode())
            if number in looked_into or len(listed) <= _READ:
                digest.update(file_pieces(path))
        except OSError as error:  # its row says why it can't be read
            digest.update(str(error.errno).encode())
    return digest.hexdigest()[:32]


def file_pieces(path: Path) -> bytes:
    """Return a small file's content; of a large one pieces from its first byte to its last."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE:
            return file.read(_WHOLE)
        found = []
        for number in range(_PIECES):
            file.seek((size - _PIECE) * number // (_PIECES - 1))
            found.append(file.read(_PIECE))
    return b"".join(found)


def _refuse_stray_links(top: str, files: Sequence[Path], allow: Sequence[str]) -> None:
    for file in files:
        try:
            confine(file, [top, *allow])
        except UnreadableError as error:
            raise DataError(str(error)) from None


def _beginning(pattern: Path) -> str:
    """Return the folder that a glob begins with, before any wildcard."""
    fixed = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return str(Path(*fixed))


@lru_cache(maxsize=256)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _absolute(folder: str | Path) -> str:
    return os.path.abspath(os.path.expanduser(folder))


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # a name that is too long, say
        raise DataError(f"{_shown(path)}: {error.strerror}") from error


def _shown(path: object) -> str:
    text = repr(str(path))
    return text if len(text) <= 200 else f"{text[:100]}...{text[-60:]}"


def _taken_from(path: Path) -> str:
    return "" if path.is_absolute() else f" It is taken from {Path.cwd()}."


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return f" Nor is there a folder {path.parent}."
    return nearest(path.name, [other.name for other in path.parent.iterdir()])
