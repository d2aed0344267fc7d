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

from logprob_store.errors import UNFORESEEN_FAULTS, CallError, RetryableError, StopRunError, describe_fault
from logprob_store.mended_json import is_utf8, loads_leniently, mend
from logprob_store.reported_errors import MayReport, ends_in_failure, find_reported_error
from logprob_store.sse import DONE, ChoiceEnds, event_data, is_event_stream
from logprob_store.transport.refusals import error_of, excerpt, one_line
from logprob_store.usage import read_usage, tier_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from logprob_store.errors import LogprobStoreError
    from logprob_store.usage import ReportedUsage, Usage

_ERROR_STATUS: Final = re.compile("[4-9][0-9]{2}")
_DEFAULT_STATUS: Final = 500
_RATE_LIMIT: Final = 429
_NOT_FOUND: Final = 404
_NOT_FOUND_WORDS: Final = re.compile(r"model[^.]{0,80}(?:not.found|does not exist)|unknown.model", re.IGNORECASE)
_RATE_WORDS: Final = re.compile(r"rate.?limit|too many requests|\bqps\b", re.IGNORECASE)
"""Words that mean a rate limit where neither a status nor a code says so."""
_COMMENTS: Final = re.compile(rb"\s*(?::[^\n]*\n\s*)+(?=\{)")
"""Comments of a stream, by which a gateway keeps the connection alive until it has the JSON."""
_UNFINISHED: Final = ("queued", "in_progress")
_FAILED_EVENT: Final = "response.failed"
_LAST_EVENTS: Final = ("response.completed", "response.incomplete")
"""These are tuples: what is looked up in them came from a server, and a list or an object is in no set."""


class _Choice(msgspec.Struct):
    finish_reason: Any = None
    error: Any = None


class _Body(MayReport):
    """The fields that decide; the logprobs are skipped, which also checks that they are JSON."""

    usage: msgspec.Raw = msgspec.Raw()
    service_tier: Any = None
    choices: list[_Choice] | None = None
    output: msgspec.Raw = msgspec.Raw()
    answers: msgspec.Raw = msgspec.Raw()

    def is_suspect(self) -> bool:
        """Whether the body may report an error: it says so, or holds no reply."""
        if not self.choices and {bytes(self.output), bytes(self.answers)} <= {b"", b"null"}:
            return True
        failed = (choice.error or ends_in_failure(choice.finish_reason) for choice in self.choices or ())
        return super().is_suspect() or any(failed)


_DECODER: Final = msgspec.json.Decoder(_Body)


def check_answer(
    body: bytes, *, headers: Mapping[str, str] | None = None, redact: Callable[[str], str] = str
) -> tuple[bytes, Usage | None]:
    """Refuse a body with status 200 that is no reply: empty, broken off, HTML, or an error in any spelling.

    A stream of events is a reply too, though nobody asked for it. What stands around the JSON, such as a `data: [DONE]`
    behind it or comments of a stream in front of it, is cut off, and JSON that only lenient parsers read is mended: see
    `mended_json`. A byte that is no UTF-8 becomes U+FFFD.

    Args:
        body: as it came.
        headers: of the answer; they may say how long to wait.
        redact: takes out of the server's words what must not be repeated.

    Returns:
        The body to keep, and the tokens that the call took; None where the body does not say.

    Raises:
        LogprobStoreError: the error that the body reports, as if it had come with its status, see `refusals.error_of`;
            a RetryableError for a body that is no reply at all; a CallError for one that the check did not foresee.

    >>> check_answer(b'{"choices":[{}],"usage":{"prompt_tokens":7,"completion_tokens":5}}')[1].total
    12
    """
    try:
        return _check(body, headers or {}, redact)
    except UNFORESEEN_FAULTS as error:
        said = f"the check did not foresee this answer ({describe_fault(error)}); please report it"
        message = one_line(redact(said))
    raise CallError(message, error_type="unforeseen", status=200, maybe_billed=True)


def _check(body: bytes, headers: Mapping[str, str], redact: Callable[[str], str]) -> tuple[bytes, Usage | None]:
    """As `check_answer`."""
    content = body.removeprefix(codecs.BOM_UTF8)  # JSON allows none, some servers send one, and decoding skips it
    if (comments := _COMMENTS.match(content)) is not None:
        body = content = content[comments.end() :]
    if is_event_stream(content):
        return body, _check_stream(content, headers, redact)
    head = _read(content) if content.lstrip().startswith(b"{") else None
    if head is None and (mended := mend(content)) is not None:
        return _check(mended, headers, redact)
    if head is None:
        what = f"is no JSON object: {excerpt(body)}" if body.strip() else "is empty"
        raise _no_reply(f"the answer {what}")
    said = _reported_error(head, content)
    if said is not None:
        raise _error(said, headers, redact)
    if head.status in _UNFINISHED and head.choices is None:
        message = f"the answer is not finished ({head.status}). Take `background` out of the params of the job"
        raise CallError(message, error_type="error_body", status=200, maybe_billed=True)
    kept = body if is_utf8(body) else body.decode(errors="replace").encode()
    return kept, read_usage(bytes(head.usage), tier=tier_of(head.service_tier))


