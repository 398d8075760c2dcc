"""Records of JSON and JSONL files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polymodal import DataError
from polymodal_data.delimited import Unreadable
from polymodal_data.lines import stray_byte, text_lines


def read_json_lines(
    path: Path, *, encoding: str = "utf-8", content: bytes | None = None
) -> Iterator[dict[str, Any] | Unreadable]:
    """Yield the object on each line; blank lines are none. An array of objects is read, too.

    Raises:
        DataError: the file can't be opened.
        UnreadableError: it ends early.
    """
    begun = False
    for number, line in enumerate(text_lines(path, encoding, content), start=1):
        if line.strip():
            if not begun and line.lstrip().startswith("["):
                array = _array(path, encoding, content)
                if array is not None:
                    yield from array
                    return
            begun = True
            yield _object(line, f"line {number} of {path.name}", encoding)


def read_json(
    path: Path, *, encoding: str = "utf-8", content: bytes | None = None
) -> Iterator[dict[str, Any] | Unreadable]:
    """Yield the objects of a JSON array; objects on lines of their own will do.

    Raises:
        DataError: the file holds neither.
        UnreadableError: it ends early.
    """
    text = "".join(text_lines(path, encoding, content))
    try:
        found = _loads(text)
    except (ValueError, RecursionError) as error:
        first = next((line for line in text.splitlines() if line.strip()), "")
        if isinstance(_object(first, "", encoding), Unreadable):
            raise DataError(f"{path} is not JSON: {error}") from error
        yield from read_json_lines(path, encoding=encoding, content=content)
        return
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        raise DataError(f"{path} must hold an array of objects, got {type(found).__name__}")
    for number, item in enumerate(found, start=1):
        yield _checked(item, f"item {number} of {path.name}", encoding)


def _array(
    path: Path, encoding: str, content: bytes | None
) -> list[dict[str, Any] | Unreadable] | None:
    """Return the items of a file that is one array, None if it is not, or is of no objects."""
    try:
        found = _loads("".join(text_lines(path, encoding, content)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not any(isinstance(item, dict) for item in found):
        return None
    named = enumerate(found, start=1)
    return [_checked(item, f"item {number} of {path.name}", encoding) for number, item in named]


def _loads(text: str) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: it is none, or an object has one key twice: which value was meant, none can say.
    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object names {twice!r} twice")
    return found


def _object(text: str, where: str, encoding: str) -> dict[str, Any] | Unreadable:
    try:
        found = _loads(text)
    except (ValueError, RecursionError) as error:
        byte = stray_byte(text)
        # The decoder counts lines from this one, which would mislead.
        place = (
            f"{error.msg} at character {error.pos}"
            if isinstance(error, json.JSONDecodeError)
            else error
        )
        reason = f"not JSON: {place}" if byte is None else f"not {encoding} text (byte {byte})"
        return Unreadable(f"{where} is {reason}")
    if byte := stray_byte(text):
        return Unreadable(f"{where} is not {encoding} text (byte {byte})")
    half = "\\ud" in text or "\\uD" in text  # an escape that may be half of a surrogate pair
    return _checked(found, where, encoding) if half or not isinstance(found, dict) else found


def _checked(item: Any, where: str, encoding: str) -> dict[str, Any] | Unreadable:
    if not isinstance(item, dict):
        return Unreadable(
            f"{where} is not an object but {_KINDS.get(type(item), 'something else')}"
        )
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Unreadable(f"{where} is not {encoding} text: it has half of a surrogate pair")
    return item


_KINDS = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean",
          type(None): "null"}  # fmt: skip
