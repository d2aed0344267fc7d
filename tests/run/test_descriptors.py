"""File descriptors for the calls of a run: asked for, or fewer calls at once."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from typing import TYPE_CHECKING, Any

import pytest
from builders import chat_request

from logprob_store.errors import RetryableError
from logprob_store.pacing.pacer import Pacer
from logprob_store.run.attempts import ask_until_answered
from logprob_store.run.descriptors import room_for
from logprob_store.transport import live

if TYPE_CHECKING:
    from collections.abc import Iterator


class Limits:
    """Stands in for the system's limit of open files."""

    def __init__(self, soft: int, hard: int, *, refuses: bool = False) -> None:
        self.now = (soft, hard)
        self._refuses = refuses

    def get(self, _which: int) -> tuple[int, int]:
        """In place of `resource.getrlimit`."""
        return self.now

    def set(self, _which: int, limits: tuple[int, int]) -> None:
        """In place of `resource.setrlimit`."""
        if self._refuses:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Limits]:
    """The limits that the test names."""
    found = Limits(*request.param[:2], refuses=len(request.param) > 2)
    monkeypatch.setattr(resource, "getrlimit", found.get)
    monkeypatch.setattr(resource, "setrlimit", found.set)
    yield found
    assert found.now == request.param[:2]


NONE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "calls", "fitting", "soft"),
    [
        ((1024, 4096), 64, 64, 1024),
        ((1024, 4096), 2000, 2000, 2128),
        ((1024, NONE), 2000, 2000, 2128),
        ((NONE, NONE), 2000, 2000, NONE),
        ((1024, 1024), 2000, 896, 1024),
        ((1024, 2000), 2000, 1872, 2000),
        ((1024, NONE, "refuses"), 2000, 896, 1024),
        ((64, 64), 64, 32, 64),
    ],
    indirect=["limits"],
)
def test_the_limit_is_raised_or_calls_are_fewer(
    limits: Limits, caplog: pytest.LogCaptureFixture, calls: int, fitting: int, soft: int
) -> None:
    """128 descriptors are left to other files; fewer calls are a warning; the limit is put back."""
    with room_for(calls) as found:
        assert (found, limits.now[0]) == (fitting, soft)

    assert ("this process may open" in caplog.text) == (fitting < calls)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL])
def test_a_lack_of_descriptors_is_no_attempt(fault_server: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A call that this machine has no room for is made later, and does not count; fewer are allowed at once."""
    lacking = [OSError(number, "no room")] * 3

    def open_socket(address: tuple[Any, ...]) -> socket.socket:
        if lacking:
            raise lacking.pop()
        return socket.socket(*address[:3])

    monkeypatch.setattr(live, "keepalive_socket", open_socket)
    pacer = Pacer(8)

    async def ask() -> int:
        async with live.live_transport(base_url=fault_server.url, api_key="sk-1") as transport:
            return (await ask_until_answered(chat_request(), transport, pacer=pacer, attempts=1)).status

    assert asyncio.run(ask()) == 200
    assert not lacking
    assert pacer.concurrency.limit < 8


def test_a_lack_of_descriptors_is_no_fault_of_the_server(fault_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class and its words say so, and nothing is billed."""

    def open_socket(_address: tuple[Any, ...]) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(live, "keepalive_socket", open_socket)

    async def ask() -> None:
        async with live.live_transport(base_url=fault_server.url, api_key="sk-1") as transport:
            await transport(chat_request())

    with pytest.raises(RetryableError, match="this machine has no room for another connection") as caught:
        asyncio.run(ask())

    assert (caught.value.error_type, caught.value.maybe_billed) == ("machine_limit", False)
