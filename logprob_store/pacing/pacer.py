"""The queue before the server: who may call, when.

Holds `Pacer`, which lets calls start as rates, concurrency and breaker allow. Leaves out their rules, each in a module
of its own, and what they are told at a call's end (`outcomes`).

Calls that are tried again go before new ones: they are older, and their time is bounded.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError
from logprob_store.pacing.bottleneck import Watch
from logprob_store.pacing.breaker import Breaker
from logprob_store.pacing.concurrency import Concurrency
from logprob_store.pacing.outcomes import Outcomes
from logprob_store.pacing.rates import RateLimits
from logprob_store.pacing.slot import Slot
from logprob_store.spending.request_tokens import estimate_tokens

if TYPE_CHECKING:
    from logprob_store.request import Request

_AT_ONCE_S: Final = 1e-6


class Pacer:
    """Lets calls start as fast as the server takes them, and no faster.

    Args:
        concurrency: calls under way at most.
        requests_per_minute: starts a minute at most; the server's own limit is learned from its answers, and the
            smaller one holds.
        tokens_per_minute: the same for tokens.
        patience_s: how long an outage, or a pause the server asks for, is sat out.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        patience_s: float = 600.0,
    ) -> None:
        self.rates = RateLimits(requests_per_minute, tokens_per_minute, patience_s=patience_s)
        self.concurrency = Concurrency(concurrency)
        self.breaker = Breaker(patience_s)
        self.watch = Watch(self._held_by)
        self.resting = 0
        self.no_more = False
        self._outcomes = Outcomes(self.rates, self.concurrency, self.breaker, patience_s=patience_s)
        self._waiting: tuple[deque[_Waiter], deque[_Waiter]] = (deque(), deque())
        self._timer: asyncio.TimerHandle | None = None

    def slot(self, request: Request, *, again: bool = False) -> Slot:
        """A place for one call; `again` for one that failed before."""
        estimate = estimate_tokens(request, typical_answer=self._outcomes.typical_answer)
        return Slot(self, request, estimate, again=again)

    async def begin(self, slot: Slot) -> None:
        """Wait until the call may start.

        Raises:
            CallError: it is larger than the whole limit. StopRunError: the server is closed for too long.
        """
        loop = asyncio.get_running_loop()
        if (problem := self._outcomes.problem(slot, loop.time())) is not None:
            raise problem
        fresh, again = self._waiting
        if not fresh and not again and self._hold_s(now := loop.time(), slot.estimate) <= _AT_ONCE_S:
            self._start(slot, now)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting[slot.again].append((slot, turn))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                slot.withdraw()
                self.end(slot, None)
            else:
                self._let_in()
            raise

    def end(self, slot: Slot, error: BaseException | None) -> None:
        """Learn how a call ended, and let the next in."""
        now = asyncio.get_running_loop().time()
        self.concurrency.ended()
        if slot.unused:
            self.rates.requests.settle(slot.started_at, -1, now)
            self.rates.tokens.settle(slot.started_at, -slot.estimate, now)
            self.breaker.withdrawn(now)
        elif error is None:
            self._outcomes.succeeded(slot, now)
        elif isinstance(error, CallError):
            self._outcomes.failed(slot, error, now)
        else:
            # Cancelled, or the run stops: what was reserved may have been used.
            self.breaker.withdrawn(now)
        if any(self._waiting):
            self._let_in()

    def _hold_s(self, now: float, tokens: float) -> float:
        """Seconds until a call may start; infinity when that depends on another's end."""
        if self.breaker.is_open and (wait := self.breaker.hold_s(now)):
            return wait
        if self.concurrency.in_use >= self.concurrency.limit:
            return math.inf
        return self.rates.wait_s(now, tokens)

    def _start(self, slot: Slot, now: float, *, waited: bool = False) -> None:
        slot.started_at = now
        slot.probe = self.breaker.is_open
        self.breaker.started(now)
        self.concurrency.started()
        self.rates.take(now, slot.estimate, waited=waited)

    def _let_in(self) -> None:
        """Start all that may start, and wake again when the next may."""
        loop = asyncio.get_running_loop()
        while (waiter := self._next()) is not None:
            slot, turn = waiter
            problem = self._outcomes.problem(slot, loop.time())
            if problem is None:
                now = loop.time()
                wait_s = self._hold_s(now, slot.estimate)
                if wait_s > _AT_ONCE_S:
                    self._wake_at(loop, now + wait_s)
                    return
                self._start(slot, now, waited=True)
            self._waiting[slot.again].popleft()
            if problem is None:
                turn.set_result(None)
            else:
                turn.set_exception(problem)

    def _next(self) -> _Waiter | None:
        for queue in reversed(self._waiting):
            while queue and queue[0][1].done():
                queue.popleft()  # it left
            if queue:
                return queue[0]
        return None

    def _wake_at(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._wake) if at < math.inf else None

    def _wake(self) -> None:
        self._timer = None
        self._let_in()

    def _held_by(self) -> str:
        """What holds calls back now, for the verdict."""
        now, allowed = asyncio.get_running_loop().time(), self.concurrency
        if self.breaker.is_open:
            return "outage"
        if now < self.rates.paused_until or (self._next() is not None and allowed.in_use < allowed.limit):
            return "limit"
        busy = allowed.in_use >= allowed.limit or self.resting > 0 or (self.no_more and allowed.in_use > 0)
        return "server" if busy else "machine"


_Waiter = tuple[Slot, "asyncio.Future[None]"]
