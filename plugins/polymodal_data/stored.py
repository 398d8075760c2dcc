"""Rows kept as an Arrow table under a Hugging Face `Dataset`: small ones in memory, others mapped.

What is too large for memory is written once to `HF_DATASETS_CACHE/polymodal`, under a name that
changes with the input files; it may be deleted at any time. Workers and ranks share its pages.
"""

import base64
import json
import os
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa

from polymodal import Sample, Source, UnreadableError, fingerprint_files
from polymodal_data.arrow import Restore, as_json, restorer
from polymodal_data.columns import Columns
from polymodal_data.delimited import Unreadable
from polymodal_data.files import fingerprint

FORMAT = 2  # of the files in the cache; raise it when records are read in another way
IN_MEMORY = 16 * 2**20  # bytes of input up to which rows stay in memory
UNREADABLE = "_unreadable"  # the column that holds the reason
_ENCODED = b"polymodal_json"  # metadata: the columns kept as JSON text
_ORIGINAL = b"polymodal_types"  # metadata: a schema with the types columns had
_ROWS_AT_ONCE = 1000

Record = Mapping[str, Any] | Unreadable
Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def write_records(
    sink: pa.NativeFile, read: Callable[[], Iterable[Record]], columns: Columns
) -> None:
    """Write records as an Arrow stream; `read` is called twice, to find the types first."""
    for record in read():
        if not isinstance(record, Unreadable):
            columns.see(record)
    schema = columns.schema.append(pa.field(UNREADABLE, pa.string()))
    schema = schema.with_metadata({_ENCODED: json.dumps(columns.encoded)})
    with pa.ipc.new_stream(sink, schema) as writer:
        for some in chunks(read(), _ROWS_AT_ONCE):
            reasons = [each.reason if isinstance(each, Unreadable) else None for each in some]
            found = columns.batch([{} if isinstance(each, Unreadable) else each for each in some])
            arrays = [*found.columns, pa.array(reasons, pa.string())]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def kept_as(original: pa.Schema, plain: pa.Schema) -> pa.Schema:
    """Return a schema of plain types that notes which ones they stand for."""
    encoded = [field.name for field in original if as_json(field.type)]
    types = base64.b64encode(original.remove_metadata().serialize().to_pybytes())
    return plain.with_metadata({_ENCODED: json.dumps(encoded), _ORIGINAL: types})


