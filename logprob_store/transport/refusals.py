"""What a server's refusal means: a 4xx or 5xx answer, or an error that comes with 200.

Holds the way from an answer's status, headers and body to one of this package's errors, and the harmless showing of
what servers say. Leaves out the classes themselves and what follows from them (`failures`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.failures import classify
from logprob_store.transport.rate_headers import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from logprob_store.errors import LogprobStoreError
    from logprob_store.failures import FailureClass

_REDIRECTS: Final = range(300, 400)
_EXCERPT: Final = 300
_LONGEST_MESSAGE: Final = 1000


def error_of_status(
    status: int, headers: Mapping[str, str], body: bytes, *, redacted: Callable[[str], str] = str
) -> LogprobStoreError:
    """What a 4xx or 5xx answer means, by its structured code first and its status second.

    Returns a `StopRunError` (quota used up, no access, logprobs refused: every other prompt would fail alike), a
    `RetryableError`, or a plain `CallError` (this prompt's failure), as `failures` says.

    Args:
        status: the HTTP status.
        headers: of the answer.
        body: of the answer.
        redacted: takes out of what the server says what must not be repeated.
    """
    said = error_said(body)
    code = str(said.get("code") or said.get("type") or "")
    message = str(said.get("message") or "") or excerpt(body) or "no message"
    where = one_line(redacted(f"HTTP {status}{f' {code}' if code else ''}: {message.rstrip('.')}"))
    kind = _with_word_on_retrying(classify(status, said), headers)
    if kind.then == "stop":
        return StopRunError(kind.advice.format(where=where), reason=kind.name, status=status)
    if kind.then == "again":
        return RetryableError(where, error_type=kind.name, status=status, retry_after_s=retry_after_s(headers))
    if status in _REDIRECTS:
        elsewhere = one_line(redacted(headers.get("location", "it does not say where")))
        where = f"{where}. The server is elsewhere ({elsewhere}): set model.base_url to that"
    return CallError(where, error_type=kind.name, status=status)


def _with_word_on_retrying(kind: FailureClass, headers: Mapping[str, str]) -> FailureClass:
    """The class, with the server's own word (`x-should-retry`) on whether to ask again."""
    said = headers.get("x-should-retry")
    if said not in {"true", "false"} or kind.then == "stop":
        return kind
    return dataclasses.replace(kind, then="again" if said == "true" else "row")


def error_said(body: bytes) -> dict[str, Any]:
    """The `error` of a body, however it is spelt; empty where there is none."""
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def excerpt(body: bytes) -> str:
    """The start of a body; no terminal escape and no stray byte reaches logs and tables."""
    text = body[:_EXCERPT].decode("utf-8", "replace")
    return ascii(text)[1:-1] if text else ""


def one_line(text: str) -> str:
    """What a server says, fit for logs, tables and terminals: no escapes, no line breaks, no megabytes."""
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text[:_LONGEST_MESSAGE])
    return shown + "..." if len(text) > _LONGEST_MESSAGE else shown
