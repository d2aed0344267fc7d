"""Calls through a SOCKS proxy, which needs the extra `socks`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from logprob_store.errors import RetryableError
from logprob_store.request import make_request
from logprob_store.transport.live import live_transport

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("aiohttp_socks", reason="the extra socks is not installed")


class SocksServer:
    """A SOCKS 5 proxy without passwords that connects to one port of this machine, whatever name it is asked for."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.asked: list[str] = []
        self.refuses = False
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            _, methods = await reader.readexactly(2)
            await reader.readexactly(methods)
            writer.write(b"\x05\x00")
            *_, kind = await reader.readexactly(4)
            size = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
            host = await reader.readexactly(size)
            await reader.readexactly(2)
            self.asked.append(host.decode() if kind == 3 else str(list(host)))
            if self.refuses:
                writer.write(b"\x05\x05\x00\x01" + bytes(6))
                writer.close()
                return
            server = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.append(server[1])
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
            await asyncio.gather(self._copy(reader, server[1]), self._copy(server[0], writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    def stop(self) -> None:
        """End it, with its connections."""

        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for writer in self._writers:
                writer.close()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def proxy(fault_server: Any) -> Iterator[SocksServer]:
    """A proxy in front of the fault server."""
    server = SocksServer(int(fault_server.url.rpartition(":")[2].partition("/")[0]))
    yield server
    server.stop()


def ask() -> int:
    """The status of one call to a host that only the proxy knows."""
    request = make_request({"model": "m", "messages": []}, endpoint="chat", provider="p")

    async def call() -> int:
        async with live_transport(base_url="http://nobody.invalid/v1", api_key="sk-1") as transport:
            return (await transport(request)).status

    return asyncio.run(call())


@pytest.mark.parametrize("scheme", ["socks", "socks5", "socks5h"])
def test_calls_go_through_the_proxy_which_looks_the_name_up(
    monkeypatch: pytest.MonkeyPatch, proxy: SocksServer, fault_server: Any, scheme: str
) -> None:
    """The name means nothing on this machine."""
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}/")

    assert ask() == 200
    assert proxy.asked == ["nobody.invalid"]
    assert len(fault_server.calls) == 1


def test_a_proxy_that_refuses_is_a_failed_connection_that_cost_nothing(
    monkeypatch: pytest.MonkeyPatch, proxy: SocksServer
) -> None:
    """The call is made again, like after any connection that was not made."""
    proxy.refuses = True
    monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy.port}")

    with pytest.raises(RetryableError, match="the SOCKS proxy") as caught:
        ask()

    assert (caught.value.error_type, caught.value.maybe_billed) == ("connection", False)


def test_a_proxy_that_is_not_there_is_a_failed_connection(
    monkeypatch: pytest.MonkeyPatch,
    fault_server: Any,  # noqa: ARG001  allows connections to this machine
) -> None:
    """Port 9 of this machine answers nothing."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")

    with pytest.raises(RetryableError, match="the SOCKS proxy") as caught:
        ask()

    assert (caught.value.error_type, caught.value.maybe_billed) == ("connection", False)
