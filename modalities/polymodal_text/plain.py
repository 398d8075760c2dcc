"""Reading text: strings, bytes, files and lists of keywords."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from polymodal import Reader, UnreadableError, bytes_or_path

EncodingErrors = Literal["refuse", "replace"]


def decoded(content: bytes, *, encoding_errors: EncodingErrors = "refuse", name: str = "") -> str:
    """Return UTF-8 bytes as a string, without a byte-order mark.

    Raises:
        UnreadableError: bytes that are not UTF-8, with the place of the first one, counted from
            0; not with `encoding_errors="replace"`, which puts U+FFFD there.
    """
    try:
        return content.decode("utf-8-sig", "strict" if encoding_errors == "refuse" else "replace")
    except UnicodeDecodeError as error:
        # The decoder counts from behind the mark that it took off.
        position = error.start + len(content) - len(error.object)
        raise UnreadableError(
            f"{name or 'the text'} is not UTF-8: byte 0x{content[position]:02x} at position "
            f"{position}. Convert it, or set encoding_errors: replace"
        ) from error


def valid(text: str, *, encoding_errors: EncodingErrors = "refuse") -> str:
    """Return a string that has a UTF-8 form: one with half of a surrogate pair has none.

    Raises:
        UnreadableError: a lone surrogate, unless `encoding_errors="replace"` puts "?" there.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if encoding_errors == "replace":
            return text.encode("utf-8", "replace").decode()
        raise UnreadableError(
            f"the text has a lone surrogate U+{ord(text[error.start]):04X} at character "
            f"{error.start}. Repair it, or set encoding_errors: replace"
        ) from error
    return text


def file_content(path: str | Path) -> bytes:
    """Return a file's bytes.

    Raises:
        UnreadableError: no such file, or one that can't be opened.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableError(
            f"{str(path)[:200]} can't be read: {error.strerror or error}"
        ) from error
    except ValueError as error:  # NUL or half a surrogate pair in the path
        raise UnreadableError(f"{str(path)[:200]!r} is no path: {error}") from error


def text_of(value: Any, *, from_file: bool, encoding_errors: EncodingErrors) -> str:
    """Return the text of a string, bytes, a path or a record of path and bytes.

    A string is the text itself, or the path of its file with `from_file`; a `Path` is always a
    path.

    Raises:
        UnreadableError: it can't be read, is not UTF-8, or is something else.
    """
    if isinstance(value, str) and not from_file:
        return valid(value, encoding_errors=encoding_errors)
    if isinstance(value, str | Path):
        content, name = file_content(value), str(value)
        return decoded(content, encoding_errors=encoding_errors, name=name)
    if isinstance(value, bytes | bytearray | memoryview):
        return decoded(bytes(value), encoding_errors=encoding_errors)
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
        held = bytes_or_path(value, "text")
        content = held if isinstance(held, bytes) else file_content(held)
        name = str(value.get("path") or "")
        return decoded(content, encoding_errors=encoding_errors, name=name)
    raise UnreadableError(
        f"text must be a string, bytes or a path, got {type(value).__name__}: {value!r:.60}"
    )


class PlainReader(Reader):
    """Text from a string, bytes, `{"path", "bytes"}`, a number, or a list of keywords.

    Text without a visible character is read as it is; tokenizers give it no tokens, so that the
    sample counts as lacking the stream.

    Args:
        from_file: strings are paths of text files, not the text.
        encoding_errors: "refuse" skips a record that is not UTF-8 and reports the byte's place;
            "replace" puts U+FFFD in its stead.
        separator: stands between the items of a list.
        key: the entry of a record that holds the text, such as a section's.
    """

    def __init__(
        self,
        *,
        from_file: bool = False,
        encoding_errors: EncodingErrors = "refuse",
        separator: str = ", ",
        key: str | None = None,
    ):
        self.from_file = self.strings_are_paths = from_file
        self.encoding_errors = encoding_errors
        self.separator = separator
        self.key = key

    def paths_in(self, value: Any) -> list[str]:
        """Return the paths of files, also of a list's items and under the key."""
        if isinstance(value, list | tuple):
            return [path for item in value for path in self.paths_in(item)]
        if self.key is not None and isinstance(value, Mapping):
            value = value.get(self.key)
        return super().paths_in(value)

    def __call__(self, value: Any) -> str:
        """Return the text.

        Raises:
            UnreadableError: a missing file, bytes that are not UTF-8, a value that is no text.
        """
        if isinstance(value, list | tuple):
            return self.separator.join(self(item) for item in value if item is not None)
        if self.key is not None and isinstance(value, Mapping):
            value = value.get(self.key) or ""
        if isinstance(value, int | float) and not math.isnan(value):
            return str(value)
        return text_of(value, from_file=self.from_file, encoding_errors=self.encoding_errors)
