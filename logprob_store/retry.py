"""One retry layer around any transport: how often, how long, and what the server asked for.

Holds the policy for repeating a call. Leaves out what makes an error worth repeating: the transport says so by raising
`RetryableError`. The SDK's own retries are off (`max_retries=0`), as layers multiply: 6 x 3 = 18 calls where three
were meant.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Final

import tenacity

from logprob_store.errors import CallError, RetryableError

if TYPE_CHECKING:
    from logprob_store.pacing import Slots
    from logprob_store.request import Answer, Request
    from logprob_store.transport import Transport

log = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0


async def ask_until_answered(
    request: Request,
    transport: Transport,
    *,
    slots: Slots,
    attempts: int = 6,
    retry_for_s: float = 600.0,
) -> Answer:
    """Make one call, again where that is worth it, holding a slot only while a call is under way.

    Waits as long as the server said, otherwise a random time up to 0.5 s, 1 s, 2 s ... 30 s (full jitter, so that
    those who failed together do not come back together).

    Args:
        request: what to ask.
        transport: makes one call; raises `RetryableError` when another may succeed.
        slots: bounds the calls under way.
        attempts: calls at most.
        retry_for_s: seconds after which no further call is started.

    Raises:
        CallError: no usable answer; its `attempts` says how many calls were made and `maybe_billed` whether one
            of them may have been answered and lost.
        StopRunError: no call of this run can succeed.
    """
    maybe_billed = False
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(RetryableError),
        stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_before_delay(retry_for_s),
        wait=_wait,
        before_sleep=_say,
        reraise=True,
    )
    made = 0
    try:
        async for attempt in retrying:
            with attempt:
                made += 1
                try:
                    async with slots:
                        answer = await transport(request)
                except CallError as error:
                    maybe_billed = maybe_billed or error.maybe_billed
                    raise
    except CallError as error:
        error.attempts = made
        error.maybe_billed = maybe_billed
        raise
    return answer if made == 1 else dataclasses.replace(answer, attempts=made)


_jitter = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, RetryableError) and error.retry_after_s is not None:
        # The server's word is the least to wait; a little jitter on top keeps the crowd apart.
        return error.retry_after_s + tenacity.wait_random(0, 0.25)(state)
    return _jitter(state)


def _say(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, CallError):
        log.info(
            "attempt %d got %s, next in %.2f s: %s",
            state.attempt_number,
            error.error_type,
            state.upcoming_sleep,
            error,
        )
