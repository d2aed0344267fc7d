"""What a run may spend: the ceilings of a job, kept by reserving each call's worst case before it is made.

Holds `Spending`, which lets a call through when its worst case fits beside all that is spent and reserved, and the
reason to stop when it never will. Leaves out the file that remembers across sessions (`call_log`) and how fast calls
may follow each other (`pacing`).

Calls under way settle for less than their worst case, so who does not fit waits for them, in order: a small call does
not overtake a large one, or the large one might wait for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from logprob_store.errors import CallError, StopRunError
from logprob_store.failures import FAILURES
from logprob_store.spending.request_tokens import worst_case
from logprob_store.usage import Usage, usage_of

if TYPE_CHECKING:
    from logprob_store.request import Answer, Request
    from logprob_store.spending.prices import Prices
    from logprob_store.store.call_log import CallLog

log = logging.getLogger(__name__)

BUDGET: Final = "budget"
"""The reason of a stop at a ceiling."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a run may spend at most, over all its sessions; None where there is no ceiling."""

    usd: float | None = None
    requests: int | None = None
    tokens: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self.usd is not None or self.requests is not None or self.tokens is not None

    @property
    def need_bounds(self) -> bool:
        """Whether each call must have a worst case in tokens."""
        return self.usd is not None or self.tokens is not None


class Spending:
    """What a run has spent and has reserved. Use from one event loop.

    `requests` counts calls made, failed ones too; `usage` is what the answers took, and what lost ones took at most.
    Nobody spends once it is `closed`.

    Args:
        ceilings: none by default.
        prices: what tokens cost; a ceiling in dollars needs them.
        calls: the run's file of calls; without one nothing is remembered.
    """

    def __init__(
        self, ceilings: Ceilings = Ceilings(), *, prices: Prices | None = None, calls: CallLog | None = None
    ) -> None:
        if ceilings.usd is not None and prices is None:
            raise ValueError("a ceiling in dollars needs prices")
        self.prices = prices
        self.calls = calls
        self.requests = 0 if calls is None else calls.requests
        self.usage = Usage() if calls is None else calls.spent
        self.closed: StopRunError | None = None
        self._ceilings = ceilings
        self._held = 0
        self._not_begun = 0
        self._held_prompt = 0
        self._held_completion = 0
        self._beyond = (0, 0)
        self._waiting: deque[tuple[Hold, asyncio.Future[None]]] = deque()

    @property
    def usd(self) -> float | None:
        """What is spent in dollars, at the job's prices; None without prices."""
        return None if self.prices is None else self.prices.usd(self.usage)

    async def reserve(self, request: Request) -> Hold:
        """Reserve a call's worst case, when it fits; end the hold by what became of the call.

        Raises:
            StopRunError: it does not fit and nothing is under way whose end could change that, or it is closed.
        """
        hold = Hold(self, request)
        if self.closed is not None:
            raise self.closed
        if not self._waiting and self._passed_by(hold) is None:
            self._take(hold)
            return hold
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((hold, turn))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                hold.failed(None)
            else:
                self._let_in()
            raise
        return hold

    def close(self, reason: StopRunError) -> None:
        """Let nobody spend any more; the first reason stays."""
        if self.closed is None:
            self.closed = reason
            self._let_in()

    def durable(self, answer: Answer) -> None:
        """Note that an answer is on disk: a crash cannot lose it from here on."""
        if self.calls is not None and answer.call is not None:
            self.calls.end(answer.call, answer.usage)

    def may_have_paid(self, key: str) -> bool:
        """Whether an earlier call for this key may have been billed, its answer being lost."""
        return self.calls is not None and self.calls.is_lost(key)

    def cost_usd(self, answer: Answer) -> float | None:
        """What this run paid for an answer that it asked for itself; None without prices, or where usage is unsaid."""
        if self.prices is None or answer.source != "api":
            return None if self.prices is None else 0.0
        usage = answer.usage or usage_of(answer.body)
        return None if usage is None else self.prices.usd(usage)

    def _passed_by(self, hold: Hold) -> str | None:
        """The first ceiling that a call, at its worst, could pass beside all that is reserved."""
        most = self._ceilings
        if most.requests is not None and self.requests + self._not_begun + 1 > most.requests:
            return "requests"
        prompt, completion = self._held_prompt + hold.worst[0], self._held_completion + hold.worst[2]
        if most.tokens is not None and self.usage.total + prompt + completion > most.tokens:
            return "tokens"
        if most.usd is not None and self.prices is not None:
            return "usd" if self.prices.most_usd(self.usage, prompt, completion) > most.usd else None
        return None

    def _take(self, hold: Hold) -> None:
        hold.state = "reserved"
        self._held += 1
        self._not_begun += 1
        self._held_prompt += hold.worst[0]
        self._held_completion += hold.worst[2]

    def _give_back(self, hold: Hold, spent: Usage | None) -> None:
        self._held -= 1
        self._not_begun -= hold.state == "reserved"
        self._held_prompt -= hold.worst[0]
        self._held_completion -= hold.worst[2]
        hold.state = "ended"
        if spent is not None:
            self.usage += spent
            if self._ceilings.any and (spent[0] > hold.worst[0] or spent[2] > hold.worst[2]):
                self._took_more(hold, spent)
        if self._waiting:
            self._let_in()

    def _took_more(self, hold: Hold, spent: Usage) -> None:
        """A server counts what it adds by itself, or writes on: from here on that is reserved too."""
        bare = hold.bare
        self._beyond = max(self._beyond[0], spent[0] - bare[0]), max(self._beyond[1], spent[2] - bare[2])
        log.warning(
            "the server counted %d + %d tokens for a call of at most %d + %d: from here on each call reserves as much "
            "more, but the calls already under way may pass the job's ceilings",
            spent[0],
            spent[2],
            hold.worst[0],
            hold.worst[2],
        )

    def _let_in(self) -> None:
        """Let in who fits, in order; when nobody ever will, say so to all."""
        while self._waiting:
            hold, turn = self._waiting[0]
            if turn.done():  # it left
                self._waiting.popleft()
                continue
            passed = self._passed_by(hold)
            if self.closed is None and passed is not None:
                if self._held:
                    return
                self.closed = self._stop(passed, hold)
            self._waiting.popleft()
            if self.closed is not None:
                turn.set_exception(self.closed)
            else:
                self._take(hold)
                turn.set_result(None)

    def _stop(self, passed: str, hold: Hold) -> StopRunError:
        most: Any = getattr(self._ceilings, passed)
        if passed == "usd" and self.prices is not None:
            name, ceiling, spent = "max_cost_usd", f"{most:g}", f"{_usd(self.prices.usd(self.usage))} is spent"
            could = f"could cost {_usd(self.prices.most_usd(Usage(), hold.worst[0], hold.worst[2]))}"
        elif passed == "tokens":
            name, ceiling, spent = "max_tokens", f"{most}", f"{self.usage.total} tokens are spent"
            could = f"could take {hold.worst.total}"
        else:
            name, ceiling, spent = "max_requests", f"{most}", f"{self.requests} calls have been made"
            could = "would be one more"
        return StopRunError(
            f"limits.{name} = {ceiling} allows no further call: {spent} in this run, and the next call {could}. "
            "Raise it and run the same command again: it goes on from here.",
            reason=BUDGET,
        )


