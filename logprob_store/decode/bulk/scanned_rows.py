"""Scanned columns to rows of the tables, without a Python object per token.

Holds the columns and the flags. Leaves out where the columns come from and which values are regular (`scan`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.decode.token_rows import (
    ALTERNATIVES_SCHEMA,
    FLAGS,
    ID_MARK,
    SECTIONS,
    TOKENS_SCHEMA,
    enum_array,
    id_in_text,
)
from logprob_store.schema import SENTINEL_AT_MOST

if TYPE_CHECKING:
    from logprob_store.decode.bulk.scanner import Rows

_CODE: Final = {flag: pa.scalar(code, pa.uint8()) for code, flag in enumerate(FLAGS)}
_NO_CODE: Final = pa.scalar(None, pa.uint8())
_NO_NUMBER: Final = pa.scalar(None, pa.float64())
# Scalars are made once, with their type: pyarrow looks for an absent module whenever it has to guess one (0.3 ms).
_ZERO: Final = pa.scalar(0.0, pa.float64())
_SENTINEL: Final = pa.scalar(SENTINEL_AT_MOST, pa.float64())
_NEG_INF: Final = pa.scalar(float("-inf"), pa.float64())


def tables_of(tokens: Rows, alternatives: Rows, completion_ids: Any, section_codes: Any) -> tuple[pa.Table, pa.Table]:
    """Rows of TOKENS and ALTERNATIVES, in memory of their own.

    Args:
        tokens: scanned; `owner` and `section` are indices of the next two.
        alternatives: scanned; `owner` is the row of a token.
        completion_ids: for each value that was scanned.
        section_codes: for each section key, its index in SECTIONS.
    """
    ids = pa.array(completion_ids).take(pa.array(tokens.owner))
    codes = pa.array(section_codes).take(pa.array(tokens.section))
    positions = _cast(tokens.place, pa.int32())
    of = pa.array(alternatives.owner)
    ranks = _cast(alternatives.place + 1, pa.int16())
    keys = [ids, enum_array(codes, SECTIONS), positions]
    other_keys = [ids.take(of), enum_array(codes.take(of), SECTIONS), positions.take(of), ranks]
    return (
        pa.Table.from_arrays([*keys, *_columns(tokens)], schema=TOKENS_SCHEMA),
        pa.Table.from_arrays([*other_keys, *_columns(alternatives)], schema=ALTERNATIVES_SCHEMA),
    )


def _columns(rows: Rows) -> list[Any]:
    from logprob_store.decode.bulk.scan_loop import HAS_BYTES, HAS_ID, NAMES_ID  # loaded by now

    some, every = np.bitwise_or.reduce(rows.facts), np.bitwise_and.reduce(rows.facts)
    texts = _run_of(pa.large_string(), rows.texts, rows.text_ends)
    spelled = pa.nulls(len(texts), pa.large_binary())
    if some & HAS_BYTES:
        valid = None if every & HAS_BYTES else rows.facts & HAS_BYTES > 0
        spelled = _run_of(pa.large_binary(), rows.spelled, rows.spelled_ends, valid)
    spellings = _run_of(pa.large_string(), rows.numbers, rows.number_ends)
    ids = pa.nulls(len(texts), pa.int32())
    if some & HAS_ID:
        ids = pa.array(rows.ids, pa.int64(), mask=rows.facts & HAS_ID == 0).cast(pa.int32())
    if not every & NAMES_ID:
        ids = _with_ids_in(texts, rows.facts & NAMES_ID > 0, ids)
    return [texts, spelled, ids, *flagged(pc.cast(spellings, pa.float64()))]


def _run_of(kind: pa.DataType, run: Any, ends: Any, valid: Any = None) -> pa.Array:
    """Strings or binary values that stand one behind the other."""
    bits = None if valid is None else _copied(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(ends) - 1, [bits, _copied(ends, ends[0]), _copied(run)])


def _cast(numbers: Any, kind: pa.DataType) -> pa.Array:
    return pa.array(numbers).cast(kind)


def _copied(array: Any, less: Any = 0) -> pa.Buffer:
    """A copy in Arrow's memory, which it uses again; numpy's stays with the thread that asked for it."""
    buffer = pa.allocate_buffer(array.nbytes)
    copy = np.frombuffer(buffer, array.dtype)
    if less:
        np.subtract(array, less, out=copy)
    else:
        copy[:] = array
    return buffer


def _with_ids_in(texts: Any, named: Any, ids: Any) -> Any:
    """The ids, and for tokens that name none, what vLLM writes in place of a text."""
    spelled = pc.starts_with(texts, ID_MARK)
    if not pc.any(spelled, min_count=0).as_py():
        return ids
    spelled = pc.and_not(spelled, pa.array(named))
    return pc.replace_with_mask(ids, spelled, pa.array(map(id_in_text, texts.filter(spelled).to_pylist()), pa.int32()))


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
