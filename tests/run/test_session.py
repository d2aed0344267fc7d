"""One session of a run: how it ends, what is committed then, what a later one does, and what it reports."""

from __future__ import annotations

import asyncio
import dataclasses
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import requests_of

from logprob_store.cache.answers import open_cache
from logprob_store.errors import DiskError, StopRunError
from logprob_store.replay.fixtures import write_fixtures
from logprob_store.run.buffer import Progress
from logprob_store.run.opening import open_session
from logprob_store.run.plan import plan_job
from logprob_store.run.preflight import ModelCheck
from logprob_store.run.resources import open_transport
from logprob_store.store.manifest import Manifest, manifest_path, read_manifest
from logprob_store.store.tables import open_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from logprob_store.job import Job
    from logprob_store.request import Answer, Request
    from logprob_store.run.session import Session
    from logprob_store.transport import Transport

ABC: dict[str, Any] = {"text": ["aaa", "bbb", "ccc"]}
ONE_AT_A_TIME = {"concurrency": 1, "attempts": 1}


def run_session(
    job: Job,
    *,
    transport: Transport | None = None,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    before: Callable[[], None] = lambda: None,
) -> Session:
    """One session of the run `r`; `before` is called once everything is open."""

    async def main() -> Session:
        async with open_session(
            plan_job(job),
            "r",
            models=ModelCheck(job),
            stop=stop or asyncio.Event(),
            on_progress=on_progress,
            instrument=None if transport is None else lambda *_: transport,
        ) as session:
            before()
            await session.run()
            return session

    return asyncio.run(main())


def manifest_of(job: Job) -> Manifest:
    """What the run's manifest says on the disk."""
    return read_manifest(manifest_path(job.store_folder, "r"))


def outcomes(job: Job) -> dict[str, list[Any]]:
    """What a reader of the store sees: the prompts that are answered, and how the others failed."""
    tables = open_tables(job.store_folder)
    failures = tables.failures.sort("prompt_index").collect()
    return {
        "answered": tables.completions.sort("prompt_index").collect()["prompt_index"].to_list(),
        "failed": list(zip(failures["prompt_index"], failures["error_type"], strict=True)),
    }


# finished


def test_a_session_that_reaches_the_end_is_finished(make: Any, fault_server: Any) -> None:
    """Three prompts take three calls and give three completions; there is no reason."""
    job = make(ABC, fault_server.url)

    run_session(job)

    manifest = manifest_of(job)
    assert (manifest.state, manifest.settled, manifest.counts.completions) == ("finished", [(0, 3)], 3)
    (record,) = manifest.sessions
    assert (record.state, record.reason, record.message, record.calls) == ("finished", None, None, 3)


def test_a_prompt_that_fails_does_not_keep_a_session_from_its_end(make: Any, fault_server: Any) -> None:
    """A failure is an outcome: the run is finished, and its manifest counts the open failure."""
    fault_server.when("bbb", "400")
    job = make(ABC, fault_server.url)

    run_session(job)

    manifest = manifest_of(job)
    assert (manifest.state, manifest.failed) == ("finished", {"invalid_request": 1})
    assert outcomes(job) == {"answered": [0, 2], "failed": [(1, "invalid_request")]}


def test_a_prompt_that_cannot_be_asked_is_a_failure_without_a_call(make: Any, fault_server: Any) -> None:
    """A null prompt costs nothing."""
    job = make({"text": ["aaa", None]}, fault_server.url)

    run_session(job)

    assert outcomes(job) == {"answered": [0], "failed": [(1, "null_prompt")]}
    assert len(fault_server.calls) == 1


def test_a_finished_run_needs_neither_prompts_nor_calls(make: Any, fault_server: Any) -> None:
    """The manifest alone shows that nothing is left: prompts that can no longer be read are not missed."""
    job = make(ABC, fault_server.url)
    run_session(job)
    prompts = job.resolve("prompts.parquet")

    session = run_session(job, before=prompts.unlink)

    assert (session.answered_before, session.progress.calls) == (3, 0)
    assert manifest_of(job).state == "finished"
    assert len(fault_server.calls) == 3