def _read(content: bytes) -> _Body | None:
    """The fields that decide; None for what is no JSON object."""
    try:
        return _DECODER.decode(content)
    except RecursionError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    # A field of an odd type, or what servers written in Python send and msgspec refuses: NaN, lone surrogates.
    value = _loads_or_none(content)
    if not isinstance(value, dict):
        return None
    listed = value.get("choices")
    choices = [
        _Choice(*(item.get(name) for name in _Choice.__struct_fields__)) if isinstance(item, dict) else _Choice()
        for item in (listed if isinstance(listed, list) else ())
    ]
    usage = msgspec.Raw(json.dumps(value.get("usage")).encode())
    output = msgspec.Raw(b"[]" if value.get("output") is not None else b"")
    said = {name: value.get(name) for name in MayReport.__struct_fields__}
    answers = msgspec.Raw(b"[]" if value.get("answers") is not None else b"")
    return _Body(
        **said,
        usage=usage,
        service_tier=value.get("service_tier"),
        choices=choices or None,
        output=output,
        answers=answers,
    )


def _reported_error(head: _Body, content: bytes) -> dict[str, Any] | None:
    """The error that a body reports, with the text that came before it; None for a reply."""
    if not head.is_suspect():
        return None
    value = _loads_or_none(content)
    if not value:
        return {"message": "an empty object"}
    found = find_reported_error(value)
    if found is None:
        return None
    partial = f" (the answer broke off after {found.partial[:200]!r})" if found.partial else ""
    return {**found.said, "message": f"{found.said.get('message') or 'the server reports an error'}{partial}"}


def _error(said: dict[str, Any], headers: Mapping[str, str], redact: Callable[[str], str]) -> LogprobStoreError:
    """The error as if it had come with the status that its code or its words name, and 500 if they name none."""
    code = said.get("code")
    named = str(code) if isinstance(code, (int, str)) else ""
    if _ERROR_STATUS.fullmatch(named):
        status = int(named)
    elif _RATE_WORDS.search(str(said.get("message"))):
        status = _RATE_LIMIT
    else:
        status = _NOT_FOUND if _NOT_FOUND_WORDS.search(f"{named} {said.get('message')}") else _DEFAULT_STATUS
    error = error_of(status, said, headers, redact=redact)
    if isinstance(error, (CallError, StopRunError)):
        error.maybe_billed = True  # with status 200 the service may have counted it as answered
    return error


def _loads_or_none(content: bytes) -> Any:
    """The value of a JSON text as Python reads it; None if it is not JSON."""
    try:
        return loads_leniently(content)
    except (ValueError, RecursionError):
        return None


def _no_reply(message: str) -> RetryableError:
    return RetryableError(message, error_type="malformed_answer", status=200, maybe_billed=True)


def _check_stream(content: bytes, headers: Mapping[str, str], redact: Callable[[str], str]) -> Usage | None:
    """Refuse a stream of events that reports an error or breaks off; the tokens that its last event reports."""
    usage: ReportedUsage | None = None
    tier: str | None = None
    is_done = False
    choices = ChoiceEnds()
    events = event_data(content)
    if all(data.strip() == DONE for data in events):
        raise _no_reply("the stream of events holds no answer")
    for data in events:
        if data.strip() == DONE:
            is_done = True
            continue
        try:
            piece = loads_leniently(data)
        except (ValueError, RecursionError):
            raise _no_reply(f"an event of the answer is no JSON: {excerpt(data)}") from None
        if not isinstance(piece, dict):
            continue
        inner = piece.get("response")
        response: dict[str, Any] = inner if isinstance(inner, dict) else piece
        if (said := _error_of_piece(piece, response)) is not None:
            raise _error(said, headers, redact)
        choices.add(piece)
        named = tier_of(response.get("service_tier"))
        tier = tier if named is None else named
        is_done = is_done or piece.get("type") in _LAST_EVENTS
        if response.get("usage") is not None:
            counted = read_usage(json.dumps(response["usage"]).encode())
            if counted is not None and (usage is None or counted.total >= usage.total):
                usage = counted
    if choices.is_open or not (is_done or choices.has_ended_one):
        raise _no_reply(f"the stream of events broke off: {excerpt(content[-300:])}")
    return usage if usage is None else usage.served_by(tier)


def _error_of_piece(piece: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any] | None:
    """The error that a piece of a stream reports: in the form of a whole body, or of an event of the Responses API."""
    for body in (response, piece):
        if (found := find_reported_error(body)) is not None:
            return found.said
    return {"message": "status: failed"} if piece.get("type") == _FAILED_EVENT else None
