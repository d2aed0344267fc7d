"""The wire formats, in one table each: who reads an endpoint's body, and who reads a `logprobs` value.

To add a format, write one module with `NAME`, `ORDERED`, `recognises`, `read` and `rebuild` as `completions` has them,
and add one line to `SHAPES`; if its body is not a list of choices, write a reader as `body.read_choices` and add one
line to `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from logprob_store.decode import body, chat, completions
from logprob_store.decode.rows import Token

if TYPE_CHECKING:
    from logprob_store.request import Answer

Tokens = Mapping[str, Sequence[Token]]
"""Section to tokens."""

Reading = tuple[dict[str, Any], Tokens]
"""Template (its `shape` is the format's NAME) and tokens."""


@dataclass(frozen=True, slots=True)
class Where:
    """What a shape may need to know about the choice it reads, beside the value itself.

    `path` is the JSON path for messages; `prompt` is the text or the token ids sent, if they are known.
    """

    path: str
    echo: bool = False
    prompt: str | list[int] | None = None
    text: str | None = None
    prompt_tokens: int | None = None


class Shape(Protocol):
    """A form of the `logprobs` value: a module has all of these."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """Stands in the `wire` column for ever: choose well."""

    @property
    def ORDERED(self) -> bool:  # noqa: N802
        """Whether the order of keys in dicts inside lists carries meaning."""

    def recognises(self, value: Mapping[str, Any], /) -> bool:
        """Whether the value is of this shape."""

    def read(self, value: Mapping[str, Any], where: Where, /) -> Reading:
        """Template and tokens of a value; raises DecodeError."""

    def rebuild(self, template: Mapping[str, Any], tokens: Tokens, /) -> Any:
        """The value again, as far as they say it; the patch does the rest."""


SHAPES: Final[tuple[Shape, ...]] = (
    chat,
    completions,
)
"""The first that recognises a value reads it."""

READERS: Final[Mapping[str, Callable[[Answer], body.Reply]]] = {
    "chat": body.read_choices,
    "completions": body.read_choices,
}
"""Endpoint, as the request names it, to the reader of its bodies."""
