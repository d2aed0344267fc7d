"""The budget: each call is reserved before and settled after it, and no ceiling is passed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from builders import completions_request
from hypothesis import given, settings
from hypothesis import strategies as st

from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.spending.budget import Budget, Ceilings
from logprob_store.spending.prices import LongContext, Prices
from logprob_store.spending.request_tokens import worst_case
from logprob_store.store.call_log import open_call_log, read_call_log
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from logprob_store.request import Request
    from logprob_store.spending.reservation import Reservation


def request(text: str = "Hi", *, max_tokens: int = 10) -> Request:
    """A call of 43 bytes with a text of two letters, and of at most 10 output tokens."""
    return completions_request(text, max_tokens=max_tokens)


WORST = worst_case(request())


def said_with_status_200() -> StopRunError:
    """The error of an answer with status 200 whose body says that the quota is used up."""
    error = StopRunError("no", reason="quota")
    error.maybe_billed = True
    return error


async def in_time(budget: Budget) -> Reservation | None:
    """A reservation, if there is one without waiting for others."""
    try:
        async with asyncio.timeout(0.02):
            return await budget.reserve(request())
    except TimeoutError:
        return None


async def fail(budget: Budget, error: BaseException) -> None:
    """Make a call that ends with this error."""
    with await budget.reserve(request()) as reservation:
        reservation.begin()
        raise error


def test_the_worst_case_of_the_example() -> None:
    """`{"model":"m","prompt":"Hi","max_tokens":10}` has 43 bytes, and 10 tokens may be written."""
    assert Usage(43, 0, 10) == WORST


@pytest.mark.parametrize(
    ("ceilings", "fit"),
    [
        (Ceilings(requests=3), 3),
        (Ceilings(tokens=160), 3),  # 53 each: 159 of 160
        (Ceilings(tokens=159), 3),
        (Ceilings(tokens=158), 2),
        (Ceilings(usd=0.001), 5),  # 43 * 1 + 10 * 15 = 193 millionths each: 965 of 1000
    ],
)
def test_no_more_are_under_way_than_fit(ceilings: Ceilings, fit: int) -> None:
    """`fit` worst cases fit, and the next waits; when all have failed unbilled, it goes on or the run stops."""

    async def main() -> tuple[int, list[BaseException | None]]:
        budget = Budget(ceilings, prices=Prices(1, 15))
        reservations = []
        while (reservation := await in_time(budget)) is not None:
            reservations.append(reservation)
        for reservation in reservations:
            reservation.begin()
        waiting = asyncio.create_task(budget.reserve(request()))
        await asyncio.sleep(0)
        for reservation in reservations:
            reservation.failed(CallError("no", error_type="rate_limit"))
        return len(reservations), list(await asyncio.gather(waiting, return_exceptions=True))

    count, (after,) = asyncio.run(main())

    assert count == fit
    assert isinstance(after, StopRunError) is (
        ceilings.requests is not None
    )  # a failed call has been made all the same


def test_the_message_of_a_stop() -> None:
    """The error names the ceiling, what is spent, what the next call could cost, and what to do."""

    async def main() -> None:
        budget = Budget(Ceilings(usd=0.0003), prices=Prices(1, 15))
        reservation = await budget.reserve(request())
        reservation.begin()
        reservation.answered(Usage(40, 0, 10))  # 40 * 1 + 10 * 15 = 190 millionths
        await budget.reserve(request())

    with pytest.raises(StopRunError) as caught:
        asyncio.run(main())

    assert caught.value.reason == "budget"
    assert str(caught.value) == (
        "limits.max_cost_usd = 0.0003 allows no further call: $0.00019 is spent in this run, and the next call could "
        "cost $0.000193. Raise it and run the same command again: it goes on from here."
    )


@pytest.mark.parametrize(
    ("ceilings", "expected"),
    [
        (
            Ceilings(usd=0.0005),
            "$0.00019 is spent in this run, $0.000193 more is reserved for calls that got no answer",
        ),
        (
            Ceilings(tokens=130),
            "50 tokens are spent in this run, 53 more are reserved for calls that got no answer and",
        ),
    ],
)
def test_a_stop_tells_what_is_reserved_from_what_is_spent(ceilings: Ceilings, expected: str) -> None:
    """Of two calls one was answered, and the answer of the other, of at most 43 + 10 tokens, was lost."""

    async def main() -> None:
        budget = Budget(ceilings, prices=Prices(1, 15))
        reservation = await budget.reserve(request())
        reservation.begin()
        reservation.answered(Usage(40, 0, 10))  # 40 * 1 + 10 * 15 = 190 millionths
        with contextlib.suppress(RetryableError):
            await fail(budget, RetryableError("no", error_type="connection", maybe_billed=True))
        await budget.reserve(request())

    with pytest.raises(StopRunError) as caught:
        asyncio.run(main())

    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CallError("no", error_type="invalid_request"), Usage()),
        (RetryableError("no", error_type="server_error"), Usage()),
        (RetryableError("no", error_type="connection", maybe_billed=True), WORST),
        (RetryableError("no", error_type="connection"), Usage()),  # it never came about
        (StopRunError("no", reason="quota"), Usage()),
        (said_with_status_200(), WORST),
        (asyncio.CancelledError(), WORST),
    ],
)
def test_what_a_failed_call_costs(error: BaseException, expected: Usage) -> None:
    """It counts as a call; it costs its worst case if its answer may have been lost, else nothing."""

    async def main() -> Budget:
        budget = Budget()
        with pytest.raises(type(error)):
            await fail(budget, error)
        return budget

    budget = asyncio.run(main())

    assert (budget.requests, budget.usage.whole) == (1, expected)


def test_a_call_that_was_never_made_costs_nothing() -> None:
    """A call that is cancelled before it begins gives its reservation back."""

    async def main() -> Budget:
        budget = Budget(Ceilings(requests=1))
        with pytest.raises(asyncio.CancelledError), await budget.reserve(request()):
            raise asyncio.CancelledError
        (await budget.reserve(request())).begin()
        return budget

    budget = asyncio.run(main())

    assert (budget.requests, budget.usage.whole) == (1, Usage())


def test_no_call_begins_after_closing() -> None:
    """A call that is reserved already is not made either."""

    async def main() -> list[Any]:
        budget = Budget(Ceilings(requests=2))
        reservations = [await budget.reserve(request()) for _ in range(2)]
        waiting = asyncio.create_task(budget.reserve(request()))
        await asyncio.sleep(0)
        reason = StopRunError("no", reason="quota")
        budget.close(reason)
        with pytest.raises(StopRunError) as caught:
            reservations[0].begin()
        return [caught.value is reason, *(await asyncio.gather(waiting, return_exceptions=True)), budget.requests]

    began, waited, requests = asyncio.run(main())

    assert (began, requests) == (True, 0)
    assert isinstance(waited, StopRunError)


def test_a_server_that_counts_more_is_believed() -> None:
    """Tokens counted beyond the worst case are reserved for later calls, once."""

    async def main() -> list[Usage]:
        budget = Budget(Ceilings(tokens=10_000))
        reservations = [await budget.reserve(request()) for _ in range(2)]
        for reservation in reservations:
            reservation.begin()
            reservation.answered(Usage(50, 0, 12))
        return [(await budget.reserve(request())).worst]

    assert asyncio.run(main()) == [Usage(50, 0, 12)]


def test_one_call_goes_first() -> None:
    """The others wait until it has been answered; a failed one tells nothing, and the next goes first."""

    async def main() -> list[int]:
        budget = Budget(Ceilings(tokens=10_000), one_first=True)
        under_way = []
        for fails in (True, False):
            first = await budget.reserve(request())
            waiting = [asyncio.create_task(budget.reserve(request())) for _ in range(5)]
            await asyncio.sleep(0)
            under_way.append(sum(task.done() for task in waiting))
            first.begin()
            if fails:
                first.failed(CallError("no", error_type="rate_limit"))
            else:
                first.answered(Usage(40, 0, 9))
            await asyncio.sleep(0)
            under_way.append(sum(task.done() for task in waiting))
            for task in waiting:
                if task.done():
                    task.result().failed(None)
                else:
                    task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return under_way

    assert asyncio.run(main()) == [0, 1, 0, 5]


def test_after_an_excess_one_goes_first_again() -> None:
    """A server that counted more than was reserved is doubted until a call takes no more than that."""

    async def main() -> list[bool]:
        budget = Budget(Ceilings(tokens=10_000))
        found = []
        for usage in (Usage(50, 0, 12), Usage(50, 0, 12), Usage(50, 0, 12)):
            first = await budget.reserve(request())
            second = await in_time(budget)
            found.append(second is not None)
            if second is not None:
                second.failed(None)
            first.begin()
            first.answered(usage)
        return found

    assert asyncio.run(main()) == [True, False, True]


def test_a_server_that_keeps_to_no_maximum_gets_one_call_at_a_time() -> None:
    """It wrote 910 tokens where 10 were asked: twice the excess is reserved, and no call starts beside another."""

    async def main() -> tuple[Usage, bool]:
        budget = Budget(Ceilings(tokens=100_000), one_first=True)
        for usage in (Usage(40, 0, 910), Usage(40, 0, 5)):
            reservation = await budget.reserve(request())
            reservation.begin()
            reservation.answered(usage)
        held = await budget.reserve(request())
        return held.worst, await in_time(budget) is None

    assert asyncio.run(main()) == (Usage(43, 0, 10 + 2 * 900), True)


def test_cached_tokens_that_are_dearer_are_the_worst_case() -> None:
    """43 tokens of prompt at 20 and 10 of output at 15: 1010 millionths."""

    async def main() -> float | None:
        budget = Budget(prices=Prices(1, 15, cached_input=20))
        with pytest.raises(asyncio.CancelledError):
            await fail(budget, asyncio.CancelledError())
        return budget.usd

    assert asyncio.run(main()) == pytest.approx(0.00101)


TIERED = Prices(1, 15, cache_write=2, tiers={"flex": Prices(0.5, 7.5), "priority": Prices(2, 30, cache_write=4)})


@pytest.mark.parametrize(
    ("asked", "sent_tier", "millionths"),
    [
        (None, None, 472),  # 43 * 4 + 10 * 30: the account may have `priority` set
        ("auto", None, 472),
        ("default", None, 236),  # 43 * 2 + 10 * 15
        ("flex", None, 236),  # it may fall back
        ("priority", None, 472),
        (None, "flex", 236),
        ("fast", "flex", 472),  # the request's own word holds
    ],
)
def test_the_dearest_way_to_be_billed_is_reserved(asked: str | None, sent_tier: str | None, millionths: float) -> None:
    """All of the prompt written into the cache, by the dearest tier that may serve the call."""
    params = {} if asked is None else {"service_tier": asked}

    async def main() -> int:
        budget = Budget(Ceilings(usd=1.0), prices=TIERED, sent_tier=sent_tier)
        await budget.reserve(completions_request("Hi", max_tokens=10, **params))
        return budget.amount.nano_usd

    size = len(completions_request("Hi", max_tokens=10, **params).content) - 43
    more = size * 2 * (2 if millionths == 472 else 1)
    assert asyncio.run(main()) == pytest.approx((millionths + more) * 1000)


def test_a_tier_without_a_price_stops_a_run_under_a_ceiling_of_dollars() -> None:
    """What such calls cost is not known; the message says what to write."""

    async def main() -> None:
        budget = Budget(Ceilings(usd=1.0), prices=Prices(1, 15))
        with await budget.reserve(request()) as reservation:
            reservation.begin()
            reservation.answered(Usage(40, 0, 10, tier="priority"))
        await budget.reserve(request())

    with pytest.raises(
        StopRunError, match=r"by the tier 'priority', which has no price .* write prices.tiers.priority"
    ):
        asyncio.run(main())


def test_a_tier_without_a_price_stops_nothing_else() -> None:
    """Without a ceiling of dollars it is only said, once."""

    async def main() -> None:
        budget = Budget(Ceilings(tokens=10_000), prices=Prices(1, 15))
        for _ in range(2):
            with await budget.reserve(request()) as reservation:
                reservation.begin()
                reservation.answered(Usage(40, 0, 10, tier="priority"))

    asyncio.run(main())


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.builds(
        Ceilings,
        usd=st.none() | st.floats(0.0001, 0.01),
        requests=st.none() | st.integers(1, 40),
        tokens=st.none() | st.integers(1, 2000),
    ),
)
def test_no_ceiling_is_ever_passed(tmp_path_factory: pytest.TempPathFactory, seed: int, ceilings: Ceilings) -> None:
    """Fifty calls at once, of random sizes, ends and moments: what is spent never passes a ceiling, and all end.

    Nor does what would count as spent if the process died in that moment.
    """
    path = tmp_path_factory.mktemp("calls") / "calls.log"
    chance = random.Random(seed)  # noqa: S311  no secret
    standard = Prices(1, 15, 0.5, chance.choice([None, 2.0]), chance.choice([None, LongContext(100, 2.0, 1.5)]))
    prices = standard.with_tiers(chance.choice([{}, {"flex": standard.scaled(0.5), "priority": standard.scaled(2.5)}]))

    async def main() -> None:
        calls = open_call_log(path)
        budget = Budget(ceilings, prices=prices, calls=calls)

        def check() -> None:
            left = read_call_log(path.read_bytes())
            after_a_kill = left.spent.with_all(call.worst for call in left.open.values())
            assert ceilings.requests is None or budget.requests <= ceilings.requests
            for spent in (budget.usage, after_a_kill):
                assert ceilings.tokens is None or spent.total <= ceilings.tokens
                assert ceilings.usd is None or prices.usd(spent) <= ceilings.usd

        async def one() -> None:
            asked = request("x" * chance.randrange(200), max_tokens=chance.randrange(50))
            try:
                with await budget.reserve(asked) as reservation:
                    await asyncio.sleep(0)
                    reservation.begin()
                    check()
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0)
                    if (end := chance.random()) < 0.2:
                        raise RetryableError("no", error_type="server_error")
                    if end < 0.4:
                        raise RetryableError("no", error_type="timeout", maybe_billed=True)
                    worst = reservation.worst
                    prompt, tier = chance.randint(0, worst[0]), chance.choice(prices.may_serve(None))
                    written, completion = chance.choice([0, prompt]), chance.randint(0, worst[2])
                    took = Usage(prompt, 0, completion, written, tier, prices.is_long(prompt))
                    reservation.answered(took)
                    if chance.random() < 0.5 and reservation.number is not None:
                        await asyncio.sleep(0)
                        calls.end(reservation.number, took)
            except (CallError, StopRunError):
                pass
            check()

        with contextlib.closing(calls):
            async with asyncio.timeout(10):
                await asyncio.gather(*(one() for _ in range(50)))

    asyncio.run(main())
