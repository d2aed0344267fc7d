"""The breaker: when it opens, how it probes the server, when it gives up."""

from __future__ import annotations

import pytest

from logprob_store.pacing.breaker import Breaker


def _fail(
    breaker: Breaker, number: int, *, prompts: int | None = None, under_way: int = 4, at: float = 0.0
) -> list[bool]:
    return [
        breaker.failed(f"prompt {index % (prompts or number)}", under_way=under_way, now=at) for index in range(number)
    ]


def test_it_opens_after_eight_prompts_failed_in_a_row() -> None:
    """The eighth failure opens it, and is the first that does not count as an attempt."""
    breaker = Breaker(600)

    assert _fail(breaker, 8) == [True] * 7 + [False]
    assert breaker.is_open


def test_with_many_under_way_it_takes_as_many() -> None:
    """The calls that were under way when the trouble began may all fail without it being an outage."""
    breaker = Breaker(600)

    _fail(breaker, 63, under_way=64)
    assert not breaker.is_open
    _fail(breaker, 1, under_way=64)
    assert breaker.is_open


def test_a_few_prompts_that_break_the_server_are_no_outage() -> None:
    """However often seven prompts fail, the breaker stays closed."""
    breaker = Breaker(600)

    assert all(_fail(breaker, 100, prompts=7))
    assert not breaker.is_open


def test_one_call_without_a_connection_is_an_outage() -> None:
    """No prompt can be the reason, so a run of one prompt waits as one of a thousand does."""
    breaker = Breaker(600)

    assert breaker.failed("prompt 0", under_way=1, now=0.0, reached=False) is False
    assert breaker.is_open


def test_somebody_who_waits_for_one_answer_has_attempts() -> None:
    """A call from Python fails after its few attempts, and does not wait for a minute."""
    breaker = Breaker(600, waits_at_once=False)

    assert breaker.failed("prompt 0", under_way=1, now=0.0, reached=False) is True
    assert not breaker.is_open


def test_a_server_that_was_never_reached_is_given_up_sooner() -> None:
    """Its address may be wrong, which no waiting mends; one connection is enough for the whole patience."""
    breaker, known = Breaker(600, reach_s=60), Breaker(600, reach_s=60)
    known.answered()
    for one in (breaker, known):
        for number in range(8):
            one.failed(f"prompt {number}", under_way=1, now=0.0, reached=False)

    assert not breaker.has_given_up(59.9)
    assert breaker.has_given_up(60.0)
    assert not known.has_given_up(60.0)


@pytest.mark.parametrize("reached", [True, False])
def test_a_failure_that_reached_the_server_shows_that_its_address_is_right(*, reached: bool) -> None:
    """A 503, or a connection that broke off, is waited out as before."""
    breaker = Breaker(600, reach_s=60)
    breaker.failed("prompt 0", under_way=1, now=0.0, reached=reached)

    assert breaker.patience_s == (600 if reached else 60)


def test_the_longer_patience_is_the_most() -> None:
    """A job that tries each prompt again for ten seconds does not wait for a minute."""
    assert Breaker(10, reach_s=60).patience_s == 10


def test_any_sign_of_life_starts_the_count_anew() -> None:
    """Seven failures, an answer and seven failures do not open it."""
    breaker = Breaker(600)
    _fail(breaker, 7)
    breaker.answered()
    _fail(breaker, 7)

    assert not breaker.is_open


def test_probes_grow_rarer_up_to_ten_seconds() -> None:
    """Probes are made one at a time after 0.25 s, 0.5 s, 1 s ... 10 s, and do not count as attempts."""
    breaker = Breaker(600)
    _fail(breaker, 8)
    now, waits = 0.0, []
    for _ in range(8):
        waits.append(breaker.wait_s(now))
        now += waits[-1]
        breaker.started(now)
        assert breaker.wait_s(now + 1) == 29  # the next waits 30 s for the end of this one
        assert breaker.failed("probe", under_way=1, now=now, is_probe=True) is False

    assert waits == [0.25, 0.5, 1, 2, 4, 8, 10, 10]


def test_it_closes_at_the_first_answer() -> None:
    """After an answer the breaker is closed, and calls start without waiting."""
    breaker = Breaker(600)
    _fail(breaker, 8)

    breaker.answered()

    assert not breaker.is_open
    assert breaker.wait_s(0.0) == 0


def test_waiting_ends() -> None:
    """After patience_s calls go through and count as attempts until one succeeds; then it may open again."""
    breaker = Breaker(10)
    _fail(breaker, 8)

    assert breaker.wait_s(10.0) == 0
    assert all(_fail(breaker, 50, at=11.0))
    assert not breaker.is_open

    breaker.answered()
    _fail(breaker, 8)
    assert breaker.is_open


@pytest.mark.parametrize("probe", [True, False])
def test_a_probe_that_ended_without_an_outcome_does_not_hold_up_the_next(probe: bool) -> None:  # noqa: FBT001
    """After a probe that was cancelled, the next follows at the usual interval."""
    breaker = Breaker(600)
    _fail(breaker, 8)
    if probe:
        breaker.started(0.25)

    breaker.abandoned(0.3)

    assert breaker.wait_s(0.3) < 0.26
