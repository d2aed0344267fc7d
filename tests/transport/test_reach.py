"""The steps to a server: its address, a connection, TLS; and the list of its models."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from builders import chat_request

from logprob_store.errors import CallError, JobError, RetryableError, StopRunError
from logprob_store.transport.live import live_transport
from logprob_store.transport.model_list import list_models
from logprob_store.transport.reach import Step, reach

if TYPE_CHECKING:
    from logprob_store.transport.model_list import ModelList


def steps_to(url: str) -> list[Step]:
    """The steps to a server."""

    async def collect() -> list[Step]:
        return [step async for step in reach(url)]

    return asyncio.run(collect())


def free_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_there(fault_server: Any) -> None:
    """Plain HTTP has two steps."""
    steps = steps_to(fault_server.url)

    assert [(step.name, step.reached) for step in steps] == [("address", True), ("connection", True)]
    assert steps[0].said == "127.0.0.1"


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        UnicodeError("label too long"),  # what Python makes of a part of 64 letters
    ],
)
def test_a_host_without_an_address(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way ends at the first step, and says what to correct."""

    def unknown(*_args: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (step,) = steps_to("http://no.such.host/v1")

    assert (step.name, step.reached) == ("address", False)
    assert "no.such.host has no address" in step.said
    assert "correct model.base_url" in step.said


def test_a_server_that_is_not_started(fault_server: Any) -> None:  # noqa: ARG001  lets the test connect to loopback
    """A refused connection is told from a host without an address."""
    port = free_port()
    step = steps_to(f"http://127.0.0.1:{port}/v1")[-1]

    assert (step.name, step.reached) == ("connection", False)
    assert step.said.startswith(f"127.0.0.1:{port} refuses connections: start the server")


def test_a_host_with_two_addresses_of_which_one_answers(fault_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is ::1 and 127.0.0.1, and most servers listen at one of them."""
    port = int(fault_server.url.split(":")[2].partition("/")[0])
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
    look_up = socket.getaddrinfo

    def both(host: Any, *args: Any, **options: Any) -> Any:
        return found if host == "localhost" else look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    address, connection = steps_to(f"http://localhost:{port}/v1")

    assert address.said == "localhost is 127.0.0.2 and 127.0.0.1"
    assert connection.reached


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the beginning of TLS with a refusal in plain text, as a web server does."""
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


@pytest.mark.live
def test_a_call_to_a_server_without_tls_stops_the_run_at_once() -> None:
    """What the doctor says, without waiting for a server that can never be reached so."""

    async def ask() -> None:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server, live_transport(base_url=url, api_key="sk-1") as transport:
            await transport(chat_request())

    with pytest.raises(StopRunError, match=r"speaks no TLS \(.*write http:// in model\.base_url"):
        asyncio.run(ask())


def test_a_call_to_a_host_without_an_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS may come back, so it is waited for; what is waited for is told from a server that is down."""

    async def unknown(*_args: Any, **_options: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def ask() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        async with live_transport(base_url="http://no.such.host/v1", api_key="sk-1") as transport:
            await transport(chat_request())

    with pytest.raises(RetryableError, match=r"no\.such\.host has no address.*correct model\.base_url") as caught:
        asyncio.run(ask())

    assert not caught.value.reached


@pytest.mark.live
def test_a_list_of_models_that_is_refused_without_a_key_says_that_none_was_sent() -> None:
    """There is no key that could be wrong."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async def ask() -> ModelList:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server:
            return await list_models(base_url=url, api_key="", timeout_s=9)

    assert "none was sent" in str(asyncio.run(ask()).refusal)


@pytest.mark.live
def test_a_server_without_tls() -> None:
    """The connection is told from TLS."""

    async def collect() -> list[Step]:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        async with server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            return [step async for step in reach(url)]

    step = asyncio.run(collect())[-1]

    assert (step.name, step.reached) == ("tls", False)
    assert "speaks no TLS" in step.said
    assert "write http:// in model.base_url" in step.said


def test_the_way_leads_through_a_proxy(fault_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy that has to be reached; what is behind it nobody knows."""
    monkeypatch.setenv("HTTPS_PROXY", fault_server.url.removesuffix("/v1"))
    steps = steps_to("https://api.example/v1")

    assert [step.name for step in steps] == ["address", "connection"]
    assert "the proxy 127.0.0.1:" in steps[1].said


def test_a_proxy_that_cannot_be_used_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a call."""
    monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy")

    with pytest.raises(JobError, match="HTTPS_PROXY"):
        steps_to("https://api.example/v1")


# models


def models_of(url: str, **options: Any) -> ModelList:
    """The models that a server lists."""
    return asyncio.run(list_models(base_url=url, api_key="none", timeout_s=5, **options))


def test_models_are_listed(fault_server: Any) -> None:
    """The question is in no ledger, as it costs nothing."""
    fault_server.behaviour.models = ["a", "b"]

    assert models_of(fault_server.url).names == ["a", "b"]
    assert fault_server.calls == []


def test_a_server_that_lists_none(fault_server: Any) -> None:
    """Its status is kept."""
    listed = models_of(fault_server.url)

    assert (listed.names, listed.status) == (None, 404)
    assert listed.refusal is not None


def test_a_server_that_is_gone_is_a_call_error(fault_server: Any) -> None:
    """As for a call."""
    fault_server.stop()

    with pytest.raises(CallError, match="connection"):
        models_of(fault_server.url)
