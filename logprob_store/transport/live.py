"""Live calls to a server: raw bytes in, raw bytes out.

`addresses` has URLs and authentication as the SDK makes them, `refusals` what an error answer means.

A call through the SDK takes 1.2 ms of CPU, and 20 ms more to build objects for 128 tokens with 20 alternatives each.
Posting to the address that the SDK made takes 0.15 ms.
"""

from __future__ import annotations

import errno
import socket
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import aiohttp
import httpx2

from logprob_store.errors import CallError, LogprobStoreError, Response, RetryableError, StopRunError
from logprob_store.failure_policy import FAILURES
from logprob_store.mended_json import as_utf8
from logprob_store.request import OPENAI_BASE_URL, PATHS, Answer
from logprob_store.transport.addresses import Addresses
from logprob_store.transport.answer_check import check_answer
from logprob_store.transport.body_reader import ACCEPT_ENCODING, MAX_ANSWER_BYTES, SUCCESS, BodyReader
from logprob_store.transport.environment import check_environment
from logprob_store.transport.idle_connections import CleanConnectionRequest, StaleConnectionError
from logprob_store.transport.kept_headers import CACHED, kept
from logprob_store.transport.rate_headers import have_rate_limits, read_rate_limits
from logprob_store.transport.redaction import Redaction
from logprob_store.transport.refusals import error_of_status, one_line
from logprob_store.transport.url_and_key import check_url
from logprob_store.usage import ServerReport

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping

    from logprob_store.request import Request
    from logprob_store.transport import Transport
    from logprob_store.usage import Usage

