"""What conftest.py does: attempts to reach the network are refused, logging stays as it was, long files come first."""

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


LONGEST_FIRST = {
    "test_a": "def test_1(): pass\ndef test_2(): pass",
    "test_b": "import pytest\n@pytest.mark.slow\ndef test_3(): pass",
    "test_c": "def test_4(): pass\ndef test_5(): pass\ndef test_6(): pass",
}


def test_files_with_slow_tests_and_those_with_many_come_first(pytester: pytest.Pytester) -> None:
    """So that the last one that is run is short."""
    pytester.makeini(f"[pytest]\npythonpath = {TESTS} {TESTS / 'faults'}\nmarkers = slow: takes long")
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyfile(**LONGEST_FIRST)

    result = pytester.runpytest_subprocess("--collect-only", "-q")

    result.stdout.fnmatch_lines([f"*test_{number}" for number in (3, 4, 5, 6, 1, 2)], consecutive=True)


LEAVES_LOGGING = """
    import logging
    import sys
    import pytest

    @pytest.mark.parametrize("option", ["--verbose", "--log-json"])
    def test_a_command(logprobs, option):
        assert logprobs(option, "models").code == 0
        assert logging.getLogger("logprob_store").getEffectiveLevel() == logging.INFO

    def test_of_logging():
        assert logging.getLogger("logprob_store").getEffectiveLevel() == logging.WARNING
        assert sys.excepthook is sys.__excepthook__
"""


def test_a_command_leaves_logging_as_it_was(pytester: pytest.Pytester) -> None:
    """Once the test is over that ran it."""
    pytester.makeini(f"[pytest]\npythonpath = {TESTS} {TESTS / 'faults'}")
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyfile(LEAVES_LOGGING)

    result = pytester.runpytest_subprocess("-p", "no:logging")

    result.assert_outcomes(passed=3)


def test_keys_are_out_of_the_environment() -> None:
    """A test sees no key of the machine it runs on."""
    assert not [name for name in os.environ if name.startswith("OPENAI_")]
