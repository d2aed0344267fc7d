"""The queue before the server: `Pacer` lets calls start as rates, concurrency and breaker allow.

Their rules are in modules named after them; what a call's end means for them is in `outcomes`.

Repeated calls start before new ones: they are older, and their time is limited. Only the probes of an outage take
turns, because it may be the first prompts that break the server.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from logprob_store.counted import counted
from logprob_store.errors import CallError
from logprob_store.events import emit
from logprob_store.pacing.bottleneck import BottleneckWatch
from logprob_store.pacing.breaker import Breaker
from logprob_store.pacing.concurrency import Concurrency
from logprob_store.pacing.outcomes import Outcomes
from logprob_store.pacing.rates import RateLimits
from logprob_store.pacing.silence import Silence
from logprob_store.pacing.slot import Slot
from logprob_store.spending.request_tokens import estimate_tokens

if TYPE_CHECKING:
    from logprob_store.errors import LogprobStoreError
    from logprob_store.pacing.bottleneck import Cause
    from logprob_store.request import Request

log = logging.getLogger(__name__)

FIRST_CALLS: Final = 8
_NO_WAIT_S: Final = 1e-6
"""A call whose wait is not longer than this starts at once."""


class Pacer:
    """Lets calls start as fast as the server takes them, and no faster.

    Three attributes are set from outside. `sleeping` counts the requests that sleep before they are tried again, or
    wait for another process, and `all_queued` says that no further request will come, so that the bottleneck is judged
    right. While `on_trial` is true, no answer has been of use yet.

    Args:
        concurrency: calls under way at most.
        requests_per_minute: starts per minute at most; the server's own limit is learned from its answers, and the
            smaller one holds.
        tokens_per_minute: the same for tokens.
        patience_s: seconds that an outage, or a pause that the server asks for, is waited out.
        reach_s: seconds that a server is waited for that was never reached, if that is less.
        server: what is asked, for people.
        waits_at_once: whether a server to which no connection can be made is waited for from the first call on, and no
            attempt used up; else from the eighth prompt on.
        first_calls: calls under way at most until the first answer, and while `on_trial` is true: a job that cannot
            succeed then costs a handful.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        patience_s: float = 600.0,
        reach_s: float = math.inf,
        server: str = "the server",
        waits_at_once: bool = True,
        first_calls: int = FIRST_CALLS,
    ) -> None:
        self.rates = RateLimits(requests_per_minute, tokens_per_minute, patience_s=patience_s)
        self.concurrency = Concurrency(concurrency)
        self.breaker = Breaker(patience_s, reach_s=reach_s, server=server, waits_at_once=waits_at_once)
        self.silence = Silence()
        self.watch = BottleneckWatch(self._look_around)
        self.sleeping = 0
        self.all_queued = False
        self.on_trial = False
        self._server = server
        self._first_calls = first_calls
        self._outcomes = Outcomes(self.rates, self.concurrency, self.breaker, self.silence, patience_s=patience_s)
        self._waiting_new: deque[_Waiter] = deque()
        self._waiting_again: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._probed_again = False

    @property
    def _allowed(self) -> int:
        """Calls under way at most, as of now."""
        limit = self.concurrency.limit
        is_first = self.on_trial or not self._outcomes.any_answer
        return min(limit, self._first_calls) if is_first else limit

    def slot(self, request: Request, *, again: bool = False) -> Slot:
        """A place for one call; `again` if an earlier call for the request failed."""
        estimate = estimate_tokens(request, typical_answer=self._outcomes.typical_answer)
        return Slot(self, request, estimate, again=again)

    async def begin(self, slot: Slot) -> None:
        """Wait until the call may start.

        Raises:
            CallError: the call is larger than the whole limit.
            StopRunError: the server's limit is used up, or it has never answered, for longer than the patience.
        """
        loop = asyncio.get_running_loop()
        if (problem := self._reason_to_fail(slot)) is not None:
            raise problem
        nobody_waits = not self._waiting_new and not self._waiting_again
        if nobody_waits and self._wait_s(now := loop.time(), slot.estimate) <= _NO_WAIT_S:
            self._start(slot, now)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._queue_of(slot).append((slot, turn))
        self._start_waiting()
        try:
            await turn
        except asyncio.CancelledError:
            # The call may have been let start in the same moment in which it was cancelled.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                slot.withdraw()
                self.end(slot, None)
            else:
                self._start_waiting()
            raise

    def end(self, slot: Slot, error: BaseException | None) -> None:
        """Take note of how a call ended, and start those that may start now."""
        now = asyncio.get_running_loop().time()
        self.concurrency.ended()
        if slot.unused:
            self.rates.requests.settle(slot.started_at, -1, now)
            self.rates.tokens.settle(slot.started_at, -slot.estimate, now)
            self.breaker.abandoned(now)
        elif error is None:
            self._outcomes.succeeded(slot, now)
        elif isinstance(error, CallError):
            self._outcomes.failed(slot, error, now)
        else:
            # Cancelled, or the run stops: what was reserved may have been used, so it is not given back.
            self.breaker.abandoned(now)
        if self._waiting_new or self._waiting_again:
            self._start_waiting()

    def _wait_s(self, now: float, tokens: float) -> float:
        """Seconds until a call may start; infinity when another has to end first."""
        if self.breaker.is_open and (wait := self.breaker.wait_s(now)):
            return wait
        if self.concurrency.in_use >= self._allowed:
            return math.inf
        return self.rates.wait_s(now, tokens)

    def _start(self, slot: Slot, now: float, *, waited: bool = False) -> None:
        slot.started_at = now
        slot.is_probe = self.breaker.is_open
        self._probed_again = slot.is_probe and slot.again
        self.breaker.started(now)
        self.silence.started(now)
        self.concurrency.started()
        self.rates.take(now, slot.estimate, waited=waited)

    def _start_waiting(self) -> None:
        """Start all waiting calls that may start, and set the timer for the next."""
        loop = asyncio.get_running_loop()
        while (waiter := self._first_waiting()) is not None:
            slot, turn = waiter
            problem = self._reason_to_fail(slot)
            if problem is None:
                now = loop.time()
                wait_s = self._wait_s(now, slot.estimate)
                if wait_s > _NO_WAIT_S:
                    self._set_timer(loop, now + wait_s)
                    return
                self._start(slot, now, waited=True)
            self._queue_of(slot).popleft()
            if problem is None:
                turn.set_result(None)
            else:
                turn.set_exception(problem)

    def _reason_to_fail(self, slot: Slot) -> LogprobStoreError | None:
        return self._outcomes.reason_to_fail(slot, asyncio.get_running_loop().time(), on_trial=self.on_trial)

    def _queue_of(self, slot: Slot) -> deque[_Waiter]:
        return self._waiting_again if slot.again else self._waiting_new

    def _first_waiting(self) -> _Waiter | None:
        queues = self._waiting_again, self._waiting_new
        for queue in reversed(queues) if self._probed_again and self.breaker.is_open else queues:
            while queue and queue[0][1].done():
                queue.popleft()  # cancelled while it waited
            if queue:
                return queue[0]
        return None

    def _set_timer(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._on_timer) if at < math.inf else None

    def _on_timer(self) -> None:
        self._timer = None
        self._start_waiting()

    @property
    def trouble(self) -> str | None:
        """For how long no call has been answered, and why, as a sentence; None while answers come."""
        now, why = asyncio.get_running_loop().time(), self.breaker.why
        if not self.silence.is_shown(now, fails=bool(why)) or not (why or self.concurrency.in_use):
            return None
        what = "server not reached" if why and self.breaker.never_reached else "no answer"
        lasts = f"{what} for {self.silence.seconds(now):.0f} s"
        if not why:
            return f"{lasts} from {self._server}; {counted(self.concurrency.in_use, 'call')} under way"
        return f"{lasts}: {why.rstrip('.')}, {self._server}; trying again"

    def _look_around(self) -> Cause:
        """Log a long silence, and say what holds calls back now."""
        now, why = asyncio.get_running_loop().time(), self.breaker.why
        trouble = None if self.breaker.is_open else self.trouble  # the breaker says itself that it opens
        if trouble is not None and self.silence.is_to_be_logged(now, fails=bool(why)):
            emit(log, "no_answer", "%s", trouble, seconds=self.silence.seconds(now), why=why or None)
        return self._cause_now()

    def _cause_now(self) -> Cause:
        """What holds calls back now."""
        now, calls = asyncio.get_running_loop().time(), self.concurrency
        if self.breaker.is_open:
            return "outage"
        if now < self.rates.paused_until or (self._first_waiting() is not None and calls.in_use < self._allowed):
            return "limit"
        server_is_busy = calls.in_use >= self._allowed or self.sleeping > 0 or (self.all_queued and calls.in_use > 0)
        return "server" if server_is_busy else "machine"


_Waiter = tuple[Slot, "asyncio.Future[None]"]
