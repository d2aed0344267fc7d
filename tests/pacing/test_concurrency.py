"""How many calls may run at once, step by step."""

from __future__ import annotations

import pytest

from logprob_store.pacing.concurrency import Concurrency


def _answers(allowed: Concurrency, number: int, *, in_use: int, at: float) -> None:
    """Count `number` answers to calls sent at `at`, with `in_use` calls under way."""
    while allowed.in_use < in_use:
        allowed.started()
    for _ in range(number):
        allowed.succeeded(at, at)


def test_slow_start_doubles_up_to_the_ceiling() -> None:
    """Each window of answers doubles what is allowed, never above the ceiling."""
    allowed = Concurrency(200)
    limits = []
    for _ in range(4):
        limits.append(allowed.limit)
        _answers(allowed, allowed.limit, in_use=allowed.limit, at=5.0)

    assert limits == [32, 64, 128, 200]
    assert allowed.limit == 200


def test_no_growth_without_need() -> None:
    """It grows only with 80 % in use: 25 of 32 is 78 %, 26 is 81 %."""
    allowed = Concurrency(100)

    _answers(allowed, 100, in_use=25, at=5.0)
    assert allowed.limit == 32
    _answers(allowed, 32, in_use=26, at=5.0)
    assert allowed.limit == 64


def test_one_cut_for_each_wave() -> None:
    """100 is cut to 80 once; refusals of calls sent before the cut belong to the same wave."""
    allowed = Concurrency(100, first=100)

    cuts = [allowed.refused(1.0, 2.0), *(allowed.refused(1.5, 2.1) for _ in range(50))]

    assert cuts == [True] + [False] * 50
    assert allowed.limit == 80
    assert allowed.refused(2.5, 3.0)
    assert allowed.limit == 64


def test_after_a_cut_growth_is_slow() -> None:
    """After a cut it grows by 5 % per window, at least by one."""
    allowed = Concurrency(200, first=100)
    allowed.refused(0.0, 1.0)

    _answers(allowed, 80, in_use=80, at=10.0)
    assert allowed.limit == 84


@pytest.mark.parametrize(("sent_at", "now"), [(0.5, 10.0), (1.5, 1.9)], ids=["sent before", "within a second"])
def test_answers_that_say_nothing_about_the_time_since_the_cut(sent_at: float, now: float) -> None:
    """Answers to calls sent before a cut, and answers within a second after it, let nothing grow."""
    allowed = Concurrency(100, first=10)
    allowed.refused(0.0, 1.0)
    for _ in range(8):
        allowed.started()

    for _ in range(100):
        allowed.succeeded(sent_at, now)

    assert allowed.limit == 8


def test_a_failing_server_pauses_growth_and_cuts_nothing() -> None:
    """A failure of the server starts the window anew and cuts nothing."""
    allowed = Concurrency(100)
    _answers(allowed, 31, in_use=32, at=5.0)

    allowed.server_failed()
    _answers(allowed, 31, in_use=32, at=5.0)
    assert allowed.limit == 32
    _answers(allowed, 1, in_use=32, at=5.0)
    assert allowed.limit == 64


def test_it_never_falls_below_one() -> None:
    """However many refusals come, one call at a time stays allowed."""
    allowed = Concurrency(4)
    for at in range(20):
        allowed.refused(at, at)

    assert allowed.limit == 1


def test_what_the_server_s_own_limit_needs_is_taken_at_once() -> None:
    """During slow start it rises at once to what the rate limit needs; after a cut it does not."""
    allowed = Concurrency(1000)
    allowed.raise_to(300)
    assert allowed.limit == 300
    allowed.raise_to(200)
    assert allowed.limit == 300
    allowed.raise_to(3000)
    assert allowed.limit == 1000

    allowed.refused(0.0, 0.0)
    allowed.raise_to(1000)

    assert allowed.limit == 800
