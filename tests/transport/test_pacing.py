"""Pacing over HTTP against a server with limits, refusals and outages."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import fault_server as faults
import pytest
from builders import chat_request

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.pacing.pacer import Pacer
from logprob_store.request import Answer
from logprob_store.run.asker import Asker
from logprob_store.run.attempts import ask_until_answered
from logprob_store.transport.answer_check import check_answer
from logprob_store.transport.live import live_transport
from logprob_store.usage import RateLimit, ServerReport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from logprob_store.request import Request


def _request(number: int) -> Request:
    return chat_request(f"prompt {number}", max_tokens=5)


def _ask_all(url: str, pacer: Pacer, number: int, *, concurrency: int = 64, **settings: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with live_transport(base_url=url, api_key="k", concurrency=concurrency, timeout_s=5) as transport:
            asks = (ask_until_answered(_request(n), transport, pacer=pacer, **settings) for n in range(number))
            return await asyncio.gather(*asks, return_exceptions=True)

    return asyncio.run(main())


def _all_answered(outcomes: list[Any]) -> bool:
    return all(isinstance(outcome, Answer) for outcome in outcomes)


def _limited(**limits: Any) -> Any:
    return faults.Limits(**limits)


def test_the_headers_of_a_good_answer_are_used(fault_server: Any) -> None:
    """Limits and usage reach the pacer, not the cache."""
    fault_server.behaviour.limits = _limited(requests_per_minute=600, tokens_per_minute=60_000)
    pacer = Pacer(4)

    (answer,) = _ask_all(fault_server.url, pacer, 1)

    assert answer.report.requests == RateLimit(600, 599, 0.1)
    assert answer.report.tokens.limit == 60_000
    assert answer.report.used_tokens == 12  # 7 of the prompt, 5 of the answer
    assert not any("ratelimit" in name for name in answer.headers)
    assert (pacer.rates.requests.per_minute, pacer.rates.tokens.per_minute) == (600, 60_000)


@pytest.mark.parametrize("step", ["429", "500", "400", "truncated"])
def test_the_headers_of_a_bad_answer_are_used(fault_server: Any, step: str) -> None:
    """The rate limits in a failed answer's headers reach the pacer."""
    fault_server.script(f"{step}:x-ratelimit-limit-requests=90;x-ratelimit-remaining-requests=80")
    pacer = Pacer(4)

    (error,) = _ask_all(fault_server.url, pacer, 1, attempts=1)

    assert isinstance(error, CallError)
    assert error.report == ServerReport(RateLimit(90, 80))
    assert pacer.rates.requests.per_minute == 90


@pytest.mark.slow
def test_an_enforced_limit_is_met(fault_server: Any) -> None:
    """With 1800 a minute and 30 a second, calls are spread, and few are refused: 160 where nothing paces them."""
    fault_server.behaviour.limits = _limited(requests_per_minute=1800, per_second=True)

    outcomes = _ask_all(fault_server.url, Pacer(64), 100)

    calls = fault_server.calls
    limited = [call for call in calls if call.step == "limited"]
    assert _all_answered(outcomes)
    assert len(limited) <= 40  # 8 on an idle machine; tests/pacing/ counts them exactly, by a clock of its own
    assert calls[-1].at - calls[0].at > 1.8


@pytest.mark.slow
def test_a_limit_of_the_job_holds_from_the_first_call_on(fault_server: Any) -> None:
    """The job's limit is kept where a server enforces it per second and reports none; few calls are refused."""
    fault_server.behaviour.limits = _limited(requests_per_minute=3000, per_second=True, silent=True)

    outcomes = _ask_all(fault_server.url, Pacer(64, requests_per_minute=3000), 100)

    assert _all_answered(outcomes)
    assert sum(call.step == "limited" for call in fault_server.calls) <= 3


@pytest.mark.parametrize(
    "headers", ["", ":retry-after-ms=60", ":x-ratelimit-remaining-requests=0;x-ratelimit-reset-requests=60ms"]
)
def test_a_storm_of_refusals(fault_server: Any, headers: str) -> None:
    """After 60 refusals, with or without a time to wait, all are answered within seconds."""
    fault_server.script(f"ok*10, 429{headers}*60")
    started = time.monotonic()

    outcomes = _ask_all(fault_server.url, Pacer(32), 150, attempts=8)

    assert _all_answered(outcomes)
    assert len(fault_server.calls) == 210
    assert time.monotonic() - started < 8


def test_a_sleeping_retry_holds_no_slot_over_http(fault_server: Any) -> None:
    """With one slot, others are answered while one sleeps before it is repeated."""
    fault_server.when("prompt 0", "503:retry-after=1")

    assert _all_answered(_ask_all(fault_server.url, Pacer(1), 10, concurrency=1))

    at = {call.number: call.at for call in fault_server.calls}
    assert at[9] - at[0] < 0.9
    assert at[10] - at[0] >= 1.0


