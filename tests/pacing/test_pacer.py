"""The pacer as a whole on a virtual clock: when calls start, and what each outcome changes."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from pacing.simulation import Fickle, LimitedServer, ask_all, ask_for, request, run

from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.pacing.pacer import Pacer
from logprob_store.usage import RateLimit, ServerReport

if TYPE_CHECKING:
    from logprob_store.request import Request


def _refusal(retry_after_s: float | None = None, report: ServerReport | None = None) -> RetryableError:
    error = RetryableError("too many", error_type="rate_limit", status=429, retry_after_s=retry_after_s)
    error.report = report
    return error


def _trouble(error_type: str = "connection") -> RetryableError:
    return RetryableError("no", error_type=error_type, maybe_billed=error_type == "timeout")


@pytest.mark.parametrize(
    ("limit", "at_once", "seconds"), [(60, 64, 3600), (600, 64, 600), (6000, 400, 120)], ids=["1 h", "10 min", "2 min"]
)
def test_the_server_s_limit_is_used_and_never_passed(limit: int, at_once: int, seconds: int) -> None:
    """A limit learned from headers is used to 95 % or more, never exceeded in any minute, and no call is refused."""
    server = LimitedServer(limit)

    failed = run(ask_for(server, Pacer(at_once), seconds=seconds, at_once=2 * at_once))

    assert (failed, server.refused) == ([], 0)
    assert server.most_in_a_minute() <= limit
    assert len(server.arrivals) >= 0.95 * limit * seconds / 60


@pytest.mark.slow
def test_an_hour_at_ten_a_second() -> None:
    """Over 36,000 calls the limit is used to 98 % and never exceeded."""
    server = LimitedServer(600)

    assert run(ask_for(server, Pacer(64), seconds=3600, at_once=128)) == []
    assert server.refused == 0
    assert server.most_in_a_minute() <= 600
    assert len(server.arrivals) >= 0.98 * 36_000


@pytest.mark.parametrize("retry_after_s", [None, 0.2])
def test_a_refusal_that_says_there_is_room_holds_one_call(retry_after_s: float | None) -> None:
    """Three in ten are refused though requests are left: the other calls go on at the limit."""
    chance = random.Random(1)  # noqa: S311  no secrets are made here
    refusal = _refusal(retry_after_s, ServerReport(RateLimit(30_000, 12_000, 60.0)))
    server = Fickle(lambda *_: refusal if chance.random() < 0.3 else None, latency_s=0.02)

    run(ask_for(server, Pacer(64, requests_per_minute=30_000), seconds=20, at_once=256))

    assert len(server.calls) >= 0.9 * 10_000


def test_refusals_in_a_row_are_a_limit_whatever_they_say() -> None:
    """A server that refuses everything, but reports that requests are left, gets far fewer calls than its limit."""
    server = Fickle(lambda *_: _refusal(None, ServerReport(RateLimit(30_000, 12_000, 60.0))))

    run(ask_for(server, Pacer(64, requests_per_minute=30_000), seconds=60, at_once=64))

    assert len(server.calls) < 1000


def test_a_limit_of_tokens() -> None:
    """At 100 tokens a call, 60,000 tokens a minute are used to 95 % without a refusal."""
    server = LimitedServer(None, 60_000, used_tokens=lambda _: 100)

    assert run(ask_for(server, Pacer(64), seconds=600, at_once=128, max_tokens=90)) == []
    assert server.refused == 0
    assert server.most_in_a_minute(1) <= 60_000
    assert sum(used for _, used in server.arrivals) >= 0.95 * 600_000


def test_a_limit_of_the_job_holds_though_none_is_reported() -> None:
    """The job's limit holds from the first call on, though the server reports none."""
    server = LimitedServer(120, tells=False)

    assert run(ask_for(server, Pacer(64, requests_per_minute=120), seconds=600, at_once=128)) == []
    assert server.refused == 0
    assert len(server.arrivals) >= 0.95 * 1200


def test_a_limit_enforced_per_second() -> None:
    """Only calls made before the first report may be refused."""
    server = LimitedServer(600, per_second=True)

    assert run(ask_for(server, Pacer(64), seconds=300, at_once=128)) == []
    assert server.refused <= 32
    assert all(at < 1 for at, _ in server.arrivals[: server.refused])
    assert len(server.arrivals) >= 0.95 * 3000


def test_a_limit_that_is_not_reported() -> None:
    """A limit known by refusals alone is used to 90 %, with few refusals and hardly a failed prompt."""
    server = LimitedServer(600, tells=False)

    failed = run(ask_for(server, Pacer(64), seconds=900, at_once=128))

    accepted = len(server.arrivals) - server.refused
    assert len(failed) <= 0.001 * accepted
    assert accepted >= 0.9 * 9000
    assert server.refused <= 0.25 * accepted


