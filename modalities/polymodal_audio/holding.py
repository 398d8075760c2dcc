"""Where a record keeps a sound: a path, bytes, a mapping of these, or of an array."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polymodal import UnreadableError


def held(value: Any) -> Any:
    """Return the path or the bytes that a record's value holds; other values as they are.

    A mapping's array goes before its bytes, and these before its path.

    Raises:
        UnreadableError: a mapping with none of them, bytes that are none, or a name no file can
            have.
    """
    if isinstance(value, Mapping):
        if value.get("array") is not None:
            return value
        content, path = value.get("bytes"), value.get("path")
        if content is None and path is None:
            raise UnreadableError(
                "a sound given as a mapping needs 'bytes', 'path' or 'array', got the keys "
                f"{sorted(map(str, value))}"
            )
        if content is not None and not isinstance(content, bytes | bytearray | memoryview):
            raise UnreadableError(
                f"the sound's 'bytes' must be bytes, got {type(content).__name__}: {content!r:.40}"
            )
        if content is None and not isinstance(path, str | os.PathLike):
            raise UnreadableError(
                f"the sound's 'path' must be a path, got {type(path).__name__}: {path!r:.40}"
            )
        value = path if content is None else content
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str | os.PathLike):
        return value
    name = os.fsdecode(value)
    if "\0" in name:
        raise UnreadableError(f"the sound's path {name!r:.60} holds a null character")
    return Path(name)
