"""`ls.complete`: one prompt, asked in the way of a job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import CallError, JobError, ReplayMissError

RICH = Path(__file__).parents[1] / "fixtures" / "rich.jsonl"


def recorded(**changes: Any) -> Any:
    """The answer to a recorded prompt."""
    words = {"model": "gemma-3-270m", "max_tokens": 3, "temperature": 0, "provider": "llama.cpp/gemma-3-270m"}
    return ls.complete("January, February, March,", fixtures=RICH, **{**words, **changes})


def test_a_recording_answers() -> None:
    """Fixtures answer without a network, and the first choice has its text and scores."""
    answer = recorded()

    assert (answer.source, answer.text, answer.tokens.height) == ("fixture", " April, May", 3)
    assert answer.confidence == pytest.approx(1 / answer.perplexity)


def test_another_request_is_another_key() -> None:
    """A parameter that differs is a miss that names the parameter."""
    with pytest.raises(ReplayMissError, match="temperature"):
        recorded(temperature=0.7)


@pytest.mark.usefixtures("fault_server")
def test_a_server_that_is_not_reached_costs_the_attempts_and_no_more() -> None:
    """Whoever asks for one answer does not wait for a minute, and gets the failure of the call."""
    with pytest.raises(CallError, match=r"no connection to 127\.0\.0\.1:9") as caught:
        ls.complete("Hi", model="m", base_url="http://127.0.0.1:9/v1", attempts=2)

    assert caught.value.attempts == 2


def test_a_refusal_is_the_failure_of_the_call(fault_server: Any) -> None:
    """With its class and status, as it was; there is no run that could be stopped."""
    fault_server.script("404")

    with pytest.raises(CallError, match="HTTP 404") as caught:
        ls.complete("Hi", model="m", base_url=fault_server.url)

    assert (caught.value.error_type, caught.value.status) == ("invalid_request", 404)


def test_a_server_is_asked_once(fault_server: Any, tmp_path: Path) -> None:
    """With a cache the second call is answered from it; a server given by URL needs no key."""
    ask = {"model": "m", "base_url": fault_server.url, "cache": tmp_path / "cache", "max_tokens": 4}

    first, second = ls.complete("Hi", **ask), ls.complete("Hi", **ask)

    assert (first.source, second.source, len(fault_server.calls)) == ("api", "cache", 1)
    assert first.text == second.text


def test_inside_an_event_loop(fault_server: Any) -> None:
    """It works where an event loop already runs, as in a notebook."""

    async def cell() -> Any:
        return ls.complete("Hi", model="m", base_url=fault_server.url)

    assert asyncio.run(cell()).source == "api"


def test_the_key_is_that_of_a_job(fault_server: Any, tmp_path: Path) -> None:
    """A job with the same settings finds the answer of `complete` in its cache."""
    ls.complete("Hi", model="m", base_url=fault_server.url, provider="p", cache=tmp_path / "cache", temperature=0)
    write_prompts(tmp_path, {"text": ["Hi"]})
    job = write_job(tmp_path, fault_server.url, model={"provider": "p", "params": {"temperature": 0}})

    summary = ls.run_job(ls.load_job(job))

    assert (summary.from_cache, summary.calls) == (1, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"endpoint": "chats"}, "model.endpoint"),
        ({"attempts": 0}, "limits.attempts"),
        ({"params": {"messages": []}}, "params.messages cannot be set"),
        ({"base_url": "http://user:secret@h/v1"}, "user name or password"),
    ],
)
def test_wrong_arguments(words: dict[str, Any], message: str) -> None:
    """A wrong argument is an error that names it, before anything is asked."""
    with pytest.raises(JobError, match=message):
        ls.complete("Hi", model="m", **words)


def test_a_model_that_would_refuse_it() -> None:
    """The lines to write are said before a key is missed."""
    with pytest.raises(ls.JobError, match="write in the call: name='gpt-6-luna', params="):
        ls.complete("Hi", model="gpt-6-astra")


def test_without_a_key() -> None:
    """OpenAI needs a key, and the error names the variable."""
    with pytest.raises(JobError, match="OPENAI_API_KEY"):
        ls.complete("Hi", model="m")