CONNECT_TIMEOUT_S: Final = 10.0
_PROBE_AFTER_S: Final = 60
_LONGEST_REFUSAL: Final = 1 << 20
_OF_THIS_MACHINE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of a socket that is not opened: no file descriptor, memory or port is left."""
_LONGEST_HEADER_BYTES: Final = 1 << 16
_MOST_HEADERS: Final = 1024
"""Gateways add kilobytes of cookies and policies; no answer that was paid for should be lost to them."""


def keepalive_socket(address: tuple[Any, ...]) -> socket.socket:
    """A TCP socket that sends a probe after a minute of silence.

    A call may be silent for minutes, while a model reasons or the call waits in the server's queue. Gateways and
    firewalls forget connections that are idle for as long, and the answer, which is billed, would never arrive.

    Args:
        address: an item of `socket.getaddrinfo`.
    """
    family, kind, protocol = address[:3]
    opened = socket.socket(family, kind, protocol)
    _keep_alive(opened)
    return opened


def _keep_alive(opened: socket.socket) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # macOS has TCP_KEEPALIVE in place of TCP_KEEPIDLE.
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    for option, seconds in ((idle, _PROBE_AFTER_S), (getattr(socket, "TCP_KEEPINTVL", None), _PROBE_AFTER_S)):
        if option is not None:
            opened.setsockopt(socket.IPPROTO_TCP, option, seconds)


def _connector(socks_proxy: str | None, **options: Any) -> aiohttp.TCPConnector:
    if socks_proxy is None:
        return aiohttp.TCPConnector(socket_factory=keepalive_socket, **options)
    from logprob_store.transport.socks import socks_connector

    return socks_connector(socks_proxy, _keep_alive, **options)


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
    headers: Mapping[str, str] = MappingProxyType({}),
    query: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Transport]:
    """A transport with one HTTP session, for as long as the context lasts.

    Args:
        base_url: URL of the API, OpenAI's when None. The SDK's environment variable for it is ignored, because request
            keys do not include it.
        api_key: the key; when None, the SDK reads its own environment variable, for OpenAI's address only; an empty
            text sends none.
        azure_api_version: `base_url` is an Azure resource; its addresses are made by the SDK's Azure client.
        azure_deployment: which of its deployments.
        concurrency: connections in the pool; a call beyond these waits for a connection within its `timeout_s`.
        timeout_s: seconds that a call may take, from connecting to the last byte.
        max_answer_bytes: the most bytes of an answer, both as received and as inflated.
        headers: sent with each call; their values are secrets that no answer may repeat.
        query: added to each URL.

    Raises:
        JobError: there is no API key, it cannot be sent, the URL holds credentials, a query or a fragment, or the
            environment names a proxy or certificates that cannot be used.
    """
    check_url(base_url)
    check_environment(base_url)
    addresses = Addresses(
        base_url=base_url,
        api_key=api_key,
        azure_api_version=azure_api_version,
        azure_deployment=azure_deployment,
        headers=headers,
        query=query,
    )
    async with http_session(base_url, addresses, concurrency=concurrency, timeout_s=timeout_s) as session:
        bodies = BodyReader(max_answer_bytes)
        redaction = Redaction(*addresses.secrets)
        sends_key = api_key != "" or bool(headers)

        async def call(request: Request) -> Answer:
            while True:
                try:
                    return await _call(session, addresses, bodies, redaction, request, sends_key=sends_key)
                except StaleConnectionError:
                    continue  # that connection is closed now: the pool gives another, or opens one

        yield call


def http_session(
    base_url: str | None, addresses: Addresses, *, concurrency: int, timeout_s: float
) -> aiohttp.ClientSession:
    """An HTTP session as calls need it: bodies as they come, no cookies, the proxy and the certificates of the SDK.

    Args:
        base_url: as for `live_transport`.
        addresses: has the proxy.
        concurrency: connections in the pool.
        timeout_s: seconds that a call may take.
    """
    return aiohttp.ClientSession(
        connector=_connector(addresses.socks_proxy, limit=concurrency, ssl=trusted_certificates(base_url)),
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=CleanConnectionRequest,
        auto_decompress=False,
        max_line_size=_LONGEST_HEADER_BYTES,
        max_field_size=_LONGEST_HEADER_BYTES,
        max_headers=_MOST_HEADERS,
        headers={"Accept-Encoding": ACCEPT_ENCODING},
    )


def trusted_certificates(base_url: str | None) -> ssl.SSLContext | Literal[True]:
    """The certificates that the SDK trusts; True for plain HTTP, which needs none."""
    return httpx2.create_ssl_context() if (base_url or OPENAI_BASE_URL).lower().startswith("https") else True


async def _call(
    session: aiohttp.ClientSession,
    addresses: Addresses,
    bodies: BodyReader,
    redaction: Redaction,
    request: Request,
    *,
    sends_key: bool,
) -> Answer:
    address = await addresses.of(request.endpoint)
    started = time.perf_counter()
    try:
        # A redirect could send the prompt to another service than the one in the request's key.
        async with session.post(
            address.url, data=request.content, headers=address.headers, proxy=address.proxy, allow_redirects=False
        ) as response:
            body = await bodies.read(response)
    except StaleConnectionError:
        raise
    except TimeoutError as error:
        raise _timeout_error(error, session.timeout.total) from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise certificate_error(error) from error
    except aiohttp.ClientConnectorSSLError as error:
        if (stop := no_tls_error(error)) is not None:
            raise stop from error
        raise connection_error(error, redaction.text) from error
    except (aiohttp.ClientError, OSError) as error:
        raise connection_error(error, redaction.text) from error
    headers = {name: redaction.text(_valid_unicode(value)) for name, value in kept(response.headers, CACHED).items()}
    body = as_utf8(body)
    if response.status not in SUCCESS:
        body = redaction.refusal(body)
        refusal = error_of_status(
            response.status,
            response.headers,
            body,
            redact=redaction.text,
            sent_key=sends_key,
            endpoint=request.endpoint,
            base_url=str(address.url).partition("?")[0].removesuffix(PATHS.get(request.endpoint, "")),
        )
        raise _with_response(refusal, headers, body, response)
    body = redaction.answer(body)
    try:
        checked, usage = check_answer(body, headers=response.headers, redact=redaction.text)
    except LogprobStoreError as error:
        refused = _with_response(error.with_traceback(None), headers, body[:_LONGEST_REFUSAL], response)
        del response, body  # the error keeps this frame alive, and with it these
        raise refused from None
    # A key that is spelled otherwise before the body is mended is found only now.
    body = body if checked is body else redaction.answer(checked)
    return Answer(
        request,
        response.status,
        headers,
        body,
        "api",
        latency_s=time.perf_counter() - started,
        fetched_at=datetime.now(UTC),
        report=_report(response, usage),
    )


def _valid_unicode(value: str) -> str:
    """A header's value without lone surrogates, which stand for bytes that are no UTF-8 and which JSON cannot hold."""
    return value if value.isascii() else value.encode(errors="surrogateescape").decode(errors="replace")


