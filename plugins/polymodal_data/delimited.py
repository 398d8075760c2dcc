"""CSV and TSV records that survive damage: a broken line is reported, the next one is read.

Python's own reader would take all that follows an unclosed quote for one field, and has a limit
on the length of a field that only a global setting can change.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from polymodal import DataError
from polymodal_data.lines import stray_byte, text_lines

_MOST_LINES = 10_000  # of one record; a quote open for longer was never meant to be one


@dataclass(frozen=True)
class Unreadable:
    """A record that can't be read, and why."""

    reason: str


def split_record(text: str, delimiter: str) -> list[str] | None:
    """Return the fields of a record (RFC 4180), or None while a quoted field is still open.

    A quote opens a field only as its first character; two quotes within stand for one.
    """
    if '"' not in text:
        return text.split(delimiter)
    fields, at = [], 0
    while True:
        if text.startswith('"', at):
            close = text.find('"', at + 1)
            while close >= 0 and text.startswith('"', close + 1):
                close = text.find('"', close + 2)
            if close < 0:
                return None
            end = text.find(delimiter, close + 1)
            tail = text[close + 1 :] if end < 0 else text[close + 1 : end]
            fields.append(text[at + 1 : close].replace('""', '"') + tail)
        else:
            end = text.find(delimiter, at)
            fields.append(text[at:] if end < 0 else text[at:end])
        if end < 0:
            return fields
        at = end + len(delimiter)


class _Lines:
    """Lines with their numbers, some of which may be given back."""

    def __init__(self, lines: Iterator[str]):
        self._lines = enumerate(lines, start=1)
        self._back: list[tuple[int, str]] = []

    def next(self) -> tuple[int, str] | None:
        return self._back.pop() if self._back else next(self._lines, None)

    def give_back(self, lines: list[tuple[int, str]]) -> None:
        self._back.extend(reversed(lines))


def read_delimited(
    path: Path,
    *,
    delimiter: str,
    encoding: str = "utf-8",
    names: list[str] | None = None,
    content: bytes | None = None,
    named: Callable[[list[str]], None] | None = None,
) -> Iterator[dict[str, str | None] | Unreadable]:
    """Yield the records of a file by column name; an empty field is None, an empty line nothing.

    A column without a name is called as pandas calls it, "Unnamed: 0" by its place, since pandas
    writes its index so; delimiters at the end of lines make no column. A record with another
    number of fields than the header is unreadable. If it went over several lines, for a quote that
    should not have been one, only its first line is given up.

    Args:
        path: plain or gzip.
        delimiter: between fields.
        encoding: of the text.
        names: of the columns, where the file has no header line.
        content: to read in place of the file, which it is named after.
        named: is told the names of the columns, so that they are known without a record.

    Raises:
        DataError: no header, two columns of one name, or another delimiter by all appearances.
        UnreadableError: the file ends early.
    """
    lines = _Lines(text_lines(path, encoding, content))
    first_record = True
    while (first := lines.next()) is not None:
        if not first[1].strip("\r\n"):
            continue
        taken, fields = _take(first, lines, delimiter)
        text = "".join(line for _, line in taken)
        if names is None:
            names = _header(path, fields or [], text, encoding)
            if named is not None:
                named(names)
            continue
        if fields is not None and len(fields) > len(names) and not any(fields[len(names) :]):
            fields = fields[: len(names)]  # delimiters at the end of the line
        if first_record:
            _check_delimiter(path, names, fields or [], delimiter)
            first_record = False
        where = f"line {first[0]} of {path.name}"
        if fields is None or len(fields) != len(names):
            lines.give_back(taken[1:])
            count = "an unclosed quote" if fields is None else f"{len(fields)} fields"
            wanted = f"the header names {len(names)}" if fields is not None else "nothing ends it"
            yield Unreadable(f"{where} has {count}; {wanted}")
        elif (byte := stray_byte(text)) is not None:
            yield Unreadable(f"{where} is not {encoding} text (byte {byte})")
        else:
            yield {name: field or None for name, field in zip(names, fields, strict=True)}
    if names is None:
        raise DataError(f"{path} is empty: it needs a header line with the names of its columns")


def _take(
    first: tuple[int, str], lines: _Lines, delimiter: str
) -> tuple[list[tuple[int, str]], list[str] | None]:
    """Return the lines of a record and its fields; only the first line if a quote stays open."""
    taken = [first]
    fields = split_record(first[1].rstrip("\r\n"), delimiter)
    while fields is None and len(taken) < _MOST_LINES:
        following = lines.next()
        if following is None:
            break
        taken.append(following)
        if '"' in following[1]:  # no other line can close the quote
            text = "".join(line for _, line in taken)
            fields = split_record(text.rstrip("\r\n"), delimiter)
    return taken, fields


def _header(path: Path, names: list[str], text: str, encoding: str) -> list[str]:
    names = [name.strip() for name in names]
    while len(names) > 1 and not names[-1]:
        names.pop()  # delimiters at the end of the line
    if stray_byte(text) is not None or "\0" in text:
        raise DataError(f"{path}: its header is not {encoding} text; give its encoding")
    names = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: the header names {twice[0]!r} twice")
    return names


def _check_delimiter(path: Path, names: list[str], fields: list[str], delimiter: str) -> None:
    """Refuse a table that seems to be cut by another character than the one it is read with."""
    if len(names) != 1 or len(fields) != 1:
        return
    for other in (";", "\t", "|", ","):
        if other != delimiter and 0 < names[0].count(other) == fields[0].count(other):
            raise DataError(
                f"{path}: its fields seem to be separated by {other!r}: set delimiter: {other!r}"
            )
