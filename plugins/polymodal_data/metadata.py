"""The metadata table that stands beside media files and names them in its column `file_name`."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from polymodal import DataError, nearest
from polymodal_data.delimited import Unreadable
from polymodal_data.files import extension
from polymodal_data.stored import Record
from polymodal_data.table import DELIMITED, read_table

NAMES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
KEY = "file_name"

MEDIA = (
    *(".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    *(".aac", ".aif", ".aiff", ".caf", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav"),
    *(".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"),
)


_SPELLINGS = {"jpeg": "jpg", "tiff": "tif", "mpeg": "mpg", "html": "htm", "yaml": "yml"}


def one_spelling(extension: str) -> str:
    """Return an extension in the shorter of its two usual spellings: "jpg" for "jpeg"."""
    before, dot, last = extension.lower().rpartition(".")
    return before + dot + _SPELLINGS.get(last, last)


def is_text(table: Path) -> bool:
    """Whether a table's values are text whose numbers have still to be recognised."""
    return extension(table) in DELIMITED


def joined(
    table: Path, find: Callable[[str], dict[str, Any] | str], *, content: bytes | None = None
) -> Iterator[Record]:
    """Yield each line of a metadata table with what belongs to the file it names.

    Args:
        table: the metadata file.
        find: returns the fields of a file by name, or why there are none.
        content: to read in place of the file.

    Raises:
        DataError: the table has no column `file_name`, or one of the file's own fields.
    """
    for record in read_table(table, content=content):
        if isinstance(record, Unreadable):
            yield record
            continue
        if KEY not in record:
            raise DataError(f"{table} has no column {KEY!r}.{nearest(KEY, record)}")
        name = record[KEY]
        if not isinstance(name, str) or not name:
            yield Unreadable(f"{table.name} names no file: {KEY} is {name!r}")
            continue
        found = find(str(PurePosixPath(name)))
        if isinstance(found, str):
            yield Unreadable(found)
            continue
        clash = sorted(found.keys() & record.keys())
        if clash:
            raise DataError(f"{table}: the column {clash[0]!r} is taken; give it another name")
        yield {**found, **record}
