"""The loop of the scanner: one pass over the bytes of JSON, compiled to machine code by numba.

What comes in is valid JSON, each text ended by a byte 0, which JSON never contains: no loop runs beyond it, whatever
the bytes are. As the JSON is valid, brackets match and commas are where they must be; what has to be found out is
whether a value is regular (`scan` says what that is). Written as numba likes it: pointers in place of arrays, whose
references would be counted at every call; few functions, as each takes a third of a second to compile. Runs without
the interpreter's lock. Leaves out all that needs Python objects (`scan`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")

# What stands elsewhere, too (`chat`, `rows`), stands here again: what was compiled is kept until this file changes.
ITEM_KEYS: Final = ("token", "logprob", "bytes", "id", "token_id", "top_logprobs")
"""Keys of a token; bit n of a mask stands for key n."""

SECTION_KEYS: Final = ("content", "refusal", "reasoning_content")
ABSENT, NULL, LISTED = range(3)
"""What stands under a section's key."""

ROW_COLUMNS: Final = ("text_end", "number_end", "spelled_end", "facts", "id", "owner", "place", "section")
TEXT, NUMBER, SPELLED, FACTS, IDENTITY, OWNER, PLACE, SECTION = range(8)
# Of `ends`: where the three runs end, the rows so far, the same before the current value, the rows there is room for.
COUNT, _BEFORE, STRIDE, ENDS = 3, 4, 8, 9
HAS_BYTES, NAMES_ID, HAS_ID = 1, 2, 4

SAID_COLUMNS: Final = ("text_number", "start", "end", *SECTION_KEYS, "token_keys", "alternative_keys", "null_tops")
TEXT_NUMBER, START, END, SECTIONS, TOKEN_KEYS, ALTERNATIVE_KEYS, NULL_TOPS = 0, 1, 2, 3, 6, 7, 8
TEXTS, WITHIN, ROOM, DONE, VALUES = range(5)  # of `counts`
_SAID: Final = len(SAID_COLUMNS)

_KEY_TEXT: Final = np.frombuffer("".join(ITEM_KEYS + SECTION_KEYS).encode(), np.uint8)
_KEY_STARTS: Final = np.cumsum([0, *map(len, ITEM_KEYS + SECTION_KEYS)])
LONGEST_KEY: Final = 20
_LOGPROBS: Final = np.frombuffer(b'"logprobs":', np.uint8)
_TOKEN, _LOGPROB, _BYTES, _ID, _TOKEN_ID, _TOP, _CONTENT = range(7)
_LEAST: Final = 1 << _TOKEN | 1 << _LOGPROB
_BOTH_IDS: Final = 1 << _ID | 1 << _TOKEN_ID  # there is one column
SHORTEST_ROW: Final = len('{"token":"","logprob":0}')

_NO: Final = -1
_MOST_RANKS: Final = 2**15 - 1
_LONGEST_NUMBER: Final = 32
_EXACT_DIGITS: Final = 15
_MOST_EXPONENT_DIGITS: Final = 2
_INT32: Final = 2**31

_QUOTE, _BACKSLASH, _COMMA, _MINUS, _PLUS, _DOT, _SPACE = b'"\\,-+. '
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST = b"{}[]"
_0, _9, _A, _SMALL_A, _E, _SMALL_E, _SMALL_N, _SMALL_U = b"09AaEenu"
_HIGH, _LOW, _BEYOND = 0xD800, 0xDC00, 0xE000  # surrogates: two of them spell a character beyond 2**16
_ESCAPED: Final = np.frombuffer(b'"\\/bfnrt', np.uint8)
_MEANT: Final = np.frombuffer(b'"\\/\b\f\n\r\t', np.uint8)

# How deep the scanner is: in the whole object, in a section, a token, its list of alternatives, one of these.
_IN_WHOLE, _IN_SECTION, _IN_TOKEN, _IN_TOP, _IN_ALTERNATIVE = range(1, 6)


def _compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile together with what calls it."""
    compiled: Callable[_P, _R] = numba.njit(nogil=True)(function)
    return compiled


def _compiled_entry(function: Callable[..., None], signature: str) -> Any:
    """Compile now, with all that it calls: seconds. The code is kept beside this file or in the user's cache."""
    try:
        return numba.cfunc(signature, cache=True)(function).ctypes
    except RuntimeError:  # neither folder can be written to: each process compiles anew
        return numba.cfunc(signature)(function).ctypes


