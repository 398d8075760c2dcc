"""Tables: JSON, JSONL, CSV, TSV and Parquet files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polymodal import (
    DataError,
    FilePath,
    FolderPath,
    UnreadableError,
    class_name,
    confine,
    find_files,
    nearest,
)
from polymodal_data.arrow import plain, plain_type, unreadable_text
from polymodal_data.columns import Columns
from polymodal_data.delimited import Unreadable, read_delimited
from polymodal_data.files import extension
from polymodal_data.json_records import read_json, read_json_lines
from polymodal_data.lines import check_encoding
from polymodal_data.stored import (
    UNREADABLE,
    Record,
    StoredRows,
    StoredSource,
    kept_as,
    store,
    write_records,
)

Plain = str | int | float | bool | None

DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
EXTENSIONS = (".json", *JSON_LINES, *DELIMITED, ".parquet")


def read_table(
    path: Path,
    *,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    names: Sequence[str] | None = None,
    content: bytes | None = None,
    named: Callable[[list[str]], None] | None = None,
) -> Iterator[Record]:
    """Yield the records of a JSON, JSONL, CSV or TSV file; what can't be read keeps its place.

    With `content`, that is read, and `path` merely names it; `named` is told a header's names.

    Raises:
        DataError: the file can't be opened, or is not what its extension says.
    """
    kind = extension(path)
    try:
        if kind in DELIMITED:
            yield from read_delimited(
                path,
                delimiter=delimiter or DELIMITED[kind],
                encoding=encoding,
                names=None if names is None else list(names),
                content=content,
                named=named,
            )
        elif kind == ".json":
            yield from read_json(path, encoding=encoding, content=content)
        else:
            yield from read_json_lines(path, encoding=encoding, content=content)
    except UnreadableError as error:  # cut short: one row stands for what is lost
        yield Unreadable(str(error))


class Table(StoredSource):
    """Rows of tables, file after file; a field is None where a file lacks it or it is null.

    The format goes by the extension: `.json` (an array of objects), `.jsonl` or `.ndjson`, `.csv`,
    `.tsv`, `.parquet`; all but the last also `.gz`. A broken line (no JSON, another number of
    fields than the header, not text) is an unreadable row in its place. CSV columns become whole
    numbers or numbers if every value is one; "007" stays text. JSON values come back exactly as
    they stand; an object with one key twice is unreadable. An empty CSV field is None. Of Parquet,
    text is text in any of Arrow's layouts, a map comes as a mapping, a decimal as a number, and a
    value whose text is not UTF-8 makes its row unreadable; unions and intervals come as JSON.

    Args:
        path: a file, a glob such as "data/*.jsonl", or a list of these.
        columns: keep these only; all by default.
        where: keep rows whose column has this value, or one of these; unreadable rows stay.
        files: columns with paths of files, or lists of them; relative ones are taken from their
            table's folder. A path that leads out of it is an unreadable row.
        allow: further folders that paths in rows, and links a glob finds, may lead to.
        delimiter: between the fields of a CSV; a comma, or a tab for `.tsv`, by default.
        names: of a CSV's columns, where it has no header line.
        encoding: of the text.

    Raises:
        ValueError: an option that makes no sense.
    """

    def __init__(
        self,
        *,
        path: FilePath | list[FilePath],
        columns: list[str] | None = None,
        where: Mapping[str, str | int | float | bool | list[str | int | float | bool] | None]
        | None = None,
        files: list[str] | None = None,
        allow: list[FolderPath] | None = None,
        delimiter: str | None = None,
        names: list[str] | None = None,
        encoding: str = "utf-8",
    ):
        if not path:
            raise ValueError("path must name at least one file")
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ValueError(f"delimiter must be one character, got {delimiter!r}")
        if columns is not None and not columns:
            raise ValueError("columns must name at least one column, or be left out for all")
        check_encoding(encoding)
        self.path = [path] if isinstance(path, str) else list(path)
        self.kept = columns
        self.where = {
            name: value if isinstance(value, list) else [value]
            for name, value in (where or {}).items()
        }
        self.files = tuple(files or ())
        self.allow = tuple(allow or ())
        self.delimiter = delimiter
        self.names = names
        self.encoding = encoding

    @cached_property
    def _found(self) -> list[Path]:
        return find_files(self.path, allow=self.allow)

    def _inputs(self) -> list[tuple[str, Path]]:
        return [(path.name, path) for path in self._found]

    def folders(self) -> list[str]:
        """Return the tables' folders, and those allowed."""
        return [*dict.fromkeys(str(path.parent) for path in self._found), *self.allow]

    @property
    def finished(self) -> tuple[str, ...]:  # type: ignore[override]
        """Fields that hold paths, which are looked at row by row."""
        return self.files

    def _finish(self, row: dict[str, Any]) -> dict[str, Any]:
        folders = self.folders() if self.files else []
        for name in self.files:
            for path in _paths(row.get(name)):
                try:
                    confine(path, folders)
                except UnreadableError as error:
                    raise UnreadableError(f"{name}: {error}") from None
        return row

    def _store(self) -> StoredRows:
        found = self._found
        kinds = {extension(path) for path in found}
        for path in found:
            if extension(path) not in EXTENSIONS:
                raise DataError(
                    f"{path}: a table must end in {', '.join(EXTENSIONS)} "
                    "(.gz after it is fine, but for .parquet)"
                )
        families = {_family(kind) for kind in kinds}
        if len(families) > 1:
            raise DataError(
                f"{', '.join(self.path)}: files of one format at a time, got "
                f"{' and '.join(sorted(kinds))}; give each its own source"
            )
        options = (self.kept, self.where, self.files, self.delimiter, self.names, self.encoding)
        if families == {"parquet"}:
            stored = store(found, partial(self._write_parquet, found), "table", options)
        else:
            columns = Columns(text=families == {"delimited"})
            read = partial(self._records, found, columns)
            write = partial(write_records, read=read, columns=columns)
            stored = store(found, write, "table", options)
            self._check(stored.columns, found)
        if self.where and not len(stored):
            wanted = ", ".join(f"{name}: {value}" for name, value in self.where.items())
            raise DataError(f"where: no row of {', '.join(self.path)} has {wanted}")
        return stored

    def _records(self, paths: Sequence[Path], columns: Columns | None = None) -> Iterator[Record]:
        def named(names: list[str]) -> None:
            if columns is not None:  # a table without a single good row has its columns, too
                columns.see(dict.fromkeys(name for name in names if self._keeps(name)))

        options: dict[str, Any] = {
            "delimiter": self.delimiter, "encoding": self.encoding, "names": self.names,
            "named": named,
        }  # fmt: skip
        for path in paths:
            for record in read_table(path, **options):
                if isinstance(record, Unreadable):
                    yield record
                elif self._takes(record):
                    yield self._row(record, path.parent)

    def _keeps(self, name: str) -> bool:
        return self.kept is None or name in self.kept

    def _takes(self, record: Mapping[str, Any]) -> bool:
        """Whether a row has the values asked for; 1 and "1" are the same, for a CSV's sake."""
        return all(
            any(_same(record.get(name), value) for value in wanted)
            for name, wanted in self.where.items()
        )

    def _row(self, record: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        if self.kept is not None:
            # Only what the record has: a column of none is found missing afterwards.
            record = {name: record[name] for name in self.kept if name in record}
        if not self.files:
            return record
        paths = {name: _located(record[name], folder) for name in self.files if name in record}
        return {**record, **paths}

    def _check(self, columns: Sequence[str], paths: Sequence[Path]) -> None:
        """Refuse an option that names a column no row has."""
        for option, wanted in (("columns", self.kept or ()), ("files", self.files)):
            for name in wanted:
                if name not in columns:
                    known = self._all_columns(paths)
                    raise DataError(
                        f"{option}: {', '.join(self.path)} has no column "
                        f"{name!r}.{nearest(name, known)}"
                    )
        if any(name not in columns for name in self.where):  # dropped by `columns`, or unknown
            known = self._all_columns(paths)
            for name in self.where:
                if known and name not in known:
                    raise DataError(
                        f"where: {', '.join(self.path)} has no column "
                        f"{name!r}.{nearest(name, known)}"
                    )

    def _all_columns(self, paths: Sequence[Path]) -> list[str]:
        plain = Table(
            path=self.path, delimiter=self.delimiter, names=self.names, encoding=self.encoding
        )
        return list(
            dict.fromkeys(
                name
                for record in plain._records(paths)
                if not isinstance(record, Unreadable)
                for name in record
            )
        )

    def _write_parquet(self, paths: Sequence[Path], sink: pa.NativeFile) -> None:
        try:
            files = [pq.ParquetFile(path) for path in paths]
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{', '.join(self.path)}: no Parquet that can be read: {error}") from (
                error
            )
        # What other programs note in a schema (how to decode media, say) is not ours to follow.
        schemas = [file.schema_arrow.remove_metadata() for file in files]
        for path, one in zip(paths, schemas, strict=True):
            twice = sorted({name for name in one.names if one.names.count(name) > 1})
            if twice:
                raise DataError(f"{path}: two columns are called {twice[0]!r}")
        try:
            schema = pa.unify_schemas(
                [_plain(one) for one in schemas], promote_options="permissive"
            )
        except pa.ArrowException as error:
            raise DataError(f"{', '.join(self.path)}: the files do not fit: {error}") from error
        for option, wanted in (
            ("columns", self.kept or ()), ("files", self.files), ("where", self.where)
        ):  # fmt: skip
            for name in wanted:
                if name not in schema.names:
                    raise DataError(
                        f"{option}: {', '.join(self.path)} has no column "
                        f"{name!r}.{nearest(name, schema.names)}"
                    )
        names = self.kept or schema.names
        original = {field.name: field for one in schemas for field in one}
        stored = kept_as(
            pa.schema([original[name] for name in names]),
            pa.schema([schema.field(n) for n in names]).append(pa.field(UNREADABLE, pa.string())),
        )
        wanted = [*dict.fromkeys([*names, *self.where])]
        with pa.ipc.new_stream(sink, stored) as writer:
            for path, file in zip(paths, files, strict=True):
                start = 0
                here = [name for name in wanted if name in file.schema_arrow.names]
                try:
                    for batch in file.iter_batches(columns=here):
                        writer.write_table(self._parquet_rows(batch, stored, path, start))
                        start += len(batch)
                except (pa.ArrowException, OSError) as error:
                    raise DataError(f"{path} is damaged: {error}") from error

    def _parquet_rows(
        self, batch: pa.RecordBatch, stored: pa.Schema, path: Path, start: int
    ) -> pa.Table:
        reasons: list[str | None] = [None] * len(batch)
        columns: dict[str, pa.Array] = {}
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            broken = unreadable_text(array)
            for place in broken:
                where = f"row {start + place} of {path.name}"
                reasons[place] = reasons[place] or f"{where}: {name!r} is not UTF-8 text"
            if broken:
                array = array.take(
                    pa.array([n if n not in broken else None for n in range(len(array))])
                )
            columns[name] = plain(array)
        if self.where:
            asked = pa.table({name: columns[name] for name in self.where if name in columns})
            picked = [
                number for number, row in enumerate(asked.to_pylist())
                if reasons[number] is not None or self._takes(row)
            ]  # fmt: skip
            if not asked.num_columns:
                picked = [] if not self._takes({}) else list(range(len(batch)))
            chosen = pa.array(picked, pa.int64())
            columns = {name: array.take(chosen) for name, array in columns.items()}
            reasons = [reasons[number] for number in picked]
        arrays = []
        for field in list(stored)[:-1]:
            array = columns.get(field.name)
            if array is None:
                arrays.append(pa.nulls(len(reasons), field.type))
                continue
            if field.name in self.files:
                located = [_located(value, path.parent) for value in array.to_pylist()]
                array = pa.array(located, array.type)
            arrays.append(array.cast(field.type))
        return pa.table([*arrays, pa.array(reasons, pa.string())], schema=stored)


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema])


def _located(value: Any, folder: Path) -> Any:
    """Return a path, the path of `{"path", "bytes"}`, or a list of either, taken from a folder."""
    if isinstance(value, str):
        return str((folder / value).absolute())
    if isinstance(value, list):
        return [_located(item, folder) for item in value]
    if isinstance(value, Mapping) and value.get("bytes") is None:
        path = value.get("path")
        return {**value, "path": _located(path, folder)} if isinstance(path, str) else value
    return value


def _paths(value: Any) -> Iterator[str]:
    """Yield the paths in what `_located` returns."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, Mapping) and value.get("bytes") is None:
        yield from _paths(value.get("path"))


def _family(kind: str) -> str:
    if kind == ".parquet":
        return "parquet"
    return "delimited" if kind in DELIMITED else "json"


def _same(value: object, wanted: Plain) -> bool:
    return value == wanted or (value is not None and class_name(value) == class_name(wanted))
