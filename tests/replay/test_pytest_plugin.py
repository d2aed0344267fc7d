"""The pytest plugin as a user's tests see it: once installed, it needs no line in conftest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from replay.recording import capital_request, write_recordings

from logprob_store.replay.fixtures import Recordings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytest_plugins = "pytester"

TEST = """
    import pytest

    {marker}
    def test_it(logprobs_client):
        messages = [{{"role": "user", "content": "Hi"}}]
        answer = logprobs_client.chat.completions.create(model="m", messages=messages, temperature=0)
        assert answer.choices[0].message.content {expected}
"""


@pytest.fixture
def record_hello() -> Callable[[Path], Recordings]:
    """Write a fixtures file that answers the request of `TEST` with "Hello"."""
    body = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"}}]}'
    return lambda path: write_recordings(path, (capital_request("Hi"), body))


def test_the_default_path(pytester: pytest.Pytester, record_hello: Callable[[Path], Recordings]) -> None:
    """Without a marker the fixtures are `fixtures/<test module>.jsonl` beside the test."""
    pytester.makepyfile(test_mine=TEST.format(marker="", expected="== 'Hello'"))
    record_hello(pytester.path / "fixtures" / "test_mine.jsonl")

    pytester.runpytest("--strict-markers").assert_outcomes(passed=1)


def test_the_marker_names_the_path(pytester: pytest.Pytester, record_hello: Callable[[Path], Recordings]) -> None:
    """The path is relative to the test's file, wherever pytest is started."""
    folder = pytester.mkdir("deep")
    marker = '@pytest.mark.logprobs(fixtures="mine.jsonl")'
    pytester.makepyfile(**{"deep/test_mine": TEST.format(marker=marker, expected="== 'Hello'")})
    record_hello(folder / "mine.jsonl")

    pytester.runpytest("--strict-markers", "deep").assert_outcomes(passed=1)


def test_a_miss_fails_the_test(pytester: pytest.Pytester, record_hello: Callable[[Path], Recordings]) -> None:
    """The failure names the nearest recording and what differs."""
    pytester.makepyfile(test_mine=TEST.format(marker="", expected="== 'Hello'").replace('"Hi"', '"Hi!"'))
    record_hello(pytester.path / "fixtures" / "test_mine.jsonl")

    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ReplayMissError*messages?0?.content: asked 'Hi!', recorded 'Hi'*"])


def test_an_asynchronous_client(pytester: pytest.Pytester, record_hello: Callable[[Path], Recordings]) -> None:
    """`logprobs_async_client` is an `AsyncOpenAI` and needs no asyncio plugin."""
    pytester.makepyfile(
        test_mine="""
        import asyncio

        def test_it(logprobs_async_client):
            async def main():
                async with logprobs_async_client as client:
                    return await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": "Hi"}], temperature=0
                    )
            assert asyncio.run(main()).choices[0].message.content == "Hello"
        """
    )
    record_hello(pytester.path / "fixtures" / "test_mine.jsonl")

    pytester.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize("how", ["option", "marker"])
def test_record_once_then_replay(
    pytester: pytest.Pytester, fault_server: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """`--logprobs-record` or the marker's mode records the answer; later runs need no network and no key."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    mode = ", mode='record'" if how == "marker" else ""
    marker = f'@pytest.mark.logprobs(base_url="{fault_server.url}"{mode})'
    pytester.makepyfile(test_mine=TEST.format(marker=marker, expected="is not None"))
    options = ["--logprobs-record"] if how == "option" else []

    pytester.runpytest(*options).assert_outcomes(passed=1)
    monkeypatch.delenv("OPENAI_API_KEY")
    fault_server.stop()
    pytester.makepyfile(test_mine=TEST.format(marker=marker.replace(mode, "") or "", expected="is not None"))
    pytester.runpytest().assert_outcomes(passed=1)

    assert len(fault_server.calls) == 1
    assert len(Recordings(pytester.path / "fixtures" / "test_mine.jsonl")) == 1


@pytest.mark.parametrize("key", ["sk-of-the-environment", None])
def test_the_server_of_the_environment_is_recorded(
    pytester: pytest.Pytester, fault_server: Any, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """As the SDK's own client, with the key that stands there beside it, or without one; a replay asks nobody."""
    monkeypatch.setenv("OPENAI_BASE_URL", fault_server.url)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    pytester.makepyfile(test_mine=TEST.format(marker="", expected="is not None"))

    pytester.runpytest("--logprobs-record").assert_outcomes(passed=1)
    fault_server.stop()
    pytester.runpytest().assert_outcomes(passed=1)

    (call,) = fault_server.calls
    assert call.headers["authorization"] == f"Bearer {key or 'none'}"


def test_the_marker_s_server_is_meant_before_that_of_the_environment(
    pytester: pytest.Pytester, fault_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no key of another server."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another")
    marker = f'@pytest.mark.logprobs(base_url="{fault_server.url}", provider="mine")'
    pytester.makepyfile(test_mine=TEST.format(marker=marker, expected="is not None"))

    pytester.runpytest("--logprobs-record").assert_outcomes(passed=1)

    (call,) = fault_server.calls
    assert call.headers["authorization"] == "Bearer none"
    (fixture,) = Recordings(pytester.path / "fixtures" / "test_mine.jsonl")
    assert fixture.provider == "mine"


def test_an_address_of_the_environment_that_is_none_is_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of the variable; a replay does not look at it."""
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8080")
    pytester.makepyfile(test_mine=TEST.format(marker="", expected="is not None"))

    result = pytester.runpytest("--logprobs-record")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*OPENAI_BASE_URL in the environment is no address of a server*"])


def test_without_recordings_the_error_says_so(pytester: pytest.Pytester) -> None:
    """The first error that a new user sees names the missing file."""
    pytester.makepyfile(test_mine=TEST.format(marker="", expected="== 'Hello'"))

    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*FixtureError: no fixtures at *test_mine.jsonl*"])


def test_a_misspelt_argument_of_the_marker(pytester: pytest.Pytester) -> None:
    """An unknown argument is an error that names it."""
    marker = '@pytest.mark.logprobs(fixture="mine.jsonl")'
    pytester.makepyfile(test_mine=TEST.format(marker=marker, expected="== 'Hello'"))

    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*pytest.mark.logprobs has no fixture: did you mean fixtures[?] It takes fixtures, mode, *"]
    )


def test_the_marker_is_documented(pytester: pytest.Pytester) -> None:
    """`pytest --markers` and `pytest --fixtures` list it."""
    pytester.runpytest("--markers").stdout.fnmatch_lines(["@pytest.mark.logprobs(*"])
    pytester.runpytest("--fixtures").stdout.fnmatch_lines(["logprobs_client*"])
