"""Live calls over the openai SDK, raw bytes in and raw bytes out.

Holds one client, one call, and the translation of what can go wrong into this package's errors. Leaves out retrying
(the SDK's own is off) and parsing: letting the SDK build its objects costs 20 ms of CPU for 128 tokens with 20
alternatives each, taking the bytes less than 1 ms.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import httpx2
import msgspec
import openai

from logprob_store.errors import CallError, JobError, LogprobStoreError, RetryableError, StopRunError
from logprob_store.job import OPENAI_BASE_URL
from logprob_store.request import PATHS, Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from logprob_store.request import Request
    from logprob_store.transport import Transport

_KEPT_HEADERS: Final = ("content-type", "date", "server", "x-request-id", "openai-processing-ms")
_ERROR_TYPES: Final = {408: "server_error", 409: "server_error", 429: "rate_limit"}
"""Those below 500 that are worth repeating."""

_CLIENT_ERRORS: Final = 400
_SERVER_ERRORS: Final = 500
_CONNECT_TIMEOUT_S: Final = 10.0
_LONGEST_RETRY_AFTER_S: Final = 24 * 3600.0
_EXCERPT: Final = 300
_LONGEST_MESSAGE: Final = 1000
_SKIP: Final = msgspec.json.Decoder(msgspec.Raw)

_REFUSALS_OF_LOGPROBS: Final = (
    "not allowed to request logprobs",
    "does not support the 'logprobs'",
    "does not support logprobs",
    "unrecognized request argument supplied: logprobs",
    "unsupported parameter: 'logprobs'",
    "unsupported parameter: 'top_logprobs'",
    "logprobs is not supported",
    "logprobs are not supported",
)


@asynccontextmanager
async def live_transport(
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    azure_api_version: str | None = None,
    azure_deployment: str | None = None,
    concurrency: int = 64,
    timeout_s: float = 600.0,
) -> AsyncIterator[Transport]:
    """One client for as long as the context lasts.

    Args:
        base_url: where the API is, OpenAI's own when None. The SDK's environment variable for it is not heeded:
            request keys would not know.
        api_key: the key, the SDK's default (its own environment variable) when None.
        azure_api_version: `base_url` is an Azure resource; the SDK's own Azure client asks it.
        azure_deployment: which of its deployments.
        concurrency: connections the pool holds; more calls than connections would end as pool timeouts.
        timeout_s: seconds one call may take, from connecting to the last byte.

    Raises:
        JobError: there is no API key, or it is not usable.
    """
    http_client = openai.DefaultAioHttpClient(
        timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S),
        limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
    )
    try:
        if azure_api_version is None:
            client = openai.AsyncOpenAI(
                base_url=base_url or OPENAI_BASE_URL,
                api_key=api_key,
                max_retries=0,
                timeout=timeout_s,
                http_client=http_client,
            )
        else:
            client = openai.AsyncAzureOpenAI(
                azure_endpoint=base_url or "",
                azure_deployment=azure_deployment,
                api_version=azure_api_version,
                api_key=api_key,
                max_retries=0,
                timeout=timeout_s,
                http_client=http_client,
            )
    except openai.OpenAIError as error:
        await http_client.aclose()
        raise JobError(f"the API client cannot be made: {error}") from error
    async with client:
        if not (client.api_key.isascii() and client.api_key.isprintable()):
            raise JobError(
                "the API key cannot be sent: it holds a line break or another character that no key has. "
                "Check the environment variable that the job's api_key_env names."
            )

        async def call(request: Request) -> Answer:
            return await _call(client, request, timeout_s=timeout_s)

        yield call


async def _call(client: openai.AsyncOpenAI, request: Request, *, timeout_s: float) -> Answer:
    started = time.perf_counter()
    try:
        # The client's own timeout starts anew with every byte: a server that drips would hold the call for ever.
        async with asyncio.timeout(timeout_s):
            response = await client.post(
                PATHS[request.endpoint],
                cast_to=httpx2.Response,
                content=request.content,
                # A redirect would carry the prompt to a service that the key of this request does not know.
                options={"headers": {"Content-Type": "application/json"}, "follow_redirects": False},
            )
    except openai.APIStatusError as error:
        content = error.response.content.replace(client.api_key.encode(), b"[key]")
        raise error_of_status(error.status_code, error.response.headers, content) from None
    except TimeoutError:
        said = f"the server did not answer within {timeout_s:g} s"
        raise RetryableError(said, error_type="timeout", maybe_billed=True) from None
    except (openai.APIConnectionError, httpx2.TransportError, httpx2.DecodingError) as error:
        # httpx2's own: where a body breaks off after the status line, the SDK no longer translates.
        raise _lost(error) from error
    body = response.content
    check_body(body)
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return Answer(
        request,
        response.status_code,
        headers,
        body,
        "api",
        latency_s=time.perf_counter() - started,
        fetched_at=datetime.now(UTC),
    )


def _lost(error: Exception) -> RetryableError:
    """What to make of a call whose answer never came whole, judged by what lies at its root.

    The layers between translate coarsely: a server that hangs up after the request was sent reaches the SDK as a
    connect timeout. Only a connection that never came about is surely unbilled.
    """
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    root = chain[-1]
    unsent = any(isinstance(link, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)) for link in chain)
    timed_out = isinstance(root, TimeoutError)
    what = "the server did not answer in time" if timed_out else "the connection failed or broke off"
    detail = f"{type(root).__name__}: {root}".rstrip(": ")
    return RetryableError(
        _one_line(f"{what} ({detail})"),
        error_type="timeout" if timed_out else "connection",
        maybe_billed=not unsent,
    )


def check_body(body: bytes) -> None:
    """Refuse what is no answer before it is cached: no JSON object (empty, broken off, HTML), an error with 200.

    Skipping through the JSON costs some 1.4 ms a megabyte; its rows are made later, many answers at a time.

    Raises:
        CallError: see `error_of_status`; RetryableError for a body that is no JSON object.
    """
    if not body.lstrip().startswith(b"{") or not _is_json(body):
        what = f"is no JSON object: {_excerpt(body)}" if body.strip() else "is empty"
        raise RetryableError(f"the answer {what}", error_type="malformed_answer", status=200, maybe_billed=True)
    if b'"error"' in body[:64] and b'"choices"' not in body and b'"output"' not in body:
        said = _error_of(body)
        status = said.get("code") if isinstance(said.get("code"), int) else None
        raise error_of_status(status or 500, {}, body)


def _is_json(body: bytes) -> bool:
    try:
        _SKIP.decode(body)
    except RecursionError:
        return False
    except msgspec.DecodeError:
        # Strict JSON has no -Infinity, NaN or lone surrogates; servers written in Python send them.
        try:
            json.loads(body)
        except (ValueError, RecursionError):
            return False
    return True


def error_of_status(status: int, headers: Mapping[str, str], body: bytes) -> LogprobStoreError:
    """What a 4xx or 5xx answer means, by its structured code first and its status second.

    Returns a `StopRunError` (quota used up, no access, logprobs refused: every other prompt would fail alike), a
    `RetryableError`, or a plain `CallError` (this prompt's failure).
    """
    said = _error_of(body)
    code = str(said.get("code") or said.get("type") or "")
    message = str(said.get("message") or "") or _excerpt(body) or "no message"
    where = _one_line(f"HTTP {status}{f' {code}' if code else ''}: {message.rstrip('.')}")
    if refuses_logprobs(said):
        return StopRunError(
            f"the model does not give logprobs, so every prompt would fail alike. {where}. "
            "Choose another model, or lower top_logprobs if that is what is refused.",
            reason="logprobs_refused",
            status=status,
        )
    if said.get("code") == "insufficient_quota":
        return StopRunError(
            f"the quota is used up. {where}. Add credit, then run the same command to go on.",
            reason="quota",
            status=status,
        )
    if status in {401, 403}:
        return StopRunError(
            f"the server refuses this key. {where}. Check the key that the job's api_key_env names.",
            reason="authentication",
            status=status,
        )
    error_type = _ERROR_TYPES.get(status, "server_error" if status >= _SERVER_ERRORS else "invalid_request")
    if _worth_repeating(status, headers):
        return RetryableError(where, error_type=error_type, status=status, retry_after_s=retry_after_s(headers))
    if said.get("code") == "content_filter":
        error_type = "content_filter"
    if status < _CLIENT_ERRORS:
        where = f"{where}. The server is elsewhere ({headers.get('location')}): set model.base_url to that"
    return CallError(where, error_type=error_type, status=status)


def refuses_logprobs(said: Mapping[str, Any]) -> bool:
    """Whether an error body says that this model gives no logprobs.

    >>> refuses_logprobs({"code": "unsupported_parameter", "param": "logprobs"})
    True
    >>> refuses_logprobs({"message": "Unsupported value: temperature"})
    False
    """
    if said.get("code") in {"unsupported_parameter", "unsupported_value"}:
        return said.get("param") in {"logprobs", "top_logprobs"}
    message = str(said.get("message") or "").lower()
    return any(words in message for words in _REFUSALS_OF_LOGPROBS)


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds the server asks to wait: `retry-after-ms`, `retry-after` in seconds or as a date; None if unsaid.

    >>> retry_after_s({"retry-after-ms": "1500", "retry-after": "9"})
    1.5
    >>> retry_after_s({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, now=datetime(2026, 10, 21, 7, 28, tzinfo=UTC))
    10.0
    >>> retry_after_s({"retry-after": "soon"}) is None
    True
    """
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            wait = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if 0 <= wait <= _LONGEST_RETRY_AFTER_S:
            return wait
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    wait = (date - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, wait) if wait <= _LONGEST_RETRY_AFTER_S else None


def _worth_repeating(status: int, headers: Mapping[str, str]) -> bool:
    said = headers.get("x-should-retry")
    if said in {"true", "false"}:
        return said == "true"
    return status in _ERROR_TYPES or status >= _SERVER_ERRORS


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _excerpt(body: bytes) -> str:
    # ascii() keeps terminal escapes and stray bytes out of logs and tables.
    text = body[:_EXCERPT].decode("utf-8", "replace")
    return ascii(text)[1:-1] if text else ""


def _one_line(text: str) -> str:
    # What a server says ends up in logs, tables and terminals: no escapes, no line breaks, no megabytes.
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text[:_LONGEST_MESSAGE])
    return shown + "..." if len(text) > _LONGEST_MESSAGE else shown
