"""The network guard of conftest.py: every attempt to reach the network is refused."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = "pytester"

TESTS = Path(__file__).parent

GUARDED = """
    import socket
    import pytest

    def test_refused():
        with pytest.raises(RuntimeError, match="tests have no network"):
            {attempt}
"""


@pytest.mark.parametrize(
    "attempt",
    [
        'socket.create_connection(("127.0.0.1", 9))',
        'socket.socket().connect_ex(("93.184.216.34", 80))',
        'socket.getaddrinfo("example.com", 443)',
    ],
)
def test_attempts_are_refused_and_fail_the_test(pytester: pytest.Pytester, attempt: str) -> None:
    """A test that catches the error, as here, fails all the same when it ends."""
    pytester.makeini(f"[pytest]\npythonpath = {TESTS} {TESTS / 'faults'}")
    pytester.makeconftest((TESTS / "conftest.py").read_text().replace("__file__", repr(__file__)))
    pytester.makepyfile(GUARDED.format(attempt=attempt))

    result = pytester.runpytest_subprocess()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*the test tried to reach*"])


def test_the_fault_server_s_fixture_opens_loopback(fault_server: Any) -> None:
    """With the fixture `fault_server` a test may reach it."""
    port = int(fault_server.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


def test_asyncio_works() -> None:
    """The socket pair of an event loop is not refused."""

    async def main() -> int:
        left, right = socket.socketpair()
        left.close()
        right.close()
        return 1

    assert asyncio.run(main()) == 1


def test_keys_are_out_of_the_environment() -> None:
    """A test sees no key of the machine it runs on."""
    assert not [name for name in os.environ if name.startswith("OPENAI_")]
