"""Where a record keeps a file: a path, bytes, or `{"path", "bytes"}`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polymodal import UnreadableError


def held(value: Any, what: str) -> Any:
    """Return the path or the bytes that a record's value holds; other values as they are.

    Args:
        value: a path, bytes, or `{"path", "bytes"}`, whose bytes go before its path.
        what: the file is of, for the message: "image".

    Raises:
        UnreadableError: a mapping with neither, or bytes that are none, or a name no file can have.
    """
    if isinstance(value, Mapping):
        content, path = value.get("bytes"), value.get("path")
        if content is None and path is None:
            keys = ", ".join(sorted(map(str, value))) or "none"
            raise UnreadableError(
                f"the {what} has neither bytes nor a path: its mapping has the keys {keys}"
            )
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
    name = os.fspath(value)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if "\0" in name:
        raise UnreadableError(f"the {what}'s path {name!r:.60} holds a null character")
    return Path(name)
