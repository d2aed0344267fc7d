"""Live calls, raw bytes in and raw bytes out.

Holds one session, one call, and what to make of an answer that never came whole. Leaves out where calls go and how they
are authenticated (`addresses`: the SDK's knowledge), retrying, what a refusal means (`refusals`) and parsing.

The SDK's own way to make a call costs 1.2 ms of CPU, and 20 ms more to build objects of 128 tokens with 20 alternatives
each; posting to the address that it made costs 0.15 ms.
"""

from __future__ import annotations

import codecs
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import aiohttp
import httpx2

from logprob_store.errors import CallError, LogprobStoreError, RetryableError
from logprob_store.request import OPENAI_BASE_URL, Answer
from logprob_store.transport.addresses import Addresses
from logprob_store.transport.body_reader import ACCEPT_ENCODING, MAX_ANSWER_BYTES, SUCCESS, BodyReader
from logprob_store.transport.idle_connections import RequestOverQuiet, StaleConnectionError
from logprob_store.transport.rate_headers import have_rate_limits, read_rate_limits
from logprob_store.transport.redaction import Redaction
from logprob_store.transport.refusals import error_of_status, error_said, excerpt, one_line
from logprob_store.transport.url_and_key import check_url
from logprob_store.usage import ServerReport, find_usage, read_usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from logprob_store.request import Request
    from logprob_store.transport import Transport
    from logprob_store.usage import Usage

_ANSWER_HEADERS: Final = ("content-type", "date", "server", "x-request-id", "openai-processing-ms")
_CONNECT_TIMEOUT_S: Final = 10.0
_LONGEST_HEADER_BYTES: Final = 1 << 16
_MOST_HEADERS: Final = 1024
"""Gateways add cookies and policies by the kilobyte; an answer that was paid for is not to be lost to them."""
_ERRORS: Final = range(400, 1000)
_UNSAID: Final = 500


@asynccontextmanager
async def live_transport(
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    azure_api_version: str | None = None,
    azure_deployment: str | None = None,
    concurrency: int = 64,
    timeout_s: float = 600.0,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
) -> AsyncIterator[Transport]:
    """One session for as long as the context lasts.

    Args:
        base_url: where the API is, OpenAI's own when None. The SDK's environment variable for it is not heeded:
            request keys would not know.
        api_key: the key, the SDK's default (its own environment variable) when None.
        azure_api_version: `base_url` is an Azure resource; the SDK's own Azure client asks it.
        azure_deployment: which of its deployments.
        concurrency: connections the pool holds; more calls than connections would end as pool timeouts.
        timeout_s: seconds one call may take, from connecting to the last byte.
        max_answer_bytes: what an answer may have at most, as received and when inflated.

    Raises:
        JobError: there is no API key, or it is not usable, or the URL holds one.
    """
    check_url(base_url)
    addresses = Addresses(
        base_url=base_url,
        api_key=api_key,
        azure_api_version=azure_api_version,
        azure_deployment=azure_deployment,
    )
    # The certificates that the SDK would trust. For plain HTTP there is nothing to load.
    trusted = httpx2.create_ssl_context() if (base_url or OPENAI_BASE_URL).lower().startswith("https") else True
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency, ssl=trusted),
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=RequestOverQuiet,
        auto_decompress=False,
        max_line_size=_LONGEST_HEADER_BYTES,
        max_field_size=_LONGEST_HEADER_BYTES,
        max_headers=_MOST_HEADERS,
        headers={"Accept-Encoding": ACCEPT_ENCODING},
    ) as session:
        bodies = BodyReader(max_answer_bytes)
        redaction = Redaction(addresses.api_key)

        async def call(request: Request) -> Answer:
            while True:
                try:
                    return await _call(session, addresses, bodies, redaction, request)
                except StaleConnectionError:
                    continue  # it is closed now; in the end there is a new one

        yield call


