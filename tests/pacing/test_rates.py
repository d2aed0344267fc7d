"""Requests and tokens per minute, with time as an argument."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.pacing.rates import PerMinuteLimit, RateLimits
from logprob_store.usage import RateLimit, ServerReport


def _starts(limit: PerMinuteLimit, costs: list[float], begin: float = 0.0) -> list[float]:
    """The starts of calls with these costs, each as soon as it may be after the one before."""
    now, starts = begin, []
    for cost in costs:
        while (wait := limit.wait_s(now, cost)) > 1e-9:
            now += wait
        limit.take(now, cost)
        starts.append(now)
    return starts


def test_starts_are_spread_evenly() -> None:
    """600 a minute at 98.5 % is one start every 101.5 ms, from the first on."""
    starts = _starts(PerMinuteLimit(600), [1] * 50)

    gaps = [after - before for before, after in pairwise(starts)]
    assert min(gaps[1:]) == pytest.approx(0.10152, abs=1e-4)
    assert max(gaps) == pytest.approx(0.10152, abs=1e-4)


def test_no_burst_after_a_lull() -> None:
    """After 30 s without a call, no more than a second's worth of calls start in a second."""
    limit = PerMinuteLimit(6000)
    limit.take(0.0, 1)

    starts = _starts(limit, [1] * 300, begin=30.0)

    assert sum(1 for at in starts if at < 31.0) <= 105


@given(
    st.lists(st.floats(1, 900), min_size=1, max_size=120),
    st.lists(st.floats(0, 1), min_size=120, max_size=120),
    st.floats(0, 100),
)
def test_no_minute_holds_more_than_the_limit(costs: list[float], shares: list[float], begin: float) -> None:
    """Whatever the calls cost and give back, the sum of any minute stays within the limit."""
    limit = PerMinuteLimit(1000)
    starts: list[tuple[float, float]] = []
    pending: deque[tuple[float, float, float]] = deque()
    now = begin
    for cost, share in zip(costs, shares, strict=False):
        while (wait := limit.wait_s(now, cost)) > 1e-9:
            now += wait
        while pending and pending[0][0] <= now:
            _, taken_at, change = pending.popleft()
            limit.settle(taken_at, change, now)
        if limit.wait_s(now, cost) > 1e-9:
            continue
        limit.take(now, cost)
        starts.append((now, cost * share))
        pending.append((now + 2.0, now, cost * share - cost))

    for at, _ in starts:
        assert sum(used for start, used in starts if at - 60 < start <= at) <= 1000 * (1 + 1e-9)


def test_what_is_given_back_is_used() -> None:
    """A call that reserved 100 and used 10 delays the next as 10 do: by 0.609 s at 1000 a minute."""
    limit = PerMinuteLimit(1000)
    limit.take(0.0, 100)

    limit.settle(0.0, -90, 0.1)

    assert limit.wait_s(0.1, 100) == pytest.approx(10 * 60 / 985 - 0.02 - 0.1)


def _gap_after(limit: PerMinuteLimit, now: float, *, waited: bool) -> float:
    """Seconds from a start at `now` to the next allowed start."""
    limit.take(now, 1, waited=waited)
    return limit.wait_s(now, 1)


def test_a_stall_is_made_good() -> None:
    """After a start that is 0.5 s late, the next come 25 % sooner until the half second is caught up."""
    limit = PerMinuteLimit(600)
    limit.take(0.0, 1)
    step_s = 60 / 600 / 0.985
    now = step_s + 0.5
    gaps = []
    for _ in range(30):
        gaps.append(_gap_after(limit, now, waited=True))
        now += gaps[-1]

    assert gaps[1] == pytest.approx(0.75 * step_s)
    assert gaps[-1] == pytest.approx(step_s)
    assert now == pytest.approx(31 * step_s, abs=0.021)


def test_a_lull_is_not_made_good() -> None:
    """A time in which no call waited is not caught up."""
    limit = PerMinuteLimit(600)
    limit.take(0.0, 1)

    _gap_after(limit, 20.0, waited=False)

    assert _gap_after(limit, 20.1016, waited=True) == pytest.approx(60 / 600 / 0.985 - 0.02, abs=1e-3)


def test_a_stall_of_a_server_that_counts_by_the_second_is_not_made_good() -> None:
    """After a refusal within the limit, lost time is not caught up."""
    rates = RateLimits(600)
    rates.take(0.0, 1)
    rates.refused(0.0, 0.1)

    rates.take(1.0, 1, waited=True)

    assert rates.requests.wait_s(1.0, 1) == pytest.approx(60 / 600 / 0.985 - 0.01)


def test_more_than_was_reserved_is_charged() -> None:
    """A call that used more than it reserved delays the next."""
    limit = PerMinuteLimit(1000)
    limit.take(0.0, 10)

    limit.settle(0.0, 90, 0.0)

    assert limit.wait_s(0.0, 1) == pytest.approx(100 * 60 / 985 - 0.02)


def test_starts_before_the_limit_was_known_count() -> None:
    """After 30 calls and then a reported limit of 31, no call starts until these are a minute old."""
    limit = PerMinuteLimit()
    for _ in range(30):
        limit.take(0.5, 1)

    limit.learn(RateLimit(31, 1, 1.0), 1.0)

    assert 59.5 < limit.wait_s(1.0, 1) <= 60


