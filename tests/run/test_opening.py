"""Opening a session of a run: its budget, and the log of its calls."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_to, requests_of

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import StopRunError, StoreError
from logprob_store.replay.fixtures import write_fixtures
from logprob_store.run.opening import open_session
from logprob_store.run.plan import plan_job
from logprob_store.run.preflight import ModelCheck
from logprob_store.run.spent import earlier_runs
from logprob_store.spending.request_tokens import worst_case
from logprob_store.spending.shared_ledger import LEDGER
from logprob_store.store.call_log import open_call_log
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from logprob_store.job import Job
    from logprob_store.run.session import Session

AB: dict[str, Any] = {"text": ["a", "b"]}
URL = "http://127.0.0.1:9/v1"


def open_r(job: Job) -> AbstractAsyncContextManager[Session]:
    """A session of the run `r`."""
    return open_session(plan_job(job), "r", models=ModelCheck(job), stop=asyncio.Event())


def open_and_close(job: Job) -> Session:
    """A session of the run `r` that asked nothing."""

    async def main() -> Session:
        async with open_r(job) as session:
            return session

    return asyncio.run(main())


def test_a_run_s_budget_keeps_the_job_s_ceilings(make: Any) -> None:
    """With one call allowed, the second cannot be reserved."""
    job = make(AB, URL, limits={"max_requests": 1})
    first, second = requests_of(job)

    async def main() -> None:
        async with open_r(job) as session:
            budget = session.budget
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
    job = make(AB, URL, prices=prices)
    request = requests_of(job)[0]

    async def spend() -> None:
        async with open_r(job) as session:
            budget = session.budget
            with await budget.reserve(request) as reservation:
                number = reservation.begin()
                reservation.answered(Usage(7, 0, 3))
            assert budget.calls is not None
            assert number is not None
            budget.calls.end(number, Usage(7, 0, 3))

    asyncio.run(spend())

    assert (tmp_path / "store" / "runs" / "run=r" / "calls.log").exists()
    budget = open_and_close(job).budget
    assert (budget.requests, budget.usage.whole) == (1, Usage(7, 0, 3))
    assert budget.usd == pytest.approx(0.00013)


@pytest.mark.parametrize("kept", [True, False])
def test_a_call_under_way_at_a_kill_counts_what_its_answer_took(make: Any, kept: bool) -> None:  # noqa: FBT001
    """Its answer may have reached the cache; if not, the call counts at its worst and may have been paid for."""
    job = make(AB, URL)
    request = requests_of(job)[0]

    async def begin() -> tuple[str, int | None]:
        async with open_r(job) as session:
            budget = session.budget
            return session.writer.manifest.run_id, (await budget.reserve(request)).begin()

    run, number = asyncio.run(begin())
    if kept:
        body = {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}
        with AnswerCache(job.resolve("cache")) as cache:
            cache.put_many([answer_to(request, body, run=run, call=number)])

    budget = open_and_close(job).budget
    assert budget.requests == 1
    assert budget.usage.whole == (Usage(7, 0, 2) if kept else worst_case(request))
    assert budget.may_have_paid(request.key) is not kept


@pytest.mark.parametrize("kept", [True, False])
def test_an_answer_in_the_cache_ends_a_killed_run_s_call_for_the_others(make: Any, kept: bool) -> None:  # noqa: FBT001
    """Where the ledger is gone: what a run spent that was killed just after its answer came is known by the cache."""
    job = make(AB, URL, limits={"job_max_tokens": 10_000})
    request = requests_of(job)[0]

    async def begin() -> tuple[str, int | None]:
        async with open_r(job) as session:
            budget = session.budget
            return session.writer.manifest.run_id, (await budget.reserve(request)).begin()

    run, number = asyncio.run(begin())
    (job.resolve("cache") / LEDGER).unlink()
    if kept:
        body = {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}
        with AnswerCache(job.resolve("cache")) as cache:
            cache.put_many([answer_to(request, body, run=run, call=number)])

    (spent,) = earlier_runs(job).values()

    assert spent.most.tokens == (Usage(7, 0, 2) if kept else worst_case(request)).total


@pytest.mark.parametrize("how", ["gone", "empty", "of another run"])
@pytest.mark.parametrize("ceiling", ["max_requests", "job_max_tokens", "cache_max_tokens"])
def test_without_its_record_of_calls_no_run_goes_on_under_a_ceiling(
    make: Any, tmp_path: Path, ceiling: str, how: str
) -> None:
    """Also before its first part, when its manifest knows of no call."""
    job = make(AB, URL, limits={ceiling: 1_000_000})
    open_and_close(job)
    path = tmp_path / "store" / "runs" / "run=r" / "calls.log"
    if how == "of another run":
        open_call_log(path, run_id="other").close()
    else:
        path.unlink() if how == "gone" else path.write_bytes(b"")

    with pytest.raises(StoreError, match=r"so that what this run has spent is not known.*Put the file back; or"):
        open_and_close(job)
    repair_store(tmp_path / "store", verify_store(tmp_path / "store"))
    open_and_close(job)


def test_a_lost_record_of_calls_causes_a_warning_without_a_ceiling(
    make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on with what its manifest says."""
    job = make(AB, URL)
    open_and_close(job)
    (tmp_path / "store" / "runs" / "run=r" / "calls.log").unlink()

    with caplog.at_level(logging.WARNING):
        open_and_close(job)

    assert "calls.log is missing: what the run spent is taken from its manifest" in caplog.text


def test_a_replay_spends_nothing(make: Any, tmp_path: Path) -> None:
    """It has no record of calls, and no ceiling holds it back."""
    job = make(AB, URL, transport={"kind": "replay", "fixtures": "recorded.jsonl"}, limits={"max_requests": 1})
    write_fixtures(tmp_path / "recorded.jsonl", [answer_to(requests_of(job)[0], b"{}")])

    async def main() -> None:
        async with open_r(job) as session:
            budget = session.budget
            assert budget.calls is None
            for request in requests_of(job):
                (await budget.reserve(request)).begin()

    asyncio.run(main())

    assert not (tmp_path / "store" / "runs" / "run=r" / "calls.log").exists()
