"""What an Arrow type can stand for: text, a plain value, JSON.

Holds predicates on types. Leaves out which role needs which (`columns`) and the values themselves (`values`).
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from pyarrow import types

_TEXT: Final = (types.is_string, types.is_large_string, types.is_string_view)
_EXACT: Final = (
    types.is_integer,
    types.is_boolean,
    types.is_decimal,
    types.is_date,
    types.is_time,
    types.is_timestamp,
)
_JSON: Final = (types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal)
_LIST: Final = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, however it is encoded: plain, dictionary, view, JSON.

    >>> is_text(pa.dictionary(pa.int8(), pa.string())), is_text(pa.binary())
    (True, False)
    """
    if isinstance(kind, pa.JsonType):
        kind = kind.storage_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(test(kind) for test in _TEXT)


def is_plain(kind: pa.DataType) -> bool:
    """Whether a value is one thing that has one obvious text.

    >>> is_plain(pa.int8()), is_plain(pa.float64())
    (True, False)
    """
    return is_text(kind) or isinstance(kind, pa.UuidType) or any(test(kind) for test in _EXACT)


def is_json(kind: pa.DataType) -> bool:
    """Whether every value of this type has a form in JSON.

    >>> is_json(pa.struct({"seed": pa.int64()})), is_json(pa.list_(pa.date32()))
    (True, False)
    """
    if types.is_struct(kind):
        return all(is_json(field.type) for field in kind)
    if is_list(kind):
        return is_json(kind.value_type)
    return is_text(kind) or any(test(kind) for test in _JSON)


def is_list(kind: pa.DataType) -> bool:
    """Whether a value is a list, in any of the layouts that Arrow has for one.

    >>> is_list(pa.large_list(pa.int8())), is_list(pa.map_(pa.string(), pa.int8()))
    (True, False)
    """
    return any(test(kind) for test in _LIST)
