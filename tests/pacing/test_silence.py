"""What is said while no call is answered: since when, why, and how often."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest
from pacing.simulation import Fickle, ask_all, request, run

from logprob_store.errors import RetryableError, StopRunError
from logprob_store.pacing.pacer import Pacer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.request import Request

Outcome = "Callable[[Request, int, float], Exception | None]"


def _unreached() -> RetryableError:
    return RetryableError("connection refused", error_type="connection", reached=False)


def _failing() -> RetryableError:
    return RetryableError("HTTP 503: down.", error_type="server_error", status=503)


def troubles(server: Fickle, at: Sequence[float], *, prompts: int = 3) -> list[str | None]:
    """What a run of so many prompts says of its trouble at these times."""
    pacer = Pacer(8, server="http://h/v1")

    async def main() -> list[str | None]:
        asking = asyncio.create_task(ask_all(server, pacer, [request(number) for number in range(prompts)], attempts=9))
        pacer.watch.start()
        said = []
        for second in at:
            await asyncio.sleep(second - asyncio.get_running_loop().time())
            said.append(pacer.trouble)
        pacer.watch.stop()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return said

    return run(main())


def test_a_server_that_is_not_reached_is_said_with_the_seconds_so_far() -> None:
    """From the second on; before, it may have been a single failure."""
    found = troubles(Fickle(lambda *_: _unreached()), [0.5, 12.0])

    assert found == [None, "server not reached for 12 s: connection refused, http://h/v1; trying again"]


def test_a_server_that_fails_is_said_with_its_words() -> None:
    """It was reached, and gives no answer."""
    found = troubles(Fickle(lambda *_: _failing()), [12.0], prompts=20)

    assert found == ["no answer for 12 s: HTTP 503: down, http://h/v1; trying again"]


def test_calls_that_hang_are_said() -> None:
    """Ten seconds without any answer may be a model that thinks, and is said all the same."""
    found = troubles(Fickle(lambda *_: None, latency_s=60.0), [9.0, 12.0])

    assert found == [None, "no answer for 12 s from http://h/v1; 3 calls under way"]


def test_an_answer_ends_it() -> None:
    """Nothing is said of a trouble that is over."""
    found = troubles(Fickle(lambda _, __, now: _failing() if now < 5 else None), [4.0, 30.0], prompts=20)

    assert [said is not None for said in found] == [True, False]


def test_nothing_is_said_where_nothing_is_asked() -> None:
    """A run that has all its answers, and writes its last part."""
    assert troubles(Fickle(lambda *_: None), [60.0]) == [None]


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (Fickle(lambda *_: _unreached()), ["outage_began"]),
        (Fickle(lambda *_: RetryableError("busy", error_type="server_error", retry_after_s=2.0)), ["no_answer"]),
        (Fickle(lambda *_: None, latency_s=300.0), ["no_answer"]),
        (Fickle(lambda *_: None, latency_s=20.0), []),
    ],
    ids=["not reached", "few that fail", "hanging", "slow"],
)
def test_it_is_logged_once(caplog: pytest.LogCaptureFixture, server: Fickle, expected: list[str]) -> None:
    """However long it lasts; a model that takes twenty seconds is no trouble."""
    with caplog.at_level(logging.WARNING):
        troubles(server, [15.0, 50.0])

    assert [record.event for record in caplog.records] == expected  # type: ignore[attr-defined]  # given by `extra`


def test_a_model_that_takes_as_long_each_time_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """The first answer took forty seconds: the second may take seventy before anything is logged."""
    pacer = Pacer(1)

    async def main() -> None:
        pacer.watch.start()
        for latency_s in (40.0, 70.0):
            await ask_all(Fickle(lambda *_: None, latency_s=latency_s), pacer, [request(1)])
        pacer.watch.stop()

    with caplog.at_level(logging.WARNING):
        run(main())

    assert [record.getMessage() for record in caplog.records] == [
        "no answer for 30 s from the server; 1 call under way"
    ]


@pytest.mark.parametrize("reached", [True, False])
def test_a_stop_says_the_seconds_that_passed(*, reached: bool) -> None:
    """Calls had failed for five seconds before the outage was seen; then it was waited for ten."""
    pacer = Pacer(8, patience_s=10, reach_s=10)
    pacer.on_trial = True
    wait_s = 5.0

    async def fail(asked: Request, *, after_s: float) -> str | None:
        try:
            async with pacer.slot(asked):
                await asyncio.sleep(after_s)
                raise _failing() if reached else _unreached()
        except RetryableError:
            return None
        except StopRunError as error:
            return str(error)

    async def main() -> str:
        await asyncio.gather(*(fail(request(number), after_s=wait_s) for number in range(8)))
        while (said := await fail(request(9), after_s=0.0)) is None:
            pass
        return said

    expected = "answered no call for" if reached else "could not be reached for"
    said = run(main())
    assert f"the server {'has ' if reached else ''}{expected}" in said
    (seconds,) = [int(word) for word in said.split() if word.isdecimal()][:1]
    assert 15 <= seconds <= 26  # five, ten, and at most one probe's wait of ten
