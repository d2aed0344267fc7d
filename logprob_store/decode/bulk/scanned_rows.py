"""Scanned columns to the tables of tokens and alternatives, without a Python object per token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.decode.bulk.scan_loop import HAS_BYTES, HAS_ID, NAMES_ID
from logprob_store.decode.token_rows import (
    ALTERNATIVES_SCHEMA,
    FLAGS,
    ID_PREFIX,
    SECTIONS,
    TOKENS_SCHEMA,
    enum_array,
    id_in_text,
)
from logprob_store.schema import SENTINEL_AT_MOST

if TYPE_CHECKING:
    import numpy.typing as npt

    from logprob_store.decode.bulk.scanner import Integers, ScannedColumns

_CODE: Final = {flag: pa.scalar(code, pa.uint8()) for code, flag in enumerate(FLAGS)}
_NO_CODE: Final = pa.scalar(None, pa.uint8())
_NO_NUMBER: Final = pa.scalar(None, pa.float64())
# Scalars are made once and with their type: to guess a type, pyarrow looks for a module that is not there (0.3 ms).
_ZERO: Final = pa.scalar(0.0, pa.float64())
_SENTINEL: Final = pa.scalar(SENTINEL_AT_MOST, pa.float64())
_NEG_INF: Final = pa.scalar(float("-inf"), pa.float64())


def tables_from_columns(
    tokens: ScannedColumns,
    alternatives: ScannedColumns,
    completion_ids: Integers,
    section_codes: npt.NDArray[np.uint8],
) -> tuple[pa.Table, pa.Table]:
    """Rows of TOKENS and ALTERNATIVES, in memory of their own.

    Args:
        tokens: scanned; `owner` and `section` are indices of the next two.
        alternatives: scanned; `owner` is the row of a token.
        completion_ids: int64[values], the completion of each value that was scanned.
        section_codes: uint8[section keys], the index in SECTIONS of each section key.
    """
    ids = pa.array(completion_ids).take(pa.array(tokens.owner))
    codes = pa.array(section_codes).take(pa.array(tokens.section))
    positions = _cast(tokens.position, pa.int32())
    of = pa.array(alternatives.owner)
    ranks = _cast(alternatives.position + 1, pa.int16())
    keys = [ids, enum_array(codes, SECTIONS), positions]
    other_keys = [ids.take(of), enum_array(codes.take(of), SECTIONS), positions.take(of), ranks]
    return (
        pa.Table.from_arrays([*keys, *_columns(tokens)], schema=TOKENS_SCHEMA),
        pa.Table.from_arrays([*other_keys, *_columns(alternatives)], schema=ALTERNATIVES_SCHEMA),
    )


def _columns(rows: ScannedColumns) -> list[pa.Array]:
    """The columns `token`, `bytes`, `token_id` and the three of the log-probability."""
    some, every = np.bitwise_or.reduce(rows.presence), np.bitwise_and.reduce(rows.presence)
    texts = _strings(pa.large_string(), rows.texts, rows.text_ends)
    token_bytes = pa.nulls(len(texts), pa.large_binary())
    if some & HAS_BYTES:
        valid = None if every & HAS_BYTES else rows.presence & HAS_BYTES > 0
        token_bytes = _strings(pa.large_binary(), rows.token_bytes, rows.bytes_ends, valid)
    numbers = _strings(pa.large_string(), rows.numbers, rows.number_ends)
    ids = pa.nulls(len(texts), pa.int32())
    if some & HAS_ID:
        ids = pa.array(rows.ids, pa.int64(), mask=rows.presence & HAS_ID == 0).cast(pa.int32())
    if not every & NAMES_ID:
        ids = _with_ids_in(texts, rows.presence & NAMES_ID > 0, ids)
    return [texts, token_bytes, ids, *logprob_columns(pc.cast(numbers, pa.float64()))]


def _strings(
    kind: pa.DataType, content: npt.NDArray[np.uint8], ends: Integers, valid: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Strings or binary values: `content` is uint8[bytes], `ends` int64[rows + 1], `valid` bool[rows]."""
    bits = None if valid is None else _arrow_copy(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(ends) - 1, [bits, _arrow_copy(ends, ends[0]), _arrow_copy(content)])


def _cast(numbers: Integers, kind: pa.DataType) -> pa.Array:
    return pa.array(numbers).cast(kind)


def _arrow_copy(array: npt.NDArray[Any], less: Any = 0) -> pa.Buffer:
    """A copy of the array, less a number, in Arrow's memory.

    Arrow uses memory again that another thread gave back; numpy's stays with the thread that asked for it.
    """
    buffer = pa.allocate_buffer(array.nbytes)
    copy = np.frombuffer(buffer, array.dtype)
    if less:
        np.subtract(array, less, out=copy)
    else:
        copy[:] = array
    return buffer


def _with_ids_in(texts: pa.Array, named: npt.NDArray[np.bool_], ids: pa.Array) -> pa.Array:
    """The ids, and for tokens without a key of an id the one that vLLM wrote in place of their text.

    `texts` and `ids` have an item for each row; `named` is bool[rows], whether there is a key of an id.
    """
    marked = pc.starts_with(texts, ID_PREFIX)
    if not pc.any(marked, min_count=0).as_py():
        return ids
    marked = pc.and_not(marked, pa.array(named))
    return pc.replace_with_mask(ids, marked, pa.array(map(id_in_text, texts.filter(marked).to_pylist()), pa.int32()))


def logprob_columns(numbers: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The columns `logprob`, `logprob_flag` and `logprob_wire` of wire numbers: float64[rows] without nulls.

    `token_rows.split_logprob` applies the same rule to one number.

    >>> [column.to_pylist() for column in logprob_columns(pa.array([-0.5, -9999.0]))]
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
