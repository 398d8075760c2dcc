"""Tars of media files with a metadata table, and WebDataset shards."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa

from polymodal import DataError, FilePath, FolderPath, find_files
from polymodal_data.archive import Archive, Member
from polymodal_data.columns import Columns
from polymodal_data.delimited import Unreadable
from polymodal_data.metadata import MEDIA, NAMES, is_text, joined, one_spelling
from polymodal_data.stored import Record, StoredRows, StoredSource, store, write_records

Layout = Literal["auto", "metadata", "files", "keys"]

# Where a member lies; a row's sample has its bytes instead.
PLACE = pa.struct(
    [("archive", pa.int32()), ("path", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]
)


class Tar(StoredSource):
    """Files of tars (plain, or compressed by gzip, bzip2 or xz), read where they lie.

    A file's field holds `{"path", "bytes"}`. Layouts:

    - metadata: the tar holds `metadata.csv`, `.tsv` or `.jsonl`; its lines are the rows, with
      `file` and their own columns; `file_name` tells the member.
    - keys: WebDataset; members that share a name up to its first dot are one row: `key`, and a
      field for each extension; where a source has two spellings of one (`jpg` and `jpeg`), both
      are the field of the shorter. `.txt` is text, `.cls` a label, and the keys of a `.json` object
      are fields of their own.
    - files: each media file is a row: `file`, `name`, `label` (the folder it lies in).

    A member that is missing or cut short is an unreadable row, and so is what a damaged tar has
    lost. Nothing is unpacked to a folder; a compressed tar of more than 64 MiB is kept plain in
    `HF_DATASETS_CACHE/polymodal`.

    Args:
        path: a tar, a glob such as "shards/*.tar", or a list of these; rows follow tar after tar.
        layout: auto takes metadata where there is a table, else keys where members share one,
            else files.
        allow: folders that links which a glob finds may lead to, beside their own.

    Raises:
        ValueError: an option that makes no sense.
    """

    def __init__(
        self,
        *,
        path: FilePath | list[FilePath],
        layout: Layout = "auto",
        allow: list[FolderPath] | None = None,
    ):
        if not path:
            raise ValueError("path must name at least one tar")
        self.path = [path] if isinstance(path, str) else list(path)
        self.layout = layout
        self.allow = tuple(allow or ())

    @cached_property
    def _archives(self) -> list[Archive]:
        return [Archive.open(path) for path in find_files(self.path, allow=self.allow)]

    def _inputs(self) -> list[tuple[str, Path]]:
        return [(archive.path.name, archive.path) for archive in self._archives]

    def _store(self) -> StoredRows:
        columns = Columns()
        read = partial(self._records, columns, self._spellings())
        write = partial(write_records, read=read, columns=columns)
        return store([archive.path for archive in self._archives], write, "tar", self.layout)

    @cached_property
    def finished(self) -> tuple[str, ...]:  # type: ignore[override]
        """Fields that hold files."""
        features = self._stored.dataset.features
        return tuple(
            name
            for name, feature in features.items()
            if isinstance(feature, Mapping) and set(feature) == set(PLACE.names)
        )

    def _finish(self, row: dict[str, Any]) -> dict[str, Any]:
        for name in self.finished:
            place = row[name]
            if place is not None:
                path = place["path"]
                archive = self._archives[place["archive"]]
                content = archive.read(place["offset"], place["size"], path)
                row[name] = {"path": path, "bytes": content}
        return row

    def _spellings(self) -> Mapping[str, str]:
        """Return the fields that have another spelling in this source, by the longer one."""
        fields = {_key(m.name)[1] for archive in self._archives for m in archive.members()[0]}
        return {field: one_spelling(field) for field in fields if one_spelling(field) in fields}

    def _records(self, columns: Columns, spellings: Mapping[str, str]) -> Iterator[Record]:
        for number, archive in enumerate(self._archives):
            members, damage = archive.members()
            table = next(
                (m for name in NAMES for m in members if PurePosixPath(m.name).name == name), None
            )
            layout = self._layout(archive, members, table)
            if layout == "metadata":
                assert table is not None
                columns.text |= is_text(Path(table.name))
                yield from _by_metadata(number, archive, members, table, damage, columns)
            elif layout == "keys":
                yield from _by_key(number, archive, members, columns, spellings)
            else:
                yield from _by_file(number, archive, members, columns)
            if damage is not None:
                yield Unreadable(f"{archive.path.name} is damaged, its end is missing: {damage}")

    def _layout(self, archive: Archive, members: Sequence[Member], table: Member | None) -> Layout:
        if self.layout == "metadata" and table is None:
            raise DataError(f"{archive.path} has none of {', '.join(NAMES)}")
        if self.layout != "auto":
            return self.layout
        if table is not None:
            return "metadata"
        keys = [_key(member.name)[0] for member in members]
        return "keys" if len(set(keys)) < len(keys) else "files"


def _place(number: int, member: Member) -> dict[str, Any]:
    return {
        "archive": number, "path": member.name, "offset": member.offset, "size": member.size
    }  # fmt: skip


def _by_metadata(
    number: int,
    archive: Archive,
    members: Sequence[Member],
    table: Member,
    damage: str | None,
    columns: Columns,
) -> Iterator[Record]:
    columns.fix("file", PLACE)
    folder = PurePosixPath(table.name).parent
    named = {member.name: member for member in members}

    def find(name: str) -> dict[str, Any] | str:
        member = named.get(str(folder / name))
        if member is None:
            return f"{name} is not in {archive.path.name}" + (
                ", which is damaged" if damage else ""
            )
        if member.offset + member.size > archive.size:
            return f"{name} is cut short"
        return {"file": _place(number, member)}

    content = archive.read(table.offset, table.size, table.name)
    return joined(archive.path / table.name, find, content=content)


def _by_file(
    number: int, archive: Archive, members: Sequence[Member], columns: Columns
) -> Iterator[Record]:
    columns.fix("file", PLACE)
    found = [member for member in members if member.name.lower().endswith(MEDIA)]
    if not found:
        raise DataError(f"{archive.path} holds no file of image, sound or video")
    for member in found:
        if member.offset + member.size > archive.size:
            yield Unreadable(f"{member.name} is cut short")
            continue
        label = PurePosixPath(member.name).parent.name or None
        yield {"file": _place(number, member), "name": member.name, "label": label}


def _key(name: str) -> tuple[str, str]:
    """Return what a member's row is called, and its field: all after the first dot."""
    path = PurePosixPath(name)
    stem, _, field = path.name.partition(".")
    return str(path.with_name(stem)), field.lower()


