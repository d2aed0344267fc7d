"""From Arrow to Python: the values of a column, and the JSON that a value holds.

Holds what a value becomes on its way into a prompt. Leaves out what prompts are made of (`rows`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
import pyarrow as pa

from logprob_store.errors import PromptError

_SHOWN: Final = 80

NOT_TEXT: Final = object()
"""Stands for a value that holds text that is not UTF-8."""


def column_values(column: pa.Array) -> list[Any]:
    """A column as Python values, with `NOT_TEXT` where text is not UTF-8.

    >>> column_values(pa.array([0.1, None], pa.float32()))
    [0.1, None]
    """
    types, kind = pa.types, column.type
    if types.is_floating(kind) and not types.is_float64(kind):
        # By way of text: the float32 that is written 0.1 is 0.10000000149011612 as a float64.
        column = column.cast(pa.string()).cast(pa.float64())
    elif (types.is_timestamp(kind) or types.is_time64(kind)) and kind.unit == "ns":
        # Python's times have microseconds; finer digits are cut off.
        to = pa.timestamp("us", kind.tz) if types.is_timestamp(kind) else pa.time64("us")
        column = column.cast(to, safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = [_value(scalar) for scalar in column]
    return values


def json_value(value: Any, name: str) -> Any:
    """The JSON in a value of column `name`: text is parsed, and of structs the nulls are left out.

    Raises:
        PromptError: the text is not JSON.

    >>> json_value('{"seed": null}', "params"), json_value({"seed": None, "n": Decimal("2.0")}, "params")
    ({'seed': None}, {'n': 2})
    """
    if not isinstance(value, str):
        return _without_nulls(value)
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PromptError(f"column {name!r} holds {short(value)}, which is not JSON: {error}") from error


def short(value: Any) -> str:
    """A value for people, cut off after 80 characters.

    >>> short("x" * 100) == "'" + "x" * 79 + "..."
    True
    """
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return NOT_TEXT


def _without_nulls(value: Any) -> Any:
    """A struct's value as JSON: a struct has all its fields in every row, so null means not given."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
