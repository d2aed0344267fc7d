"""Answers with status 200, checked before they are cached: is it a reply, or an error that the body reports?

Only the few fields that decide it are read, which takes 1.4 ms a megabyte; rows are decoded later, many answers at a
time. An answer that passes may still hold no logprobs: that is for decoding to say.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.errors import CallError, RetryableError
from logprob_store.sse import DONE, event_data, is_event_stream
from logprob_store.transport.refusals import error_of, excerpt
from logprob_store.usage import read_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from logprob_store.errors import LogprobStoreError
    from logprob_store.usage import Usage

_ERROR_STATUSES: Final = range(400, 1000)
_DEFAULT_STATUS: Final = 500
_RATE_LIMIT: Final = 429
_RATE_WORDS: Final = re.compile(r"rate.?limit|too many requests|\bqps\b", re.IGNORECASE)
"""Words that mean a rate limit where neither a status nor a code says so."""
_FAILED: Final = frozenset({"failed", "cancelled"})
_UNFINISHED: Final = frozenset({"queued", "in_progress"})
_LAST_EVENTS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_ERROR_KEYS: Final = ("error_msg", "message", "msg", "detail", "error_description")
_CODE_KEYS: Final = ("error_code", "code", "err_code")
_NOT_A_REPLY: Final = frozenset(
    {"error", "errors", "message", "messages", "msg", "detail", "details", "code", "type", "param", "status", "success"}
    | {"result", "data", "id", "object", "model", "provider", "created", "request_id", "user_id", "usage", "timestamp"}
    | {*_ERROR_KEYS, *_CODE_KEYS}
)
"""Keys of bodies that report an error; a body with no other key holds no reply."""


class _Choice(msgspec.Struct):
    finish_reason: Any = None
    error: Any = None
    text: Any = None
    message: Any = None


class _Body(msgspec.Struct):
    """The fields that decide; the logprobs are skipped, which also checks that they are JSON."""

    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None
    status: Any = None
    choices: list[_Choice] | None = None
    output: msgspec.Raw = msgspec.Raw()


_DECODER: Final = msgspec.json.Decoder(_Body)


def check_answer(
    body: bytes, *, headers: Mapping[str, str] | None = None, redact: Callable[[str], str] = str
) -> tuple[bytes, Usage | None]:
    """Refuse a body with status 200 that is no reply: empty, broken off, HTML, or an error in any spelling.

    A stream of events is a reply too, though nobody asked for it, and a `data: [DONE]` behind the JSON is cut off.

    Args:
        body: as it came.
        headers: of the answer; they may say how long to wait.
        redact: takes out of the server's words what must not be repeated.

    Returns:
        The body to keep, and the tokens that the call took; None where the body does not say.

    Raises:
        LogprobStoreError: the error that the body reports, as if it had come with its status, see `refusals.error_of`;
            a RetryableError for a body that is no reply at all.

    >>> check_answer(b'{"choices":[{}],"usage":{"prompt_tokens":7,"completion_tokens":5}}')[1].total
    12
    """
    content = body.removeprefix(
        codecs.BOM_UTF8
    )  # not allowed in JSON, but some servers send one, and decoding skips it
    if is_event_stream(content):
        return body, _check_stream(content, headers or {}, redact)
    head = _read(content) if content.lstrip().startswith(b"{") else None
    if head is None and (cut := _before_done(content)) is not None:
        body, content, head = cut, cut, _read(cut)
    if head is None:
        what = f"is no JSON object: {excerpt(body)}" if body.strip() else "is empty"
        raise _no_reply(f"the answer {what}")
    said = _reported_error(head, content)
    if said is not None:
        raise _error(said, headers or {}, redact)
    if head.status in _UNFINISHED and head.choices is None:
        raise _no_reply(f"the answer is not finished: its status is {head.status!r}")
    return body, read_usage(bytes(head.usage))


def _read(content: bytes) -> _Body | None:
    """The fields that decide; None for what is no JSON object."""
    try:
        return _DECODER.decode(content)
    except RecursionError:
        return None
    except msgspec.DecodeError:
        pass
    # A field of an odd type, or what servers written in Python send and msgspec refuses: NaN, lone surrogates.
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    listed = value.get("choices")
    choices = [
        _Choice(*(item.get(name) for name in _Choice.__struct_fields__)) if isinstance(item, dict) else _Choice()
        for item in (listed if isinstance(listed, list) else ())
    ]
    usage = msgspec.Raw(json.dumps(value.get("usage")).encode())
    output = msgspec.Raw(b"[]" if value.get("output") is not None else b"")
    return _Body(usage, value.get("error"), value.get("status"), choices or None, output)


def _before_done(content: bytes) -> bytes | None:
    """The JSON in front of a `data: [DONE]`, which some gateways append; None without one."""
    head, mark, rest = content.rpartition(b"data:")
    return head.rstrip() if mark and rest.strip() == DONE and head.strip() else None


def _reported_error(head: _Body, content: bytes) -> dict[str, Any] | None:
    """The error that a body reports in place of a reply, or of a whole one; None for a reply."""
    for choice in head.choices or ():
        if choice.error or choice.finish_reason == "error":
            return _with_partial_text(_as_error(choice.error), choice)
    if head.status in _FAILED and head.choices is None:
        return _as_error(head.error) or {"message": f"the response's status is {head.status!r}"}
    if head.choices or bytes(head.output) not in {b"", b"null"}:
        return None
    if head.error:
        return _as_error(head.error)
    return _otherwise_spelled(content)


def _as_error(error: Any) -> dict[str, Any]:
    if isinstance(error, dict):
        return error
    return {"message": str(error)} if error else {}


def _with_partial_text(error: dict[str, Any], choice: _Choice) -> dict[str, Any]:
    message = choice.message if isinstance(choice.message, dict) else {}
    text = choice.text if isinstance(choice.text, str) else message.get("content")
    said = str(error.get("message") or "the server reports an error")
    partial = f" (the answer broke off after {text[:200]!r})" if isinstance(text, str) and text else ""
    return {**error, "message": f"{said}{partial}"}


def _otherwise_spelled(content: bytes) -> dict[str, Any] | None:
    """The error of a body that has nothing but what errors consist of; None for a body that may be a reply."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not value or not isinstance(value, dict) or not _NOT_A_REPLY.issuperset(value):
        return {"message": "an empty object"} if value == {} else None
    listed = value.get("errors")
    first = listed[0] if isinstance(listed, list) and listed else value.get("data") or value
    found = first if isinstance(first, dict) else {"message": str(first)}
    message = next((found[key] for key in _ERROR_KEYS if found.get(key)), None)
    code = next((found[key] for key in _CODE_KEYS if found.get(key) is not None), None)
    if message is None and code is None:
        return None
    return {"message": message if isinstance(message, str) else json.dumps(message), "code": code}