def test_what_a_session_spent_stands_in_the_manifest(make: Any, fault_server: Any) -> None:
    """Three answers of 7 and 3 tokens; at 10 and 20 dollars a million, 3 x (70 + 60) millionths."""
    prices = {"input_usd_per_million_tokens": 10, "output_usd_per_million_tokens": 20}
    job = make(ABC, fault_server.url, prices=prices)

    run_session(job)

    spent = manifest_of(job).spent
    assert (spent.requests, spent.prompt_tokens, spent.completion_tokens) == (3, 21, 9)
    assert spent.usd == pytest.approx(0.00039)


# stopped


def test_a_used_up_quota_stops_a_session(make: Any, fault_server: Any) -> None:
    """The first answer is committed; the second call stops the run, and the third is not made."""
    fault_server.when("bbb", "quota")
    job = make(ABC, fault_server.url, limits=ONE_AT_A_TIME)

    session = run_session(job)

    assert session.stopped_by is not None
    assert session.stopped_by.reason == "quota"
    assert outcomes(job) == {"answered": [0], "failed": []}
    assert len(fault_server.calls) == 2


def test_the_reason_of_a_stop_stands_in_the_manifest(make: Any, fault_server: Any) -> None:
    """The record of the session has the state, the failure class, and the message with the server's address."""
    fault_server.when("aaa", "quota")
    job = make(ABC, fault_server.url, limits=ONE_AT_A_TIME)

    session = run_session(job)

    (record,) = manifest_of(job).sessions
    assert (record.state, record.reason, record.message) == ("stopped", "quota", session.why)
    assert "You exceeded your current quota." in str(session.stopped_by)
    assert (session.why or "").endswith(f"The server: {fault_server.url}")


def test_the_first_reason_is_kept(make: Any) -> None:
    """A call that was under way when the quota ended may fail in another way: that did not stop the run."""
    job = make({"text": ["aaa", "bbb"]}, "http://127.0.0.1:9/v1", limits={"concurrency": 2, "attempts": 1})
    both_at_server, first_failed = asyncio.Event(), asyncio.Event()

    async def transport(request: Request) -> Answer:
        if request.prompt_index == 1:
            both_at_server.set()
            await first_failed.wait()
            raise StopRunError("the key is refused", reason="authentication")
        await both_at_server.wait()
        asyncio.get_running_loop().call_later(0.05, first_failed.set)
        raise StopRunError("no credit", reason="quota")

    session = run_session(job, transport=transport)

    assert str(session.stopped_by) == "no credit"
    (record,) = manifest_of(job).sessions
    assert (record.reason, record.message) == ("quota", "no credit. The server: http://127.0.0.1:9/v1")


def test_a_ceiling_stops_a_session_before_the_call(make: Any, fault_server: Any) -> None:
    """Two calls are allowed, two are made and kept."""
    job = make(ABC, fault_server.url, limits={"concurrency": 1, "max_requests": 2})

    session = run_session(job)

    assert session.stopped_by is not None
    assert session.stopped_by.reason == "budget"
    assert outcomes(job) == {"answered": [0, 1], "failed": []}
    assert len(fault_server.calls) == 2


def test_a_call_at_the_server_may_finish_when_a_session_stops(make: Any, fault_server: Any) -> None:
    """The slow answer is paid for, so it is waited for, and committed."""
    fault_server.when("aaa", "drip:seconds=0.5")
    fault_server.when("bbb", "quota")
    job = make({"text": ["aaa", "bbb"]}, fault_server.url, limits={"concurrency": 2, "attempts": 1})

    run_session(job)

    assert manifest_of(job).state == "stopped"
    assert outcomes(job) == {"answered": [0], "failed": []}


def test_the_next_session_makes_the_calls_that_are_left(make: Any, fault_server: Any) -> None:
    """After a stop at the second of three, two calls remain; the manifest knows both sessions."""
    fault_server.when("bbb", "quota")
    job = make(ABC, fault_server.url, limits=ONE_AT_A_TIME)
    run_session(job)

    session = run_session(job)

    assert (session.answered_before, session.progress.calls) == (1, 2)
    assert [record.state for record in manifest_of(job).sessions] == ["stopped", "finished"]
    assert outcomes(job) == {"answered": [0, 1, 2], "failed": []}


