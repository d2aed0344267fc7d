"""What a job opens: its transport with the right key, its cache, the budget of its run, and an asker over them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import builders
import pytest
from builders import answer_to, requests_of

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import JobError, StopRunError, StoreError
from logprob_store.job import Job, TransportSection
from logprob_store.replay.fixtures import write_fixtures
from logprob_store.run.resources import earlier_runs, open_asker, open_budget, open_cache, open_transport
from logprob_store.spending.request_tokens import worst_case
from logprob_store.spending.shared_ledger import LEDGER
from logprob_store.store.call_log import open_call_log
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.request import Answer, Request
    from logprob_store.store.commit import RunWriter

AB: dict[str, Any] = {"text": ["a", "b"]}


def open_writer(job: Job) -> RunWriter:
    """The run `r` of a job, opened for writing."""
    settings = {"job_name": job.name, "job": job.identity(), "samples": job.model.samples}
    return builders.open_writer(job.resolve(job.store.path), **settings)


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


@pytest.mark.parametrize("sdk_key", [False, True])
def test_openai_s_key_goes_to_no_other_server(
    make: Any,
    fault_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    sdk_key: bool,  # noqa: FBT001
) -> None:
    """With a `base_url` and no key, OpenAI's key of the environment is not sent."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    job = make(AB, fault_server.url)

    ask_once(job, requests_of(job)[0], sdk_key=sdk_key)

    assert [call.headers["authorization"] for call in fault_server.calls] == ["Bearer none"]


def test_without_a_key_for_openai_nothing_opens(make: Any) -> None:
    """The message names the variable, and what to do."""
    message = fails_to_open(make(AB))

    assert message.startswith("there is no API key: OPENAI_API_KEY is not set. `export OPENAI_API_KEY=...`")


def test_without_the_key_that_a_job_names_nothing_opens(make: Any) -> None:
    """A job that names a variable needs it, whatever its server."""
    message = fails_to_open(make(AB, "http://127.0.0.1:9/v1", model={"api_key_env": "MY_KEY"}))

    assert message.startswith("there is no API key: MY_KEY is not set.")


def test_a_key_of_the_environment_is_left_to_the_sdk(make: Any) -> None:
    """`complete` lets the SDK find OpenAI's key, so that opening needs none."""

    async def main() -> None:
        async with open_transport(make(AB), sdk_key=True):
            pass

    asyncio.run(main())


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
    with open_cache(make(AB, cache={"path": "kept/answers"})) as cache:
        assert cache is not None
        assert cache.path == tmp_path / "kept" / "answers"


@pytest.mark.parametrize(
    "sections",
    [{"cache": {"mode": "off"}}, {"transport": {"kind": "replay", "fixtures": "recorded.jsonl"}}],
    ids=["off", "replay"],
)
def test_no_cache_is_made_where_none_is_used(make: Any, tmp_path: Path, sections: dict[str, Any]) -> None:
    """Neither a job without a cache nor a replay makes a folder."""
    with open_cache(make(AB, **sections)) as cache:
        assert cache is None

    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("mode", "expected"), [("reuse", [b"kept"]), ("refresh", [])])
def test_refreshing_does_not_use_the_answers_of_other_runs(make: Any, mode: str, expected: list[bytes]) -> None:
    """An answer that run `other` paid for is used in mode `reuse` only."""
    job = make(AB, "http://127.0.0.1:9/v1", cache={"mode": mode})
    request = requests_of(job)[0]
    with open_cache(job) as cache:
        cache.put_many([answer_to(request, b"kept", run="other")])

    async def main() -> list[bytes]:
        async with open_transport(job) as transport, open_asker(job, transport, run="mine") as asker:
            return [cached.body for cached in (await asker.look_up([request])).values()]

    assert asyncio.run(main()) == expected


def test_refreshing_uses_the_run_s_own_answers(make: Any) -> None:
    """An answer that the run itself paid for is used, also in mode `refresh`."""
    job = make(AB, "http://127.0.0.1:9/v1", cache={"mode": "refresh"})
    request = requests_of(job)[0]
    with open_cache(job) as cache:
        cache.put_many([answer_to(request, b"kept", run="mine")])

    async def main() -> list[bytes]:
        async with open_transport(job) as transport, open_asker(job, transport, run="mine") as asker:
            return [cached.body for cached in (await asker.look_up([request])).values()]

    assert asyncio.run(main()) == [b"kept"]


# the budget


def test_a_run_s_budget_keeps_the_job_s_ceilings(make: Any) -> None:
    """With one call allowed, the second cannot be reserved."""
    job = make(AB, limits={"max_requests": 1})
    first, second = requests_of(job)

    async def main() -> None:
        with open_writer(job) as writer, open_budget(job, writer) as budget:
            with await budget.reserve(first) as reservation:
                reservation.begin()
                reservation.answered(Usage(7, 0, 3))
            await budget.reserve(second)

    with pytest.raises(StopRunError, match=r"limits\.max_requests = 1 allows no further call") as caught:
        asyncio.run(main())

    assert caught.value.reason == "budget"


def test_what_a_run_spent_is_known_to_its_next_session(make: Any, tmp_path: Path) -> None:
    """The record of calls lies beside the manifest; at 10 and 20 dollars a million, 7 + 3 tokens are $0.00013."""
    prices = {"input_usd_per_million_tokens": 10, "output_usd_per_million_tokens": 20}
    job = make(AB, prices=prices)
    request = requests_of(job)[0]

    async def spend() -> None:
        with open_writer(job) as writer, open_budget(job, writer) as budget:
            with await budget.reserve(request) as reservation:
                number = reservation.begin()
                reservation.answered(Usage(7, 0, 3))
            assert budget.calls is not None
            assert number is not None
            budget.calls.end(number, Usage(7, 0, 3))

    asyncio.run(spend())

    assert (tmp_path / "store" / "runs" / "run=r" / "calls.log").exists()
    with open_writer(job) as writer, open_budget(job, writer) as budget:
        assert (budget.requests, budget.usage) == (1, Usage(7, 0, 3))
        assert budget.usd == pytest.approx(0.00013)


