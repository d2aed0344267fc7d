"""The scanner: raw JSON of many `logprobs` values to flat columns, in one pass over the bytes.

A value is *regular* if its rows and its template say all of it:

- it has the chat shape: an object of sections, a list of tokens in each, a list of alternatives in each token;
- all of its tokens have the same keys, and so have all of its alternatives; no key occurs twice or lacks a column;
- a column holds each of its values unchanged: no integer -0 or beyond 2**53, no lone surrogate, no byte 256.

The order of keys and white space are free, as they carry no meaning. A value that is not regular is reported and leaves
no row. docs/decisions/0040 says why the loop is C. `scan_loop` finds it; `scanned_rows` reads the numbers and makes
the tables.
"""

from __future__ import annotations

import ctypes
import math
from mmap import mmap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from logprob_store.decode.bulk.scan_loop import (
    ALTERNATIVE_KEYS,
    BYTES_END,
    END,
    ENDS_SIZE,
    NULL_TOPS,
    NUMBER_END,
    PRESENCE,
    ROW_COLUMNS,
    ROW_COUNT,
    SECTION_KEYS,
    SECTIONS,
    SHORTEST_ROW,
    START,
    STRIDE,
    SUMMARY_COLUMNS,
    TEXT_END,
    TEXT_NUMBER,
    TEXTS_DONE,
    TOKEN_KEYS,
    VALUE_COUNT,
    load_scan_loop,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Integers = npt.NDArray[np.int64]
    Booleans = npt.NDArray[np.bool_]

_POINTERS: Final[dict[np.dtype[Any], Any]] = {
    np.dtype(np.uint8): ctypes.POINTER(ctypes.c_uint8),
    np.dtype(np.int64): ctypes.POINTER(ctypes.c_int64),
}

_VALUES_PER_TEXT: Final = 16
"""Values that fit for each text, on average: the choices of one answer."""


class ScannedColumns(NamedTuple):
    """Columns of tokens or of alternatives.

    The texts of all rows stand one after the other, and so do the numbers and the bytes. Row n is the part from
    ends[n] - ends[0] to ends[n + 1] - ends[0].
    """

    texts: Bytes  # uint8[bytes]
    text_ends: Integers  # int64[rows + 1]
    numbers: Bytes  # uint8[bytes], each number as written in the JSON
    number_ends: Integers  # int64[rows + 1]
    token_bytes: Bytes  # uint8[bytes]
    bytes_ends: Integers  # int64[rows + 1]
    presence: Integers
    """int64[rows], masks of HAS_BYTES, NAMES_ID (a key of an id, perhaps with null) and HAS_ID."""
    ids: Integers
    """int64[rows], the token ids; undefined without HAS_ID."""
    owner: Integers
    """int64[rows], of a token the number of its value, of an alternative the row of its token."""
    position: Integers
    """int64[rows], of a token its position, of an alternative its rank less 1."""
    section: Integers
    """int64[rows], of a token the index of its section in SECTION_KEYS; undefined for alternatives."""


class ScanResult(NamedTuple):
    """Where the values are, which are regular, what their templates say, and the rows of the regular ones."""

    texts_done: int
    """How many of the texts were scanned to their end: all, unless there were too many values."""
    text_number: Integers
    """int64[values], the text that a value is in."""
    start: Integers
    """int64[values], where the value starts in its text, in bytes."""
    end: Integers
    """int64[values], where it ends if it is regular, else 0."""
    sections: Integers
    """int64[values, section keys]: ABSENT, NULL or LISTED."""
    token_keys: Integers
    """int64[values], a mask of ITEM_KEYS; 0 without tokens."""
    alternative_keys: Integers
    """int64[values], a mask of ITEM_KEYS; 0 without alternatives."""
    null_tops: Booleans
    """bool[values], whether `top_logprobs` is null in all tokens."""
    tokens: ScannedColumns
    alternatives: ScannedColumns


class ScanBuffers:
    """Memory that one scan after the other writes to: clearing new memory takes the system as long as the scan.

    Mapped, so that only pages that are written to take up memory; numpy would ask for pages of 2 MB.
    """

    def __init__(self) -> None:
        self._size = 0

    def for_json(self, size: int) -> tuple[Bytes, Integers]:
        """A buffer and the two tables of rows, large enough for what `size` bytes of JSON can hold.

        Returns uint8[6 * size] and int64[2, columns, rows].
        """
        if size > self._size:
            self._size = size
            shape = (2, len(ROW_COLUMNS), size // SHORTEST_ROW + 2)
            self._buffer = np.frombuffer(mmap(-1, 6 * size), np.uint8)
            self._tables = np.frombuffer(mmap(-1, 8 * math.prod(shape)), np.int64).reshape(shape)
        return self._buffer, self._tables


def scan(texts: Sequence[bytes], buffers: ScanBuffers, *, within: bool = False) -> ScanResult:
    r"""Scan values. The result stays in the buffers and is valid until their next scan.

    Args:
        texts: valid JSON in UTF-8.
        buffers: the memory to write to.
        within: whether the values are those of the keys `logprobs` in the texts; otherwise each text is a value.

    >>> value = rb'{"content":[{"token":"\u00e9","logprob":-1.5,"bytes":[195,169]}],"refusal":null}'
    >>> found = scan([value, b"{}"], ScanBuffers())
    >>> found.end.tolist() == [len(value), 0], found.sections.tolist()[0]
    (True, [2, 1, 0])
    >>> found.tokens.texts.tobytes().decode(), found.tokens.numbers.tobytes(), found.tokens.token_bytes.tolist()
    ('é', b'-1.5', [195, 169])
    >>> found = scan([b'{"logprobs":%b}' % value], ScanBuffers(), within=True)
    >>> (found.start.tolist(), found.end.tolist()) == ([12], [12 + len(value)])
    True
    """
    scan_all = load_scan_loop()
    if scan_all is None:
        raise RuntimeError("scan() needs the compiled loop, which load_scan_loop() did not find; ask that first")
    text = np.frombuffer(b"\0".join([*texts, b"\0"]), np.uint8)
    starts = np.cumsum([0, *(len(text) + 1 for text in texts)])  # int64[texts + 1], in `text`
    buffer, tables = buffers.for_json(len(text))
    ends = np.zeros((2, ENDS_SIZE), np.int64)
    ends[:, :ROW_COUNT] = tables[:, :ROW_COUNT, 0] = np.arange(6).reshape(2, 3) * len(text)
    ends[:, STRIDE] = tables.shape[2]
    summaries = np.zeros(((_VALUES_PER_TEXT if within else 1) * len(texts), len(SUMMARY_COLUMNS)), np.int64)
    counts = np.array([len(texts), within, len(summaries), 0, 0], np.int64)
    arrays = (text, starts, counts, buffer, tables[0], ends[0], tables[1], ends[1], summaries)
    scan_all(*map(_pointer, arrays))
    summaries = summaries[: counts[VALUE_COUNT]]
    offsets = starts[summaries[:, TEXT_NUMBER]]
    return ScanResult(
        int(counts[TEXTS_DONE]),
        summaries[:, TEXT_NUMBER],
        summaries[:, START] - offsets,
        np.where(summaries[:, END] > 0, summaries[:, END] - offsets, 0),
        summaries[:, SECTIONS : SECTIONS + len(SECTION_KEYS)],
        summaries[:, TOKEN_KEYS],
        summaries[:, ALTERNATIVE_KEYS],
        summaries[:, NULL_TOPS] > 0,
        *(_columns_of(buffer, tables[kind], int(ends[kind, ROW_COUNT])) for kind in range(2)),
    )


def _pointer(array: npt.NDArray[Any]) -> Any:
    return array.ctypes.data_as(_POINTERS[array.dtype])


def _columns_of(buffer: Bytes, table: Integers, rows: int) -> ScannedColumns:
    columns: list[npt.NDArray[Any]] = []
    for column in (TEXT_END, NUMBER_END, BYTES_END):
        ends = table[column, : rows + 1]
        columns += [buffer[ends[0] : ends[-1]], ends]
    return ScannedColumns._make([*columns, *table[PRESENCE:, :rows]])