@pytest.mark.slow
def test_a_clock_that_is_far_off_does_not_matter(fault_server: Any) -> None:
    """A reset and a retry-after as points in time are read from a server whose clock says 1998."""
    date = "Thu, 01 Jan 1998 00:00:00 GMT"
    fault_server.script(
        f"429:date={date.replace(',', '')};retry-after={date.replace(',', '').replace('00 GMT', '01 GMT')},"
        f"429:date={date.replace(',', '')};x-ratelimit-remaining-tokens=0;x-ratelimit-reset-tokens=1998-01-01T00:00:01Z"
    )

    assert _all_answered(_ask_all(fault_server.url, Pacer(1), 1))

    first, second, third = (call.at for call in fault_server.calls)
    assert 1.0 <= second - first < 2
    assert 1.0 <= third - second < 2.6


@pytest.fixture
def port() -> int:
    """A port on which no server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def late_server(port: int, fault_server: Any) -> Iterator[Any]:
    """A server that starts two seconds late."""
    del fault_server  # lets tests reach loopback
    server = faults.ServerThread(port=port)
    timer = threading.Timer(2.0, server.__enter__)
    timer.start()
    yield server
    timer.join()
    server.stop()


@pytest.mark.slow
def test_an_outage_is_sat_out(late_server: Any, port: int) -> None:
    """In an outage of 2 s no prompt fails, although each has two attempts, and the server gets few calls."""
    started = time.monotonic()

    outcomes = _ask_all(f"http://127.0.0.1:{port}/v1", pacer := Pacer(16), 200, attempts=2)

    assert _all_answered(outcomes)
    assert len(late_server.calls) == 200
    assert 2 <= time.monotonic() - started < 6
    assert sum(outcome.attempts for outcome in outcomes) - 200 < 60
    assert not pacer.breaker.is_open


def test_an_outage_costs_few_prompts_no_attempt_either(port: int, fault_server: Any) -> None:
    """No prompt can be the reason of a connection that is refused: seven wait as two hundred do, and the run stops."""
    del fault_server

    outcomes = _ask_all(f"http://127.0.0.1:{port}/v1", Pacer(4, patience_s=1), 7, attempts=2)

    assert [type(outcome) for outcome in outcomes] == [StopRunError] * 7


def test_the_asker_knows_the_bottleneck(fault_server: Any, tmp_path: Path) -> None:
    """A run at the job's own limit was bound by it."""

    async def main() -> Any:
        async with (
            live_transport(base_url=fault_server.url, api_key="k") as transport,
            Asker(transport, pacer=Pacer(8, requests_per_minute=600), cache=cache) as asker,
        ):
            await asyncio.gather(*(asker.ask(_request(number)) for number in range(15)))
            asker.mark_last_request()
            return asker.bottleneck

    with AnswerCache(tmp_path) as cache:
        bottleneck = asyncio.run(main())

    assert bottleneck.bound_by == "limit"
    assert re.match(r"bound by the server's limits, or the job's own: \d+% of the time", bottleneck.sentence)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"usage":{"total_tokens":12},"choices":[]}', 12),
        (b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}', 12),
        (b'{"output":[],"usage":{"input_tokens":7,"output_tokens":5}}', 12),
        (b'{"choices":[{"logprob":-Infinity}],"usage":{"total_tokens":12}}', 12),
        (b'{"choices":[{"usage":{"total_tokens":1}}]}', None),
        (b'{"choices":[],"usage":null}', None),
        (b'{"choices":[],"usage":"many"}', None),
        (b'{"choices":[],"usage":{"total_tokens":"12"}}', None),
        (b'{"choices":[],"usage":{"total_tokens":-5}}', None),
        (b'{"choices":[],"usage":{"total_tokens":1e300}}', None),
        (b'{"choices":[],"usage":{}}', None),
        (b'{"choices":[],"usage":[[[]]]}', None),
    ],
)
def test_usage_is_read_with_the_check_of_a_body(body: bytes, expected: int | None) -> None:
    """Tokens are read under each of their names; an unusable `usage` counts as none."""
    _, usage = check_answer(body)

    assert (None if usage is None else usage.total) == expected


@pytest.mark.parametrize("body", [b"", b" ", b"[]", b"null", b'"x"', b'{"a":1', b"{" + b'"a":{' * 5000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """A body that is no JSON object is refused."""
    with pytest.raises(RetryableError, match=r"no JSON object|empty"):
        check_answer(body)