@_compiled
def _is_space(byte: int) -> bool:
    return byte == _SPACE or 9 <= byte <= 13  # tab to carriage return


@_compiled
def _behind_space(text: Any, at: int) -> int:
    while _is_space(text[at]):
        at += 1
    return at


@_compiled
def _hexadecimal(text: Any, at: int) -> int:
    """The number that four digits say."""
    code = 0
    for n in range(4):
        digit = text[at + n]
        if _0 <= digit <= _9:
            code = code * 16 + digit - _0
        elif _A <= digit < _A + 6:
            code = code * 16 + digit - _A + 10
        elif _SMALL_A <= digit < _SMALL_A + 6:
            code = code * 16 + digit - _SMALL_A + 10
        else:
            return _NO
    return code


@_compiled
def _copy_character(code: int, out: Any, end: int) -> int:
    """Write a character as UTF-8; where it ends."""
    if code < 0x80:
        out[end] = code
        return end + 1
    if code < 0x800:
        out[end] = 0xC0 | code >> 6
        out[end + 1] = 0x80 | code & 0x3F
        return end + 2
    if code < 0x10000:
        out[end] = 0xE0 | code >> 12
        out[end + 1] = 0x80 | code >> 6 & 0x3F
        out[end + 2] = 0x80 | code & 0x3F
        return end + 3
    out[end] = 0xF0 | code >> 18
    out[end + 1] = 0x80 | code >> 12 & 0x3F
    out[end + 2] = 0x80 | code >> 6 & 0x3F
    out[end + 3] = 0x80 | code & 0x3F
    return end + 4


@_compiled
def _copy_escape(text: Any, at: int, out: Any, end: int) -> tuple[int, int]:
    """Read what stands behind a backslash."""
    for n in range(len(_ESCAPED)):
        if text[at] == _ESCAPED[n]:
            out[end] = _MEANT[n]
            return at + 1, end + 1
    if text[at] != _SMALL_U:
        return _NO, end
    code = _hexadecimal(text, at + 1)
    at += 5
    if code == _NO or _LOW <= code < _BEYOND:
        return _NO, end
    if _HIGH <= code < _LOW:
        if text[at] != _BACKSLASH or text[at + 1] != _SMALL_U:
            return _NO, end
        low = _hexadecimal(text, at + 2)
        if not _LOW <= low < _BEYOND:
            return _NO, end
        code = 0x10000 + ((code - _HIGH) << 10) + (low - _LOW)
        at += 6
    return at, _copy_character(code, out, end)


@_compiled
def _copy_string(text: Any, at: int, out: Any, end: int) -> tuple[int, int]:
    if text[at] != _QUOTE:
        return _NO, end
    at += 1
    byte = text[at]
    while byte != _QUOTE:
        if byte == _BACKSLASH:
            at, end = _copy_escape(text, at + 1, out, end)
            if at == _NO:
                return _NO, end
        elif byte < _SPACE:
            return _NO, end
        else:
            out[end] = byte
            at += 1
            end += 1
        byte = text[at]
    return at + 1, end


@_compiled
def _copy_digits(text: Any, at: int, out: Any, end: int) -> int:
    """Copy a character and the digits behind it; where these end."""
    start = at
    while at == start or _0 <= text[at] <= _9:
        out[end + at - start] = text[at]
        at += 1
    return at


@_compiled
def _copy_number(text: Any, at: int, out: Any, end: int) -> tuple[int, int]:
    """Copy a number that a float holds as Python's JSON would read it."""
    start = at
    if text[at] != _MINUS and not _0 <= text[at] <= _9:
        return _NO, end
    at = _copy_digits(text, at, out, end)
    if text[at] != _DOT and text[at] != _E and text[at] != _SMALL_E:
        is_zero_below = text[start] == _MINUS and text[start + 1] == _0
        return (_NO if is_zero_below or at - start > _EXACT_DIGITS else at), end + at - start
    if text[at] == _DOT:
        at = _copy_digits(text, at, out, end + at - start)
    if text[at] == _E or text[at] == _SMALL_E:
        out[end + at - start] = text[at]
        digits = at + 1 + (text[at + 1] == _MINUS or text[at + 1] == _PLUS)
        at = _copy_digits(text, at + 1, out, end + at + 1 - start)
        if at - digits > _MOST_EXPONENT_DIGITS:
            return _NO, end
    return (_NO if at - start >= _LONGEST_NUMBER else at), end + at - start


