"""Column types found by looking at every value, so that no later row can contradict them."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

Kind = Literal["int", "float", "bool", "str", "bytes", "json"]

_TYPES: Mapping[str, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "str": pa.string(),
    "bytes": pa.binary(),
    "json": pa.string(),  # any mix of values, kept as JSON text
}
# A leading zero or more than 18 digits mark a code ("007"), not a quantity.
_INT = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})")
_WHOLE = r"(?:0|[1-9]\d*)"
_FLOAT = re.compile(
    rf"[+-]?(?:(?:{_WHOLE}\.\d*|\.\d+)(?:e[+-]?\d+)?|{_WHOLE}e[+-]?\d+|nan|inf(?:inity)?)",
    re.IGNORECASE,
)
_EXACT = 2**53  # whole numbers beyond it are not all float64


def kind_of_text(text: str) -> Kind:
    """Return what a field of a CSV file could be: whole number, number or text."""
    if _INT.fullmatch(text):
        return "int"
    return "float" if _FLOAT.fullmatch(text) else "str"


def kind_of_value(value: Any) -> Kind:
    """Return the Arrow type that holds a JSON value exactly."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "str"
    return "bytes" if isinstance(value, bytes) else "json"


class Columns:
    """The columns of records and their kinds; `see` every record, then `schema` and `batch`.

    Args:
        text: strings are fields of a CSV file, whose numbers have still to be recognised.
        fixed: Arrow types of columns that are not to be looked at.
    """

    def __init__(self, *, text: bool = False, fixed: Mapping[str, pa.DataType] | None = None):
        self.text = text
        self._fixed = dict(fixed or {})
        self._kinds: dict[str, Kind | None] = {}
        self._large: set[str] = set()  # columns with whole numbers that fractions can't hold

    def fix(self, name: str, kind: pa.DataType) -> None:
        """Give a column its Arrow type, whatever its values."""
        self._fixed[name] = kind
        self._kinds.pop(name, None)

    def see(self, record: Mapping[str, Any]) -> None:
        """Widen the kinds of columns so that they hold this record."""
        for name, value in record.items():
            if name in self._fixed:
                continue
            before = self._kinds.setdefault(name, None)
            if value is None or before == "json" or (before == "str" and self.text):
                continue
            text = self.text and isinstance(value, str)
            kind = kind_of_text(value) if text else kind_of_value(value)
            if kind == "int" and abs(int(value)) > _EXACT:
                self._large.add(name)
            self._kinds[name] = self._widened(name, before, kind)

    def _widened(self, name: str, before: Kind | None, kind: Kind) -> Kind:
        if before is None or before == kind:
            return kind
        if {before, kind} == {"int", "float"} and name not in self._large:
            return "float"
        if "json" in (before, kind):
            return "json"
        return "str" if self.text else "json"

    @property
    def names(self) -> list[str]:
        """The names of the columns, in the order they were first seen."""
        return [*self._fixed, *self._kinds]

    @property
    def encoded(self) -> list[str]:
        """The names of columns kept as JSON text."""
        return [name for name, kind in self._kinds.items() if kind == "json"]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of what `batch` returns."""
        found = {name: _TYPES[kind or "str"] for name, kind in self._kinds.items()}
        return pa.schema({**self._fixed, **found})

    def batch(self, records: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        """Return these records as Arrow columns; a missing field is null."""
        schema = self.schema
        arrays = []
        for name in schema.names:
            values = [record.get(name) for record in records]
            if name in self._kinds:
                convert = self._converter(self._kinds[name])
                values = [None if value is None else convert(value) for value in values]
            arrays.append(pa.array(values, type=schema.field(name).type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _converter(self, kind: Kind | None) -> Any:
        if kind == "json":
            return json.dumps
        if kind == "float" or (kind == "int" and self.text):
            return {"float": float, "int": int}[kind]
        if kind == "str" and self.text:
            return str
        return lambda value: value
