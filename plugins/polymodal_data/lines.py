"""Lines of text files, plain or gzip, that may be damaged."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from polymodal import DataError, UnreadableError

_STRAY = re.compile("[\udc80-\udcff]")  # how surrogateescape shows a byte that is not text
_GZIP = b"\x1f\x8b"
_MOST = 2**28  # characters of a line: a small gzip file could fill the memory with one
_ENCODINGS = re.compile(r"utf-?(16|32)", re.IGNORECASE)


def check_encoding(encoding: str) -> None:
    """Refuse a name that is no text encoding.

    Raises:
        ValueError: it is unknown.
    """
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ValueError(f"encoding must be a text encoding, got {encoding!r}") from error


def text_lines(path: Path, encoding: str = "utf-8", content: bytes | None = None) -> Iterator[str]:
    r"""Yield the lines of a file with their ends ("\n", "\r\n" or "\r"); a byte order mark is cut.

    With `content`, that is read, and `path` merely names it. Bytes that are not of the encoding
    come as lone surrogates: see `stray_byte`.

    Gzip is told by its first bytes.

    Raises:
        DataError: the file can't be opened or is not what its extension says.
        UnreadableError: it ends early, after some lines, or has a line without end.
    """
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    errors = "strict" if _ENCODINGS.match(encoding) else "surrogateescape"
    number = 0
    try:
        with ExitStack() as stack:
            raw: Any = (
                stack.enter_context(open(path, "rb")) if content is None else io.BytesIO(content)
            )
            packed = raw.read(2) == _GZIP or path.suffix.lower() == ".gz"
            raw.seek(0)
            if packed:
                raw = stack.enter_context(gzip.GzipFile(fileobj=raw))
            lines = io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="")
            stack.callback(lines.detach)
            while line := lines.readline(_MOST):
                number += 1
                if len(line) == _MOST and not line.endswith(("\n", "\r")):
                    raise UnreadableError(
                        f"line {number} of {path.name} has more than {_MOST:,} characters: "
                        "what follows is not read"
                    )
                yield line
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        if not number:
            raise DataError(f"{path} can't be read: {reason}") from error
        raise UnreadableError(
            f"{path.name} is damaged or cut short after line {number}: {reason}"
        ) from error


def stray_byte(text: str) -> str | None:
    """Return the first byte of the text that was not of its encoding, as "0xff", or None."""
    if text.isascii():
        return None
    found = _STRAY.search(text)
    return f"0x{ord(found[0]) - 0xDC00:02x}" if found else None
