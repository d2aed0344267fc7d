"""The types of kept columns in a store: as in the input where polars reads them, else the nearest type that it reads.

docs/store.md has them as a table.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_DIGITS: Final = 38
"""The most digits of a decimal in polars."""
_EXTENSION_METADATA: Final = frozenset({b"ARROW:extension:name", b"ARROW:extension:metadata"})
_POLARS_ENUM: Final = b"_PL_ENUM_VALUES2"


def stored_field(field: pa.Field) -> pa.Field:
    """A column of the input as the store has it; fields within it likewise.

    Raises:
        ArrowNotImplementedError: polars reads no type that could hold the values.

    >>> stored_field(pa.field("at", pa.timestamp("us", "+05:30"))).type
    TimestampType(timestamp[us, tz=UTC])
    >>> stored_field(pa.field("call", pa.list_(pa.json_()))).type
    ListType(list<item: string>)
    """
    metadata = field.metadata or {}
    kind = _stored_type(field.type, is_enum=_POLARS_ENUM in metadata)
    kept = {key: value for key, value in metadata.items() if key not in _EXTENSION_METADATA}
    return pa.field(field.name, kind, field.nullable, kept or None)


def stored_column(column: pa.Array, field: pa.Field) -> pa.Array:
    """A column of the input with the type of `field`, which is its `stored_field`.

    >>> stored_column(pa.array([[1], None, [2, 3]], pa.list_view(pa.int8())), pa.field("n", pa.list_(pa.int8())))
    <pyarrow.lib.ListArray object at ...>
    [
      [
        1
      ],
      null,
      [
        2,
        3
      ]
    ]
    """
    if _is_view(column.type):
        column = _list_of_view(column)
    return column if column.type.equals(field.type, check_metadata=True) else column.cast(field.type)


def is_stored_as_is(field: pa.Field) -> bool:
    """Whether polars reads a Parquet column of this type as the type that the store would give it.

    >>> is_stored_as_is(pa.field("n", pa.int64())), is_stored_as_is(pa.field("call", pa.json_()))
    (True, False)
    """
    return is_readable(field.type) and not _has_extension(field)


def is_readable(kind: pa.DataType) -> bool:
    """Whether polars reads a Parquet column of this type; the panics of those that it does not read stop a query.

    >>> is_readable(pa.timestamp("us", "Asia/Tokyo")), is_readable(pa.list_(pa.timestamp("us", "+05:30")))
    (True, False)
    """
    return not any(_is_unreadable(part) for part in _parts(kind))


def _list_of_view(column: pa.Array) -> pa.Array:
    """A view of lists as lists; pyarrow's own cast gives offsets that are too short (seen in 26.0)."""
    kind = pa.LargeListArray if types.is_large_list_view(column.type) else pa.ListArray
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(column), 0))
    offsets = pa.concat_arrays([pa.array([0], ends.type), ends])
    return kind.from_arrays(offsets, column.flatten(), mask=column.is_null())


def _parts(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type, and every type within it."""
    yield kind
    if isinstance(kind, pa.BaseExtensionType):
        yield from _parts(kind.storage_type)
    elif types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        yield from _parts(kind.value_type)
    else:
        for number in range(kind.num_fields):
            yield from _parts(kind.field(number).type)


def _is_unreadable(kind: pa.DataType) -> bool:
    return (
        (types.is_timestamp(kind) and not _knows_zone(kind.tz))
        or (types.is_decimal256(kind) and kind.precision > _MOST_DIGITS)
        or (types.is_fixed_size_list(kind) and kind.list_size == 0)
        or (types.is_struct(kind) and not _has_distinct_names(kind))
        or _is_view(kind)
        or _has_no_counterpart(kind)
    )


def _has_extension(field: pa.Field) -> bool:
    """Whether a field or one within it is of an extension type, known to pyarrow or not; UUIDs do not count."""
    if isinstance(field.type, pa.UuidType):
        return False
    return (
        isinstance(field.type, pa.BaseExtensionType)
        or not _EXTENSION_METADATA.isdisjoint(field.metadata or {})
        or any(_has_extension(field.type.field(number)) for number in range(field.type.num_fields))
    )


def _stored_type(kind: pa.DataType, *, is_enum: bool = False) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        # polars reads UUIDs as 16 bytes; of other extensions it knows the storage only, and warns.
        return kind if isinstance(kind, pa.UuidType) else _stored_type(kind.storage_type)
    if types.is_dictionary(kind):
        return _stored_dictionary(kind, is_enum=is_enum)
    if types.is_run_end_encoded(kind):
        return _stored_type(kind.value_type)
    if types.is_nested(kind):
        return _stored_nested(kind)
    return _stored_scalar(kind)


def _stored_scalar(kind: pa.DataType) -> pa.DataType:
    if types.is_timestamp(kind) and not _knows_zone(kind.tz):
        return pa.timestamp(kind.unit, "UTC")
    if types.is_decimal256(kind):
        return pa.string() if kind.precision > _MOST_DIGITS else pa.decimal128(kind.precision, kind.scale)
    if _has_no_counterpart(kind):
        raise pa.ArrowNotImplementedError(f"polars has no type for {kind}")
    return kind


def _stored_dictionary(kind: pa.DictionaryType, *, is_enum: bool) -> pa.DataType:
    value = _stored_type(kind.value_type)
    if not (types.is_string(value) or types.is_large_string(value)):
        return value
    # A part joins the dictionaries of several batches: narrow indices, such as those of pandas, would overflow.
    return kind if is_enum else pa.dictionary(pa.int32(), value, kind.ordered)


def _stored_nested(kind: pa.DataType) -> pa.DataType:
    if _has_no_counterpart(kind) or (types.is_struct(kind) and not _has_distinct_names(kind)):
        raise pa.ArrowNotImplementedError(f"polars has no type for {kind}")
    fields = [kind.field(number) for number in range(kind.num_fields)]
    if types.is_map(kind):
        fields = [kind.key_field, kind.item_field]
    stored = [_inner(field) for field in fields]
    unchanged = all(new.equals(old, check_metadata=True) for new, old in zip(stored, fields, strict=True))
    if unchanged and not _is_unreadable(kind):
        return kind
    if types.is_struct(kind):
        return pa.struct(stored)
    if types.is_map(kind):
        return pa.map_(*stored, kind.keys_sorted)
    if types.is_fixed_size_list(kind) and kind.list_size:
        return pa.list_(*stored, kind.list_size)
    return pa.large_list(*stored) if types.is_large_list(kind) or types.is_large_list_view(kind) else pa.list_(*stored)


def _inner(field: pa.Field) -> pa.Field:
    if _is_view(field.type):
        raise pa.ArrowNotImplementedError(f"polars has no type for {field.type} within another type")
    return stored_field(field)


def _is_view(kind: pa.DataType) -> bool:
    """Whether a type is a view of lists; polars reads views of text and bytes."""
    return bool(types.is_list_view(kind) or types.is_large_list_view(kind))


def _has_no_counterpart(kind: pa.DataType) -> bool:
    return bool(types.is_interval(kind) or types.is_union(kind) or (types.is_struct(kind) and not kind.num_fields))


def _has_distinct_names(kind: pa.StructType) -> bool:
    return len({field.name for field in kind}) == int(kind.num_fields)


@cache
def _knows_zone(zone: str | None) -> bool:
    """Whether polars knows a time zone: those of the IANA database and offsets of whole hours, such as "-08:00"."""
    try:
        pl.from_arrow(pa.array([], pa.timestamp("us", zone)))
    except pl.exceptions.ComputeError:
        return False
    return True