def _report(response: aiohttp.ClientResponse, usage: Usage | None = None) -> ServerReport | None:
    """What an answer reports: rate limits, from its headers, and the tokens that the call took."""
    report = read_rate_limits(response.headers) if have_rate_limits(response.raw_headers) else None
    if usage is None:
        return report
    limits = (None, None) if report is None else report[:2]
    return ServerReport(*limits, usage.total, usage)


def _with_response(
    error: LogprobStoreError, headers: Mapping[str, str], body: bytes, response: aiohttp.ClientResponse
) -> LogprobStoreError:
    """The error, with what came in place of an answer, and what that reports about rate limits."""
    if isinstance(error, (CallError, StopRunError)):
        error.response = Response(response.status, headers, body, datetime.now(UTC))
    if isinstance(error, CallError):
        error.report = _report(response)
    return error


def _timeout_error(error: TimeoutError, timeout_s: float | None) -> RetryableError:
    """The error of a call that took too long, to connect (then nothing is billed) or as a whole."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return connection_error(error)
    said = f"the server did not answer within {timeout_s:g} s"
    return RetryableError(said, error_type="timeout", maybe_billed=True)


def certificate_error(error: aiohttp.ClientConnectorCertificateError) -> StopRunError:
    """The error of a server that cannot prove who it is: no call to it can succeed, and no key should reach it."""
    why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
    where = one_line(f"{error.host}:{error.port}: {why}")
    return StopRunError(FAILURES["certificate"].advice.format(where=where), reason="certificate")


_PLAIN_ANSWERS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})
"""How OpenSSL says that what came in answer to a greeting was no TLS at all."""


def no_tls_error(error: aiohttp.ClientConnectorSSLError) -> StopRunError | None:
    """The error of a server that speaks plain HTTP where https:// was written, which never passes; None for others."""
    if getattr(error.os_error, "reason", None) not in _PLAIN_ANSWERS:
        return None
    said = no_tls(error.host, error.port, str(getattr(error.os_error, "reason", error.os_error)))
    return StopRunError(said, reason="certificate")


def no_tls(host: str, port: int | None, why: str) -> str:
    """What is wrong with a server that speaks no TLS, and what to do."""
    return one_line(f"{host}:{port} speaks no TLS ({why}): write http:// in model.base_url if it speaks plain HTTP")


def connection_error(error: Exception, redact: Callable[[str], str] = str) -> RetryableError:
    """The error of a call without a whole answer, by the root cause of the exception.

    Only a call whose connection was never made is certain not to be billed.
    """
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    root = chain[-1]
    if any(isinstance(link, aiohttp.ClientResponseError) for link in chain):
        what = f"the answer is no HTTP: {type(root).__name__}: {' '.join(str(root).split())}"
        return RetryableError(one_line(redact(what)), error_type="malformed_answer", maybe_billed=True)
    if (isinstance(root, OSError) and root.errno in _OF_THIS_MACHINE) or isinstance(root, MemoryError):
        what = f"this machine has no room for another connection ({type(root).__name__}: {root})"
        return RetryableError(one_line(redact(what)), error_type="machine_limit")
    unsent = any(isinstance(link, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)) for link in chain)
    timed_out = isinstance(root, TimeoutError)
    what = "the server did not answer in time" if timed_out else "the connection failed or broke off"
    if (host := next((link for link in chain if isinstance(link, aiohttp.ClientConnectorError)), None)) is not None:
        what = f"no connection to {host.host}:{host.port}"
    if isinstance(root, socket.gaierror) and host is not None:
        what = (
            f"{host.host} has no address, or this machine's DNS does not answer: correct model.base_url if it is wrong"
        )
    detail = f"{type(root).__name__}: {root}".rstrip(": ")
    return RetryableError(
        one_line(redact(f"{what} ({detail})")),
        error_type="timeout" if timed_out else "connection",
        maybe_billed=not unsent,
        reached=not unsent,
    )
