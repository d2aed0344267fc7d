"""One token at a time: `Token`, the rule that reads a log-probability, and the builder of Arrow rows.

Every wire format may be read this way; it is exact and slow. Leaves out the bulk way for regular chat answers
(`flat`), which must give the same tables, and how a format spells its tokens (`chat`, `completions`).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from logprob_store.errors import DecodeError
from logprob_store.schema import ALTERNATIVES, SENTINEL_AT_MOST, TOKENS, LogprobFlag, Section, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECTIONS: Final[tuple[str, ...]] = tuple(Section.categories)
"""In the order in which a completion's rows are sorted."""

FLAGS: Final[tuple[str, ...]] = tuple(LogprobFlag.categories)
_ENUMS: Final = {"section": SECTIONS, "logprob_flag": FLAGS}
TOKENS_SCHEMA: Final = arrow_schema(TOKENS)
ALTERNATIVES_SCHEMA: Final = arrow_schema(ALTERNATIVES)
MOST_ALTERNATIVES: Final = 2**15 - 1
"""What an Int16 rank can count."""

NO_ID: Final = object()
"""The wire names no id, not even null."""

ID_MARK: Final = "token_id:"
"""What vLLM puts before an id that stands in place of a token's text (`return_tokens_as_token_ids`)."""

_INT32: Final = 2**31
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ID_TEXT: Final = re.compile(ID_MARK + "([0-9]{1,10})")
_INTEGERS: Final = frozenset((int,))


class Token(NamedTuple):
    """A token or an alternative, holding what its row can hold and nothing else.

    `logprob` is the wire's number (-9999.0, inf and NaN included), None where there was none. `text` is None where the
    wire named the token by its id alone: "" would claim that it spells nothing.
    """

    text: str | None
    bytes: bytes | None = None
    token_id: int | None = None
    logprob: float | None = None
    alternatives: Sequence[Token] = ()


def clean_text(text: str) -> str:
    r"""Replace what UTF-8 cannot hold, so that it can stand in a table.

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
    path: str,
    *,
    logprob: Any = None,
    spelled: Any = None,
    token_id: Any = NO_ID,
    alternatives: Sequence[Token] = (),
    nullable: bool = False,
) -> Token:
    r"""A token from wire values; what a row cannot hold becomes None, and the patch will keep it.

    Where the wire names no id (`NO_ID`), one that stands in the text is taken.

    Raises:
        DecodeError: the text is no string (nor None, if `nullable`), or there are more alternatives than ranks.

    >>> make_token("é", "content[0].token", logprob=-1, spelled=[195, 169], token_id=7)
    Token(text='é', bytes=b'\xc3\xa9', token_id=7, logprob=-1.0, alternatives=())
    """
    if not isinstance(text, str) and not (nullable and text is None):
        raise DecodeError(f"{path}: expected a string, got {type(text).__name__}")
    if len(alternatives) > MOST_ALTERNATIVES:
        raise DecodeError(
            f"{path}: {len(alternatives)} alternatives, more than the {MOST_ALTERNATIVES} ranks there are"
        )
    if token_id is NO_ID and text is not None:
        token_id = id_in_text(text)
    if type(token_id) is not int or not -_INT32 <= token_id < _INT32:
        token_id = None
    clean = None if text is None else clean_text(text)
    return Token(clean, _as_bytes(spelled), token_id, _as_float(logprob), alternatives)


def id_in_text(text: str) -> int | None:
    """The id in place of a token's text, if there is one.

    >>> id_in_text("token_id:123"), id_in_text("token_id:")
    (123, None)
    """
    match = _ID_TEXT.fullmatch(text)
    number = None if match is None else int(match[1])
    return number if number is not None and number < _INT32 else None


def _as_bytes(spelled: Any) -> bytes | None:
    if type(spelled) is not list:
        return None
    if not _INTEGERS.issuperset(map(type, spelled)):
        return None
    try:
        return bytes(spelled)
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


def classify(number: float | None) -> tuple[float | None, str | None, float | None]:
    """The columns `logprob`, `logprob_flag` and `logprob_wire` of a wire value.

    >>> classify(-0.5), classify(-9999.0), classify(float("-inf"))
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
    """The wire value of the three columns: the inverse of `classify`."""
    if flag is None:
        return logprob
    return -math.inf if flag == "neg_inf" else wire


class RowBuilder:
    """Collects tokens and turns them into the two tables."""

    def __init__(self) -> None:
        self._tokens: list[tuple[Any, ...]] = []
        self._alternatives: list[tuple[Any, ...]] = []

    @property
    def counts(self) -> tuple[int, int]:
        """Rows so far: tokens, alternatives."""
        return len(self._tokens), len(self._alternatives)

    def add(self, completion_id: int, section: str, tokens: Sequence[Token | None]) -> None:
        """Append a section of a completion, in the order of `SECTIONS`; a None has a position and no row."""
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
    logprob, flag, wire = classify(token.logprob)
    code = None if flag is None else FLAGS.index(flag)
    return token.text, token.bytes, token.token_id, logprob, code, wire


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [_column(values, column) for values, column in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(values: Sequence[Any], field: pa.Field) -> pa.Array:
    names = _ENUMS.get(field.name)
    if names is None:
        return pa.array(values, field.type)
    return enum_array(pa.array(values, pa.uint8()), names)


def enum_array(codes: pa.Array, names: Sequence[str]) -> pa.Array:
    """A dictionary array that polars reads as an Enum."""
    dictionary = pa.array(names, pa.large_string())
    return pa.DictionaryArray.from_arrays(codes, dictionary, ordered=True)


def tokens_by_section(tokens: Mapping[str, Sequence[Token | None]]) -> list[tuple[str, Sequence[Token | None]]]:
    """The sections that hold tokens, in the order of rows."""
    return [(section, tokens[section]) for section in SECTIONS if tokens.get(section)]
