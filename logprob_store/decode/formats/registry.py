"""The wire formats, in three tables: `BODIES`, `SHAPES` and `STREAMS`. The format is found from the answer itself.

**To add a body**, such as a server's own API, write a module and add its name to `BODIES`. The module has

- `NAME`: stands in stored tables for ever, so choose well;
- `recognises(keys)`: whether a body with these top-level keys is of this format. The first in `BODIES` to say so reads
  it, so ask for a key that no other format has;
- `read(answer) -> Reply`: the body as `body.Reply` with a `body.Choice` for each choice. Raises DecodeError, whose
  message starts with the JSON path; `body` has what reads a text, a count, a time, an error.
- `LISTS = True`, if a list of such bodies (several samples, several prompts) is an answer, too, that `read` takes.

A choice's `logprobs` then is one of these:

1. *An object that `SHAPES` recognises*, on the wire as it is: nothing else to do.
2. *The chat shape by another name*, such as a bare list of tokens: let `read` wrap the raw JSON as
   `b'{"content":' + raw + b'}'` and give the choice a `layout`, a small dict `{"format": NAME, ...}`. The module's
   `restore(layout, value)` makes the wire's value of the chat value again. Regular answers then go the fast Arrow way.
   `place` says where in the body a token is.
3. *A form of its own*: give the choice `shape=NAME`, and give the module `ORDERED`, `read_tokens` and `rebuild` (see
   `Shape`). Value to rows and back is then exact and slow.

What `rebuild` gets wrong, the patch in the `wire` column mends (see `wire`); `restore` has none behind it and has to be
exact.

**To add a shape** of the `logprobs` object of a chat or completions choice, add a module with the four of `Shape` and
with `recognises(value)` to `SHAPES`. **To add a stream**, add a module with `recognises(keys)` on the keys of its
pieces and `merge(pieces) -> body` to `STREAMS`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from logprob_store.decode.formats import (
    chat,
    choices,
    gemini,
    llamacpp,
    ollama,
    prompt_logprobs,
    responses,
    responses_stream,
    sglang,
    tgi,
)
from logprob_store.decode.formats import (
    chat_stream as chunks,
)
from logprob_store.decode.formats import (
    legacy as completions,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from logprob_store.decode.formats.body import Reply
    from logprob_store.request import Answer

Tokens = Mapping[str, Sequence[Any]]
"""Section to tokens (`rows.Token`); None in place of a token leaves its position without a row."""

Reading = tuple[dict[str, Any], Tokens]
"""Template (its `shape` is the format's NAME) and tokens."""


@dataclass(frozen=True, slots=True)
class Where:
    """What a shape may need to know about the choice it reads, beside the value itself.

    `path` is the JSON path of the value, for messages; `prompt` is the text or the token ids sent, if they are known.
    """

    path: str
    echo: bool = False
    prompt: str | list[int] | None = None
    text: str | None = None
    prompt_tokens: int | None = None
    place: Callable[[str, int], str] | None = None

    def token(self, key: str, number: int) -> str:
        """The JSON path of a token in the list under a key."""
        return f"{self.path}.{key}[{number}]" if self.place is None else self.place(key, number)


class Body(Protocol):
    """A form of body: a module has all of these."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """Stands in the `wire` column for ever: choose well."""

    def recognises(self, keys: Collection[str], /) -> bool:
        """Whether a body with these top-level keys is of this format."""

    def read(self, answer: Answer, /) -> Reply:
        """Everything but the tokens; raises DecodeError."""


@runtime_checkable
class LaidOut(Protocol):
    """A body whose choices' logprobs are the chat shape by another name."""

    def restore(self, layout: Mapping[str, Any], value: Any, /) -> Any:
        """The wire's value from the chat value."""


@runtime_checkable
class Shape(Protocol):
    """A form of the `logprobs` value: a module has all of these."""

    @property
    def NAME(self) -> str:  # noqa: N802
        """Stands in the `wire` column for ever: choose well."""

    @property
    def ORDERED(self) -> bool:  # noqa: N802
        """Whether the order of keys in dicts inside lists carries meaning."""

    def read_tokens(self, value: Any, where: Where, /) -> Reading:
        """Template and tokens of a value; raises DecodeError."""

    def rebuild(self, template: Mapping[str, Any], tokens: Tokens, /) -> Any:
        """The value again, as far as they say it; the patch does the rest."""


class FoundShape(Shape, Protocol):
    """A shape that is found by looking at the object."""

    def recognises(self, value: Mapping[str, Any], /) -> bool:
        """Whether the object is of this shape."""


class Stream(Protocol):
    """A form of recorded stream."""

    def recognises(self, keys: Collection[str], /) -> bool:
        """Whether pieces with these keys are of this format."""

    def merge(self, pieces: Sequence[Mapping[str, Any]], /) -> dict[str, Any]:
        """One body of what the pieces say; raises DecodeError."""


BODIES: Final[tuple[Body, ...]] = (
    choices,  # chat completions, completions
    responses,
    llamacpp,
    ollama,
    sglang,
    tgi,
    gemini,
)
"""The first that recognises a body's keys reads it."""

SHAPES: Final[tuple[FoundShape, ...]] = (
    chat,
    completions,
)
"""The first that recognises an object of logprobs reads it."""

STREAMS: Final[tuple[Stream, ...]] = (
    chunks,  # chat completions, completions
    responses_stream,
    llamacpp,
    ollama,
)
"""The first that recognises a stream's pieces makes a body of them."""

_NAMED: Final = (*SHAPES, *BODIES, prompt_logprobs)
_SHAPES: Final[Mapping[str, Shape]] = {form.NAME: form for form in _NAMED if isinstance(form, Shape)}
_LAYOUTS: Final[Mapping[str, LaidOut]] = {form.NAME: form for form in BODIES if isinstance(form, LaidOut)}


def shape_named(name: str) -> Shape | None:
    """The shape with this NAME."""
    return _SHAPES.get(name)


def shape_of(value: Any) -> FoundShape | None:
    """The shape that recognises an object of logprobs."""
    return next((shape for shape in SHAPES if shape.recognises(value)), None)


def restore(layout: Mapping[str, Any], value: Any) -> Any:
    """The wire's value from a chat value and the layout that the reader of its body gave."""
    return _LAYOUTS[layout["format"]].restore(layout, value)