class StoredRows:
    """Rows of an Arrow stream by number.

    Args:
        dataset: a Hugging Face `Dataset`, its media columns not decoded.
        metadata: of the stream's schema: which columns are JSON text, and what types others had.
    """

    def __init__(self, dataset: Any, metadata: Mapping[bytes, bytes] | None = None):
        self.dataset = dataset
        metadata = metadata or {}
        self.encoded: tuple[str, ...] = tuple(json.loads(metadata.get(_ENCODED, b"[]")))
        self._types = metadata.get(_ORIGINAL)

    @cached_property
    def _restored(self) -> Mapping[str, Restore]:
        """What brings values back to what they were, by column."""
        if self._types is None:
            return {}
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self._types)))
        found = {field.name: restorer(field.type) for field in schema}
        return {name: restore for name, restore in found.items() if restore is not None}

    def __getstate__(self) -> dict[str, Any]:
        """Leave functions behind: they are made again."""
        return {name: value for name, value in self.__dict__.items() if name != "_restored"}

    @classmethod
    def of_table(cls, table: pa.Table) -> "StoredRows":
        """Return the rows of an Arrow table in memory."""
        from datasets import Dataset
        from datasets.table import InMemoryTable

        metadata = table.schema.metadata
        return cls(Dataset(InMemoryTable(table.replace_schema_metadata(None))), metadata)

    @classmethod
    def of_file(cls, path: Path) -> "StoredRows":
        """Return the rows of an Arrow stream on disk, mapped into memory."""
        from datasets import Dataset

        with pa.memory_map(str(path)) as file:
            metadata = pa.ipc.open_stream(file).schema.metadata
        return cls(Dataset.from_file(str(path)), metadata)

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the fields."""
        return tuple(name for name in self.dataset.column_names if name != UNREADABLE)

    @cached_property
    def _sampled(self) -> dict[str, pa.DataType]:
        schema = self.dataset.features.arrow_schema
        return {field.name: field.type for field in schema if _holds_samples(field.type)}

    def rows(self, indices: Sequence[int]) -> list[dict[str, Any] | UnreadableError]:
        """Return several rows, read at once."""
        if not len(indices):
            return []
        found = self.dataset[list(indices)]
        for name in self.encoded:
            found[name] = [_decoded(value) for value in found[name]]
        for name, kind in self._sampled.items():
            found[name] = [typed(value, kind) for value in found[name]]
        for name, restore in self._restored.items():
            found[name] = [restore(value) for value in found[name]]
        reasons = found.pop(UNREADABLE, [None] * len(indices))
        names = list(found)
        return [
            dict(zip(names, values, strict=True)) if reason is None else UnreadableError(reason)
            for reason, *values in zip(reasons, *found.values(), strict=True)
        ]

    def column(self, name: str) -> list[Any]:
        """Return one column; null where the row is unreadable."""
        values = self.dataset.with_format("arrow")[:][name].to_pylist() if len(self) else []
        convert = _decoded if name in self.encoded else self._restored.get(name)
        return values if convert is None else [convert(value) for value in values]


def _holds_samples(kind: pa.DataType) -> bool:
    """Whether a column has lists of 8 or 16 bits somewhere: sound or pixels, scaled by type."""
    if pa.types.is_struct(kind):
        return any(_holds_samples(field.type) for field in kind)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)
            or pa.types.is_fixed_size_list(kind)):  # fmt: skip
        return False
    inner = kind.value_type
    return (pa.types.is_integer(inner) and inner.bit_width <= 16) or _holds_samples(inner)


def typed(value: Any, kind: pa.DataType) -> Any:
    """Return a value whose lists of 8- and 16-bit integers are arrays of their own type.

    As lists they would be numbers without a range, and sound stored so could not be scaled.
    """
    if value is None or not _holds_samples(kind):
        return value
    if pa.types.is_struct(kind):
        types = {field.name: field.type for field in kind}
        return {name: typed(each, types[name]) for name, each in value.items()}
    if _holds_samples(kind.value_type):
        return [typed(each, kind.value_type) for each in value]
    return value if None in value else np.array(value, dtype=kind.value_type.to_pandas_dtype())


def _decoded(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def store(inputs: Sequence[Path], write: Callable[[pa.NativeFile], None], *key: object
          ) -> StoredRows:  # fmt: skip
    """Return the rows that `write` writes as an Arrow stream: from memory, or from the cache.

    Args:
        inputs: the files they are made of.
        write: makes them; not called if the cache has them.
        key: whatever else they depend on.
    """
    if sum(file.stat().st_size for file in inputs) > IN_MEMORY:
        from datasets import config

        folder = Path(config.HF_DATASETS_CACHE) / "polymodal"
        path = folder / f"{fingerprint(inputs, FORMAT, *key)}.arrow"
        if path.is_file():
            return StoredRows.of_file(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        except OSError:
            pass  # a home that can't be written to: memory will have to do
        else:
            _write_whole(os.fdopen(handle, "wb"), Path(name), path, write)
            return StoredRows.of_file(path)
    sink = pa.BufferOutputStream()
    write(sink)
    return StoredRows.of_table(pa.ipc.open_stream(sink.getvalue()).read_all())


def _write_whole(
    file: BinaryIO, part: Path, path: Path, write: Callable[[pa.NativeFile], None]
) -> None:
    """Write beside the place and rename, so that another process never sees half a file."""
    try:
        with file, pa.PythonFile(file, mode="w") as sink:
            write(sink)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class StoredSource(Source):
    """A source whose rows are stored; the first `len` or row makes or maps them."""

    columns_from_data = True
    finished: tuple[str, ...] = ()
    """Fields that `_finish` replaces."""

    @abstractmethod
    def _store(self) -> StoredRows:
        """Make the rows, or find them in the cache."""

    @abstractmethod
    def _inputs(self) -> Iterable[tuple[str, Path]]:
        """Return the files the rows are made of, each with the name it counts by."""

    def fingerprint(self) -> str:
        """Return a name for the data: from the names, sizes and content of its files."""
        return fingerprint_files(self._inputs(), len(self))

    def _finish(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a stored row as the sample it stands for; may raise UnreadableError."""
        return row

    @cached_property
    def _stored(self) -> StoredRows:
        return self._store()

    def __len__(self) -> int:
        return len(self._stored)

    def columns(self) -> tuple[str, ...]:
        """Return the names of the fields its rows have."""
        return self._stored.columns

    def row(self, index: int) -> Sample:
        """Return one row.

        Raises:
            UnreadableError: why it can't be read.
        """
        found = self.rows([index])[0]
        if isinstance(found, UnreadableError):
            raise found
        return found

    def rows(self, indices: Sequence[int]) -> list[Sample | UnreadableError]:
        """Return several rows, with one read of the table."""
        found: list[Sample | UnreadableError] = []
        for row in self._stored.rows(indices):
            try:
                found.append(row if isinstance(row, UnreadableError) else self._finish(row))
            except UnreadableError as error:
                found.append(error)
        return found

    def column(self, name: str) -> list[Any]:
        """Return one field of every row, None where it is missing or the row unreadable."""
        if name not in self._stored.columns:
            return [None] * len(self)
        return super().column(name) if name in self.finished else self._stored.column(name)
