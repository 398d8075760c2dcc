"""Plain text files."""

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from polymodal import FilePath, FolderPath, UnreadableError, find_files
from polymodal_data.columns import Columns
from polymodal_data.delimited import Unreadable
from polymodal_data.lines import check_encoding, stray_byte, text_lines
from polymodal_data.stored import Record, StoredRows, StoredSource, store, write_records


class Text(StoredSource):
    """Text of files: `text`, `file` (its path) and `line` (where it starts, from 1).

    Text that is not of the encoding is an unreadable row; blank lines are none. Line ends become
    a line feed, and white space around a row goes.

    Args:
        path: a file, a glob such as "books/**/*.txt", or a list of these; `.gz` too.
        unit: what a row is: a line, a paragraph (blank lines lie between), or a whole file.
        encoding: of the text.
        allow: folders that links which a glob finds may lead to, beside their own.

    Raises:
        ValueError: an option that makes no sense.
    """

    columns_from_data = False

    def __init__(
        self,
        *,
        path: FilePath | list[FilePath],
        unit: Literal["line", "paragraph", "document"] = "line",
        encoding: str = "utf-8",
        allow: list[FolderPath] | None = None,
    ):
        if not path:
            raise ValueError("path must name at least one file")
        if unit not in ("line", "paragraph", "document"):
            raise ValueError(f"unit must be line, paragraph or document, got {unit!r}")
        check_encoding(encoding)
        self.path = [path] if isinstance(path, str) else list(path)
        self.unit = unit
        self.encoding = encoding
        self.allow = tuple(allow or ())

    @cached_property
    def _found(self) -> list[Path]:
        return find_files(self.path, allow=self.allow)

    def _inputs(self) -> list[tuple[str, Path]]:
        return [(path.name, path) for path in self._found]

    def folders(self) -> list[str]:
        """Return the files' own folders, for readers that open `file` again."""
        return [*dict.fromkeys(str(path.parent) for path in self._found), *self.allow]

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("text", "file", "line")

    def _store(self) -> StoredRows:
        found = self._found
        read = partial(self._records, found)
        write = partial(write_records, read=read, columns=Columns())
        return store(found, write, "text", self.unit, self.encoding)

    def _records(self, paths: list[Path]) -> Iterator[Record]:
        for path in paths:
            pending: list[str] = []
            start = 0
            try:
                for number, line in enumerate(text_lines(path, self.encoding), start=1):
                    blank = not line.strip()
                    if pending and (self.unit == "line" or (blank and self.unit == "paragraph")):
                        yield self._row(path, start, pending)
                        pending = []
                    if pending or not blank:
                        start = start if pending else number
                        pending.append(line)
            except UnreadableError as error:
                yield Unreadable(str(error))
                if self.unit == "document":  # half of one is none
                    continue
            if pending:
                yield self._row(path, start, pending)

    def _row(self, path: Path, line: int, lines: list[str]) -> Record:
        text = "".join(lines)
        byte = stray_byte(text)
        if byte is not None:
            where = path.name if self.unit == "document" else f"line {line} of {path.name}"
            return Unreadable(f"{where} is not {self.encoding} text (byte {byte})")
        text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
        return {"text": text, "file": str(path), "line": line}
