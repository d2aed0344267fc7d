"""The scanner: the raw JSON of many `logprobs` values to flat columns, in one pass over the bytes.

*Regular* is a value whose rows and template say all of it:

- the chat shape: an object of sections, lists of tokens in these, a list of alternatives in each token;
- in all of its tokens the same keys, in all of its alternatives too, no key twice, no key without a column;
- nothing that a column would change: an integer -0 or beyond 2**53, a lone surrogate, a byte 256.

The order of keys and white space are free, as they carry no meaning. A value that is not regular is reported and leaves
no row. Why it is compiled: docs/decisions/0015. Leaves out the loop itself (`scan_loop`), finding the values in an
answer, reading numbers as floats, and the tables (`chat_bulk`, `flat`).
"""

from __future__ import annotations

import ctypes
import math
from mmap import mmap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from logprob_store.decode.bulk.scan_loop import (
    ALTERNATIVE_KEYS,
    COUNT,
    DONE,
    END,
    ENDS,
    FACTS,
    LONGEST_KEY,
    NULL_TOPS,
    NUMBER,
    ROW_COLUMNS,
    SAID_COLUMNS,
    SECTION_KEYS,
    SECTIONS,
    SHORTEST_ROW,
    SPELLED,
    START,
    STRIDE,
    TEXT,
    TEXT_NUMBER,
    TOKEN_KEYS,
    VALUES,
    scan_compiled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_POINTERS: Final = {
    np.dtype(np.uint8): ctypes.POINTER(ctypes.c_uint8),
    np.dtype(np.int64): ctypes.POINTER(ctypes.c_int64),
}

_MOST_VALUES: Final = 16
"""In a text, on average: choices of one answer."""


class Rows(NamedTuple):
    """Columns of tokens or of alternatives.

    Of texts, numbers (still as spelled in the JSON) and bytes there is one run of bytes, and where each row starts (n)
    and ends (n + 1), counted from anywhere: the run starts at end 0.
    """

    texts: Any
    text_ends: Any
    numbers: Any
    number_ends: Any
    spelled: Any
    spelled_ends: Any
    facts: Any
    """Masks of HAS_BYTES, NAMES_ID (there is a key of an id, be it null) and HAS_ID."""
    ids: Any
    """Where there is one; else anything."""
    owner: Any
    """Of a token the number of its value, of an alternative the row of its token."""
    place: Any
    """Of a token its position, of an alternative its rank less 1."""
    section: Any
    """Of a token the number of its section's key; of an alternative, anything."""


class Scanned(NamedTuple):
    """What a scan found. For each value: where it is, whether it is regular, what its template says; then all rows."""

    done: int
    """How many texts were scanned to their end: all but those with more values than anybody sends."""
    text: Any
    """The number of the text that a value stands in."""
    start: Any
    """Where in the text it starts."""
    end: Any
    """Where it ends, if it is regular; else 0."""
    sections: Any
    """Values x section keys: ABSENT, NULL or LISTED."""
    token_keys: Any
    """A mask of ITEM_KEYS, 0 where there are no tokens; so `alternative_keys`."""
    alternative_keys: Any
    null_tops: Any
    """Whether null stands in each token in place of a list of alternatives."""
    tokens: Rows
    alternatives: Rows


class Room:
    """Memory that scans write to, one after the other: to have the system clear it anew takes as long as the scan.

    Mapped, so that only what is written to is ever memory: numpy would ask for pages of 2 MB.
    """

    def __init__(self) -> None:
        self._size = 0

    def for_text(self, size: int) -> tuple[Any, Any]:
        """Runs of bytes and rows, for what so many bytes of JSON can hold at most."""
        if size > self._size:
            self._size = size
            shape = (2, len(ROW_COLUMNS), size // SHORTEST_ROW + 2)
            self._runs = np.frombuffer(mmap(-1, 6 * size), np.uint8)
            self._rows = np.frombuffer(mmap(-1, 8 * math.prod(shape)), np.int64).reshape(shape)
        return self._runs, self._rows


def scan(texts: Sequence[bytes], room: Room, *, within: bool = False) -> Scanned:
    r"""Scan values, valid JSON in UTF-8. What is found stands in the room until the next scan.

    Args:
        texts: values or, `within` which they stand under keys `logprobs`, other JSON.
        room: what to write to.
        within: whether the values are to be found in the texts.

    >>> value = rb'{"content":[{"token":"\u00e9","logprob":-1.5,"bytes":[195,169]}],"refusal":null}'
    >>> found = scan([value, b"{}"], Room())
    >>> found.end.tolist() == [len(value), 0], found.sections.tolist()[0]
    (True, [2, 1, 0])
    >>> found.tokens.texts.tobytes().decode(), found.tokens.numbers.tobytes(), found.tokens.spelled.tolist()
    ('é', b'-1.5', [195, 169])
    >>> found = scan([b'{"logprobs":%b}' % value], Room(), within=True)
    >>> (found.start.tolist(), found.end.tolist()) == ([12], [12 + len(value)])
    True
    """
    text = np.frombuffer(b"\0".join([*texts, bytes(LONGEST_KEY)]), np.uint8)  # keys are compared beyond the end
    starts = np.cumsum([0, *(len(text) + 1 for text in texts)])
    runs, rows = room.for_text(len(text))
    ends = np.zeros((2, ENDS), np.int64)
    ends[:, :COUNT] = rows[:, :COUNT, 0] = np.arange(6).reshape(2, 3) * len(text)
    ends[:, STRIDE] = rows.shape[2]
    said = np.zeros(((_MOST_VALUES if within else 1) * len(texts), len(SAID_COLUMNS)), np.int64)
    counts = np.array([len(texts), within, len(said), 0, 0], np.int64)
    scan_compiled(*map(_pointer, (text, starts, counts, runs, rows[0], ends[0], rows[1], ends[1], said)))
    said = said[: counts[VALUES]]
    offsets = starts[said[:, TEXT_NUMBER]]
    return Scanned(
        int(counts[DONE]),
        said[:, TEXT_NUMBER],
        said[:, START] - offsets,
        np.where(said[:, END] > 0, said[:, END] - offsets, 0),
        said[:, SECTIONS : SECTIONS + len(SECTION_KEYS)],
        said[:, TOKEN_KEYS],
        said[:, ALTERNATIVE_KEYS],
        said[:, NULL_TOPS] > 0,
        *(_rows_of(runs, rows[kind], ends[kind, COUNT]) for kind in range(2)),
    )


def _pointer(array: Any) -> Any:
    return array.ctypes.data_as(_POINTERS[array.dtype])


def _rows_of(runs: Any, table: Any, count: int) -> Rows:
    columns = []
    for column in (TEXT, NUMBER, SPELLED):
        ends = table[column, : count + 1]
        columns += [runs[ends[0] : ends[-1]], ends]
    return Rows._make([*columns, *table[FACTS:, :count]])