def test_concurrency_rises_to_what_the_limit_needs() -> None:
    """3000 calls a minute of 2 s each need 100 at once: more than the 32 of the start, less than the ceiling."""
    server = LimitedServer(3000, latency_s=2.0)

    run(ask_for(server, Pacer(1000), seconds=60, at_once=1500))

    assert 98 <= server.most_in_flight <= 110


def test_a_refusal_with_a_time_holds_up_all_and_cuts_nothing() -> None:
    """After a refusal with a time no call starts until then, and concurrency is not cut."""
    pacer = Pacer(4)
    server = Fickle(lambda _, number, __: _refusal(retry_after_s=7.0) if number == 4 else None)

    outcomes = run(ask_all(server, pacer, [request(number) for number in range(20)]))

    starts = [at for at, _ in server.calls]
    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    assert starts[:4] == [0.0] * 4
    assert starts[4] == 7.0
    assert pacer.concurrency.limit == 4


def test_a_refusal_with_nothing_left_waits_for_the_reset() -> None:
    """A refusal without retry-after, but with a limit used up, waits for the later reset."""
    pacer = Pacer(2)
    report = ServerReport(RateLimit(60, 0, 3.0), RateLimit(1000, 900, 5.0))
    server = Fickle(lambda _, number, __: _refusal(report=report) if number == 1 else None)

    run(ask_all(server, pacer, [request(0)]))

    assert [at for at, _ in server.calls] == [0.0, 5.0]
    assert pacer.concurrency.limit == 2


def test_a_refusal_without_a_time_cuts_once() -> None:
    """Ten refusals of one wave are one cut: 32 to 25."""
    pacer = Pacer(32, first_calls=32)
    server = Fickle(lambda _, number, __: _refusal() if number <= 10 else None, refusal_s=0.01)

    outcomes = run(ask_all(server, pacer, [request(number) for number in range(32)]))

    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    assert pacer.concurrency.limit == 25


def test_a_sleeping_retry_holds_no_slot() -> None:
    """With one slot, a hundred others are answered while one waits 50 s to be asked again."""
    server = Fickle(
        lambda asked, number, _: (
            RetryableError("no", error_type="server_error", retry_after_s=50.0)
            if asked.body["prompt"] == "0" and number < 50
            else None
        )
    )

    run(ask_all(server, Pacer(1), [request(number) for number in range(100)]))

    assert len(server.calls) == 101
    assert server.most_in_flight == 1
    assert server.calls[99][0] < 11
    assert server.calls[100][0] >= 50


def test_repeated_calls_go_first() -> None:
    """A call that is repeated starts before new ones."""
    server = Fickle(
        lambda _, number, __: RetryableError("no", error_type="x", retry_after_s=0.01) if number == 1 else None
    )

    run(ask_all(server, Pacer(1), [request(number) for number in range(20)]))

    prompts = [asked.body["prompt"] for _, asked in server.calls]
    assert prompts.index("0", 1) < 6  # within 0.26 s, at 0.1 s a call


def test_an_outage_costs_no_prompt_an_attempt() -> None:
    """In an outage of five minutes calls probe one at a time, then all go on at once, and no prompt fails."""
    pacer = Pacer(16)
    server = Fickle(lambda _, __, now: _trouble() if 1 < now < 300 else None)

    outcomes = run(ask_all(server, pacer, [request(number) for number in range(400)], attempts=3))

    during = [at for at, _ in server.calls if 1.5 < at < 300]
    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    assert len(during) < 40
    assert max(at for at, _ in server.calls) < 315
    assert not pacer.breaker.is_open


def test_failed_probes_wait_in_the_queue() -> None:
    """Calls that probed without success wait in the queue, so that all go on at once when the server is back."""
    pacer = Pacer(8, patience_s=5000)
    server = Fickle(lambda _, __, now: _trouble() if now < 1200 else None)

    run(ask_all(server, pacer, [request(number) for number in range(8)], attempts=3, retry_for_s=5000))

    probes = [at for at, _ in server.calls if 20 < at < 1200]
    after = [at for at, _ in server.calls if at >= 1200]
    assert max(late - early for early, late in pairwise(probes)) < 10.01
    assert after[-1] - after[0] < 0.2