def test_a_failed_call_is_made_again_by_the_next_session(make: Any, fault_server: Any) -> None:
    """Only the failed call is made, and then no failure is left."""
    fault_server.when("bbb", "400")
    job = make(ABC, fault_server.url)
    run_session(job)

    session = run_session(job)

    assert (session.answered_before, session.progress.calls) == (2, 1)
    assert outcomes(job) == {"answered": [0, 1, 2], "failed": []}
    assert manifest_of(job).failed == {}


def test_an_answer_that_was_of_no_use_is_not_taken_from_the_cache_again(make: Any, fault_server: Any) -> None:
    """An answer without logprobs is kept in the cache; the next session asks the server instead."""
    fault_server.when("bbb", "null")
    job = make(ABC, fault_server.url)
    run_session(job)
    assert outcomes(job) == {"answered": [0, 2], "failed": [(1, "no_logprobs")]}

    session = run_session(job)

    assert (session.progress.calls, session.progress.from_cache) == (1, 0)
    assert outcomes(job) == {"answered": [0, 1, 2], "failed": []}


# interrupted


def test_a_session_that_is_to_stop_at_once_makes_no_call(make: Any, fault_server: Any) -> None:
    """The session is interrupted, without a reason."""
    stop = asyncio.Event()
    stop.set()
    job = make(ABC, fault_server.url)

    session = run_session(job, stop=stop)

    (record,) = manifest_of(job).sessions
    assert (record.state, record.reason, record.message) == ("interrupted", None, None)
    assert session.stopped_by is None
    assert fault_server.calls == []