@pytest.mark.parametrize("kept", [True, False])
def test_a_call_under_way_at_a_kill_counts_what_its_answer_took(make: Any, kept: bool) -> None:  # noqa: FBT001
    """Its answer may have reached the cache; if not, the call counts at its worst and may have been paid for."""
    job = make(AB)
    request = requests_of(job)[0]

    async def begin() -> tuple[str, int | None]:
        with open_writer(job) as writer, open_budget(job, writer) as budget:
            return writer.manifest.run_id, (await budget.reserve(request)).begin()

    run, number = asyncio.run(begin())
    if kept:
        body = {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}
        with AnswerCache(job.resolve("cache")) as cache:
            cache.put_many([answer_to(request, body, run=run, call=number)])

    with open_writer(job) as writer, open_budget(job, writer) as budget:
        assert budget.requests == 1
        assert budget.usage == (Usage(7, 0, 2) if kept else worst_case(request))
        assert budget.may_have_paid(request.key) is not kept


@pytest.mark.parametrize("kept", [True, False])
def test_an_answer_in_the_cache_ends_a_killed_run_s_call_for_the_others(make: Any, kept: bool) -> None:  # noqa: FBT001
    """Where the ledger is gone: what a run spent that was killed just after its answer came is known by the cache."""
    job = make(AB, limits={"job_max_tokens": 10_000})
    request = requests_of(job)[0]

    async def begin() -> tuple[str, int | None]:
        with open_writer(job) as writer, open_budget(job, writer) as budget:
            return writer.manifest.run_id, (await budget.reserve(request)).begin()

    run, number = asyncio.run(begin())
    (job.resolve("cache") / LEDGER).unlink()
    if kept:
        body = {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}
        with AnswerCache(job.resolve("cache")) as cache:
            cache.put_many([answer_to(request, body, run=run, call=number)])

    (spent,) = earlier_runs(job, job.resolve("store")).values()

    assert spent.most.tokens == (Usage(7, 0, 2) if kept else worst_case(request)).total


@pytest.mark.parametrize("how", ["gone", "empty", "of another run"])
@pytest.mark.parametrize("ceiling", ["max_requests", "job_max_tokens", "cache_max_tokens"])
def test_without_its_record_of_calls_no_run_goes_on_under_a_ceiling(
    make: Any, tmp_path: Path, ceiling: str, how: str
) -> None:
    """Also before its first part, when its manifest knows of no call."""
    job = make(AB, limits={ceiling: 1_000_000})
    with open_writer(job) as writer, open_budget(job, writer):
        pass
    path = tmp_path / "store" / "runs" / "run=r" / "calls.log"
    if how == "of another run":
        open_call_log(path, run_id="other").close()
    else:
        path.unlink() if how == "gone" else path.write_bytes(b"")

    with (
        open_writer(job) as writer,
        pytest.raises(StoreError, match=r"so that what this run has spent is not known.*Put the file back; or"),
        open_budget(job, writer),
    ):
        pass
    repair_store(tmp_path / "store", verify_store(tmp_path / "store"))
    with open_writer(job) as writer, open_budget(job, writer):
        pass


def test_a_lost_record_of_calls_causes_a_warning_without_a_ceiling(
    make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on with what its manifest says."""
    job = make(AB)
    with open_writer(job) as writer, open_budget(job, writer):
        pass
    (tmp_path / "store" / "runs" / "run=r" / "calls.log").unlink()

    with caplog.at_level(logging.WARNING), open_writer(job) as writer, open_budget(job, writer):
        pass

    assert "calls.log is missing: what the run spent is taken from its manifest" in caplog.text


def test_a_replay_spends_nothing(make: Any, tmp_path: Path) -> None:
    """It has no record of calls, and no ceiling holds it back."""
    job = make(AB, transport={"kind": "replay", "fixtures": "recorded.jsonl"}, limits={"max_requests": 1})

    async def main() -> None:
        with open_writer(job) as writer, open_budget(job, writer) as budget:
            assert budget.calls is None
            for request in requests_of(job):
                (await budget.reserve(request)).begin()

    asyncio.run(main())

    assert not (tmp_path / "store" / "runs" / "run=r" / "calls.log").exists()


# the asker


def test_an_asker_without_a_run_keeps_the_job_s_ceilings(make: Any, fault_server: Any) -> None:
    """Of two calls, a ceiling of one allows the first only."""
    job = make(AB, fault_server.url, limits={"max_requests": 1})
    first, second = requests_of(job)

    async def main() -> None:
        async with open_transport(job) as transport, open_asker(job, transport) as asker:
            await asker.ask(first)
            await asker.ask(second)

    with pytest.raises(StopRunError) as caught:
        asyncio.run(main())

    assert caught.value.reason == "budget"
    assert len(fault_server.calls) == 1


def test_an_asker_tries_as_often_as_the_job_says(make: Any, fault_server: Any) -> None:
    """With two attempts, a call that fails once is repeated."""
    fault_server.script("500:retry-after=0")
    job = make(AB, fault_server.url, limits={"attempts": 2})

    async def main() -> Answer:
        async with open_transport(job) as transport, open_asker(job, transport) as asker:
            return await asker.ask(requests_of(job)[0])

    assert asyncio.run(main()).attempts == 2
    assert len(fault_server.calls) == 2
