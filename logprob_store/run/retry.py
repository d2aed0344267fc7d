"""One retry layer around any transport: how often, how long, and what the server asked for.

Holds the policy for repeating a call. Leaves out what makes an error worth repeating: the transport says so by raising
`RetryableError`. The SDK's own retries are off (`max_retries=0`), as layers multiply: 6 x 3 = 18 calls where three
were meant.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Final

import tenacity

from logprob_store.errors import CallError, RetryableError
from logprob_store.events import emit
from logprob_store.spending.budget import Budget

if TYPE_CHECKING:
    from logprob_store.pacing.pacer import Pacer
    from logprob_store.request import Answer, Request
    from logprob_store.spending.budget import Reservation
    from logprob_store.transport import Transport

log = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0


async def ask_until_answered(
    request: Request,
    transport: Transport,
    *,
    pacer: Pacer,
    budget: Budget | None = None,
    run: str | None = None,
    attempts: int = 6,
    retry_for_s: float = 600.0,
) -> Answer:
    """Make one call, again where that is worth it, holding a slot only while a call is under way.

    Waits as long as the server said, otherwise a random time up to 0.5 s, 1 s, 2 s ... 30 s (full jitter, so that
    those who failed together do not come back together). Calls that the pacer says do not count, during an outage, go
    back to its queue at once: it knows when to try.

    Args:
        request: what to ask.
        transport: makes one call; raises `RetryableError` when another may succeed.
        pacer: lets the call start.
        budget: lets the call spend, and hears what it took; each call reserves anew.
        run: the id of the run that pays.
        attempts: calls at most, without those of an outage.
        retry_for_s: seconds after the start of the first call after which no further call is started.

    Raises:
        CallError: no usable answer; its `attempts` says how many calls were made and `maybe_billed` whether one
            of them may have been answered and lost.
        StopRunError: no call of this run can succeed.
    """
    budget = Budget() if budget is None else budget
    tries = _Tries(request, pacer, budget, attempts, retry_for_s)
    try:
        try:
            answer = await tries.once(transport)
        except RetryableError as error:
            answer = await _again(tries, transport, error)
    except CallError as error:
        error.attempts = tries.made
        error.maybe_billed = tries.maybe_billed or error.maybe_billed
        raise
    return dataclasses.replace(
        answer,
        attempts=tries.made,
        run=run,
        maybe_billed=tries.maybe_billed,
        cost_usd=budget.cost_usd(answer),
        call=tries.number,
    )


async def _again(tries: _Tries, transport: Transport, first: RetryableError) -> Answer:
    """Try again after a first failure. Nearly all calls have none, and tenacity costs each of them 50 us."""
    failed: RetryableError | None = first
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(RetryableError),
        stop=tries.are_over,
        wait=tries.wait_s,
        before_sleep=tries.say,
        sleep=tries.sleep,
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            if failed is not None:
                known, failed = failed, None
                raise known  # the first attempt is over already
            return await tries.once(transport)
    raise AssertionError("tenacity returns or raises")


class _Tries:
    """What one request has used up: calls, those of them that count, and time; `number` is the last call's."""

    def __init__(self, request: Request, pacer: Pacer, budget: Budget, attempts: int, retry_for_s: float) -> None:
        self.made = 0
        self.number: int | None = None
        self.maybe_billed = budget.may_have_paid(request.key)
        self._request = request
        self._pacer = pacer
        self._budget = budget
        self._left = attempts
        self._retry_for_s = retry_for_s
        self._until: float | None = None
        self._last: RetryableError | None = None
        self._counted = True

    async def once(self, transport: Transport) -> Answer:
        """Make one call, when ceilings and pacer let it start."""
        # The money before the place, so that who waits for others to settle takes no place from them.
        with await self._budget.reserve(self._request) as reservation:
            return await self._once(transport, reservation)

    async def _once(self, transport: Transport, reservation: Reservation) -> Answer:
        slot = self._pacer.slot(self._request, again=self._last is not None)
        try:
            async with slot:
                now = asyncio.get_running_loop().time()
                if self._until is None:
                    self._until = now + self._retry_for_s
                elif self._last is not None and now >= self._until:
                    slot.withdraw()
                    raise self._last
                self.number = reservation.begin()
                self.made += 1
                answer = await transport(self._request)
                slot.answered(answer.report)
                reservation.answered(answer.usage)
                return answer
        except CallError as error:
            self.maybe_billed = self.maybe_billed or error.maybe_billed
            self._last = error if isinstance(error, RetryableError) else None
            self._counted = slot.counts_as_attempt
            self._left -= slot.counts_as_attempt
            raise

    def are_over(self, state: tenacity.RetryCallState) -> bool:
        """Whether no further call is to be made."""
        now = asyncio.get_running_loop().time()
        late = self._until is not None and now + state.upcoming_sleep >= self._until
        return self._left <= 0 or late

    def wait_s(self, state: tenacity.RetryCallState) -> float:
        """Seconds to the next call."""
        if self._last is not None and self._last.retry_after_s is not None:
            # The server's word is the least to wait; a little jitter on top keeps the crowd apart.
            return self._last.retry_after_s + tenacity.wait_random(0, 0.25)(state)
        return _jitter(state) if self._counted else 0.0

    async def sleep(self, seconds: float) -> None:
        """Wait, and let the pacer know that it is not for lack of work."""
        self._pacer.sleeping += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._pacer.sleeping -= 1

    def say(self, state: tenacity.RetryCallState) -> None:
        """Log what happened, before the wait."""
        if (error := self._last) is not None:
            emit(
                log,
                "attempt_failed",
                "attempt %d got %s, next in %.2f s: %s",
                state.attempt_number,
                error.error_type,
                state.upcoming_sleep,
                error,
                prompt_id=self._request.prompt_id,
                request_key=self._request.key,
                attempt=state.attempt_number,
                error_type=error.error_type,
                status=error.status,
                wait_s=state.upcoming_sleep,
            )


_jitter = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)
