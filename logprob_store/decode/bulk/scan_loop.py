"""The scanner's loop: one pass over the bytes of JSON, compiled to machine code by numba.

The input is valid JSON, each text followed by a byte 0. JSON never contains that byte, so no loop runs past it,
whatever the bytes are. As the JSON is valid, brackets match and commas are where they must be; the loop finds out
whether a value is regular (`scanner` says what that is). It is written for numba: pointers instead of arrays, whose
references would be counted at every call, and few functions, as each takes a third of a second to compile. It runs
without the interpreter's lock. All that needs Python objects is in `scanner`.

`text` and `buffer` are pointers to uint8, all others to int64. The tables are one-dimensional: `tokens` and
`alternatives` are stored column by column (`ROW_COLUMNS`), each column `STRIDE` rows long; `summaries` row by row, with
a row of `SUMMARY_COLUMNS` for each value. Texts, numbers and byte lists are written one after the other into `buffer`,
and a row holds where each of its three ends there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Constants of other modules (`formats.chat`, `token_rows`) are repeated here: numba keeps what it compiled until this
# file changes, and would not see a change in those.
ITEM_KEYS: Final = ("token", "logprob", "bytes", "id", "token_id", "top_logprobs")
"""Keys of a token or an alternative; bit n of a mask stands for key n."""

SECTION_KEYS: Final = ("content", "refusal", "reasoning_content")
ABSENT, NULL, LISTED = range(3)
"""The value under a section's key."""

ROW_COLUMNS: Final = ("text_end", "number_end", "bytes_end", "presence", "token_id", "owner", "position", "section")
"""Columns of a table of tokens or alternatives. Row n + 1 of the first three says where row n ends in the buffer."""

TEXT_END, NUMBER_END, BYTES_END, PRESENCE, TOKEN_ID, OWNER, POSITION, SECTION = range(8)
HAS_BYTES, NAMES_ID, HAS_ID = 1, 2, 4
"""Bits of PRESENCE. An id that is null is named (NAMES_ID) and not there (HAS_ID)."""

# Items of `ends`, of which tokens and alternatives have one each. 0 to 2: where texts, numbers and bytes end in the
# buffer so far; 3: the rows so far; 4 to 7: the same four before the current value; 8: how many rows fit.
ROW_COUNT, _BEFORE, STRIDE, ENDS_SIZE = 3, 4, 8, 9

SUMMARY_COLUMNS: Final = ("text_number", "start", "end", *SECTION_KEYS, "token_keys", "alternative_keys", "null_tops")
TEXT_NUMBER, START, END, SECTIONS, TOKEN_KEYS, ALTERNATIVE_KEYS, NULL_TOPS = 0, 1, 2, 3, 6, 7, 8
_SUMMARY_WIDTH: Final = len(SUMMARY_COLUMNS)

# Items of `counts`: the texts to scan, whether values are within the texts, how many values fit; then, written by the
# loop, the texts scanned to their end and the values found.
TEXT_COUNT, IS_WITHIN, MAX_VALUES, TEXTS_DONE, VALUE_COUNT = range(5)

_KEY_TEXT: Final = np.frombuffer("".join(ITEM_KEYS + SECTION_KEYS).encode(), np.uint8)
_KEY_STARTS: Final = np.cumsum([0, *map(len, ITEM_KEYS + SECTION_KEYS)])
LONGEST_KEY: Final = 20
_LOGPROBS: Final = np.frombuffer(b'"logprobs":', np.uint8)
_TOKEN, _LOGPROB, _BYTES, _ID, _TOKEN_ID, _TOP_LOGPROBS, _CONTENT = range(7)
_REQUIRED_KEYS: Final = 1 << _TOKEN | 1 << _LOGPROB
_BOTH_IDS: Final = 1 << _ID | 1 << _TOKEN_ID  # not regular: there is one column for an id
SHORTEST_ROW: Final = len('{"token":"","logprob":0}')

_NONE: Final = -1  # no position, key or code: the value is not regular
_MAX_RANK: Final = 2**15 - 1
_MAX_NUMBER_LENGTH: Final = 32
_MAX_INTEGER_DIGITS: Final = 15
_MAX_EXPONENT_DIGITS: Final = 2
_INT32: Final = 2**31

