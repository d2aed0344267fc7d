"""Shared by all tests: the network guard, the environment without keys, the fault server, the command line.

A test may connect to loopback if it is marked `live` or uses a fixture of `LOOPBACK_FIXTURES`, and nowhere else.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from fault_server import ServerThread
from hypothesis import HealthCheck, settings

from logprob_store import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOPBACK_FIXTURES = {"fault_server", "batch_server", "explorer_server", "own_explorer_server", "billing"}

# Examples may be slow on a busy machine, and may share a folder.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.register_profile("soak", settings.get_profile("tests"), max_examples=3000)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files with slow tests, which mostly wait, among the others, which compute: so no core is idle.

    Those of the most tests come first on either side. The slow ones all begin in the first two thirds: at the end no
    process waits for another's.
    """
    tests = Counter(item.path for item in items)
    slow = Counter(item.path for item in items if {"slow", "live"}.intersection(item.keywords))
    place = {}
    for counts, until in ((slow, 2 / 3), (tests - slow, 1)):
        for number, (path, _) in enumerate(counts.most_common()):
            place.setdefault(path, until * number / len(counts))
    items.sort(key=lambda item: (place[item.path], str(item.path)))


class NetworkBlockedError(RuntimeError):
    """A test tried to reach the network."""


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every attempt to reach the network an error, and fail the test even if it catches the error."""
    loopback = "live" in request.keywords or not LOOPBACK_FIXTURES.isdisjoint(request.fixturenames)
    tried: list[Any] = []
    original = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    look_up = socket.getaddrinfo

    def refuse(address: Any) -> None:
        tried.append(address)
        raise NetworkBlockedError(
            f"a test tried to reach {address!r}; tests have no network. For a loopback server use the fixture "
            "`fault_server` or `batch_server`, or mark the test `live`."
        )

    def connect(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and not (loopback and _is_loopback(address[0])):
            refuse(address)
        return original["connect"](self, address)

    def connect_ex(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and not (loopback and _is_loopback(address[0])):
            refuse(address)
        return original["connect_ex"](self, address)

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None and not _is_loopback(host):
            refuse(host)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    if tried:
        pytest.fail(f"the test tried to reach {tried[0]!r}; tests have no network", pytrace=False)


def _is_loopback(host: Any) -> bool:
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text.split("%")[0]).is_loopback
    except ValueError:
        return text == "localhost"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove keys, proxies and the width of the terminal, so that tests do not depend on the machine."""
    monkeypatch.delenv("COLUMNS", raising=False)
    for name in [name for name in os.environ if name.startswith("OPENAI_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def batch_server() -> Iterator[Any]:
    """A calm Batch API (`tests/faults/batch_server.py`)."""
    from batch_server import BatchServer

    with BatchServer() as server:
        yield server


@pytest.fixture
def fault_server() -> Iterator[Any]:
    """A calm fault server (`tests/faults/fault_server.py`); `fault_server.script("429, reset")` lets it misbehave."""
    with ServerThread() as server:
        yield server


class CommandResult(NamedTuple):
    """How a command ended, and what it wrote to standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a command, run in this process, does to logging."""
    loggers = (logging.getLogger(), logging.getLogger("logprob_store"))
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    yield
    logging.captureWarnings(capture=False)
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def logprobs(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    logging_as_before: None,  # noqa: ARG001  for what it undoes
) -> Callable[..., CommandResult]:
    """Run the command `logprobs` with these words, in this process."""

    def call(*words: object) -> CommandResult:
        monkeypatch.setattr("sys.argv", ["logprobs", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capfd.readouterr()
        return CommandResult(int(ended.value.code or 0), captured.out, captured.err)

    return call
