"""Tables: JSON, JSONL, CSV, TSV and Parquet files."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polymodal import DataError, FilePath, UnreadableError, find_files, nearest
from polymodal_data.columns import Columns
from polymodal_data.delimited import Unreadable, read_delimited
from polymodal_data.files import extension
from polymodal_data.json_records import read_json, read_json_lines
from polymodal_data.lines import check_encoding
from polymodal_data.stored import Record, StoredRows, StoredSource, store, write_records

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
) -> Iterator[Record]:
    """Yield the records of a JSON, JSONL, CSV or TSV file; what can't be read keeps its place.

    With `content`, that is read, and `path` merely names it.

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
    they stand. An empty CSV field is None.

    Args:
        path: a file, a glob such as "data/*.jsonl", or a list of these.
        columns: keep these only; all by default.
        where: keep rows whose column has this value, or one of these; unreadable rows stay.
        files: columns with paths of files; relative ones are taken from their table's folder.
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
        self.delimiter = delimiter
        self.names = names
        self.encoding = encoding

    def _store(self) -> StoredRows:
        found = find_files(self.path)
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
            read = partial(self._records, found)
            write = partial(write_records, read=read, columns=columns)
            stored = store(found, write, "table", options)
            self._check(stored.columns, found)
        if self.where and not len(stored):
            wanted = ", ".join(f"{name}: {value}" for name, value in self.where.items())
            raise DataError(f"where: no row of {', '.join(self.path)} has {wanted}")
        return stored

    def _records(self, paths: Sequence[Path]) -> Iterator[Record]:
        options: dict[str, Any] = {
            "delimiter": self.delimiter, "encoding": self.encoding, "names": self.names
        }  # fmt: skip
        for path in paths:
            for record in read_table(path, **options):
                if isinstance(record, Unreadable):
                    yield record
                elif self._takes(record):
                    yield self._row(record, path.parent)

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
        paths = {
            name: str((folder / record[name]).absolute())
            for name in self.files
            if isinstance(record.get(name), str)
        }
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
        try:
            schema = pa.unify_schemas(schemas, promote_options="permissive")
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
        kept = pa.schema([schema.field(name) for name in self.kept or schema.names])
        with pa.ipc.new_stream(sink, kept) as writer:
            for path, file in zip(paths, files, strict=True):
                try:
                    for batch in file.iter_batches():
                        writer.write_table(self._parquet_rows(batch, kept, path.parent))
                except (pa.ArrowException, OSError) as error:
                    raise DataError(f"{path} is damaged: {error}") from error

    def _parquet_rows(self, batch: pa.RecordBatch, kept: pa.Schema, folder: Path) -> pa.Table:
        table = pa.table(batch)
        if self.where:
            names = [name for name in self.where if name in table.column_names]
            picked = [self._takes(row) for row in table.select(names).to_pylist()]
            table = table.filter(pa.array(picked, pa.bool_()))
        arrays = []
        for field in kept:
            if field.name not in table.column_names:
                arrays.append(pa.nulls(len(table), field.type))
                continue
            array = table[field.name].cast(field.type)
            if field.name in self.files and pa.types.is_string(field.type):
                paths = [
                    None if path is None else str((folder / path).absolute())
                    for path in array.to_pylist()
                ]
                array = pa.array(paths, field.type)
            arrays.append(array)
        return pa.table(arrays, schema=kept)


def _family(kind: str) -> str:
    if kind == ".parquet":
        return "parquet"
    return "delimited" if kind in DELIMITED else "json"


def _same(value: object, wanted: Plain) -> bool:
    return value == wanted or (value is not None and str(value) == str(wanted))