class Hold:
    """What is reserved for one call, from `Spending.reserve` to how the call ended; a context manager."""

    __slots__ = ("_key", "_spending", "bare", "number", "state", "worst")

    def __init__(self, spending: Spending, request: Request) -> None:
        bare, (prompt, completion) = worst_case(request), spending._beyond  # noqa: SLF001
        self.bare = bare
        self.worst = Usage(bare[0] + prompt, 0, bare[2] + completion) if prompt or completion else bare
        self.number: int | None = None
        self.state = "waiting"
        self._spending = spending
        self._key = request.key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.failed(error)

    def begin(self) -> int | None:
        """The call is made now; returns its number among the run's calls, if these are remembered.

        Raises:
            StopRunError: nobody is to spend any more. DiskError: it cannot be written down.
        """
        spending = self._spending
        if spending.closed is not None:
            raise spending.closed
        if spending.calls is not None:
            self.number = spending.calls.begin(self._key, self.worst)
        spending.requests += 1
        spending._not_begun -= 1  # noqa: SLF001
        self.state = "begun"
        return self.number

    def answered(self, usage: Usage | None) -> None:
        """An answer came that took this; None: it does not say, so it counts at its worst."""
        self._spending._give_back(self, usage or self.worst)  # noqa: SLF001

    def failed(self, error: BaseException | None) -> None:
        """No answer came; it costs nothing where it was never sent, or surely not billed."""
        spending, begun = self._spending, self.state == "begun"
        if self.state not in {"begun", "reserved"}:
            return
        billed = begun and _may_be_billed(error)
        spending._give_back(self, self.worst if billed else None)  # noqa: SLF001
        if begun and spending.calls is not None and self.number is not None:
            if billed:
                spending.calls.lose(self.number)
            else:
                spending.calls.free(self.number)


def _may_be_billed(error: BaseException | None) -> bool:
    """Whether a call that ended so may have cost; of one that was cancelled nothing is known."""
    if isinstance(error, StopRunError):
        kind = FAILURES.get(error.reason)
        return kind is None or kind.billed != "no"
    if isinstance(error, CallError):
        # A connection that never came about is of a class that may be billed, and the error says that it was not.
        kind = FAILURES.get(error.error_type)
        return error.maybe_billed or kind is None or kind.billed == "yes"
    return True


def _usd(amount: float) -> str:
    """Dollars with four digits that say something.

    >>> _usd(12.3456), _usd(0.00012344), _usd(0.0)
    ('$12.3456', '$0.0001234', '$0')
    """
    if amount >= 1:
        return f"${amount:.4f}"
    return f"${float(f'{amount:.4g}'):.10f}".rstrip("0").rstrip(".")
