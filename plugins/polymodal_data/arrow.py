"""Arrow types as rows can hold them: text is text however it is laid out, a map is a mapping."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polymodal import DataError

Restore = Callable[[Any], Any]


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings: of any layout, in a dictionary or run-end encoded."""
    kind = _inner(kind)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def holds_text(kind: pa.DataType) -> bool:
    """Whether there are strings in values, however deep."""
    return is_text(kind) or any(holds_text(child) for child in _children(_inner(kind)))


def as_json(kind: pa.DataType) -> bool:
    """Whether values are kept as JSON text, since no column of a plain type could hold them."""
    kind = _inner(kind)
    other = pa.types.is_union(kind) or pa.types.is_interval(kind)
    return bool(other or any(as_json(child) for child in _children(kind)))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that `plain` gives values of a type."""
    if as_json(kind):
        return pa.large_string()
    if isinstance(kind, pa.FixedShapeTensorType):
        found = kind.value_type
        for size in reversed(kind.shape):
            found = pa.list_(found, size)
        return found
    if isinstance(kind, pa.Bool8Type):
        return pa.bool_()
    kind = _inner(kind)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_decimal(kind):
        if kind.scale > 0:
            return pa.float64()
        return pa.int64() if kind.precision <= 18 else pa.string()  # as the numbers of a CSV
    if pa.types.is_map(kind):
        pair = [("key", plain_type(kind.key_type)), ("value", plain_type(kind.item_type))]
        return pa.list_(pa.struct(pair))
    if pa.types.is_struct(kind):
        fields = [field.with_type(plain_type(field.type)) for field in kind]
        return kind if fields == list(kind) else pa.struct(fields)
    if _is_list(kind):
        field = kind.value_field.with_type(plain_type(kind.value_type))
        if pa.types.is_fixed_size_list(kind):
            return pa.list_(field, kind.list_size)
        large = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
        return pa.large_list(field) if large else pa.list_(field)
    return kind


def plain(array: pa.Array) -> pa.Array:
    """Return an array in a type that rows can be kept in.

    Raises:
        DataError: tensors whose axes are permuted.
    """
    kind, wanted = array.type, plain_type(array.type)
    if as_json(kind):
        texts = [None if v is None else json.dumps(v, default=str) for v in array.to_pylist()]
        return pa.array(texts, wanted)
    if isinstance(kind, pa.FixedShapeTensorType):
        if kind.permutation is not None and kind.permutation != sorted(kind.permutation):
            raise DataError("a column of tensors has its axes permuted: write them in their order")
        flat = array.storage.to_pylist()
        shaped = [None if v is None else np.reshape(v, kind.shape).tolist() for v in flat]
        return pa.array(shaped, wanted)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if array.type == wanted:
        return array
    if _children(array.type):
        values = [None if v is None else _plain_value(v, array.type) for v in array.to_pylist()]
        return pa.array(values, wanted)
    return array.cast(wanted)


def restorer(kind: pa.DataType) -> Restore | None:
    """Return what makes values of a plain type what they were, None where they are already."""
    if as_json(kind):
        return None  # by `StoredRows`
    kind = _inner(kind)
    if pa.types.is_map(kind):
        one = restorer(kind.item_type) or _same
        return lambda pairs: pairs and {each["key"]: one(each["value"]) for each in pairs}
    if pa.types.is_struct(kind):
        fields = {field.name: restorer(field.type) for field in kind}
        found = {name: each for name, each in fields.items() if each is not None}
        if not found:
            return None
        return lambda row: row and {**row, **{n: each(row[n]) for n, each in found.items()}}
    item = restorer(kind.value_type) if _is_list(kind) else None
    return None if item is None else lambda items: items and [item(each) for each in items]


def unreadable_text(array: pa.Array) -> set[int]:
    """Return the places of values with text that is not UTF-8, which Arrow does not check."""
    if not holds_text(array.type):
        return set()
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:  # of other faults, too
        return {place for place in range(len(array)) if not _decodes(array[place])}
    return set()


def _decodes(scalar: pa.Scalar) -> bool:
    try:
        scalar.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _same(value: Any) -> Any:
    return value


def _inner(kind: pa.DataType) -> pa.DataType:
    """Return a type without what wraps it: extensions, dictionaries, runs."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    )  # fmt: skip


def _children(kind: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.field(n).type for n in range(kind.num_fields)] if pa.types.is_nested(kind) else []


def _plain_value(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        return plain(pa.array([value], kind)).to_pylist()[0]
    kind = _inner(kind)
    if pa.types.is_map(kind):
        pairs = value.items() if isinstance(value, Mapping) else value
        return [
            {"key": _plain_value(k, kind.key_type), "value": _plain_value(v, kind.item_type)}
            for k, v in pairs
        ]
    if pa.types.is_struct(kind):
        return {field.name: _plain_value(value[field.name], field.type) for field in kind}
    if _is_list(kind):
        return [_plain_value(item, kind.value_type) for item in value]
    if pa.types.is_decimal(kind):
        wanted = plain_type(kind)
        if pa.types.is_floating(wanted):
            return float(value)
        return int(value) if pa.types.is_integer(wanted) else str(value)
    return value