@_compiled
def _read_integer(text: Any, at: int, most: int) -> tuple[int, int]:
    """Read an integer without a sign."""
    start = at
    value = 0
    while _0 <= text[at] <= _9 and value <= most:
        value = value * 10 + text[at] - _0
        at += 1
    return (_NO if at == start or value > most else at), value


@_compiled
def _find_key(text: Any, at: int) -> tuple[int, int]:
    """Which key starts here, and where its closing quote is."""
    for key in range(len(_KEY_STARTS) - 1):
        start = _KEY_STARTS[key]
        size = _KEY_STARTS[key + 1] - start
        if text[at + size] != _QUOTE:
            continue
        same = 0
        while same < size and text[at + same] == _KEY_TEXT[start + same]:
            same += 1
        if same == size:
            return key, at + size
    return _NO, at


@_compiled
def _open_row(table: Any, ends: Any, owner: int, place: int) -> None:
    row, stride = ends[COUNT], ends[STRIDE]
    table[FACTS * stride + row] = 0
    table[OWNER * stride + row] = owner
    table[PLACE * stride + row] = place


@_compiled
def _close_row(table: Any, ends: Any) -> None:
    ends[COUNT] += 1
    row, stride = ends[COUNT], ends[STRIDE]
    table[TEXT * stride + row] = ends[TEXT]
    table[NUMBER * stride + row] = ends[NUMBER]
    table[SPELLED * stride + row] = ends[SPELLED]


@_compiled
def _read_bytes(text: Any, at: int, out: Any, end: int) -> tuple[int, int]:
    """Read a list of bytes."""
    if text[at] != _OPEN_LIST:
        return _NO, end
    at = _behind_space(text, at + 1)
    while text[at] != _CLOSE_LIST:
        at, out[end] = _read_integer(text, at, 255)
        if at == _NO:
            return _NO, end
        end += 1
        at = _behind_space(text, at)
        if text[at] == _COMMA:
            at = _behind_space(text, at + 1)
    return at + 1, end


@_compiled
def _read_value(text: Any, at: int, key: int, runs: Any, table: Any, ends: Any) -> int:
    """Read what stands under a key into the row that is open; where it ends."""
    if key == _TOKEN:
        at, ends[TEXT] = _copy_string(text, at, runs, ends[TEXT])
        return at
    if key == _LOGPROB:
        at, ends[NUMBER] = _copy_number(text, at, runs, ends[NUMBER])
        return at
    facts, identity = FACTS * ends[STRIDE] + ends[COUNT], IDENTITY * ends[STRIDE] + ends[COUNT]
    if key != _BYTES:
        table[facts] |= NAMES_ID
    if text[at] == _SMALL_N:
        return at + len("null")
    if key == _BYTES:
        table[facts] |= HAS_BYTES
        at, ends[SPELLED] = _read_bytes(text, at, runs, ends[SPELLED])
        return at
    sign = -1 if text[at] == _MINUS else 1
    at, number = _read_integer(text, at + (sign < 0), _INT32 - 1)
    table[identity] = sign * number
    table[facts] |= HAS_ID
    return at