_QUOTE, _BACKSLASH, _COMMA, _MINUS, _PLUS, _DOT, _SPACE = b'"\\,-+. '
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST = b"{}[]"
_0, _9, _A, _SMALL_A, _E, _SMALL_E, _SMALL_N, _SMALL_U = b"09AaEenu"
# A high and a low surrogate together encode a character beyond 2**16.
_HIGH, _LOW, _AFTER_SURROGATES = 0xD800, 0xDC00, 0xE000
_ESCAPES: Final = np.frombuffer(b'"\\/bfnrt', np.uint8)
_UNESCAPED: Final = np.frombuffer(b'"\\/\b\f\n\r\t', np.uint8)

# Nesting depth: in the whole object, a section's list, a token, its list of alternatives, an alternative.
_IN_WHOLE, _IN_SECTION, _IN_TOKEN, _IN_TOP_LOGPROBS, _IN_ALTERNATIVE = range(1, 6)


def _compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile as part of the function that calls it."""
    compiled: Callable[_P, _R] = numba.njit(nogil=True)(function)
    return compiled


def _compiled_entry(function: Callable[..., None], signature: str) -> Any:
    """Compile now, with all functions that it calls, which takes seconds. numba keeps the code on the disk."""
    try:
        return numba.cfunc(signature, cache=True)(function).ctypes
    except RuntimeError:  # neither this folder nor the user's cache can be written to: each process compiles anew
        return numba.cfunc(signature)(function).ctypes


@_compiled
def _is_space(byte: int) -> bool:
    return byte == _SPACE or 9 <= byte <= 13  # tab to carriage return


@_compiled
def _skip_space(text: Any, at: int) -> int:
    while _is_space(text[at]):
        at += 1
    return at


@_compiled
def _hexadecimal(text: Any, at: int) -> int:
    """The value of four hexadecimal digits."""
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
            return _NONE
    return code


@_compiled
def _copy_character(code: int, out: Any, end: int) -> int:
    """Write a character as UTF-8; returns where it ends."""
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
    """Read what follows a backslash and write the character; returns where both end."""
    for n in range(len(_ESCAPES)):
        if text[at] == _ESCAPES[n]:
            out[end] = _UNESCAPED[n]
            return at + 1, end + 1
    if text[at] != _SMALL_U:
        return _NONE, end
    code = _hexadecimal(text, at + 1)
    at += 5
    if code == _NONE or _LOW <= code < _AFTER_SURROGATES:
        return _NONE, end
    if _HIGH <= code < _LOW:
        if text[at] != _BACKSLASH or text[at + 1] != _SMALL_U:
            return _NONE, end
        low = _hexadecimal(text, at + 2)
        if not _LOW <= low < _AFTER_SURROGATES:
            return _NONE, end
        code = 0x10000 + ((code - _HIGH) << 10) + (low - _LOW)
        at += 6
    return at, _copy_character(code, out, end)


@_compiled
def _copy_string(text: Any, at: int, out: Any, end: int) -> tuple[int, int]:
    if text[at] != _QUOTE:
        return _NONE, end
    at += 1
    byte = text[at]
    while byte != _QUOTE:
        if byte == _BACKSLASH:
            at, end = _copy_escape(text, at + 1, out, end)
            if at == _NONE:
                return _NONE, end
        elif byte < _SPACE:
            return _NONE, end
        else:
            out[end] = byte
            at += 1
            end += 1
        byte = text[at]
    return at + 1, end


@_compiled
def _copy_digits(text: Any, at: int, out: Any, end: int) -> int:
    """Copy a character and the digits that follow it; returns where they end in the text."""
    start = at
    while at == start or _0 <= text[at] <= _9:
        out[end + at - start] = text[at]
        at += 1
    return at


@_compiled
def _copy_number(text: Any, at: int, out: Any, end: int) -> tuple[int, int]:
    """Copy a number, if a float holds it as Python's JSON reads it; returns where both end."""
    start = at
    if text[at] != _MINUS and not _0 <= text[at] <= _9:
        return _NONE, end
    at = _copy_digits(text, at, out, end)
    if text[at] != _DOT and text[at] != _E and text[at] != _SMALL_E:
        is_zero_below = text[start] == _MINUS and text[start + 1] == _0
        return (_NONE if is_zero_below or at - start > _MAX_INTEGER_DIGITS else at), end + at - start
    if text[at] == _DOT:
        at = _copy_digits(text, at, out, end + at - start)
    if text[at] == _E or text[at] == _SMALL_E:
        out[end + at - start] = text[at]
        digits = at + 1 + (text[at + 1] == _MINUS or text[at + 1] == _PLUS)
        at = _copy_digits(text, at + 1, out, end + at + 1 - start)
        if at - digits > _MAX_EXPONENT_DIGITS:
            return _NONE, end
    return (_NONE if at - start >= _MAX_NUMBER_LENGTH else at), end + at - start


