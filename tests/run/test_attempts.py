"""Attempts and waits without a server: how long they wait, and when they end."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_to, chat_request
from pacing.simulation import run

from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.pacing.pacer import Pacer
from logprob_store.request import Answer, Request
from logprob_store.run.attempts import ask_until_answered

if TYPE_CHECKING:
    from collections.abc import Callable


def _run(outcome: Callable[[int], Exception | None], **settings: Any) -> tuple[Answer | Exception, int, list[float]]:
    """Ask once on a virtual clock; returns the outcome, the number of calls, and the waits between them in seconds."""
    starts: list[float] = []

    async def transport(request: Request) -> Answer:
        starts.append(asyncio.get_running_loop().time())
        if (error := outcome(len(starts))) is not None:
            raise error
        return answer_to(request)

    async def main() -> Answer | Exception:
        try:
            return await ask_until_answered(chat_request(), transport, pacer=Pacer(1), **settings)
        except (CallError, StopRunError) as error:
            return error

    result = run(main())
    return result, len(starts), [after - before for before, after in itertools.pairwise(starts)]


def _again(**settings: Any) -> Callable[[int], Exception]:
    return lambda _: RetryableError("no", **{"error_type": "server_error", **settings})


def test_unsaid_waits_grow_at_random() -> None:
    """Waits are random below 0.5 s, 1 s, 2 s ... 30 s (full jitter), so that calls that fail together come apart."""
    _, calls, waits = _run(_again(), attempts=12)

    bounds = [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
    assert calls == 12
    assert all(0 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert len(set(waits)) == len(waits)


def test_the_wait_is_as_long_as_the_server_says() -> None:
    """The wait is at least as long as the server said, and little longer."""
    _, _, waits = _run(_again(retry_after_s=40.0), attempts=4)

    assert len(waits) == 3
    assert all(40 <= wait <= 40.25 for wait in waits)


@pytest.mark.parametrize("lost", [True, False])
def test_an_answer_after_a_lost_one_may_be_paid_twice(lost: bool) -> None:  # noqa: FBT001
    """The answer says whether an earlier attempt may have been billed."""
    error = RetryableError("no", error_type="timeout", maybe_billed=lost)
    answer, calls, _ = _run(lambda call: error if call == 1 else None)

    assert calls == 2
    assert isinstance(answer, Answer)
    assert answer.maybe_billed is lost


def test_the_time_for_one_prompt_is_bounded() -> None:
    """With 40 s between calls and 100 s for all, calls start at 0, 40 and 80 s."""
    error, calls, _ = _run(_again(retry_after_s=40.0), attempts=50, retry_for_s=100)

    assert calls == 3
    assert isinstance(error, RetryableError)
    assert error.attempts == 3


@pytest.mark.parametrize(
    "error",
    [CallError("no", error_type="invalid_request"), StopRunError("no", reason="quota") ],
    ids=["this prompt's", "the run's"],
)  # fmt: skip
def test_what_will_not_pass_is_not_repeated(error: Exception) -> None:
    """One call, and the error as it was."""
    outcome, calls, waits = _run(lambda _: error)

    assert outcome is error
    assert (calls, waits) == (1, [])


def test_each_wait_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log has each failed attempt and its class."""
    caplog.set_level(logging.INFO, "logprob_store.run.attempts")

    _run(_again(), attempts=3)

    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "attempt 1 got server_error",
        "attempt 2 got server_error",
    ]


def test_a_cancelled_wait_for_a_start_gives_its_slot_back() -> None:
    """A rate limit's queue can be left without losing a slot."""

    async def main() -> None:
        request = chat_request()
        pacer = Pacer(1, requests_per_minute=1)
        async with pacer.slot(request):
            pass

        async def enter() -> None:
            async with pacer.slot(request):
                pytest.fail("a minute has not passed")

        task = asyncio.create_task(enter())
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])
        assert pacer.concurrency.in_use == 0

    asyncio.run(main())


def test_a_tier_without_room_uses_up_no_attempt() -> None:
    """It is asked again and again, each time a little later, until the time is up; nothing of it may be billed."""
    error, calls, waits = _run(_again(error_type="no_capacity", status=429), attempts=2, retry_for_s=300.0)

    assert isinstance(error, CallError)
    assert (error.error_type, error.maybe_billed) == ("no_capacity", False)
    assert calls > 10
    assert 200 < sum(waits) <= 300
    assert max(waits[6:]) > 1


def test_a_tier_that_has_room_again_answers() -> None:
    """After as many refusals as there were."""
    answer, calls, _ = _run(
        lambda number: RetryableError("no", error_type="no_capacity", status=429) if number < 9 else None, attempts=2
    )

    assert isinstance(answer, Answer)
    assert (calls, answer.maybe_billed) == (9, False)
