"""The protocols of the wire formats, and what their modules take and return.

**To add a wire format**, write a module in this folder and add it to `registry.FORMATS`. What the module can read
follows from the functions that it defines:

- a *body*, such as a server's own API: `NAME`, `recognises`, `read` (`BodyFormat`);
- a *stream* of such bodies' pieces: `recognises`, `describe`, `text_of`, `merge` (`StreamFormat`);
- a *shape* of the `logprobs` object in a choice of chat or completions: `NAME`, `ORDERED`, `recognises_logprobs`,
  `read_tokens`, `rebuild` (`RecognisableShape`).

Raise DecodeError with a message that starts with the JSON path; `body` has functions that read a text, a count, a time
and an error. `read` returns the logprobs of a choice as one of these:

1. *An object that a shape recognises*: as it is.
2. *The chat shape under another name*, such as a bare list of tokens: wrap the raw JSON as
   `b'{"content":' + raw + b'}'`, and give the choice a `layout`, a small dict `{"format": NAME, ...}`. The module
   defines `restore` (`BodyWithLayout`). The compiled scanner then reads regular answers.
3. *A form of their own*: give the choice `shape=NAME`. The module defines `ORDERED`, `read_tokens` and `rebuild`
   (`LogprobsShape`). Such values are read token by token, which is exact and slow.

The patch in the `wire` column corrects what `rebuild` gets wrong (see `wire`). No patch corrects `restore`: it has to
be exact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from logprob_store.decode.token_rows import Token

if TYPE_CHECKING:
    from datetime import datetime

    from logprob_store.decode.formats.pieces import Piece
    from logprob_store.request import Answer

TokensBySection = Mapping[str, Sequence[Token]]
"""A section's name (`content`, `prompt`, ...) to its tokens."""

TemplateAndTokens = tuple[dict[str, Any], TokensBySection]
"""The template, whose `shape` is the format's NAME, and the tokens."""

_NO_LOGPROBS = (None, b"null", msgspec.UNSET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice of a reply.

    Args:
        index: 0, 1, ...; unique in the reply.
        path: the JSON path of its logprobs, for messages.
        logprobs: the wire's value: `bytes` while it is raw JSON, msgspec.UNSET when the key is absent.
        shape: the NAME of the shape that reads `logprobs`; None for an object that one of `registry.SHAPES` recognises.
        layout: what `restore` needs to make the wire's value again, where the reader of the body put `logprobs` into
            the chat shape. A small JSON object, the same for most answers.
        prompt_logprobs: vLLM's log-probabilities of the prompt, raw or parsed; None where there are none.
        prompt_path: the JSON path of `prompt_logprobs`.
        prompt_token_ids: the ids of the prompt's tokens, raw or parsed, where vLLM sent them.
        decisions: the answers to typed questions, parsed; None where the API writes text.
    """

    index: int
    path: str
    finish_reason: str | None = None
    text: str | None = None
    refusal: str | None = None
    tool_calls: str | None = None
    logprobs: Any = msgspec.UNSET
    shape: str | None = None
    layout: Mapping[str, Any] | None = None
    prompt_logprobs: Any = None
    prompt_path: str = "prompt_logprobs"
    prompt_token_ids: Any = None
    decisions: list[Any] | None = None

    @property
    def lacks_logprobs(self) -> bool:
        """Whether `logprobs` is null or absent."""
        return self.logprobs in _NO_LOGPROBS


@dataclass(frozen=True, slots=True)
class Reply:
    """A body without its tokens. The token counts are those of the whole response, however many choices it has."""

    response_id: str | None
    model: str | None
    created: datetime | None
    system_fingerprint: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    choices: list[Choice]
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class ChoiceContext:
    """What a shape may need to know about the choice whose logprobs it reads.

    Args:
        path: the JSON path of the value, for messages.
        echo: whether the request asked for an echo of the prompt.
        prompt: the text or the token ids sent, where known.
        text: the text of the choice.
        prompt_tokens: how many tokens the server counted in the prompt.
        completion_tokens: how many tokens the server counted in the choice, where it is the only one; 0 where none was
            to be generated.
        prompt_token_ids: the ids of the prompt's tokens, as the server gave them.
    """

    path: str
    echo: bool = False
    prompt: str | list[int] | None = None
    text: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_token_ids: Any = None


@runtime_checkable
class BodyFormat(Protocol):
    """A format of response bodies.

    Optional constants of the module:

    - `LISTS = True`: an answer may also be a list of such bodies (several samples or prompts), which `read` takes too.
    - `PROMPT_KEY`: the key of this API's request bodies that holds the prompt, if no other API has it. An import then
      recognises recorded requests.
    """

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """The format's name in the `wire` column of stored tables: it can never change."""

    def recognises(self, keys: Collection[str], /) -> bool:
        """Whether a body with these top-level keys is of this format.

        The first format in the list that says so reads the body, so test for a key that no other format has.
        """

    def read(self, answer: Answer, /) -> Reply:
        """Read everything but the tokens; raises DecodeError."""


@runtime_checkable
class BodyWithLayout(Protocol):
    """A body whose logprobs are the chat shape under another name."""

    def restore(self, layout: Mapping[str, Any], value: Any, /) -> Any:
        """The wire's value, made from the value in the chat shape."""


@runtime_checkable
class NamedShape(Protocol):
    """A form of the `logprobs` value that a template in the `wire` column may name."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """The shape's name in the `wire` column of stored tables: it can never change."""

    def rebuild(self, template: Mapping[str, Any], tokens: TokensBySection, /) -> Any:
        """The value again, as far as template and tokens determine it; the patch corrects the rest."""


@runtime_checkable
class LogprobsShape(NamedShape, Protocol):
    """A form of the `logprobs` value that is read token by token."""

    @property
    def ORDERED(self) -> bool:  # noqa: N802 - a module's constant
        """Whether the order of keys matters in dicts inside lists."""

    def read_tokens(self, value: Any, context: ChoiceContext, /) -> TemplateAndTokens:
        """Template and tokens of a value.

        An odd item costs itself: its row is null, and so is that of a list that is none. The patch has what it was.
        """


@runtime_checkable
class RecognisableShape(LogprobsShape, Protocol):
    """A shape that is recognised by looking at the `logprobs` object."""

    def recognises_logprobs(self, value: Mapping[str, Any], /) -> bool:
        """Whether the object is of this shape."""


@runtime_checkable
class StreamFormat(Protocol):
    """A format of recorded streams.

    An optional constant of the module, `BODY`, is the NAME of the merged body's format, if that is another module.
    """

    def recognises(self, keys: Collection[str], /) -> bool:
        """Whether pieces with these keys are of this format."""

    def describe(self, held: Mapping[str, Any], /) -> Piece | None:
        """What an object says about its stream, None if it is no piece of this format. Values may be raw JSON."""

    def text_of(self, pieces: Sequence[Mapping[str, Any]], /) -> str:
        """The text that the pieces brought, for the message about a stream that broke off."""

    def merge(self, pieces: Sequence[Mapping[str, Any]], /) -> dict[str, Any] | list[dict[str, Any]]:
        """One body made of the pieces, or a list of bodies where the API has lists; raises DecodeError.

        The reader refuses a stream that reports an error or has not ended, so only what else is wrong is raised here.
        """


WireFormat = BodyFormat | StreamFormat | NamedShape
"""A module of this folder that `registry.FORMATS` may list."""