def _error(said: dict[str, Any], headers: Mapping[str, str], redact: Callable[[str], str]) -> LogprobStoreError:
    """The error as if it had come with the status that its code names, and 500 if it names none."""
    code = said.get("code")
    named = int(code) if isinstance(code, (int, str)) and str(code).isdecimal() else None
    if named is not None and named in _ERROR_STATUSES:
        status = named
    else:
        status = _RATE_LIMIT if _RATE_WORDS.search(str(said.get("message"))) else _DEFAULT_STATUS
    error = error_of(status, said, headers, redact=redact)
    if isinstance(error, CallError):
        error.maybe_billed = True  # with status 200 the service may have counted it as answered
    return error


def _no_reply(message: str) -> RetryableError:
    return RetryableError(message, error_type="malformed_answer", status=200, maybe_billed=True)


def _check_stream(content: bytes, headers: Mapping[str, str], redact: Callable[[str], str]) -> Usage | None:
    """Refuse a stream of events that reports an error or breaks off; the tokens that its last event reports."""
    usage: Usage | None = None
    ended = False
    for data in event_data(content):
        if data.strip() == DONE:
            ended = True
            continue
        try:
            piece = json.loads(data)
        except (ValueError, RecursionError):
            raise _no_reply(f"an event of the answer is no JSON: {excerpt(data)}") from None
        if not isinstance(piece, dict):
            continue
        inner = piece.get("response")
        response: dict[str, Any] = inner if isinstance(inner, dict) else piece
        if (said := _error_of_piece(piece, response)) is not None:
            raise _error(said, headers, redact)
        listed = piece.get("choices")
        choices = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        ended = ended or piece.get("type") in _LAST_EVENTS or any(item.get("finish_reason") for item in choices)
        if response.get("usage") is not None:
            usage = read_usage(json.dumps(response["usage"]).encode()) or usage
    if not ended:
        raise _no_reply(f"the stream of events broke off: {excerpt(content[-300:])}")
    return usage


def _error_of_piece(piece: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any] | None:
    if piece.get("type") == "response.failed" or piece.get("type") == "error":
        return _as_error(response.get("error")) or _as_error(piece)
    if piece.get("error"):
        return _as_error(piece["error"])
    listed = piece.get("choices")
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, dict) and (item.get("error") or item.get("finish_reason") == "error"):
            return _as_error(item.get("error")) or {"message": "the server reports an error"}
    return None