@_compiled
def _scan_value(
    text: Any, at: int, value: int, runs: Any, tokens: Any, token_ends: Any, others: Any, other_ends: Any, said: Any
) -> int:
    """Scan one value that starts here; where it ends, if it is regular."""
    depth = 0
    key, wants_key = _NO, False
    keys, keys_of_whole, keys_of_token = 0, 0, 0  # masks of an object's keys, and of those that it stands in
    section, position, rank = 0, 0, 0
    table, ends, mask = tokens, token_ends, TOKEN_KEYS  # what a row is written to
    while True:
        byte = text[at]
        if byte == _QUOTE and wants_key:
            key, at = _find_key(text, at + 1)
            if key == _NO or (key >= _CONTENT) != (depth == _IN_WHOLE) or keys >> key & 1:
                return _NO
            if key == _TOP and depth == _IN_ALTERNATIVE:
                return _NO
            keys |= 1 << key
            wants_key = False
            at = _behind_space(text, _behind_space(text, at + 1) + 1)  # and the colon
            if key < _TOP:
                at = _read_value(text, at, key, runs, table, ends)
                if at == _NO:
                    return _NO
            continue
        if byte == _COMMA:
            wants_key = depth & 1 == 1
        elif byte == _OPEN:
            if depth == _IN_SECTION:
                keys_of_whole = keys
                _open_row(tokens, token_ends, value, position)
                tokens[SECTION * token_ends[STRIDE] + token_ends[COUNT]] = section
            elif depth == _IN_TOP and rank < _MOST_RANKS:
                table, ends, mask, keys_of_token = others, other_ends, ALTERNATIVE_KEYS, keys
                _open_row(others, other_ends, token_ends[COUNT], rank)
            elif depth != 0:
                return _NO
            depth += 1
            wants_key, keys = True, 0
        elif byte == _CLOSE and depth == _IN_WHOLE:
            return at + 1 if keys != 0 else _NO
        elif byte == _CLOSE:
            said[value * _SAID + mask] = said[value * _SAID + mask] or keys
            if said[value * _SAID + mask] != keys or keys & _LEAST != _LEAST or keys & _BOTH_IDS == _BOTH_IDS:
                return _NO
            _close_row(table, ends)
            if depth == _IN_ALTERNATIVE:
                table, ends, mask, keys = tokens, token_ends, TOKEN_KEYS, keys_of_token
                rank += 1
            else:
                keys = keys_of_whole
                position += 1
            depth -= 1
        elif byte == _OPEN_LIST and depth == _IN_WHOLE:
            section, position = key - _CONTENT, 0
            said[value * _SAID + SECTIONS + section] = LISTED
            depth += 1
        elif byte == _OPEN_LIST and depth == _IN_TOKEN:
            rank = 0
            depth += 1
        elif byte == _CLOSE_LIST:
            depth -= 1
        elif byte == _SMALL_N and depth == _IN_WHOLE:
            said[value * _SAID + SECTIONS + key - _CONTENT] = NULL
            at += len("ull")
        elif byte == _SMALL_N and depth == _IN_TOKEN:
            said[value * _SAID + NULL_TOPS] += 1
            at += len("ull")
        elif not _is_space(byte):
            return _NO
        at += 1


@_compiled
def _behind_logprobs(text: Any, at: int) -> int:
    """Behind the next key `logprobs` and its colon. Inside a string there is none: its quotes would be escaped."""
    while text[at] != 0:
        same = 0
        while same < len(_LOGPROBS) and text[at + same] == _LOGPROBS[same]:
            same += 1
        at += 1
        if same == len(_LOGPROBS):
            return at + same - 1
    return _NO


def _scan_all(
    text: Any,
    starts: Any,
    counts: Any,
    runs: Any,
    tokens: Any,
    token_ends: Any,
    others: Any,
    other_ends: Any,
    said: Any,
) -> None:
    """Scan the values of all texts; what one that is not regular has written is written over by the next.

    `counts`: how many texts there are, whether a text is a value or has values in it, how many values there is room
    for; then, to be written, how many texts and values were scanned.
    """
    for number in range(counts[TEXTS]):
        at = starts[number]
        while True:
            if counts[WITHIN]:
                at = _behind_logprobs(text, at)
                if at == _NO:
                    break
            value = counts[VALUES]
            if value == counts[ROOM]:
                return
            counts[VALUES] += 1
            for n in range(_BEFORE):
                token_ends[_BEFORE + n] = token_ends[n]
                other_ends[_BEFORE + n] = other_ends[n]
            said[value * _SAID + TEXT_NUMBER] = number
            said[value * _SAID + START] = at
            end = _scan_value(text, at, value, runs, tokens, token_ends, others, other_ends, said)
            nulls = said[value * _SAID + NULL_TOPS]
            if end != _NO and (nulls == 0 or nulls == token_ends[COUNT] - token_ends[_BEFORE + COUNT]):
                said[value * _SAID + END] = at = end
            else:
                for n in range(_BEFORE):
                    token_ends[n] = token_ends[_BEFORE + n]
                    other_ends[n] = other_ends[_BEFORE + n]
            if not counts[WITHIN]:
                break
        counts[DONE] += 1


_SIGNATURE: Final = "void({0}, {1}, {1}, {0}, {1}, {1}, {1}, {1}, {1})".format("CPointer(uint8)", "CPointer(int64)")
scan_compiled: Final = _compiled_entry(_scan_all, _SIGNATURE)
