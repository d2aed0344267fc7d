"""The values of a column as Python objects: for texts as they stand in the column, for requests as JSON.

A value that has no such object is an `Unusable` in its place, so that one row does not stop the others.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from logprob_store.errors import PromptError
from logprob_store.prompts.columns import is_list

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY: Final = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
_NOT_CONVERTED: Final = (ValueError, OverflowError, KeyError, pa.ArrowException)
"""What pyarrow raises for values that Python does not have, for unknown zones and for structs with repeated names."""


class Unusable(NamedTuple):
    """Stands for a value that has no Python object; `reason` goes on where the column's name ends."""

    reason: str


def column_values(column: pa.Array, *, as_json: bool = False) -> list[Any]:
    """A column as Python values, with an `Unusable` for each value that cannot be one.

    Args:
        column: the values of some rows.
        as_json: convert each value to what JSON can say: a struct to an object without the fields that are null, JSON
            text within it to what the text says, UUIDs to text, decimals to numbers.

    >>> column_values(pa.array([0.1, None], pa.float32()))
    [0.1, None]
    >>> column_values(pa.array([{"seed": None, "n": Decimal("2.0")}]), as_json=True)
    [{'n': 2}]
    """
    kind = column.type
    if (types.is_timestamp(kind) or types.is_time64(kind)) and kind.unit == "ns":
        # Python's times have microseconds; the digits beyond are cut off.
        outside = _outside_the_day(column)
        to = pa.timestamp("us", kind.tz) if types.is_timestamp(kind) else pa.time64("us")
        column = column.cast(to, safe=False)
    else:
        outside = _outside_the_day(column)
    try:
        values: list[Any] = column.to_pylist()
    except _NOT_CONVERTED:
        values = [_scalar_value(scalar) for scalar in column]
    for row in outside:
        values[row] = Unusable("holds a time that no day has: write it as text")
    convert = _json_converter(kind) if as_json else _number_converter(kind)
    return values if convert is None else [_converted(convert, value) for value in values]


def json_of_text(text: str) -> Any:
    """What a JSON text says.

    Raises:
        PromptError: the text is not JSON; the message goes on where the text ends.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PromptError(f"which is not JSON: {error}") from error


def _scalar_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return Unusable("holds bytes that are not UTF-8: write the text as UTF-8")
    except _NOT_CONVERTED as error:
        if (zone := getattr(scalar.type, "tz", None)) is not None and isinstance(error, pa.ArrowException):
            return Unusable(
                f"holds times in the zone {zone!r}, which is not known here: convert them to UTC or to text"
            )
        return Unusable(f"holds a value that Python cannot hold ({error}): write it as text, or leave the row out")


def _outside_the_day(column: pa.Array) -> list[int]:
    """The rows of a column of times whose value is no time of a day; pyarrow would wrap them around."""
    if not types.is_time(column.type):
        return []
    ticks = column.cast(pa.int32() if types.is_time32(column.type) else pa.int64())
    outside = pc.or_(pc.less(ticks, 0), pc.greater_equal(ticks, _DAY[column.type.unit]))
    rows: list[int] = pc.indices_nonzero(pc.fill_null(outside, False)).to_pylist()  # noqa: FBT003
    return rows


def _converted(convert: Callable[[Any], Any], value: Any) -> Any:
    if value is None or isinstance(value, Unusable):
        return value
    try:
        return convert(value)
    except PromptError as error:
        return Unusable(str(error))


def _number_converter(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """For a float of 16 or 32 bits the shortest decimal that reads back as it: as a float64, 0.1 has more digits."""
    if types.is_float32(kind):
        return lambda value: float(str(np.float32(value)))
    if types.is_float16(kind):
        return lambda value: float(str(np.float16(value)))
    return None


def _json_converter(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """The function from a value that is not null to its JSON; None where it is its JSON already."""
    if isinstance(kind, pa.BaseExtensionType):
        known: dict[type[pa.DataType], Callable[[Any], Any]] = {pa.JsonType: _parsed, pa.UuidType: str}
        return known.get(type(kind)) or _json_converter(kind.storage_type)
    if types.is_struct(kind):
        return _struct_converter(kind)
    if is_list(kind):
        return _list_converter(kind)
    if types.is_decimal(kind):
        return _decimal_number
    return _number_converter(kind)


def _struct_converter(kind: pa.StructType) -> Callable[[Any], Any]:
    """A struct has all its fields in every row, so null means that a field is not set."""
    converters = {field.name: _json_converter(field.type) for field in kind}

    def convert(value: dict[str, Any]) -> dict[str, Any]:
        return {
            name: item if (inner := converters[name]) is None else inner(item)
            for name, item in value.items()
            if item is not None
        }

    return convert


def _list_converter(kind: pa.DataType) -> Callable[[Any], Any] | None:
    inner = _json_converter(kind.value_type)
    if inner is None:
        return None
    return lambda value: [None if item is None else inner(item) for item in value]


def _parsed(text: str) -> Any:
    try:
        return json_of_text(text)
    except PromptError as error:
        raise PromptError(f"holds JSON text {error}") from error


def _decimal_number(value: Decimal) -> int | float:
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    if Decimal(repr(number)) != value:
        raise PromptError(f"holds the decimal {value}, which no JSON number of a client has: cast it to double or text")
    return number