def test_an_outage_that_lasts_too_long_ends() -> None:
    """After patience_s of an outage, calls fail and count as attempts, so that the run ends."""
    pacer = Pacer(8, patience_s=60)
    server = Fickle(lambda _, __, ___: _trouble("timeout"))

    async def main() -> tuple[list[Any], float]:
        outcomes = await ask_all(server, pacer, [request(number) for number in range(40)], attempts=3, retry_for_s=60)
        return outcomes, asyncio.get_running_loop().time()

    outcomes, took = run(main())

    assert all(isinstance(outcome, RetryableError) for outcome in outcomes)
    assert all(outcome.attempts >= 1 and outcome.maybe_billed for outcome in outcomes)
    assert 60 <= took < 200


def test_no_call_is_started_for_a_prompt_whose_time_is_up() -> None:
    """A call that waited beyond retry_for_s fails with its last error, and its place goes to another."""
    pacer = Pacer(1)
    server = Fickle(
        lambda asked, _, __: (
            RetryableError("first", error_type="server_error", retry_after_s=1.0)
            if asked.body["prompt"] == "0"
            else None
        ),
        latency_s=50.0,
    )

    first, second = run(ask_all(server, pacer, [request(0), request(1)], retry_for_s=20))

    assert isinstance(first, RetryableError)
    assert (first.attempts, str(first)) == (1, "first")
    assert not isinstance(second, Exception)
    assert pacer.concurrency.in_use == 0


def test_a_request_above_the_whole_limit_of_the_job_is_an_error_at_once() -> None:
    """A request above the job's own limit fails without being sent, and others go on."""
    server = LimitedServer(None, 1000)

    small, large, after = run(
        ask_all(
            server,
            Pacer(1, tokens_per_minute=1000),
            [request(1, max_tokens=10), request(2, max_tokens=2000), request(3, max_tokens=10)],
        )
    )

    assert isinstance(large, CallError)
    assert not isinstance(large, RetryableError)
    assert (large.error_type, large.attempts, large.maybe_billed) == ("over_limit", 0, False)
    assert "about 2" in str(large)
    assert not isinstance(small, Exception)
    assert not isinstance(after, Exception)
    assert len(server.arrivals) == 2


def _counts_the_maximum(asked: Request) -> int:
    maximum: int = asked.body["max_tokens"]
    return maximum


def test_a_limit_that_the_server_reports_is_tried_with_one_call() -> None:
    """The first request above it is sent once and refused; those that are as large or larger are not sent."""
    server = LimitedServer(None, 1000, used_tokens=_counts_the_maximum)
    wanted = [10, 2000, 2000, 3000, 10]

    outcomes = run(ask_all(server, Pacer(1), [request(n, max_tokens=most) for n, most in enumerate(wanted)]))

    assert [getattr(outcome, "error_type", "answered") for outcome in outcomes] == [
        "answered", "over_limit", "over_limit", "over_limit", "answered",
    ]  # fmt: skip
    assert [used for _, used in server.arrivals] == [10, 2000, 10]


def test_a_limit_below_what_the_server_serves_fails_no_request() -> None:
    """A server that says 6 tokens a minute and serves 2000 in a call is asked everything, and not slowed down."""
    lie = ServerReport(None, RateLimit(6, 5, 1.0), 20)
    server = Fickle(lambda *_: None, report=lambda _: lie)

    async def main() -> tuple[list[Any], float]:
        outcomes = await ask_all(server, Pacer(8), [request(number, max_tokens=2000) for number in range(300)])
        return outcomes, asyncio.get_running_loop().time()

    outcomes, took_s = run(main())

    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    assert took_s < 60


def test_a_limit_that_one_answer_alone_reports_is_forgotten() -> None:
    """The first answer says 60 requests a minute, and no other says anything: after a minute there is no limit."""
    lie = ServerReport(RateLimit(60, 59, 1.0))
    server = Fickle(lambda *_: None, report=lambda number: lie if number == 1 else None)

    async def main() -> float:
        await ask_all(server, Pacer(8), [request(number) for number in range(3000)])
        return asyncio.get_running_loop().time()

    assert run(main()) < 120


def test_usage_that_cannot_be_fails_and_delays_no_request() -> None:
    """Answers that say a billion tokens are counted with the most that the request allows: here 500 in a minute."""
    server = Fickle(lambda *_: None, report=lambda _: ServerReport(used_tokens=10**9))

    async def main() -> tuple[list[Any], float]:
        pacer = Pacer(8, tokens_per_minute=60_000)
        outcomes = await ask_all(server, pacer, [request(number, max_tokens=50) for number in range(100)])
        return outcomes, asyncio.get_running_loop().time()

    outcomes, took_s = run(main())

    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    assert took_s < 60


