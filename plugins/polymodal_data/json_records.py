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
    """Yield the object on each line; blank lines are none.

    Raises:
        DataError: the file can't be opened.
        UnreadableError: it ends early.
    """
    for number, line in enumerate(text_lines(path, encoding, content), start=1):
        if line.strip():
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
        found = json.loads(text)
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


def _object(text: str, where: str, encoding: str) -> dict[str, Any] | Unreadable:
    try:
        found = json.loads(text)
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
