"""What a piece of a recorded stream says about its stream: its id, and the choices that begin and end with it.

A recording may hold several streams, one behind the other or mixed, and each may lack `[DONE]`. The stream formats
describe their pieces as `Piece`; `StreamState` follows the pieces of one stream and says whether the stream has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

from logprob_store.decode.formats.body import loads, objects_in
from logprob_store.errors import DecodeError
from logprob_store.sse import counts_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=msgspec.Struct)

_LONGEST: Final = 540
_SHORTEST_TEXT: Final = 20
"""Characters that the message of a broken stream may have, and those of its text which it always has."""

_NO_CHOICES: Final[frozenset[int]] = frozenset()


class Piece(NamedTuple):
    """What one object says about the stream that it is a piece of.

    Args:
        stream_id: the id that all pieces of the stream have; None where the object has none.
        opens: the choices that it announces without any text, such as those whose delta has only a role.
        adds: the choices to which it adds something.
        without_role: those of them for which it has no role. Some servers send the role with each piece.
        ends: the choices that end with it.
        ends_all: whether all choices have ended before it, as before the piece with the usage.
        is_head: whether it stands before the first choice of a stream, as Azure's first chunk does.
        may_be_whole: whether it may as well be a whole answer. It is then a piece only of a stream that it continues.
        needs_id: whether only an id that other pieces share tells it from a whole answer.
        needs_end: whether only a piece behind it that ends its choices tells it from a whole answer.
        number: the place of the piece in its stream, where the server counts the pieces.
        item_ids: ids of parts of the answer, which tell the stream of a piece without a `stream_id`.
    """

    stream_id: str | None = None
    opens: frozenset[int] = _NO_CHOICES
    adds: frozenset[int] = _NO_CHOICES
    without_role: frozenset[int] = _NO_CHOICES
    ends: frozenset[int] = _NO_CHOICES
    ends_all: bool = False
    is_head: bool = False
    may_be_whole: bool = False
    needs_id: bool = False
    needs_end: bool = False
    number: int | None = None
    item_ids: frozenset[str] = frozenset()


class StreamState:
    """The choices of a stream that have begun and ended, after some of its pieces."""

    def __init__(self) -> None:
        self.stream_id: str | None = None
        self.number: int | None = None
        self.item_ids: set[str] = set()
        self._begun: dict[int, int] = {}
        self._without_role: set[int] = set()
        self._ended: set[int] = set()
        self._ends_all = False

    def add(self, piece: Piece) -> None:
        """Take the next piece into account."""
        self.stream_id = self.stream_id or piece.stream_id
        self.number = self.number if piece.number is None else piece.number
        self.item_ids |= piece.item_ids
        for index in piece.opens | piece.adds | piece.ends:
            self._begun[index] = self._begun.get(index, 0) + 1
        self._without_role |= piece.without_role
        self._ended |= piece.ends
        self._ends_all |= piece.ends_all

    @property
    def has_begun(self) -> bool:
        """Whether a choice has begun."""
        return bool(self._begun)

    @property
    def has_ended(self) -> bool:
        """Whether every choice that has begun has ended.

        Where the indices count tokens instead of choices, each stands in one piece, and only the last one ends.
        """
        if self._ends_all:
            return True
        if not self._ended:
            return False
        return self._ended >= self._begun.keys() or counts_tokens(self._begun, self._ended)

    def begins_anew(self, piece: Piece) -> bool:
        """Whether a piece is the first of another stream, though nothing in its id says so."""
        if piece.number is not None and self.number is not None and piece.number <= self.number:
            return True
        if self.has_ended:
            return piece.is_head or bool((piece.opens | piece.adds) & self._begun.keys())
        return bool(piece.opens & self._without_role)


def value_of(held: Mapping[str, Any], key: str) -> Any:
    """The value under a key of an object whose values may still be raw JSON; None if it is not there or unreadable."""
    value = held.get(key)
    return _parsed(bytes(value)) if isinstance(value, msgspec.Raw) else value


def _parsed(content: bytes) -> Any:
    try:
        return loads(content)
    except DecodeError:  # a number that is too long; whoever reads the answer says so
        return None


def read_structs(held: Mapping[str, Any], key: str, decoder: msgspec.json.Decoder[list[S]], kind: type[S]) -> list[S]:
    """The objects in the list under a key, or the one object there, with the fields of `kind` alone.

    Args:
        held: an object, whose values may still be raw JSON.
        key: the key of the list.
        decoder: the decoder for raw JSON. It skips the fields that are not needed.
        kind: the fields.
    """
    value = held.get(key)
    if isinstance(value, msgspec.Raw):
        try:
            return decoder.decode(value)
        except (msgspec.DecodeError, RecursionError):
            value = _parsed(bytes(value))
    value = [value] if isinstance(value, dict) else objects_in(value)
    fields = kind.__struct_fields__
    return [kind(**{name: item[name] for name in fields if name in item}) for item in value]


def text_under(held: Mapping[str, Any], key: str) -> str | None:
    """The text under a key of such an object; None if it is empty or no text."""
    value = held.get(key)
    if isinstance(value, msgspec.Raw):
        raw = bytes(value)
        if not raw.startswith(b'"'):
            return None
        value = raw[1:-1].decode() if raw.isascii() and b"\\" not in raw else _parsed(raw)
    return value or None if isinstance(value, str) else None


def broken_off(problem: str, text: str, *, error_type: str = "malformed_answer") -> DecodeError:
    """The error for a stream that did not come to its end, with the text that came before.

    >>> print(broken_off("the stream was cut off before its end", "Yes"))
    the stream was cut off before its end; what came of the answer: 'Yes'
    """
    if not text:
        return DecodeError(f"{problem}; nothing came of the answer", error_type=error_type)
    room = max(_LONGEST - len(problem), _SHORTEST_TEXT)
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:room])[:room]
    more = f" and {len(text) - room} more characters" if len(text) > room else ""
    return DecodeError(f"{problem}; what came of the answer: '{shown}'{more}", error_type=error_type)
