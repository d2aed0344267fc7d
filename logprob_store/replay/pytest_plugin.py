"""A pytest plugin with OpenAI clients that answer from recorded fixtures, which a marker names.

    @pytest.mark.logprobs(fixtures="recorded/answers.jsonl")
    def test_my_code(logprobs_client):
        assert my_code(client=logprobs_client) == ...

Record once with `pytest --logprobs-record` (or `mode="record"` in the marker); later runs need neither network nor API
key. The server that is recorded is the marker's `base_url`, else that of OPENAI_BASE_URL in the environment, else
OpenAI. Paths are relative to the test's file; the default is `fixtures/<test module>.jsonl`.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import openai


_ARGUMENTS: Final = ("fixtures", "mode", "provider", "refusals", "base_url")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--logprobs-record`."""
    parser.getgroup("logprob-store").addoption(
        "--logprobs-record",
        action="store_true",
        help="ask the API what the fixtures of logprobs_client do not hold yet, and record it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "logprobs(fixtures=None, mode='replay', provider=None, refusals=False, base_url=None): "
        "what logprobs_client and logprobs_async_client answer from",
    )


@pytest.fixture
def logprobs_client(request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    """An `OpenAI` client that answers from the fixtures that the marker names."""
    from logprob_store.replay.client import replay_client

    with replay_client(**_settings(request)) as client:
        yield client


@pytest.fixture
def logprobs_async_client(request: pytest.FixtureRequest) -> openai.AsyncOpenAI:
    """An `AsyncOpenAI` client that answers from the fixtures that the marker names."""
    from logprob_store.replay.client import replay_client

    return replay_client(**_settings(request), asynchronous=True)


def _settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments of `replay_client` that the marker and the command line of a test give."""
    marker = request.node.get_closest_marker("logprobs")
    settings: dict[str, Any] = dict(marker.kwargs) if marker is not None else {}
    if marker is not None and marker.args:
        settings["fixtures"] = marker.args[0]
    for unknown in sorted(settings.keys() - set(_ARGUMENTS)):
        near = difflib.get_close_matches(unknown, _ARGUMENTS, n=1)
        meant = f": did you mean {near[0]}?" if near else "."
        raise pytest.UsageError(f"pytest.mark.logprobs has no {unknown}{meant} It takes {', '.join(_ARGUMENTS)}.")
    path = request.path
    settings["fixtures"] = path.parent / (settings.get("fixtures") or f"fixtures/{path.stem}.jsonl")
    if request.config.getoption("--logprobs-record"):
        settings["mode"] = "record"
    return settings