def test_the_smaller_limit_holds() -> None:
    """Of the job's limit and the server's, the smaller holds."""
    limit = PerMinuteLimit(500)

    limit.learn(RateLimit(30_000, 29_000, 2.0), 0.0)
    assert limit.per_minute == 500
    limit.learn(RateLimit(60, 59, 1.0), 0.0)
    assert limit.per_minute == 60


def test_a_limit_for_a_day_is_no_limit_per_minute() -> None:
    """Groq's 14400 requests are per day: with 14370 left, the reset is 3 minutes away, not within a minute."""
    limit = PerMinuteLimit()

    limit.learn(RateLimit(14_400, 14_370, 179.56), 0.0)
    assert limit.per_minute is None
    limit.learn(RateLimit(14_400, 14_390, 59.9), 1.0)
    assert limit.per_minute is None


def test_a_limit_that_was_believed_is_doubted_once_more_was_served() -> None:
    """Of eight calls of 40 tokens the first answer states a limit of 60: when the fourth has come, it is forgotten."""
    rates = RateLimits()
    report = ServerReport(None, RateLimit(60.0, None, None))
    for _ in range(8):
        rates.take(0.0, 40)

    limits = []
    for number in range(4):
        rates.served(40, 40, 0.1 + number / 100)
        rates.learn(report, 0.1 + number / 100)
        limits.append(rates.tokens.per_minute)

    assert limits == [60, 60, 60, None]  # 4 x 40 = 160 is more than twice the limit
    assert rates.wait_s(0.2, 40) == 0


def test_a_limit_below_what_was_served_is_not_believed() -> None:
    """Twelve calls in a minute are within twice a limit of 6, thirteen are not; two minutes later it may be true."""
    limit = PerMinuteLimit()
    for _ in range(13):
        limit.served(1, 1, 10.0)

    assert not limit.learn(RateLimit(6, 5, 1.0), 11.0)
    assert limit.per_minute is None
    assert limit.learn(RateLimit(7, 5, 1.0), 11.0)
    assert limit.learn(RateLimit(6, 5, 1.0), 131.0)
    assert limit.per_minute == 6


def test_a_pause_for_a_limit_that_is_not_believed_is_not_made() -> None:
    """Nothing is left of 6 tokens, says the answer that took 20."""
    rates = RateLimits()
    rates.served(20, 20, 1.0)

    rates.learn(ServerReport(None, RateLimit(6, 0, 500.0)), 1.0)

    assert rates.paused_until == 0


def test_a_server_s_count_delays_by_a_minute_at_most() -> None:
    """A call that is said to have used a thousand minutes' worth delays the next by one minute."""
    limit = PerMinuteLimit()
    limit.learn(RateLimit(1000, 900, 1.0), 0.0)
    limit.take(0.0, 10)

    limit.settle(0.0, 1e6, 1.0)

    assert limit.wait_s(1.0, 1) <= 60.25


def test_an_exhausted_minute_is_still_a_minute() -> None:
    """A reset beyond a minute with nothing left does not make a limit longer than a minute."""
    limit = PerMinuteLimit()

    limit.learn(RateLimit(60, 0, 75.0), 0.0)

    assert limit.per_minute == 60


@pytest.mark.parametrize(
    ("requests", "tokens", "pause_s"),
    [
        (RateLimit(60, 0, 2.0), RateLimit(1000, 0, 5.0), 5.0),
        (RateLimit(60, 0, 5.0), RateLimit(1000, 900, 2.0), 5.0),
        (RateLimit(60, 0, 2.0), RateLimit(1000, 900, 5.0), 5.0),
        (RateLimit(60, 3, 9.0), RateLimit(1000, 900, 5.0), 0.0),
        (RateLimit(14_400, 14_000, 7200.0), RateLimit(1000, 0, 5.0), 5.0),  # a day's limit with some left
        (RateLimit(60, 0, None), None, 0.0),
        (None, RateLimit(None, 0, 3.0), 3.0),
        (RateLimit(14_400, 0, 7200.0), None, 0.0),  # longer than our patience: the next refusal tells
    ],
)
def test_a_pause_until_the_later_reset(requests: RateLimit | None, tokens: RateLimit | None, pause_s: float) -> None:
    """Once one limit is used up, nothing starts until the later reset of both."""
    rates = RateLimits(patience_s=600)

    rates.learn(ServerReport(requests, tokens), 100.0)

    assert max(0.0, rates.paused_until - 100.0) == pause_s


def test_a_later_answer_does_not_cut_a_pause_short() -> None:
    """An older answer that arrives later, and reports some left, does not end a pause."""
    rates = RateLimits()
    rates.learn(ServerReport(RateLimit(60, 0, 9.0)), 0.0)

    rates.learn(ServerReport(RateLimit(60, 5, 1.0)), 1.0)

    assert rates.paused_until == 9.0


def test_less_than_one_a_minute() -> None:
    """A limit of half a call per minute lets one start every two minutes."""
    starts = _starts(PerMinuteLimit(0.5), [1, 1, 1])

    assert [round(after - before) for before, after in pairwise(starts)] == [122, 122]


def test_refusals_within_the_limit_make_bursts_smaller_for_a_while() -> None:
    """Refusals within the limit halve the burst; each minute without one doubles it again."""
    rates = RateLimits(6000)
    for at in (1.0, 2.0, 3.0, 4.0):
        rates.refused(at, at)
    assert rates.requests.burst_s == rates.tokens.burst_s == 0.005

    rates.take(70.0, 1)
    rates.take(140.0, 1)
    assert rates.requests.burst_s == 0.02
    rates.take(210.0, 1)

    assert rates.requests.burst_s == 0.02
