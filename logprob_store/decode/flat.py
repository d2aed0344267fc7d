"""Nested Arrow lists of tokens to flat columns, without a Python object per token.

Holds the geometry (parents, positions, ranks, lists of bytes taken over as binary) and the flags. Leaves out where
the lists come from and which of their rows may be trusted (`chat_bulk`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.decode.rows import (
    ALTERNATIVES_SCHEMA,
    FLAGS,
    ID_MARK,
    SECTIONS,
    TOKENS_SCHEMA,
    enum_array,
    id_in_text,
)
from logprob_store.schema import SENTINEL_AT_MOST

_CODE: Final = {flag: pa.scalar(code, pa.uint8()) for code, flag in enumerate(FLAGS)}
_NO_CODE: Final = pa.scalar(None, pa.uint8())
_NO_NUMBER: Final = pa.scalar(None, pa.float64())
# Scalars are made once, with their type: pyarrow looks for an absent module whenever it has to guess one (0.3 ms).
_NO_LENGTH: Final = pa.scalar(0, pa.int32())
_FIRST_RANK: Final = pa.scalar(1, pa.int32())
_ZERO: Final = pa.scalar(0.0, pa.float64())
_SENTINEL: Final = pa.scalar(SENTINEL_AT_MOST, pa.float64())
_NEG_INF: Final = pa.scalar(float("-inf"), pa.float64())


@dataclass(frozen=True, slots=True)
class Nest:
    """A list array taken apart: `items` flat, and for each item its `parents` row and its `index` in that row.

    `starts` has one item more than there are rows: where each row's items start.
    """

    items: Any
    parents: Any
    index: Any
    starts: Any


def unnest(lists: Any) -> Nest:
    """Take a list array apart; a null list has no items.

    >>> nest = unnest(pa.array([["a", "b"], None, ["c"]]))
    >>> nest.items.to_pylist(), nest.parents.to_pylist(), nest.index.to_pylist(), nest.starts.to_pylist()
    (['a', 'b', 'c'], [0, 0, 2], [0, 1, 0], [0, 2, 2, 3])
    """
    items = lists.flatten()
    parents = pc.list_parent_indices(lists)
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(lists), _NO_LENGTH))
    starts = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
    index = pc.subtract(pa.arange(0, len(items)).cast(pa.int32()), starts.take(parents))
    return Nest(items, parents, index, starts)


def binary_of(lists: Any) -> Any:
    """A list<uint8> array as binary: the same offsets and the same values, seen differently.

    >>> binary_of(pa.array([[72, 105], None, []], pa.list_(pa.uint8()))).to_pylist()
    [b'Hi', None, b'']
    """
    if len(lists) == 0:
        return pa.array([], pa.large_binary())
    # A slice's validity starts in the middle of a byte; is_valid gives the bits again from the start.
    valid = pc.is_valid(lists).buffers()[1] if lists.null_count else None
    offsets = lists.offsets.cast(pa.int64())
    values = lists.values
    held = values.buffers()[1]
    data = pa.py_buffer(b"") if held is None else held.slice(values.offset)
    start = pa.concat_arrays([offsets]) if offsets.offset else offsets
    return pa.Array.from_buffers(pa.large_binary(), len(lists), [valid, start.buffers()[1], data], lists.null_count)


def flagged(numbers: Any) -> tuple[Any, Any, Any]:
    """The columns `logprob`, `logprob_flag` and `logprob_wire` of wire numbers without nulls.

    >>> [column.to_pylist() for column in flagged(pa.array([-0.5, -9999.0]))]
    [[-0.5, None], [None, 'sentinel'], [None, -9999.0]]
    """
    ordinary = pc.and_(pc.greater(numbers, _SENTINEL), pc.less_equal(numbers, _ZERO))
    if pc.all(ordinary, min_count=0).as_py():
        nothing = pa.nulls(len(numbers), pa.uint8())
        return numbers, enum_array(nothing, FLAGS), pa.nulls(len(numbers), pa.float64())
    low = pc.if_else(pc.equal(numbers, _NEG_INF), _CODE["neg_inf"], _CODE["sentinel"])
    odd = pc.if_else(pc.greater(numbers, _ZERO), _CODE["positive"], low)
    odd = pc.if_else(pc.is_nan(numbers), _CODE["missing"], odd)
    codes = pc.if_else(ordinary, _NO_CODE, odd)
    plain = pc.or_(ordinary, pc.equal(numbers, _NEG_INF))
    return (
        pc.if_else(ordinary, numbers, _NO_NUMBER),
        enum_array(codes, FLAGS),
        pc.if_else(plain, _NO_NUMBER, numbers),
    )


def token_table(completion_ids: Any, section: str, nest: Nest) -> Any:
    """Rows of TOKENS for unnested tokens of one section; `completion_ids` has one item for each list."""
    keys = [completion_ids.take(nest.parents), _section(section, len(nest.items)), nest.index]
    return pa.Table.from_arrays([*keys, *_columns(nest.items)], schema=TOKENS_SCHEMA)


def alternative_table(tokens: Any, section: str, nest: Nest) -> Any:
    """Rows of ALTERNATIVES for unnested alternatives; `tokens` is the table of the tokens that hold them."""
    ids = tokens.column("completion_id").combine_chunks().take(nest.parents)
    positions = tokens.column("position").combine_chunks().take(nest.parents)
    # A rank beyond Int16 wraps round: the proof refuses that list, and its neighbours must not suffer.
    ranks = pc.add(nest.index, _FIRST_RANK).cast(pa.int16(), safe=False)
    keys = [ids, _section(section, len(nest.items)), positions, ranks]
    return pa.Table.from_arrays([*keys, *_columns(nest.items)], schema=ALTERNATIVES_SCHEMA)


def _section(section: str, length: int) -> Any:
    return enum_array(pa.repeat(pa.scalar(SECTIONS.index(section), pa.uint8()), length), SECTIONS)


def _columns(items: Any) -> list[Any]:
    names = {field.name for field in items.type}
    spelled = binary_of(items.field("bytes")) if "bytes" in names else pa.nulls(len(items), pa.large_binary())
    texts = items.field("token")
    named = next((items.field(name) for name in ("id", "token_id") if name in names), None)
    return [texts, spelled, _ids(named, texts), *flagged(items.field("logprob"))]


def _ids(named: Any, texts: Any) -> Any:
    """The token ids: as they are, or as vLLM writes them in place of texts."""
    if named is not None:
        return named
    if not pc.any(pc.starts_with(texts, ID_MARK), min_count=0).as_py():
        return pa.nulls(len(texts), pa.int32())
    return pa.array([None if text is None else id_in_text(text) for text in texts.to_pylist()], pa.int32())
