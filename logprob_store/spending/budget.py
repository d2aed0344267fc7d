"""The budget of a run: a job's ceilings, kept by reserving the worst case of each call before the call is made.

`Budget` lets a call start when its worst case fits under the ceilings beside all that is spent and reserved, and stops
the run when it never will. The file that remembers calls across sessions is `store.call_log`; how fast calls may follow
each other is in `pacing`.

Calls under way usually settle for less than their worst case. So a call that does not fit waits for them, in order: if
small calls overtook a large one, it might wait for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from logprob_store.errors import CallError, StopRunError
from logprob_store.failure_policy import FAILURES
from logprob_store.spending.request_tokens import worst_case
from logprob_store.usage import Usage, usage_of

if TYPE_CHECKING:
    from logprob_store.request import Answer, Request
    from logprob_store.spending.prices import Prices

log = logging.getLogger(__name__)

BUDGET: Final = "budget"
"""The reason of a run that stops at a ceiling."""


class CallRecord(Protocol):
    """A durable record of the calls of a run, such as `store.call_log.CallLog`.

    `requests` counts the calls begun. `spent` sums the tokens of the calls that ended, and the worst case of the calls
    whose answer was lost.
    """

    requests: int
    spent: Usage

    def begin(self, key: str, worst: Usage) -> int:
        """Record that a call is about to be made; returns its number."""

    def end(self, number: int, usage: Usage | None) -> None:
        """Record the tokens of a call whose answer is durable; None counts as its worst case."""

    def committed(self, key: str) -> None:
        """Take note that the row of an answer is committed."""

    def free(self, number: int) -> None:
        """Record that a call was surely not billed."""

    def lose(self, number: int) -> None:
        """Record that the answer of a call was lost."""

    def is_lost(self, key: str) -> bool:
        """Whether the answer of a call for this key was lost."""

    def sync(self) -> None:
        """Make the record durable against a power cut."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The most that a run may spend, over all its sessions; None where there is no ceiling."""

    usd: float | None = None
    requests: int | None = None
    tokens: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is a ceiling."""
        return self.usd is not None or self.requests is not None or self.tokens is not None

    @property
    def need_bounds(self) -> bool:
        """Whether each call must have a worst case in tokens."""
        return self.usd is not None or self.tokens is not None


class Budget:
    """What a run has spent and what it has reserved. Use it from one event loop.

    `requests` counts the calls made, failed ones too. `usage` sums the tokens of the answers, and the worst case of
    answers that were lost. Once `closed` has a reason, no further call starts.

    Args:
        ceilings: none by default.
        prices: what tokens cost; a ceiling in dollars needs them.
        calls: the run's record of calls; without one, nothing is remembered across sessions.

    Raises:
        ValueError: there is a ceiling in dollars and no prices.
    """

    def __init__(
        self, ceilings: Ceilings = Ceilings(), *, prices: Prices | None = None, calls: CallRecord | None = None
    ) -> None:
        if ceilings.usd is not None and prices is None:
            raise ValueError("a ceiling in dollars needs prices")
        self.prices = prices
        self.calls = calls
        self.requests = 0 if calls is None else calls.requests
        self.usage = Usage() if calls is None else calls.spent
        self.closed: StopRunError | None = None
        self._ceilings = ceilings
        self._reservations = 0  # calls reserved, begun or not
        self._not_begun = 0  # those of them that are not begun
        self._reserved_prompt = 0  # tokens
        self._reserved_completion = 0
        self._excess = (0, 0)  # the most prompt and completion tokens that the server counted beyond a worst case
        self._waiting: deque[tuple[Reservation, asyncio.Future[None]]] = deque()

    @property
    def usd(self) -> float | None:
        """What is spent in dollars, at the job's prices; None without prices."""
        return None if self.prices is None else self.prices.usd(self.usage)

    async def reserve(self, request: Request) -> Reservation:
        """Reserve a call's worst case, once it fits under the ceilings.

        Raises:
            StopRunError: the budget is closed; or the call does not fit, and no call under way could change that.
        """
        bare, (prompt, completion) = worst_case(request), self._excess
        worst = (
            Usage(bare.prompt_tokens + prompt, 0, bare.completion_tokens + completion) if prompt or completion else bare
        )
        reservation = Reservation(self, request.key, worst=worst, bare=bare)
        if self.closed is not None:
            raise self.closed
        if not self._waiting and self._ceiling_passed_by(reservation) is None:
            self._take(reservation)
            return reservation
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((reservation, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            # The call may have been admitted in the same moment in which it was cancelled.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.call_failed(reservation, None)
            else:
                self._admit()
            raise
        return reservation

    def close(self, reason: StopRunError) -> None:
        """Let no further call start; the first reason is kept."""
        if self.closed is None:
            self.closed = reason
            self._admit()

    def durable(self, answer: Answer) -> None:
        """Record that an answer is on the disk, so that a crash cannot lose it any more."""
        if self.calls is not None and answer.call is not None:
            self.calls.end(answer.call, answer.usage)

    def committed(self, answer: Answer) -> None:
        """Take note that the rows of an answer are committed; without a cache, it was not on the disk until now."""
        self.durable(answer)
        if self.calls is not None:
            self.calls.committed(answer.request.key)

    def call_begins(self, reservation: Reservation) -> None:
        """Record that a reserved call is made now.

        Raises:
            StopRunError: the budget is closed.
            DiskError: the call cannot be recorded.
        """
        if self.closed is not None:
            raise self.closed
        if self.calls is not None:
            reservation.number = self.calls.begin(reservation.key, reservation.worst)
        self.requests += 1
        self._not_begun -= 1
        reservation.state = "begun"

    def call_failed(self, reservation: Reservation, error: BaseException | None) -> None:
        """Settle a call that got no answer: for nothing if it was not sent or surely not billed, else at its worst."""
        begun = reservation.state == "begun"
        if reservation.state not in {"begun", "reserved"}:
            return
        billed = begun and _may_be_billed(error)
        self.settle(reservation, reservation.worst if billed else None)
        if begun and self.calls is not None and reservation.number is not None:
            if billed:
                self.calls.lose(reservation.number)
            else:
                self.calls.free(reservation.number)

    def may_have_paid(self, key: str) -> bool:
        """Whether an earlier call for this key may have been billed and its answer lost."""
        return self.calls is not None and self.calls.is_lost(key)

    def cost_usd(self, answer: Answer) -> float | None:
        """US dollars that this run paid for an answer that it asked for; None without prices or without `usage`."""
        if self.prices is None or answer.source != "api":
            return None if self.prices is None else 0.0
        usage = answer.usage or usage_of(answer.body)
        return None if usage is None else self.prices.usd(usage)

    def _ceiling_passed_by(self, reservation: Reservation) -> str | None:
        """The ceiling that a call could pass at its worst, beside all that is reserved; None if it fits."""
        most = self._ceilings
        if most.requests is not None and self.requests + self._not_begun + 1 > most.requests:
            return "requests"
        prompt, completion = (
            self._reserved_prompt + reservation.worst.prompt_tokens,
            self._reserved_completion + reservation.worst.completion_tokens,
        )
        if most.tokens is not None and self.usage.total + prompt + completion > most.tokens:
            return "tokens"
        if most.usd is not None and self.prices is not None:
            return "usd" if self.prices.most_usd(self.usage, prompt, completion) > most.usd else None
        return None

    def _take(self, reservation: Reservation) -> None:
        reservation.state = "reserved"
        self._reservations += 1
        self._not_begun += 1
        self._reserved_prompt += reservation.worst.prompt_tokens
        self._reserved_completion += reservation.worst.completion_tokens

    def settle(self, reservation: Reservation, spent: Usage | None) -> None:
        """End a reservation, of which this was spent; None for nothing."""
        self._reservations -= 1
        self._not_begun -= reservation.state == "reserved"
        self._reserved_prompt -= reservation.worst.prompt_tokens
        self._reserved_completion -= reservation.worst.completion_tokens
        reservation.state = "ended"
        if spent is not None:
            self.usage += spent
            if self._ceilings.any and (
                spent.prompt_tokens > reservation.worst.prompt_tokens
                or spent.completion_tokens > reservation.worst.completion_tokens
            ):
                self._learn_excess(reservation, spent)
        if self._waiting:
            self._admit()

    def _learn_excess(self, reservation: Reservation, spent: Usage) -> None:
        """Reserve the excess with each later call: the server adds tokens of its own, or goes beyond the maximum."""
        bare = reservation.bare
        self._excess = (
            max(self._excess[0], spent.prompt_tokens - bare.prompt_tokens),
            max(self._excess[1], spent.completion_tokens - bare.completion_tokens),
        )
        log.warning(
            "the server counted %d + %d tokens for a call of at most %d + %d: from here on each call reserves as much "
            "more, but the calls already under way may pass the job's ceilings",
            spent.prompt_tokens,
            spent.completion_tokens,
            reservation.worst.prompt_tokens,
            reservation.worst.completion_tokens,
        )

    def _admit(self) -> None:
        """Let waiting calls start, in order, as long as they fit; close the budget if the first can never fit."""
        while self._waiting:
            reservation, turn = self._waiting[0]
            if turn.done():  # cancelled
                self._waiting.popleft()
                continue
            passed = self._ceiling_passed_by(reservation)
            if self.closed is None and passed is not None:
                if self._reservations:
                    return
                self.closed = self._ceiling_error(passed, reservation)
            self._waiting.popleft()
            if self.closed is not None:
                turn.set_exception(self.closed)
            else:
                self._take(reservation)
                turn.set_result(None)

    def _ceiling_error(self, passed: str, reservation: Reservation) -> StopRunError:
        most: Any = getattr(self._ceilings, passed)
        if passed == "usd" and self.prices is not None:
            name, ceiling, spent = "max_cost_usd", f"{most:g}", f"{_usd(self.prices.usd(self.usage))} is spent"
            worst = reservation.worst
            most_usd = self.prices.most_usd(Usage(), worst.prompt_tokens, worst.completion_tokens)
            could = f"could cost {_usd(most_usd)}"
        elif passed == "tokens":
            name, ceiling, spent = "max_tokens", f"{most}", f"{self.usage.total} tokens are spent"
            could = f"could take {reservation.worst.total}"
        else:
            name, ceiling, spent = "max_requests", f"{most}", f"{self.requests} calls have been made"
            could = "would be one more"
        return StopRunError(
            f"limits.{name} = {ceiling} allows no further call: {spent} in this run, and the next call {could}. "
            "Raise it and run the same command again: it goes on from here.",
            reason=BUDGET,
        )


class Reservation:
    """The worst case of one call, reserved from `Budget.reserve` until the call's end; a context manager.

    `worst` is what is reserved, `bare` the same without the excess that the server has counted for earlier calls.
    `state` is `waiting`, `reserved`, `begun` or `ended`. `number` is the call's number in the run's record of calls.
    """

    __slots__ = ("_budget", "bare", "key", "number", "state", "worst")

    def __init__(self, budget: Budget, key: str, *, worst: Usage, bare: Usage) -> None:
        self._budget = budget
        self.key = key
        self.worst = worst
        self.bare = bare
        self.number: int | None = None
        self.state = "waiting"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.failed(error)

    def begin(self) -> int | None:
        """Record that the call is made now; returns its number within the run, None without a record of calls.

        Raises:
            StopRunError: the budget is closed.
            DiskError: the call cannot be recorded.
        """
        self._budget.call_begins(self)
        return self.number

    def answered(self, usage: Usage | None) -> None:
        """Settle the call for the tokens that its answer reports; None counts as the worst case."""
        self._budget.settle(self, usage or self.worst)

    def failed(self, error: BaseException | None) -> None:
        """Settle the call, which got no answer but this error."""
        self._budget.call_failed(self, error)


def _may_be_billed(error: BaseException | None) -> bool:
    """Whether a call that ended with this error may be billed; a cancelled call may."""
    if isinstance(error, StopRunError):
        kind = FAILURES.get(error.reason)
        return kind is None or kind.billed != "no"
    if isinstance(error, CallError):
        # The class `connection` may be billed, but not where no connection was made: the error itself says which.
        kind = FAILURES.get(error.error_type)
        return error.maybe_billed or kind is None or kind.billed == "yes"
    return True


def _usd(amount: float) -> str:
    """Dollars as text: to four significant digits, and to four decimals from $1 on.

    >>> _usd(12.3456), _usd(0.00012344), _usd(0.0)
    ('$12.3456', '$0.0001234', '$0')
    """
    if amount >= 1:
        return f"${amount:.4f}"
    return f"${float(f'{amount:.4g}'):.10f}".rstrip("0").rstrip(".")