def _by_key(
    number: int,
    archive: Archive,
    members: Sequence[Member],
    columns: Columns,
    spellings: Mapping[str, str],
) -> Iterator[Record]:
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(_key(member.name)[0], []).append(member)
    for key, group in groups.items():
        short = [m.name for m in group if m.offset + m.size > archive.size]
        if short:
            yield Unreadable(f"{short[0]} is cut short")
            continue
        row: dict[str, Any] = {"key": key}
        objects: dict[str, Any] = {}
        try:
            for member in group:
                field = _key(member.name)[1]
                field = spellings.get(field, field)
                if field in row and field != "key":
                    raise _Twice(f"{key} has the field {field!r} twice, as {member.name}, too")
                if field in ("txt", "cls", "json"):
                    text = archive.read(member.offset, member.size, member.name)
                    value = _parsed(field, text.decode("utf-8-sig"))
                    if isinstance(value, dict):
                        objects |= value
                    else:
                        row[field] = value
                elif field:
                    columns.fix(field, PLACE)
                    row[field] = _place(number, member)
        except _Twice as error:
            yield Unreadable(str(error))
        except UnicodeDecodeError:
            yield Unreadable(f"{member.name} is not UTF-8 text")
        except ValueError as error:
            yield Unreadable(f"{member.name} is not JSON: {error}")
        else:
            yield {**objects, **row}


class _Twice(Exception):
    """A row has two members for one field."""


def _parsed(field: str, text: str) -> Any:
    if field == "json":
        return json.loads(text)
    text = text.strip()
    return int(text) if field == "cls" and text.isascii() and text.isdigit() else text