async def _call(
    session: aiohttp.ClientSession, addresses: Addresses, bodies: BodyReader, redaction: Redaction, request: Request
) -> Answer:
    address = await addresses.of(request.endpoint)
    started = time.perf_counter()
    try:
        # A redirect would carry the prompt to a service that the key of this request does not know.
        async with session.post(
            address.url, data=request.content, headers=address.headers, proxy=address.proxy, allow_redirects=False
        ) as response:
            body = await bodies.read(response)
    except StaleConnectionError:
        raise
    except TimeoutError as error:
        raise _late(error, session.timeout.total) from error
    except (aiohttp.ClientError, OSError) as error:
        raise _lost(error, redaction.text) from error
    if response.status not in SUCCESS:
        refusal = error_of_status(response.status, response.headers, redaction.refusal(body), redacted=redaction.text)
        raise _with_report(refusal, response)
    body = redaction.answer(body)
    try:
        usage = check_body(body)
    except LogprobStoreError as error:
        refused = _with_report(error.with_traceback(None), response)
        del response, body  # the error keeps this frame alive, and would keep what is in it
        raise refused from None
    report = _report(response)
    if usage is not None:
        levels = (None, None) if report is None else report[:2]
        report = ServerReport(*levels, usage.total, usage)
    return Answer(
        request,
        response.status,
        {name: redaction.text(_plain(response.headers[name])) for name in _ANSWER_HEADERS if name in response.headers},
        body,
        "api",
        latency_s=time.perf_counter() - started,
        fetched_at=datetime.now(UTC),
        report=report,
    )


def _plain(value: str) -> str:
    """A header's value as JSON can hold it: bytes that are no UTF-8 come as lone surrogates."""
    return value if value.isascii() else value.encode(errors="surrogateescape").decode(errors="replace")


def _report(response: aiohttp.ClientResponse) -> ServerReport | None:
    """What the headers of an answer report about rate limits."""
    return read_rate_limits(response.headers) if have_rate_limits(response.raw_headers) else None


def _with_report(error: LogprobStoreError, response: aiohttp.ClientResponse) -> LogprobStoreError:
    """The error, with what its answer said about limits."""
    if isinstance(error, CallError):
        error.report = _report(response)
    return error


def _late(error: TimeoutError, timeout_s: float | None) -> RetryableError:
    """A call that took too long: to be connected, for which nothing is billed, or as a whole."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _lost(error)
    said = f"the server did not answer within {timeout_s:g} s"
    return RetryableError(said, error_type="timeout", maybe_billed=True)


def _lost(error: Exception, redacted: Callable[[str], str] = str) -> RetryableError:
    """What to make of a call whose answer never came whole, judged by what lies at its root.

    Only a connection that never came about is surely unbilled.
    """
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    root = chain[-1]
    if any(isinstance(link, aiohttp.ClientResponseError) for link in chain):
        what = f"the answer is no HTTP: {type(root).__name__}: {' '.join(str(root).split())}"
        return RetryableError(one_line(redacted(what)), error_type="malformed_answer", maybe_billed=True)
    unsent = any(isinstance(link, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)) for link in chain)
    timed_out = isinstance(root, TimeoutError)
    what = "the server did not answer in time" if timed_out else "the connection failed or broke off"
    detail = f"{type(root).__name__}: {root}".rstrip(": ")
    return RetryableError(
        one_line(redacted(f"{what} ({detail})")),
        error_type="timeout" if timed_out else "connection",
        maybe_billed=not unsent,
    )


def check_body(body: bytes) -> Usage | None:
    """Refuse what is no answer before it is cached: no JSON object (empty, broken off, HTML), an error with 200.

    Skipping through the JSON costs some 1.4 ms a megabyte; its rows are made later, many answers at a time. On the
    way `usage` is picked up: returns the tokens that the call took, None where the server does not say.

    Raises:
        CallError: see `error_of_status`; RetryableError for a body that is no JSON object.

    >>> check_body(b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}').total
    12
    """
    text = body.removeprefix(codecs.BOM_UTF8)  # no part of JSON, but some put it there, and decoding passes over it
    used = find_usage(text) if text.lstrip().startswith(b"{") else None
    if used is None:
        what = f"is no JSON object: {excerpt(body)}" if body.strip() else "is empty"
        raise RetryableError(f"the answer {what}", error_type="malformed_answer", status=200, maybe_billed=True)
    if b'"error"' in body[:64] and b'"choices"' not in body and b'"output"' not in body:
        code = error_said(body).get("code")
        error = error_of_status(code if isinstance(code, int) and code in _ERRORS else _UNSAID, {}, body)
        if isinstance(error, CallError):
            error.maybe_billed = True  # the service counts it as answered, whatever it says
        raise error
    return read_usage(used)
