"""The pytest plugin, as a user's own tests see it: installed, it is there without a word in conftest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from logprob_store.replay.fixtures import Recordings, write_fixtures
from logprob_store.request import Answer, make_request

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = "pytester"

TEST = """
    import pytest

    {marker}
    def test_it(logprobs_client):
        answer = logprobs_client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "Hi"}}])
        assert answer.choices[0].message.content {expected}
"""


def _fixture(path: Path, said: str, provider: str = "p") -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    request = make_request(body, endpoint="chat", provider=provider)
    content = '{"choices":[{"index":0,"message":{"role":"assistant","content":"%s"}}]}' % said  # noqa: UP031
    write_fixtures(path, [Answer(request, 200, {"content-type": "application/json"}, content.encode(), "api")])


def test_the_default_path(pytester: pytest.Pytester) -> None:
    """Without a marker the fixtures are `fixtures/<test module>.jsonl` beside the test."""
    pytester.makepyfile(test_mine=TEST.format(marker="", expected="== 'Hello'"))
    _fixture(pytester.path / "fixtures" / "test_mine.jsonl", "Hello")

    pytester.runpytest("--strict-markers").assert_outcomes(passed=1)


def test_the_marker_names_the_path(pytester: pytest.Pytester) -> None:
    """Relative to the test's file, wherever pytest is started."""
    folder = pytester.mkdir("deep")
    marker = '@pytest.mark.logprobs(fixtures="mine.jsonl")'
    pytester.makepyfile(**{"deep/test_mine": TEST.format(marker=marker, expected="== 'Hello'")})
    _fixture(folder / "mine.jsonl", "Hello")

    pytester.runpytest("--strict-markers", "deep").assert_outcomes(passed=1)


def test_a_miss_fails_the_test(pytester: pytest.Pytester) -> None:
    """With the nearest recording and what differs."""
    pytester.makepyfile(test_mine=TEST.format(marker="", expected="== 'Hello'").replace('"Hi"', '"Hi!"'))
    _fixture(pytester.path / "fixtures" / "test_mine.jsonl", "Hello")

    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ReplayMissError*messages?0?.content: asked 'Hi!', recorded 'Hi'*"])


def test_an_asynchronous_client(pytester: pytest.Pytester) -> None:
    """`logprobs_async_client` is an `AsyncOpenAI`; no asyncio plugin is needed to have it."""
    pytester.makepyfile(
        test_mine="""
        import asyncio

        def test_it(logprobs_async_client):
            async def main():
                async with logprobs_async_client as client:
                    return await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": "Hi"}]
                    )
            assert asyncio.run(main()).choices[0].message.content == "Hello"
        """
    )
    _fixture(pytester.path / "fixtures" / "test_mine.jsonl", "Hello")

    pytester.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize("how", ["option", "marker"])
def test_record_once_then_replay(
    pytester: pytest.Pytester, fault_server: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """`--logprobs-record` or the marker's mode asks and keeps; from then on no network or key is needed."""
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


def test_without_recordings_the_error_says_so(pytester: pytest.Pytester) -> None:
    """The first thing a newcomer sees names the missing file."""
    pytester.makepyfile(test_mine=TEST.format(marker="", expected="== 'Hello'"))

    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*FixtureError: no fixtures at *test_mine.jsonl*"])


def test_a_misspelt_argument_of_the_marker(pytester: pytest.Pytester) -> None:
    """An argument that means nothing is an error."""
    marker = '@pytest.mark.logprobs(fixture="mine.jsonl")'
    pytester.makepyfile(test_mine=TEST.format(marker=marker, expected="== 'Hello'"))

    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pytest.mark.logprobs has no fixture*"])


def test_the_marker_is_documented(pytester: pytest.Pytester) -> None:
    """`pytest --markers` and `pytest --fixtures` tell of it."""
    pytester.runpytest("--markers").stdout.fnmatch_lines(["@pytest.mark.logprobs(*"])
    pytester.runpytest("--fixtures").stdout.fnmatch_lines(["logprobs_client*"])
