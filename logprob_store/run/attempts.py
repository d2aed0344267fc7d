"""The attempts of a call: how many, for how long, and how long to wait before the next.

Which failures are worth another attempt is in `failure_policy`; the transport raises a `RetryableError` for them. This
is the only layer of retries: layers multiply, 6 x 3 = 18 calls where three were meant, so the SDK's own are off
(`max_retries=0`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Final

import tenacity

from logprob_store.errors import CallError, RetryableError
from logprob_store.events import emit
from logprob_store.failure_policy import FAILURES, bills_refusal
from logprob_store.spending.budget import Budget

if TYPE_CHECKING:
    from logprob_store.pacing.pacer import Pacer
    from logprob_store.request import Answer, Request
    from logprob_store.spending.reservation import Reservation
    from logprob_store.transport import Transport
    from logprob_store.usage import Usage

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
    """Make a call, and repeat it while that is worth it. A slot of the pacer is held only while a call is under way.

    The wait before the next call is as long as the server said; if it said nothing, a random time up to 0.5 s, 1 s,
    2 s ... 30 s (full jitter, so that calls that failed together do not come back together). Calls during an outage do
    not count as attempts and do not wait here: they go back to the pacer's queue at once.

    Args:
        request: what to ask.
        transport: makes one call; raises `RetryableError` when another may succeed.
        pacer: lets the call start.
        budget: reserves the worst case of each call, and settles what it took.
        run: the id of the run that pays.
        attempts: calls at most, without those during an outage.
        retry_for_s: seconds after the start of the first call after which no further call is started.

    Raises:
        CallError: no usable answer; its `attempts` says how many calls were made and `maybe_billed` whether one
            of them may have been answered and lost.
        StopRunError: no call of this run can succeed.
    """
    budget = Budget() if budget is None else budget
    calls = _Calls(request, pacer, budget, attempts, retry_for_s)
    try:
        try:
            answer = await calls.make(transport)
        except RetryableError as error:
            answer = await _retry(calls, transport, error)
    except CallError as error:
        error.attempts = calls.made
        error.maybe_billed = calls.maybe_billed or error.maybe_billed
        raise
    return dataclasses.replace(
        answer,
        attempts=calls.made,
        run=run,
        maybe_billed=calls.maybe_billed,
        cost_usd=budget.cost_usd(answer, spent=calls.spent),
        call=calls.last_number,
        spent=calls.spent,
    )


async def _retry(calls: _Calls, transport: Transport, error: RetryableError) -> Answer:
    """Repeat a call whose first attempt failed with `error`.

    The first attempt is made without tenacity, which costs 50 us a call, and nearly all calls need no second.
    """
    first_error: RetryableError | None = error
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(RetryableError),
        stop=calls.are_over,
        wait=calls.wait_s,
        before_sleep=calls.log_wait,
        sleep=calls.sleep,
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            if first_error is not None:
                raised, first_error = first_error, None
                raise raised  # tenacity counts this as the first attempt
            return await calls.make(transport)
    raise AssertionError("tenacity returns or raises")


class _Calls:
    """The calls made for one request, and how many and how long it may still make.

    `made` counts them, `last_number` is the number of the last one within the run, `spent` are the tokens that its
    answer counts for, `maybe_billed` says whether one of them may have been answered and lost.
    """

    def __init__(self, request: Request, pacer: Pacer, budget: Budget, attempts: int, retry_for_s: float) -> None:
        self.made = 0
        self.last_number: int | None = None
        self.spent: Usage | None = None
        self.maybe_billed = budget.may_have_paid(request.key)
        self._request = request
        self._pacer = pacer
        self._budget = budget
        self._attempts_left = attempts
        self._retry_for_s = retry_for_s
        self._no_start_after_s: float | None = None  # on the event loop's clock; set by the first call
        self._last_error: RetryableError | None = None
        self._last_counted = True

    async def make(self, transport: Transport) -> Answer:
        """Make one call, when the ceilings and then the pacer let it start."""
        # The budget first: a call that waits for others to settle must not take a slot from them.
        with await self._budget.reserve(self._request) as reservation:
            return await self._make(transport, reservation)

    async def _make(self, transport: Transport, reservation: Reservation) -> Answer:
        slot = self._pacer.slot(self._request, again=self._last_error is not None)
        try:
            async with slot:
                now = asyncio.get_running_loop().time()
                if self._no_start_after_s is None:
                    self._no_start_after_s = now + self._retry_for_s
                elif self._last_error is not None and now >= self._no_start_after_s:
                    slot.withdraw()
                    raise self._last_error
                self.last_number = reservation.begin()
                self.made += 1
                answer = await transport(self._request)
                slot.answered(answer.report)
                self.spent = reservation.answered(answer.usage, answer.body)
                return answer
        except CallError as error:
            error.maybe_billed = error.maybe_billed or bills_refusal(error.error_type, error.status, str(error))
            self.maybe_billed = self.maybe_billed or error.maybe_billed
            self._last_error = error if isinstance(error, RetryableError) else None
            self._last_counted = slot.counts_as_attempt
            self._attempts_left -= slot.counts_as_attempt
            raise

    def are_over(self, state: tenacity.RetryCallState) -> bool:
        """Whether no further call is to be made."""
        now = asyncio.get_running_loop().time()
        late = self._no_start_after_s is not None and now + state.upcoming_sleep >= self._no_start_after_s
        return self._attempts_left <= 0 or late or self._budget.closed is not None

    def wait_s(self, state: tenacity.RetryCallState) -> float:
        """Seconds to wait before the next call."""
        if self._last_error is not None and self._last_error.retry_after_s is not None:
            # At least as long as the server said; a little jitter keeps the waiting calls apart.
            return self._last_error.retry_after_s + tenacity.wait_random(0, 0.25)(state)
        return _jitter(state) if self._last_counted or not self._is_paced() else 0.0

    def _is_paced(self) -> bool:
        """Whether the pacer, which knows of all calls, delays the next call after the last failure."""
        kind = None if self._last_error is None else FAILURES.get(self._last_error.error_type)
        return kind is None or kind.pace != ""

    async def sleep(self, seconds: float) -> None:
        """Wait; the pacer then knows that free slots are not for lack of work."""
        self._pacer.sleeping += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._pacer.sleeping -= 1

    def log_wait(self, state: tenacity.RetryCallState) -> None:
        """Log the failed call and the wait that follows."""
        if (error := self._last_error) is not None:
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
