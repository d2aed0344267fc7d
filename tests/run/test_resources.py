"""What a job names: its transport with the right key, its cache, and an asker over them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_to, requests_of

import logprob_store as ls
from logprob_store.cache.answers import AnswerCache, open_cache
from logprob_store.errors import JobError, StopRunError
from logprob_store.job import Job, TransportSection
from logprob_store.replay.fixtures import write_fixtures
from logprob_store.run.resources import open_asker, open_asker_alone, open_transport
from logprob_store.spending.budget import Budget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from logprob_store.request import Answer, Request
    from logprob_store.run.asker import Asker
    from logprob_store.transport import Transport

AB: dict[str, Any] = {"text": ["a", "b"]}


@contextlib.asynccontextmanager
async def open_asker_of(job: Job, transport: Transport, run_id: str) -> AsyncIterator[Asker]:
    """The asker of a run, over the job's own cache."""
    with open_cache(job.cache_folder) as cache:
        async with open_asker(job, transport, cache, Budget(), run_id=run_id) as asker:
            yield asker


def ask_once(job: Job, request: Request, **settings: Any) -> Answer:
    """The answer of the transport that a job names."""

    async def main() -> Answer:
        async with open_transport(job, **settings) as transport:
            return await transport(request)

    return asyncio.run(main())


def fails_to_open(job: Job, **settings: Any) -> str:
    """The message with which a job's transport cannot be opened."""

    async def main() -> None:
        async with open_transport(job, **settings):
            pass

    with pytest.raises(JobError) as caught:
        asyncio.run(main())
    return str(caught.value)


# the transport


def test_a_live_job_asks_its_server_with_the_key_given(make: Any, fault_server: Any) -> None:
    """The server gets one call, with this key."""
    job = make(AB, fault_server.url)

    answer = ask_once(job, requests_of(job)[0], api_key="sk-given")

    assert answer.source == "api"
    assert [call.headers["authorization"] for call in fault_server.calls] == ["Bearer sk-given"]


