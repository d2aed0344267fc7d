"""Whether a server can be reached, a step at a time: its name, a connection, TLS. Nothing is asked of it.

Through a proxy, the steps are those to the proxy; what lies behind it shows in a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from logprob_store.failure_policy import FAILURES
from logprob_store.request import OPENAI_BASE_URL
from logprob_store.transport.environment import proxy_of
from logprob_store.transport.live import CONNECT_TIMEOUT_S, no_tls, trusted_certificates
from logprob_store.transport.refusals import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_PORTS: Final = {"https": 443, "http": 80}
_SOCKS_PORT: Final = 1080
_MOST_NAMED: Final = 3
"""Addresses of a host that are named."""


class Step(NamedTuple):
    """A step on the way to a server: what was found, and whether the way goes on from there."""

    name: Literal["address", "connection", "tls"]
    said: str
    reached: bool = True


async def reach(base_url: str | None) -> AsyncIterator[Step]:
    """The steps to a server, up to the first that fails.

    Args:
        base_url: URL of the API, OpenAI's when None.

    Raises:
        JobError: the environment names a proxy or certificates that cannot be used.
    """
    url = base_url or OPENAI_BASE_URL
    proxy = proxy_of(url)
    parts = urlsplit(proxy or url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme.lower(), _SOCKS_PORT)
    what = f"{host}:{port}" if proxy is None else f"the proxy {host}:{port}"
    correct = "model.base_url" if proxy is None else "the proxy in the environment"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        yield Step(
            "address", f"{host} has no address ({error}): correct {correct}, or this machine's DNS", reached=False
        )
        return
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    yield Step("address", host if addresses == [host] else f"{host} is {' and '.join(addresses[:_MOST_NAMED])}")
    try:
        await _connect(addresses, port)
    except OSError as error:
        yield Step("connection", f"{what} {_why_not(error)}", reached=False)
        return
    yield Step("connection", f"{what} takes connections")
    if proxy is None and parts.scheme.lower() == "https":
        yield await _try_tls(host, port, trusted_certificates(url))


async def _connect(addresses: Sequence[str], port: int) -> None:
    """Connect to the first address that takes connections.

    Raises:
        OSError: none does; the error is that of the first.
    """
    errors = []
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(address, port)
        except OSError as error:
            errors.append(error)
        else:
            return await _close(writer)
    raise errors[0]


async def _try_tls(host: str, port: int, trusted: ssl.SSLContext | Literal[True]) -> Step:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=trusted)
    except ssl.SSLCertVerificationError as error:
        where = f"{host}:{port}: {error.verify_message}"
        return Step("tls", one_line(FAILURES["certificate"].advice.format(where=where)), reached=False)
    except OSError as error:
        return Step("tls", no_tls(host, port, _said(error)), reached=False)
    await _close(writer)
    return Step("tls", f"{host} proves who it is")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _why_not(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections: start the server, or correct the port in model.base_url"
    if isinstance(error, TimeoutError):
        return f"does not answer within {CONNECT_TIMEOUT_S:g} s: correct the host, or look at the firewall"
    return f"cannot be connected to ({_said(error)})"


def _said(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