@_compiled
def _read_integer(text: Any, at: int, most: int) -> tuple[int, int]:
    """Read an integer without a sign, if it is at most `most`; returns where it ends, and the integer."""
    start = at
    value = 0
    while _0 <= text[at] <= _9 and value <= most:
        value = value * 10 + text[at] - _0
        at += 1
    return (_NONE if at == start or value > most else at), value


@_compiled
def _find_key(text: Any, at: int) -> tuple[int, int]:
    """The key that starts here, and where its closing quote is."""
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
    return _NONE, at


@_compiled
def _open_row(table: Any, ends: Any, owner: int, position: int) -> None:
    row, stride = ends[ROW_COUNT], ends[STRIDE]
    table[PRESENCE * stride + row] = 0
    table[OWNER * stride + row] = owner
    table[POSITION * stride + row] = position


@_compiled
def _close_row(table: Any, ends: Any) -> None:
    ends[ROW_COUNT] += 1
    row, stride = ends[ROW_COUNT], ends[STRIDE]
    table[TEXT_END * stride + row] = ends[TEXT_END]
    table[NUMBER_END * stride + row] = ends[NUMBER_END]
    table[BYTES_END * stride + row] = ends[BYTES_END]


@_compiled
def _read_bytes(text: Any, at: int, out: Any, end: int) -> tuple[int, int]:
    """Read a list of bytes and write them; returns where both end."""
    if text[at] != _OPEN_LIST:
        return _NONE, end
    at = _skip_space(text, at + 1)
    while text[at] != _CLOSE_LIST:
        at, out[end] = _read_integer(text, at, 255)
        if at == _NONE:
            return _NONE, end
        end += 1
        at = _skip_space(text, at)
        if text[at] == _COMMA:
            at = _skip_space(text, at + 1)
    return at + 1, end


@_compiled
def _read_value(text: Any, at: int, key: int, buffer: Any, table: Any, ends: Any) -> int:
    """Read the value of a key into the open row; returns where it ends."""
    if key == _TOKEN:
        at, ends[TEXT_END] = _copy_string(text, at, buffer, ends[TEXT_END])
        return at
    if key == _LOGPROB:
        at, ends[NUMBER_END] = _copy_number(text, at, buffer, ends[NUMBER_END])
        return at
    presence, token_id = PRESENCE * ends[STRIDE] + ends[ROW_COUNT], TOKEN_ID * ends[STRIDE] + ends[ROW_COUNT]
    if key != _BYTES:
        table[presence] |= NAMES_ID
    if text[at] == _SMALL_N:
        return at + len("null")
    if key == _BYTES:
        table[presence] |= HAS_BYTES
        at, ends[BYTES_END] = _read_bytes(text, at, buffer, ends[BYTES_END])
        return at
    sign = -1 if text[at] == _MINUS else 1
    at, number = _read_integer(text, at + (sign < 0), _INT32 - 1)
    table[token_id] = sign * number
    table[presence] |= HAS_ID
    return at