def test_a_limit_that_is_closed_for_hours_stops_the_run() -> None:
    """Three refusals in a row beyond patience_s stop the run; prompts not asked stay open for the next."""
    pacer = Pacer(2, patience_s=600)
    server = Fickle(lambda _, __, ___: _refusal(retry_after_s=7 * 3600.0))

    outcomes = run(ask_all(server, pacer, [request(number) for number in range(50)]))

    stopped = [outcome for outcome in outcomes if isinstance(outcome, StopRunError)]
    assert len(server.calls) <= 4
    assert len(stopped) == 50 - len(server.calls)
    assert {error.reason for error in stopped} == {"limit_closed"}
    assert "7.0 hours" in str(stopped[0])


def test_one_absurd_time_fails_one_prompt() -> None:
    """After one refusal beyond patience_s that prompt fails, and others go on at once."""
    server = Fickle(lambda _, number, __: _refusal(retry_after_s=80_000.0) if number == 3 else None)

    outcomes = run(ask_all(server, Pacer(4), [request(number) for number in range(20)]))

    assert [isinstance(outcome, Exception) for outcome in outcomes].count(True) == 1
    assert server.calls[-1][0] < 2


def test_absurd_times_now_and_then_stop_no_run() -> None:
    """Refusals beyond patience_s with answers between them do not stop the run."""
    server = Fickle(lambda _, number, __: _refusal(retry_after_s=80_000.0) if number % 4 == 0 else None)

    outcomes = run(ask_all(server, Pacer(1), [request(number) for number in range(40)]))

    assert not any(isinstance(outcome, StopRunError) for outcome in outcomes)
    assert len(server.calls) == 40


def test_a_turn_that_is_cancelled_is_given_back() -> None:
    """A cancelled call gives its place back, whether it was waiting or had just been started."""
    pacer = Pacer(1, requests_per_minute=600)

    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        async with pacer.slot(request(0)):
            waiting = [asyncio.create_task(_enter(pacer, request(number))) for number in range(1, 6)]
            await asyncio.sleep(1)
            waiting[0].cancel()
        waiting[1].cancel()  # let in by the end of the first, not yet running
        await asyncio.wait(waiting)
        return pacer.concurrency.in_use, loop.time()

    in_use, took = run(main())

    assert in_use == 0
    assert took < 2


def test_a_cancelled_head_of_the_queue_makes_way() -> None:
    """A large call waits for its tokens; once it is cancelled the small one behind it starts at once."""
    pacer = Pacer(4, tokens_per_minute=1000)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        await _enter(pacer, request(0, max_tokens=100))
        large = asyncio.create_task(_enter(pacer, request(1, max_tokens=950)))
        small = asyncio.create_task(_enter(pacer, request(2, max_tokens=1)))
        await asyncio.sleep(10)
        large.cancel()
        await small
        return loop.time()

    assert 10 < run(main()) < 10.1


async def _enter(pacer: Pacer, asked: Request) -> None:
    async with pacer.slot(asked):
        await asyncio.sleep(0.01)


def test_reservations_come_back_with_the_answer() -> None:
    """Of 900 tokens reserved and 10 used, 890 come back: far more calls run than reservations alone would allow."""
    server = LimitedServer(None, 2000, used_tokens=lambda _: 10, latency_s=0.5)

    run(ask_for(server, Pacer(8, tokens_per_minute=2000), seconds=120, at_once=16, max_tokens=900))

    assert len(server.arrivals) > 100


def test_a_lost_answer_s_tokens_stay_spent() -> None:
    """The tokens of a lost answer stay spent, those of a refused call come back."""
    pacer = Pacer(8, tokens_per_minute=1000)

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        spent = []
        for error in (_refusal(report=None), _trouble("timeout")):
            with pytest.raises(RetryableError):
                async with pacer.slot(request(1, max_tokens=400)):
                    raise error
            spent.append(pacer.rates.tokens.wait_s(loop.time(), 800))
        return spent[0], spent[1]

    after_refusal, after_loss = run(main())

    assert after_refusal == 0
    assert after_loss > 20


def test_a_handful_of_calls_until_the_first_answer() -> None:
    """Eight calls at once until one is answered, as a job that cannot succeed costs no more; then as many as else."""
    under_way: list[int] = []

    async def session() -> None:
        pacer = Pacer(64)
        slots = [pacer.slot(request(number)) for number in range(40)]
        waiting = [asyncio.create_task(pacer.begin(slot)) for slot in slots]
        await asyncio.sleep(0.01)
        under_way.append(pacer.concurrency.in_use)
        pacer.end(slots[0], None)
        await asyncio.sleep(0.01)
        under_way.append(pacer.concurrency.in_use)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(session())

    assert under_way == [8, 32]
