"""The error that a refusal means: a 4xx or 5xx answer, or an error body with status 200.

Also makes what servers say harmless for logs, tables and terminals. The classes of failure, and what follows from each,
are in `logprob_store.failure_policy`.
"""

from __future__ import annotations

import dataclasses
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.failure_policy import classify
from logprob_store.transport.rate_headers import retry_after_s, wait_in_words_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from logprob_store.errors import LogprobStoreError
    from logprob_store.failure_policy import FailureClass

_REDIRECTS: Final = range(300, 400)
_EXCERPT_BYTES: Final = 300
_QUERIES: Final = re.compile(r"""(\bhttps?://[^\s"'<>?]+)\?[^\s"'<>)\]]+""", re.IGNORECASE)
_LONGEST_MESSAGE: Final = 1000
_NO_KEY: Final = (
    "the server wants a key, and none was sent. {where}. Name the environment variable that holds it in "
    "model.api_key_env (`ls.complete` takes api_key)."
)


def error_of_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    redact: Callable[[str], str] = str,
    sent_key: bool = True,
    endpoint: str | None = None,
    base_url: str | None = None,
) -> LogprobStoreError:
    """The error that an answer with an error status means, by its structured code first and its status second.

    Args:
        status: the HTTP status.
        headers: of the answer.
        body: of the answer.
        redact: removes the API key from what the server says.
        sent_key: whether the call had a key, so that it may be a wrong one.
        endpoint: what was asked, where that is known.
        base_url: the URL below which it was asked, where that is known.

    Returns:
        As `failures` says for its class: a `StopRunError` (every other prompt would fail alike), a `RetryableError`, or
        a plain `CallError` (this prompt's failure).
    """
    return error_of(
        status,
        error_object(body),
        headers,
        otherwise=excerpt(body),
        redact=redact,
        sent_key=sent_key,
        endpoint=endpoint,
        base_url=base_url,
    )


def error_of(
    status: int,
    said: Mapping[str, Any],
    headers: Mapping[str, str],
    *,
    otherwise: str = "",
    redact: Callable[[str], str] = str,
    sent_key: bool = True,
    endpoint: str | None = None,
    base_url: str | None = None,
) -> LogprobStoreError:
    """The error that a status and an error object mean; as `error_of_status`, of a body that is parsed already.

    Args:
        status: the HTTP status, or the one that an answer with status 200 names.
        said: the error object.
        headers: of the answer.
        otherwise: what is quoted where the error has no message.
        redact: removes the API key from what the server says.
        sent_key: whether the call had a key.
        endpoint: what was asked, where that is known.
        base_url: the URL below which it was asked, where that is known.
    """
    code = str(said.get("code") or said.get("type") or "")
    code = "" if code == str(status) else code
    message = _message(said) or otherwise or "no message"
    where = one_line(redact(f"HTTP {status}{f' {code}' if code else ''}: {message.rstrip('.')}"))
    kind = _with_should_retry(classify(status, said, endpoint=endpoint), headers)
    if kind.then == "stop":
        advice = kind.advice if sent_key or status != HTTPStatus.UNAUTHORIZED else _NO_KEY
        return StopRunError(advice.format(where=where), reason=kind.name, status=status, said=where)
    if kind.then == "again":
        wait_s = retry_after_s(headers)
        if wait_s is None and kind.pace == "limit":
            wait_s = wait_in_words_s(message)
        return RetryableError(where, error_type=kind.name, status=status, retry_after_s=wait_s)
    if status in _REDIRECTS:
        elsewhere = one_line(redact(headers.get("location", "it does not say where").partition("?")[0]))
        where = f"{where}. The server is elsewhere ({elsewhere}): set model.base_url to that"
    elif status == HTTPStatus.NOT_FOUND and base_url is not None and "model" not in message.lower():
        where += path_to_try(base_url)
    return CallError(where, error_type=kind.name, status=status)


def path_to_try(base_url: str) -> str:
    """The base URL that may have been meant by one without a path, as the end of a sentence; empty for any other.

    >>> path_to_try("http://127.0.0.1:8000/")
    '. Most servers have their API below /v1: try model.base_url = "http://127.0.0.1:8000/v1"'
    >>> path_to_try("http://127.0.0.1:8000/v1"), path_to_try("https://example.org/api/")
    ('', '')
    """
    parts = urlsplit(base_url)
    if parts.path.strip("/"):
        return ""
    tried = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/v1"
    return f'. Most servers have their API below /v1: try model.base_url = "{tried}"'


def _message(said: Mapping[str, Any]) -> str:
    """The server's words; a gateway such as OpenRouter has those of the service behind it beside its own."""
    metadata = said.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    words = (str(text) for text in (said.get("message"), raw) if text)
    return ": ".join(words)


def _with_should_retry(kind: FailureClass, headers: Mapping[str, str]) -> FailureClass:
    """The class, with `then` as the server's `x-should-retry` header says; a stop stays a stop."""
    should_retry = headers.get("x-should-retry")
    if should_retry not in {"true", "false"} or kind.then == "stop":
        return kind
    return dataclasses.replace(kind, then="again" if should_retry == "true" else "row")


def error_object(body: bytes) -> dict[str, Any]:
    """The `error` object of a body; a text becomes its `message`, and where there is none it is empty."""
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(parsed, list) and parsed:  # Gemini sends a list with the one error
        parsed = parsed[0]
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def excerpt(body: bytes) -> str:
    """The first 300 bytes of a body in ASCII: no terminal escape and no invalid byte reaches logs and tables."""
    text = body[:_EXCERPT_BYTES].decode("utf-8", "replace")
    return ascii(text)[1:-1] if text else ""


def one_line(text: str) -> str:
    """The first 1000 characters of a text on one line: no terminal escapes and no line breaks.

    Of addresses the query is left out: that of a signed one lets anyone in who reads it.

    >>> one_line("see https://files.example.org/a?X-Amz-Signature=0f9e for it")
    'see https://files.example.org/a?... for it'
    """
    text = _QUERIES.sub(r"\1?...", text)
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:_LONGEST_MESSAGE])
    return shown + "..." if len(text) > _LONGEST_MESSAGE else shown
