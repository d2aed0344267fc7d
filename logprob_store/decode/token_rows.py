"""Rows of tokens and alternatives: the `Token`, its columns, and the builder of the two Arrow tables.

The way for values that are read token by token, exact and slow. `bulk.scanned_rows` makes the same rows from columns.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from logprob_store.schema import ALTERNATIVES, SENTINEL_AT_MOST, TOKENS, LogprobFlag, Section, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECTIONS: Final[tuple[str, ...]] = tuple(Section.categories)
"""The sections in the order of a completion's rows. A section's code is its index here."""

FLAGS: Final[tuple[str, ...]] = tuple(LogprobFlag.categories)
_ENUMS: Final = {"section": SECTIONS, "logprob_flag": FLAGS}
TOKENS_SCHEMA: Final = arrow_schema(TOKENS)
ALTERNATIVES_SCHEMA: Final = arrow_schema(ALTERNATIVES)
MAX_ALTERNATIVES: Final = 2**15 - 1
"""The highest rank that an Int16 holds. Of more alternatives the first are rows, and the patch has the others."""

NO_ID: Final = object()
"""Stands for the id of a token for which the wire has no key of an id."""

ID_PREFIX: Final = "token_id:"
"""With `return_tokens_as_token_ids`, vLLM sends this and the id in place of a token's text."""

_INT32: Final = 2**31
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ID_TEXT: Final = re.compile(ID_PREFIX + "([0-9]{1,10})")
_INTEGERS: Final = frozenset((int,))


class Token(NamedTuple):
    """A token or an alternative, with the values that its row can hold.

    Args:
        text: None where the wire has no text, as where it names the token by its id alone; "" would say that the token
            is empty.
        bytes: the token's bytes, None where the wire has none.
        token_id: None where the wire has none, or one that is no Int32.
        logprob: the wire's number in nats, -9999.0, inf and NaN included; None where there is none.
        alternatives: by rank, `MAX_ALTERNATIVES` at most.
    """

    text: str | None
    bytes: bytes | None = None
    token_id: int | None = None
    logprob: float | None = None
    alternatives: Sequence[Token] = ()


def clean_text(text: str) -> str:
    r"""Replace lone surrogates, which UTF-8 cannot encode, by U+FFFD.

    >>> clean_text("a\ud83d") == "a\ufffd"
    True
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", text)
    return text


def make_token(
    text: Any,
    *,
    logprob: Any = None,
    byte_values: Any = None,
    token_id: Any = NO_ID,
    alternatives: Sequence[Token] = (),
) -> Token:
    r"""A token from wire values. A value that a row cannot hold becomes None; the patch keeps it.

    Args:
        text: the text.
        logprob: the log-probability in nats.
        byte_values: the list of the token's bytes.
        token_id: the id; for NO_ID it is taken from a text such as "token_id:123".
        alternatives: by rank.

    >>> make_token("é", logprob=-1, byte_values=[195, 169], token_id=7)
    Token(text='é', bytes=b'\xc3\xa9', token_id=7, logprob=-1.0, alternatives=())
    """
    if token_id is NO_ID and isinstance(text, str):
        token_id = id_in_text(text)
    if type(token_id) is not int or not -_INT32 <= token_id < _INT32:
        token_id = None
    clean = clean_text(text) if isinstance(text, str) else None
    if len(alternatives) > MAX_ALTERNATIVES:
        alternatives = alternatives[:MAX_ALTERNATIVES]
    return Token(clean, _as_bytes(byte_values), token_id, _as_float(logprob), alternatives)


def id_in_text(text: str) -> int | None:
    """The id in a text such as "token_id:123", None for any other text.

    >>> id_in_text("token_id:123"), id_in_text("token_id:")
    (123, None)
    """
    match = _ID_TEXT.fullmatch(text)
    number = None if match is None else int(match[1])
    return number if number is not None and number < _INT32 else None


def _as_bytes(values: Any) -> bytes | None:
    if type(values) is not list:
        return None
    if not _INTEGERS.issuperset(map(type, values)):
        return None
    try:
        return bytes(values)
    except (ValueError, OverflowError):
        return None


def _as_float(number: Any) -> float | None:
    if type(number) is float:
        return number
    if type(number) is not int:
        return None
    try:
        return float(number)
    except OverflowError:
        return None


def split_logprob(number: float | None) -> tuple[float | None, str | None, float | None]:
    """The columns `logprob`, `logprob_flag` and `logprob_wire` of a wire value.

    `bulk.scanned_rows.logprob_columns` applies the same rule to many.

    >>> split_logprob(-0.5), split_logprob(-9999.0), split_logprob(float("-inf"))
    ((-0.5, None, None), (None, 'sentinel', -9999.0), (None, 'neg_inf', None))
    """
    if number is None:
        return None, "missing", None
    if SENTINEL_AT_MOST < number <= 0:
        return number, None, None
    if number > 0:
        return None, "positive", number
    if number == -math.inf:
        return None, "neg_inf", None
    if number <= SENTINEL_AT_MOST:
        return None, "sentinel", number
    return None, "missing", number


def wire_number(logprob: float | None, flag: str | None, wire: float | None) -> float | None:
    """The wire value of the three columns: the inverse of `split_logprob`."""
    if flag is None:
        return logprob
    return -math.inf if flag == "neg_inf" else wire


class RowBuilder:
    """Collects tokens and makes the tables of tokens and alternatives from them."""

    def __init__(self) -> None:
        self._tokens: list[tuple[Any, ...]] = []
        self._alternatives: list[tuple[Any, ...]] = []

    @property
    def counts(self) -> tuple[int, int]:
        """Rows so far: tokens, alternatives."""
        return len(self._tokens), len(self._alternatives)

    def add(self, completion_id: int, section: str, tokens: Sequence[Token | None]) -> None:
        """Append a section of a completion; a None has a position and no row."""
        code = SECTIONS.index(section)
        for position, token in enumerate(tokens):
            if token is None:
                continue
            self._tokens.append((completion_id, code, position, *_columns(token)))
            for rank, other in enumerate(token.alternatives, 1):
                self._alternatives.append((completion_id, code, position, rank, *_columns(other)))

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """The rows as tables of tokens and alternatives."""
        return _table(self._tokens, TOKENS_SCHEMA), _table(self._alternatives, ALTERNATIVES_SCHEMA)


def _columns(token: Token) -> tuple[Any, ...]:
    logprob, flag, wire = split_logprob(token.logprob)
    code = None if flag is None else FLAGS.index(flag)
    return token.text, token.bytes, token.token_id, logprob, code, wire


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [_array(values, field) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    names = _ENUMS.get(field.name)
    if names is None:
        return pa.array(values, field.type)
    return enum_array(pa.array(values, pa.uint8()), names)


def enum_array(codes: pa.Array, names: Sequence[str]) -> pa.Array:
    """A dictionary array that polars reads as an Enum; `codes` are indices of `names`, or null."""
    dictionary = pa.array(names, pa.large_string())
    return pa.DictionaryArray.from_arrays(codes, dictionary, ordered=True)


def tokens_by_section(tokens: Mapping[str, Sequence[Token | None]]) -> list[tuple[str, Sequence[Token | None]]]:
    """The sections that have tokens, in the order of rows."""
    return [(section, tokens[section]) for section in SECTIONS if tokens.get(section)]