def test_openai_s_key_goes_to_no_other_server(
    make: Any,
    fault_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a `base_url` and no key, OpenAI's key of the environment is not sent."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    job = make(AB, fault_server.url)

    ask_once(job, requests_of(job)[0])

    assert ["authorization" in call.headers for call in fault_server.calls] == [False]


def test_without_a_key_for_openai_nothing_opens(make: Any) -> None:
    """The message names the variable, and what to do."""
    message = fails_to_open(make(AB))

    assert message.startswith("there is no API key: OPENAI_API_KEY is not set. `export OPENAI_API_KEY=...`")


def test_without_the_key_that_a_job_names_nothing_opens(make: Any) -> None:
    """A job that names a variable needs it, whatever its server."""
    message = fails_to_open(make(AB, "http://127.0.0.1:9/v1", model={"api_key_env": "MY_KEY"}))

    assert message.startswith("there is no API key: MY_KEY is not set.")


def test_the_key_is_that_of_the_variable_that_a_job_names(
    make: Any, fault_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to read the environment for it."""
    monkeypatch.setenv("MY_KEY", "sk-mine")
    job = make(AB, fault_server.url, model={"api_key_env": "MY_KEY"})

    ask_once(job, requests_of(job)[0])

    assert [call.headers["authorization"] for call in fault_server.calls] == ["Bearer sk-mine"]


def test_a_server_is_not_touched_before_the_first_call(make: Any, fault_server: Any) -> None:
    """Opening a transport makes no call."""

    async def main() -> None:
        async with open_transport(make(AB, fault_server.url)):
            pass

    asyncio.run(main())

    assert fault_server.calls == []


def test_a_replay_answers_from_its_fixtures(make: Any, tmp_path: Path) -> None:
    """No key is needed, and no server."""
    job = make(AB, transport={"kind": "replay", "fixtures": "recorded.jsonl"})
    request = requests_of(job)[0]
    write_fixtures(tmp_path / "recorded.jsonl", [answer_to(request, b'{"recorded":1}')])

    answer = ask_once(job, request)

    assert (answer.source, answer.body) == ("fixture", b'{"recorded":1}')


def test_a_replay_without_fixtures_does_not_open(make: Any) -> None:
    """Also where the job did not come through a job file, which checks it first."""
    replay = TransportSection.model_construct(kind="replay", fixtures=None)

    message = fails_to_open(make(AB).model_copy(update={"transport": replay}))

    assert message == "transport replay needs transport.fixtures, a file or folder of recordings"


# the cache


def test_a_job_s_cache_lies_beside_its_file(make: Any, tmp_path: Path) -> None:
    """Its path is relative to the job file, not to the working directory."""
    with open_cache(make(AB, cache={"path": "kept/answers"}).cache_folder) as cache:
        assert cache is not None
        assert cache.path == tmp_path / "kept" / "answers"


@pytest.mark.parametrize(
    "sections",
    [{"cache": {"mode": "off"}}, {"transport": {"kind": "replay", "fixtures": "recorded.jsonl"}}],
    ids=["off", "replay"],
)
def test_no_cache_is_made_where_none_is_used(make: Any, tmp_path: Path, sections: dict[str, Any]) -> None:
    """Neither a job without a cache nor a replay makes a folder."""
    with open_cache(make(AB, **sections).cache_folder) as cache:
        assert cache is None

    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("mode", "expected"), [("reuse", [b"kept"]), ("refresh", [])])
def test_refreshing_does_not_use_the_answers_of_other_runs(make: Any, mode: str, expected: list[bytes]) -> None:
    """An answer that run `other` paid for is used in mode `reuse` only."""
    job = make(AB, "http://127.0.0.1:9/v1", cache={"mode": mode})
    request = requests_of(job)[0]
    with AnswerCache(job.cache_folder) as cache:
        cache.put_many([answer_to(request, b"kept", run="other")])

    async def main() -> list[bytes]:
        async with open_transport(job) as transport, open_asker_of(job, transport, "mine") as asker:
            return [cached.body for cached in (await asker.look_up([request])).values()]

    assert asyncio.run(main()) == expected


def test_refreshing_uses_the_run_s_own_answers(make: Any) -> None:
    """An answer that the run itself paid for is used, also in mode `refresh`."""
    job = make(AB, "http://127.0.0.1:9/v1", cache={"mode": "refresh"})
    request = requests_of(job)[0]
    with AnswerCache(job.cache_folder) as cache:
        cache.put_many([answer_to(request, b"kept", run="mine")])

    async def main() -> list[bytes]:
        async with open_transport(job) as transport, open_asker_of(job, transport, "mine") as asker:
            return [cached.body for cached in (await asker.look_up([request])).values()]

    assert asyncio.run(main()) == [b"kept"]


# the asker


def test_an_asker_without_a_run_keeps_the_job_s_ceilings(make: Any, fault_server: Any) -> None:
    """Of two calls, a ceiling of one allows the first only."""
    job = make(AB, fault_server.url, limits={"max_requests": 1})
    first, second = requests_of(job)

    async def main() -> None:
        async with open_transport(job) as transport, open_asker_alone(job, transport) as asker:
            await asker.ask(first)
            await asker.ask(second)

    with pytest.raises(StopRunError) as caught:
        asyncio.run(main())

    assert caught.value.reason == "budget"
    assert len(fault_server.calls) == 1


def test_an_asker_without_a_run_counts_what_the_job_s_runs_spent(make: Any, fault_server: Any) -> None:
    """Also those from before the job had a ceiling, of which the shared ledger does not know."""
    ls.run_job(make({"text": ["c"]}, fault_server.url), run="r")
    job = make(AB, fault_server.url, limits={"job_max_requests": 1})

    async def main() -> None:
        async with open_transport(job) as transport, open_asker_alone(job, transport) as asker:
            await asker.ask(requests_of(job)[0])

    with pytest.raises(StopRunError, match="job_max_requests = 1"):
        asyncio.run(main())

    assert len(fault_server.calls) == 1


def test_an_asker_tries_as_often_as_the_job_says(make: Any, fault_server: Any) -> None:
    """With two attempts, a call that fails once is repeated."""
    fault_server.script("500:retry-after=0")
    job = make(AB, fault_server.url, limits={"attempts": 2})

    async def main() -> Answer:
        async with open_transport(job) as transport, open_asker_alone(job, transport) as asker:
            return await asker.ask(requests_of(job)[0])

    assert asyncio.run(main()).attempts == 2
    assert len(fault_server.calls) == 2
