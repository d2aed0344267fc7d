"""The compiled loop of the scanner: where it is, and the layout of the arrays that it reads and writes.

`scan_loop.c` holds the loop itself and the same layout. It is compiled when the package is built (`hatch_build.py`),
and called without the interpreter's lock. Where there was no compiler there is no loop, and all logprobs are read token
by token. All that needs Python objects is in `scanner`.

`text` and `buffer` are pointers to uint8, all others to int64. The tables are one-dimensional: `tokens` and
`alternatives` are stored column by column (`ROW_COLUMNS`), each column `STRIDE` rows long; `summaries` row by row, with
a row of `SUMMARY_COLUMNS` for each value. Texts, numbers and byte lists are written one after the other into `buffer`,
and a row holds where each of its three ends there.
"""

from __future__ import annotations

import ctypes
import zlib
from functools import cache
from pathlib import Path
from typing import Any, Final

ITEM_KEYS: Final = ("token", "logprob", "bytes", "id", "token_id", "top_logprobs")
"""Keys of a token or an alternative; bit n of a mask stands for key n."""

SECTION_KEYS: Final = ("content", "refusal", "reasoning_content")
ABSENT, NULL, LISTED = range(3)
"""The value under a section's key."""

ROW_COLUMNS: Final = ("text_end", "number_end", "bytes_end", "presence", "token_id", "owner", "position", "section")
"""Columns of a table of tokens or alternatives. Row n + 1 of the first three says where row n ends in the buffer."""

TEXT_END, NUMBER_END, BYTES_END, PRESENCE = range(4)
HAS_BYTES, NAMES_ID, HAS_ID = 1, 2, 4
"""Bits of PRESENCE. An id that is null is named (NAMES_ID) and not there (HAS_ID)."""

# Items of `ends`, of which tokens and alternatives have one each. 0 to 2: where texts, numbers and bytes end in the
# buffer so far; then the rows so far, and how many fit.
ROW_COUNT, STRIDE, ENDS_SIZE = 3, 4, 5

SUMMARY_COLUMNS: Final = ("text_number", "start", "end", *SECTION_KEYS, "token_keys", "alternative_keys", "null_tops")
TEXT_NUMBER, START, END, SECTIONS, TOKEN_KEYS, ALTERNATIVE_KEYS, NULL_TOPS = 0, 1, 2, 3, 6, 7, 8

# Items of `counts`: the texts to scan, whether values are within the texts, how many values fit; then, written by the
# loop, the texts scanned to their end and the values found.
TEXT_COUNT, IS_WITHIN, MAX_VALUES, TEXTS_DONE, VALUE_COUNT = range(5)

SHORTEST_ROW: Final = len('{"token":"","logprob":0}')

SOURCE: Final = Path(__file__).with_suffix(".c")
LIBRARY: Final = SOURCE.with_name("libscan_loop.so")

_BYTES: Final = ctypes.POINTER(ctypes.c_uint8)
_INTEGERS: Final = ctypes.POINTER(ctypes.c_int64)


@cache
def load_scan_loop() -> Any | None:
    """The function `scan_all` of `scan_loop.c`; None if it was not compiled here, or from another source."""
    try:
        library = ctypes.CDLL(str(LIBRARY))
        checksum = ctypes.c_uint32.in_dll(library, "source_checksum").value
        if checksum != zlib.crc32(SOURCE.read_bytes()):  # an editable install whose source has changed
            return None
    except (OSError, ValueError):  # no such file, or one for another machine or without that name
        return None
    library.scan_all.argtypes = [_BYTES, _INTEGERS, _INTEGERS, _BYTES, *[_INTEGERS] * 5]
    library.scan_all.restype = None
    return library.scan_all