@_compiled
def _scan_value(
    text: Any,
    at: int,
    value: int,
    buffer: Any,
    tokens: Any,
    token_ends: Any,
    alternatives: Any,
    alternative_ends: Any,
    summaries: Any,
) -> int:
    """Scan the value that starts here; returns where it ends, if it is regular."""
    depth = 0
    key, wants_key = _NONE, False
    keys, keys_of_whole, keys_of_token = 0, 0, 0  # masks of the keys of the object, and of those around it
    section, position, rank = 0, 0, 0
    table, ends, mask = tokens, token_ends, TOKEN_KEYS  # where the open row is written
    while True:
        byte = text[at]
        if byte == _QUOTE and wants_key:
            key, at = _find_key(text, at + 1)
            if key == _NONE or (key >= _CONTENT) != (depth == _IN_WHOLE) or keys >> key & 1:
                return _NONE
            if key == _TOP_LOGPROBS and depth == _IN_ALTERNATIVE:
                return _NONE
            keys |= 1 << key
            wants_key = False
            at = _skip_space(text, _skip_space(text, at + 1) + 1)  # and the colon
            if key < _TOP_LOGPROBS:
                at = _read_value(text, at, key, buffer, table, ends)
                if at == _NONE:
                    return _NONE
            continue
        if byte == _COMMA:
            wants_key = depth & 1 == 1  # objects are at odd depths
        elif byte == _OPEN:
            if depth == _IN_SECTION:
                keys_of_whole = keys
                _open_row(tokens, token_ends, value, position)
                tokens[SECTION * token_ends[STRIDE] + token_ends[ROW_COUNT]] = section
            elif depth == _IN_TOP_LOGPROBS and rank < _MAX_RANK:
                table, ends, mask, keys_of_token = alternatives, alternative_ends, ALTERNATIVE_KEYS, keys
                _open_row(alternatives, alternative_ends, token_ends[ROW_COUNT], rank)
            elif depth != 0:
                return _NONE
            depth += 1
            wants_key, keys = True, 0
        elif byte == _CLOSE and depth == _IN_WHOLE:
            return at + 1 if keys != 0 else _NONE
        elif byte == _CLOSE:
            summaries[value * _SUMMARY_WIDTH + mask] = summaries[value * _SUMMARY_WIDTH + mask] or keys
            if (
                summaries[value * _SUMMARY_WIDTH + mask] != keys
                or keys & _REQUIRED_KEYS != _REQUIRED_KEYS
                or keys & _BOTH_IDS == _BOTH_IDS
            ):
                return _NONE
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
            summaries[value * _SUMMARY_WIDTH + SECTIONS + section] = LISTED
            depth += 1
        elif byte == _OPEN_LIST and depth == _IN_TOKEN:
            rank = 0
            depth += 1
        elif byte == _CLOSE_LIST:
            depth -= 1
        elif byte == _SMALL_N and depth == _IN_WHOLE:
            summaries[value * _SUMMARY_WIDTH + SECTIONS + key - _CONTENT] = NULL
            at += len("ull")
        elif byte == _SMALL_N and depth == _IN_TOKEN:
            summaries[value * _SUMMARY_WIDTH + NULL_TOPS] += 1
            at += len("ull")
        elif not _is_space(byte):
            return _NONE
        at += 1


@_compiled
def _find_logprobs(text: Any, at: int) -> int:
    """The position after the next key `logprobs` and its colon.

    A string cannot contain that key, as its quotes would be escaped.
    """
    while text[at] != 0:
        same = 0
        while same < len(_LOGPROBS) and text[at + same] == _LOGPROBS[same]:
            same += 1
        at += 1
        if same == len(_LOGPROBS):
            return at + same - 1
    return _NONE


def _scan_all(
    text: Any,
    starts: Any,
    counts: Any,
    buffer: Any,
    tokens: Any,
    token_ends: Any,
    alternatives: Any,
    alternative_ends: Any,
    summaries: Any,
) -> None:
    """Scan the values of all texts. The next value overwrites the rows of one that is not regular."""
    for number in range(counts[TEXT_COUNT]):
        at = starts[number]
        while True:
            if counts[IS_WITHIN]:
                at = _find_logprobs(text, at)
                if at == _NONE:
                    break
            value = counts[VALUE_COUNT]
            if value == counts[MAX_VALUES]:
                return
            counts[VALUE_COUNT] += 1
            for n in range(_BEFORE):
                token_ends[_BEFORE + n] = token_ends[n]
                alternative_ends[_BEFORE + n] = alternative_ends[n]
            summaries[value * _SUMMARY_WIDTH + TEXT_NUMBER] = number
            summaries[value * _SUMMARY_WIDTH + START] = at
            end = _scan_value(text, at, value, buffer, tokens, token_ends, alternatives, alternative_ends, summaries)
            nulls = summaries[value * _SUMMARY_WIDTH + NULL_TOPS]
            if end != _NONE and (nulls == 0 or nulls == token_ends[ROW_COUNT] - token_ends[_BEFORE + ROW_COUNT]):
                summaries[value * _SUMMARY_WIDTH + END] = at = end
            else:
                for n in range(_BEFORE):
                    token_ends[n] = token_ends[_BEFORE + n]
                    alternative_ends[n] = alternative_ends[_BEFORE + n]
            if not counts[IS_WITHIN]:
                break
        counts[TEXTS_DONE] += 1


_SIGNATURE: Final = "void({0}, {1}, {1}, {0}, {1}, {1}, {1}, {1}, {1})".format("CPointer(uint8)", "CPointer(int64)")
scan_compiled: Final = _compiled_entry(_scan_all, _SIGNATURE)
