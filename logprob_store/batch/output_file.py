"""The output and error files of a batch: one line for each call, in any order.

A line may come twice, in neither file, or under a name that nobody gave: `logprob_store.run.batches` takes each call
once, and says which have none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from logprob_store.errors import CallError, LogprobStoreError, RetryableError, StopRunError
from logprob_store.mended_json import as_utf8, loads_leniently
from logprob_store.transport.answer_check import check_answer
from logprob_store.transport.refusals import error_of, error_of_status, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from logprob_store.transport.redaction import Redaction
    from logprob_store.usage import Usage

_SUCCESS: Final = range(200, 300)
_INVALID: Final = 400
_FAILED: Final = 500
_STATUSES: Final = range(100, 600)
_LONGEST_LAST_LINE: Final = 1 << 26
_BY_THE_SERVICE: Final = ("server", "internal", "timeout", "unavailable", "overloaded")
"""Words in the code of a line's error that say that the service failed, not the request."""


class _Response(msgspec.Struct):
    status_code: Any = 200
    body: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct):
    custom_id: Any = None
    response: _Response | None = None
    error: Any = None


_DECODER: Final = msgspec.json.Decoder(_Line)


class OutputLine(NamedTuple):
    """A line of an output or error file: the call's name, the HTTP status and the body; or the error in their place."""

    custom_id: str
    status: int | None
    body: bytes
    error: dict[str, Any]


class Taken(NamedTuple):
    """What a line means for its call: the body to keep with its tokens, or the error."""

    body: bytes = b""
    usage: Usage | None = None
    status: int = 200
    error: LogprobStoreError | None = None


def read_output(path: Path) -> Iterator[OutputLine | None]:
    r"""The lines of a file, one at a time; None for one that cannot be read.

    Lines end with a line feed alone: U+2028 and the like may stand inside of a text.
    """
    with path.open("rb") as file:
        for raw in file:
            line = raw.strip(b" \t\r\n\x00").removeprefix(b"\xef\xbb\xbf")
            if line:
                yield _read_line(line)


def is_whole(path: Path) -> bool:
    """Whether the last line of a file can be read, as it cannot where a download broke off without a word."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LONGEST_LAST_LINE))
        lines = file.read().rstrip(b" \t\r\n\x00").split(b"\n")
    return not lines[-1] or len(lines) == 1 < size - _LONGEST_LAST_LINE or _read_line(lines[-1].strip()) is not None


def _read_line(line: bytes) -> OutputLine | None:
    try:
        read = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_odd_line(line)
    if not isinstance(read.custom_id, str):
        return None
    if read.response is None:
        return OutputLine(read.custom_id, None, b"", _error_object(read.error))
    body = bytes(read.response.body)
    return OutputLine(read.custom_id, _status(read.response.status_code), body, _error_object(read.error))


def _read_odd_line(line: bytes) -> OutputLine | None:
    """A line that only a lenient parser reads, with NaN or lone surrogates; None for what is no JSON object."""
    try:
        value = loads_leniently(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("custom_id"), str):
        return None
    response = value.get("response")
    if not isinstance(response, dict):
        return OutputLine(value["custom_id"], None, b"", _error_object(value.get("error")))
    body = as_utf8(json.dumps(response.get("body")).encode())
    return OutputLine(value["custom_id"], _status(response.get("status_code")), body, _error_object(value.get("error")))


def _status(said: Any) -> int:
    """The HTTP status of a line; one that is none, such as 0, means that the service failed."""
    try:
        status = int(said)
    except (TypeError, ValueError):
        return _SUCCESS.start
    return status if status in _STATUSES else _FAILED


def _error_object(said: Any) -> dict[str, Any]:
    if isinstance(said, dict) and isinstance(said.get("error"), dict):  # vLLM's
        said = said["error"]
    return said if isinstance(said, dict) else {"message": said} if isinstance(said, str) else {}


def take(line: OutputLine, redaction: Redaction, *, endpoint: str) -> Taken:
    """Check a line as a live answer is checked.

    Args:
        line: of an output or error file, which `client` has freed from secrets.
        redaction: takes them out of what is spelled otherwise here than in the file.
        endpoint: what was asked.
    """
    try:
        if line.status is None or line.body in {b"", b"null"}:
            raise error_of_line(line, redaction)
        body = as_utf8(line.body)
        if line.status not in _SUCCESS:
            refused = redaction.refusal(body)
            raise error_of_status(line.status, {}, refused, redact=redaction.text, endpoint=endpoint)
        kept, usage = check_answer(body, redact=redaction.text)
        return Taken(kept if kept is line.body else redaction.answer(kept), usage, line.status)
    except (CallError, StopRunError) as error:
        return Taken(status=line.status or 0, error=error.with_traceback(None))


def error_of_line(line: OutputLine, redaction: Redaction) -> LogprobStoreError:
    """The error of a line without an answer.

    >>> from logprob_store.transport.redaction import Redaction
    >>> error_of_line(OutputLine("1-a", None, b"", {"code": "batch_expired"}), Redaction()).error_type
    'batch_ended'
    """
    code = str(line.error.get("code") or "").lower()
    if "expired" in code or "cancel" in code:
        said = one_line(redaction.text(str(line.error.get("message") or code)))
        return RetryableError(f"the batch ended before this call was made ({said})", error_type="batch_ended")
    if not line.error and (line.status is None or line.status in _SUCCESS):
        return lost_line()
    status = line.status if line.status is not None and line.status not in _SUCCESS else _INVALID
    if any(word in code for word in _BY_THE_SERVICE):
        status = _FAILED
    return error_of(status, line.error, {}, redact=redaction.text)


def lost_line() -> RetryableError:
    """The error of a call that is in neither file of a batch that ended."""
    said = "the batch ended, and this call is in neither its output file nor its error file"
    return RetryableError(said, error_type="batch_lost", maybe_billed=True)
