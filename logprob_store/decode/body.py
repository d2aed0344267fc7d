"""A response body that is a list of choices: everything in it but the tokens.

Holds `Reply` and `Choice`, which every reader of bodies gives, and the reader for chat and completions. Each choice's
`logprobs` stays raw bytes, since skipping is ten times as fast as parsing. Leaves out what is in them.

Servers are sloppy: a field that is not usable becomes None and never costs the answer. Only what would misplace or lose
rows (no choices, two with one index) makes a body malformed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.rows import clean_text
from logprob_store.errors import DecodeError
from logprob_store.schema import CHOICES_PER_SAMPLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.request import Answer

_EXCERPT: Final = 160
_INT64: Final = 2**63
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of a reply.

    `logprobs` is the wire's value: `bytes` while it is raw JSON, msgspec.UNSET when the key is absent. `path` is where
    the choice stands in the body.
    """

    index: int
    path: str
    finish_reason: str | None
    text: str | None
    refusal: str | None
    tool_calls: str | None
    reasoning: bool
    logprobs: Any


@dataclass(frozen=True, slots=True)
class Reply:
    """A body, read. The token counts are the whole response's, however many choices it has."""

    response_id: str | None
    model: str | None
    created: datetime | None
    system_fingerprint: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    choices: list[Choice]


class _Message(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    tool_calls: Any = None
    reasoning_content: Any = None


class _Choice(msgspec.Struct):
    index: Any = None
    message: _Message | None = None
    text: Any = None
    finish_reason: Any = None
    logprobs: Any = msgspec.UNSET


class _RawChoice(_Choice):
    logprobs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Body(msgspec.Struct):
    id: Any = None
    object: Any = None
    model: Any = None
    created: Any = None
    system_fingerprint: Any = None
    usage: Any = None
    error: Any = None
    message: Any = None
    choices: Any = None


class _RawBody(_Body):
    choices: list[_RawChoice] | None = None


_DECODER: Final = msgspec.json.Decoder(_RawBody)


def read_choices(answer: Answer) -> Reply:
    """Read a body of chat completions or completions.

    Raises:
        DecodeError: it is not JSON, reports an error, or has no choices that can be told apart.
    """
    body = _parse(answer.body.removeprefix(_BOM))
    if not body.choices:
        raise _no_choices(body)
    indices = _indices(body.choices)
    usage = body.usage if isinstance(body.usage, dict) else {}
    choices = [_choice(c, i, f"choices[{n}]") for n, (c, i) in enumerate(zip(body.choices, indices, strict=True))]
    return Reply(
        _text(body.id),
        _text(body.model),
        _time(body.created),
        _text(body.system_fingerprint),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        sorted(choices, key=lambda choice: choice.index),
    )


def _parse(content: bytes) -> _Body:
    try:
        if not content.isascii():
            content.decode()  # a raw slice is not checked by anybody else
        return _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_leniently(content)


def _parse_leniently(content: bytes) -> _Body:
    """What msgspec refuses and Python's own server side may send: NaN and -Infinity, odd types, lone surrogates."""
    value = loads(content)
    if not isinstance(value, dict):
        raise DecodeError(f"the body is {type(value).__name__}, not an object: {excerpt(content)}")
    body = _Body(**{key: value.get(key) for key in _Body.__struct_fields__})
    listed = body.choices if isinstance(body.choices, list) else []
    body.choices = [_lenient_choice(choice, n) for n, choice in enumerate(listed)]
    return body


def _lenient_choice(value: Any, number: int) -> _Choice:
    if not isinstance(value, dict):
        raise DecodeError(f"choices[{number}]: expected an object, got {type(value).__name__}")
    choice = _Choice(**{key: value[key] for key in _Choice.__struct_fields__ if key in value})
    message = value.get("message")
    if isinstance(message, dict):
        choice.message = _Message(**{key: message.get(key) for key in _Message.__struct_fields__})
    else:
        choice.message = None
    return choice


def loads(content: bytes) -> Any:
    """Python's JSON, which takes NaN and the infinities, with every way to fail as a DecodeError.

    >>> loads(b'[-Infinity]')
    [-inf]
    """
    try:
        return json.loads(content.decode())
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} at character {error.pos} of {len(content)} bytes"
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 at byte {error.start} of {len(content)}"
    except RecursionError:
        problem = "nested too deeply"
    except ValueError as error:  # an integer of more than 4300 digits
        problem = f"a number that cannot be read: {error}"
    raise DecodeError(f"the answer is {problem}: {excerpt(content)}")


def excerpt(content: bytes) -> str:
    r"""The first characters, fit for a terminal: no escape sequence and no line break survives.

    >>> print(excerpt(b"<html>\x1b[31m"))
    '<html>\x1b[31m'
    """
    return repr(content[:_EXCERPT].decode(errors="replace"))[: _EXCERPT + 40]


def _no_choices(body: _Body) -> DecodeError:
    if body.error is not None or body.object == "error":
        error = body.error if body.error is not None else body.message
        said = error.get("message", error) if isinstance(error, dict) else error
        words = said if isinstance(said, str) else repr(said)
        printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in words[: 3 * _EXCERPT])
        return DecodeError(f"the server answered with an error: {printable}", error_type="error_body")
    state = "missing or null" if body.choices is None else "empty"
    return DecodeError(f"choices: {state}, expected a list of at least one choice")


def _indices(choices: list[_Choice]) -> list[int]:
    indices = [choice.index for choice in choices]
    if indices == [None]:
        return [0]
    for n, index in enumerate(indices):
        if type(index) is not int or not 0 <= index < CHOICES_PER_SAMPLE:
            shown = excerpt(repr(index).encode(errors="replace"))
            raise DecodeError(f"choices[{n}].index: expected an integer in 0..{CHOICES_PER_SAMPLE - 1}, got {shown}")
        if index in indices[:n]:
            raise DecodeError(f"choices[{n}].index: {index} stands twice")
    return indices


def _choice(choice: _Choice, index: int, path: str) -> Choice:
    message = choice.message or _Message()
    logprobs = choice.logprobs
    if isinstance(logprobs, msgspec.Raw):
        logprobs = bytes(logprobs)
    text = _parts(message.content)
    return Choice(
        index=index,
        path=path,
        finish_reason=_text(choice.finish_reason),
        text=_text(choice.text) if text is None else text,
        refusal=_text(message.refusal),
        tool_calls=_tool_calls(message.tool_calls, path),
        reasoning=message.reasoning_content is not None,
        logprobs=logprobs,
    )


def _tool_calls(calls: Any, path: str) -> str | None:
    """Compact JSON; None for null and for the empty list that some servers always send."""
    if not calls:
        return None
    try:
        return clean_text(json.dumps(calls, ensure_ascii=False, separators=(",", ":")))
    except RecursionError:
        raise DecodeError(f"{path}.message.tool_calls: nested too deeply") from None


def _parts(content: Any) -> str | None:
    """The text of a message: a string, or the texts of a list of parts."""
    if not isinstance(content, list):
        return _text(content)
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return clean_text("".join(text for text in texts if isinstance(text, str)))


def _text(value: Any) -> str | None:
    return clean_text(value) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _INT64 else None


def _time(value: Any) -> datetime | None:
    if type(value) not in (int, float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def known_keys(value: Mapping[str, Any]) -> str:
    """The keys of an object of no known shape, for a message."""
    return excerpt(", ".join(map(str, list(value)[:8])).encode(errors="replace"))