@pytest.fixture
def interrupted(make: Any, fault_server: Any, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job whose session was interrupted: `aaa` was answered, `bbb` at the server, and `ccc` waiting for a slot."""
    monkeypatch.setattr("logprob_store.run.session.GRACE_S", 0.1)
    fault_server.when("bbb", "hang")
    job: Job = make(ABC, fault_server.url, limits=ONE_AT_A_TIME)
    stop = asyncio.Event()

    def interrupt(progress: Progress) -> None:
        if progress.settled == 1 and progress.in_flight == 1:
            stop.set()

    run_session(job, stop=stop, on_progress=interrupt)
    return job


def test_what_was_answered_before_an_interrupt_is_committed(interrupted: Job) -> None:
    """The state is `interrupted`, and the answer has its row."""
    assert manifest_of(interrupted).state == "interrupted"
    assert outcomes(interrupted)["answered"] == [0]


def test_a_call_that_is_cancelled_at_the_server_may_be_billed(interrupted: Job) -> None:
    """It is a failure with `maybe_billed`; a call that waited for a slot is no failure."""
    failures = open_tables(interrupted.resolve("store")).failures.collect()

    assert failures.select("prompt_index", "error_type", "maybe_billed").rows() == [(1, "interrupted", True)]


def test_after_an_interrupt_the_rest_is_asked(interrupted: Job, fault_server: Any) -> None:
    """The next session asks `bbb` again, and `ccc` for the first time."""
    run_session(interrupted)

    asked = [body["messages"][0]["content"] for body in fault_server.bodies]
    assert asked == ["aaa", "bbb", "bbb", "ccc"]
    assert outcomes(interrupted) == {"answered": [0, 1, 2], "failed": []}


# errors


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let the kernel refuse to write files beyond so many bytes, as a full disk refuses any."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_raised_and_nothing_is_half_committed(make: Any, fault_server: Any, tmp_path: Path) -> None:
    """The part is too large; the manifest has room, and says that the run was interrupted, without an outcome."""
    job = make(ABC, fault_server.url, cache={"mode": "off"})

    with files_limited_to(4000), pytest.raises(DiskError, match="part part-00000 could not be written"):
        run_session(job)

    manifest = manifest_of(job)
    assert (manifest.state, manifest.parts, manifest.settled) == ("interrupted", [], [])
    assert list(tmp_path.glob("store/**/*.parquet*")) == []


def test_with_room_again_the_same_run_goes_on(make: Any, fault_server: Any) -> None:
    """Nothing is left of the failed part, and the same run reaches its end."""
    job = make(ABC, fault_server.url, cache={"mode": "off"})
    with files_limited_to(4000), pytest.raises(DiskError):
        run_session(job)

    run_session(job)

    assert manifest_of(job).state == "finished"
    assert outcomes(job) == {"answered": [0, 1, 2], "failed": []}


def test_a_bug_is_raised_after_what_came_is_committed(make: Any, fault_server: Any) -> None:
    """An unexpected error ends the session; earlier answers are committed, and the manifest has its text."""
    job = make(ABC, fault_server.url, limits=ONE_AT_A_TIME)

    async def main() -> Answer:
        async with open_transport(job) as transport:
            request = requests_of(job)[0]
            return await transport(request)

    first = asyncio.run(main())

    async def transport(request: Request) -> Answer:
        if request.prompt_index == 0:
            return dataclasses.replace(first, request=request)
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        run_session(job, transport=transport)

    (record,) = manifest_of(job).sessions
    assert (record.state, record.reason, record.message) == ("interrupted", None, "a bug")
    assert outcomes(job) == {"answered": [0], "failed": []}


# progress


def test_the_last_report_has_all_counts(make: Any, fault_server: Any) -> None:
    """Of three calls one fails: all are settled, and none is at the server any more."""
    fault_server.when("bbb", "400")
    reports: list[Progress] = []

    run_session(make(ABC, fault_server.url), on_progress=lambda progress: reports.append(dataclasses.replace(progress)))

    assert reports[-1] == Progress(total=3, settled=3, calls=3, failed=1)


def test_an_undecodable_answer_counts_as_failed(make: Any, fault_server: Any) -> None:
    """An answer without logprobs is settled, and counts as failed once its part is decoded."""
    fault_server.when("bbb", "null")

    session = run_session(make(ABC, fault_server.url))

    assert session.progress == Progress(total=3, settled=3, calls=3, failed=1)


def test_repeated_calls_are_counted_each(make: Any, fault_server: Any) -> None:
    """One prompt whose first call fails takes two calls."""
    fault_server.script("500:retry-after=0")

    session = run_session(make({"text": ["aaa"]}, fault_server.url))

    assert (session.progress.settled, session.progress.calls) == (1, 2)


def test_the_first_report_counts_earlier_sessions(make: Any, fault_server: Any) -> None:
    """Before anything is asked, two of three calls have an answer."""
    fault_server.when("bbb", "400")
    job = make(ABC, fault_server.url)
    run_session(job)
    reports: list[Progress] = []

    run_session(job, on_progress=lambda progress: reports.append(dataclasses.replace(progress)))

    assert reports[0] == Progress(total=3, settled=2)


def test_answers_of_the_cache_are_counted_and_cost_no_call(make: Any, fault_server: Any) -> None:
    """Equal prompts share an answer that was kept before: both are counted."""
    job = make({"text": ["aaa", "bbb", "aaa"]}, fault_server.url)
    request = requests_of(job)[0]

    async def main() -> Answer:
        async with open_transport(job) as transport:
            return await transport(request)

    with open_cache(job.cache_folder) as cache:
        assert cache is not None
        cache.put_many([asyncio.run(main())])

    session = run_session(job)

    assert session.progress == Progress(total=3, settled=3, calls=1, from_cache=2)


def test_a_replay_counts_fixtures_and_no_calls(make: Any, fault_server: Any, tmp_path: Path) -> None:
    """A replay calls no server and spends nothing."""
    live = make({"text": ["aaa", "bbb"]}, fault_server.url)
    requests = requests_of(live)

    async def main() -> list[Answer]:
        async with open_transport(live) as transport:
            return [await transport(request) for request in requests]

    write_fixtures(tmp_path / "recorded.jsonl", asyncio.run(main()))
    replay = {"kind": "replay", "fixtures": "recorded.jsonl"}
    job = make({"text": ["aaa", "bbb"]}, fault_server.url, transport=replay)

    session = run_session(job)

    assert session.progress == Progress(total=2, settled=2, from_fixtures=2)
    assert manifest_of(job).spent.requests == 0
    assert len(fault_server.calls) == 2


def test_prompt_rows_are_committed_with_the_outcomes(make: Any, fault_server: Any) -> None:
    """Each prompt that was read has a row, also the one that failed."""
    fault_server.when("bbb", "400")
    job = make(ABC, fault_server.url)

    run_session(job)

    rows = open_tables(job.resolve("store")).prompts.sort("prompt_index").collect()
    assert rows["prompt_index"].to_list() == [0, 1, 2]
    assert rows.select(pl.col("messages").str.json_path_match("$[0].content")).to_series().to_list() == ABC["text"]
