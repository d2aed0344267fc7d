"""The budget of a run: a job's ceilings, kept by reserving the worst case of each call before the call is made.

`Budget` lets a call start when its worst case fits under the ceilings beside all that is spent and reserved, and stops
the run when it never will. The file that remembers calls across sessions is `store.call_log`; how fast calls may follow
each other is in `pacing`.

Calls under way usually settle for less than their worst case. So a call that does not fit waits for them, in order: if
small calls overtook a large one, it might wait for ever.

A worst case is what the request says, and servers add to it: prompts of their own, reasoning beyond the maximum. So one
call goes first, and one again after each that took more than was reserved; the others wait for what it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from logprob_store.counted import counted
from logprob_store.errors import CacheError, CallError, DiskError, StopRunError
from logprob_store.failure_policy import FAILURES
from logprob_store.spending.ceilings import NO_CEILINGS, Ceilings
from logprob_store.spending.prices import is_long
from logprob_store.spending.request_tokens import worst_case
from logprob_store.spending.reservation import Reservation
from logprob_store.spending.settling import tokens_spent
from logprob_store.spending.shared_ledger import Amount, Passed, SharedLedger, nano_usd
from logprob_store.usage import STANDARD, UNKNOWN_TIER, Bill, ReportedUsage, Usage, tier_of, usage_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.request import Answer, Request
    from logprob_store.spending.prices import Prices

log = logging.getLogger(__name__)

BUDGET: Final = "budget"
"""The reason of a run that stops at a ceiling."""

_SMALL_EXCESS: Final = 16
"""Tokens, beside a quarter of what was asked for, by which a server may count more without being doubted."""
_LOOK_AGAIN_S: Final = 0.1
"""How soon a call looks again whether those of other runs have settled."""


class CallRecord(Protocol):
    """A durable record of the calls of a run, such as `store.call_log.CallLog`.

    `requests` counts the calls begun. `spent` sums the tokens of the calls that ended, and the worst case of the calls
    whose answer was lost, which `reserved` has alone.
    """

    requests: int
    spent: Bill
    reserved: Bill

    next_number: int
    """That of the next call."""

    def begin(self, key: str, worst: Usage) -> int:
        """Record that a call is about to be made; returns its number."""

    def open_call(self, number: int) -> tuple[str, Usage] | None:
        """The key and the worst case of a call that was begun and not ended; None if it is no such call."""

    def answered(self, number: int, usage: Usage) -> None:
        """Record the tokens of a call whose answer has come: until it is durable, they are its worst case."""

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


class Budget:
    """What a run has spent and what it has reserved. Use it from one event loop.

    `requests` counts the calls made, failed ones too. `usage` sums the tokens of the answers, and the worst case of
    answers that were lost, which `lost` has alone. Once `closed` has a reason, no further call starts. While
    `billed_as` names a service tier, calls are billed by it, whatever their answers say: those of a batch are.

    Args:
        ceilings: of the run; none by default.
        prices: what tokens cost; a ceiling in dollars needs them.
        calls: the run's record of calls; without one, nothing is remembered across sessions.
        shared: the ledger of several runs, with their ceilings.
        one_first: let one call go first, and all others wait for what it took.
        patience_s: how long to wait for calls of other runs while none of them settles.
        sent_tier: the service tier that calls are sent by whose request names none.
        needs_prices: whether several runs have a ceiling in dollars.

    Raises:
        ValueError: there is a ceiling in dollars and no prices.
    """

    def __init__(
        self,
        ceilings: Ceilings = NO_CEILINGS,
        *,
        prices: Prices | None = None,
        calls: CallRecord | None = None,
        shared: SharedLedger | None = None,
        one_first: bool = False,
        patience_s: float = 600.0,
        sent_tier: str | None = None,
        needs_prices: bool = False,
    ) -> None:
        if ceilings.usd is not None and prices is None:
            raise ValueError("a ceiling in dollars needs prices")
        self.prices = prices
        self.calls = calls
        self.requests = 0 if calls is None else calls.requests
        self.usage = Bill() if calls is None else Bill(*calls.spent)
        self.lost = Bill() if calls is None else Bill(*calls.reserved)
        self.closed: StopRunError | None = None
        self.billed_as: str | None = None
        self._ceilings = ceilings
        self._bounded = ceilings.any or shared is not None
        self._reservations = 0  # calls reserved, begun or not
        self._not_begun = 0  # those of them that are not begun
        self._reserved = Bill()
        self._sent_tier = sent_tier
        self._tiers_seen = {STANDARD}
        self._needs_prices = needs_prices or ceilings.usd is not None
        # Prompt and completion tokens to reserve beyond a worst case, as the server took more.
        self._excess = (0, 0)
        self._one_at_a_time = one_first
        self._never_more_than_one = False
        self._waiting: deque[tuple[Reservation, asyncio.Future[None]]] = deque()
        self._others = None if shared is None else _Others(shared, patience_s)

    @property
    def usd(self) -> float | None:
        """What is spent in dollars, at the job's prices; None without prices."""
        return None if self.prices is None else self.prices.usd(self.usage)

    @property
    def amount(self) -> Amount:
        """The most that is spent once all calls under way have ended."""
        usd = None if self.prices is None else self.prices.usd(self.usage) + self.prices.usd(self._reserved)
        tokens = self.usage.total + self._reserved.total
        return Amount(self.requests + self._not_begun, tokens, nano_usd(usd))

    async def reserve(self, request: Request) -> Reservation:
        """Reserve a call's worst case, once it fits under the ceilings.

        Raises:
            StopRunError: the budget is closed; or the call does not fit, and no call under way could change that.
        """
        reservation = Reservation(self, request, bare=worst_case(request))
        if self.closed is not None:
            raise self.closed
        if not self._waiting and self._take(reservation) is None:
            return reservation
        if self.closed is not None:
            raise self.closed
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

    def try_reserve(self, request: Request) -> Reservation | None:
        """Reserve a call's worst case if it fits now; for calls that are made together, none of which goes first.

        Returns:
            None if calls under way have to settle first.

        Raises:
            StopRunError: the budget is closed; or the call does not fit, and no call under way could change that.
        """
        reservation = Reservation(self, request, bare=worst_case(request))
        doubted, self._one_at_a_time = self._one_at_a_time, False
        try:
            obstacle = None if self.closed is not None else self._take(reservation)
        finally:
            self._one_at_a_time = doubted
        if self.closed is not None:
            raise self.closed
        if obstacle is None:
            return reservation
        if self._reservations or self._waits_for_others(obstacle):
            return None
        self.closed = self._ceiling_error(obstacle, reservation)
        raise self.closed

    def adopt(self, number: int) -> Reservation | None:
        """A call that an earlier session began and that is still under way; None if it has ended."""
        call = None if self.calls is None else self.calls.open_call(number)
        if call is None:
            return None
        reservation = Reservation(self, None, bare=call[1], key=call[0])
        reservation.number, reservation.state = number, "begun"
        self._count(reservation, 1)
        return reservation

    def close(self, reason: StopRunError) -> None:
        """Let no further call start; the first reason is kept."""
        if self.closed is None:
            self.closed = reason
            self._admit()

    def durable(self, answer: Answer) -> None:
        """Record that an answer is on the disk, so that a crash cannot lose it any more."""
        if self.calls is not None and answer.call is not None:
            self.calls.end(answer.call, answer.spent)

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
        if billed:
            self.lost.add(reservation.worst)
        self.settle(reservation, reservation.worst if billed else None)
        if begun and self.calls is not None and reservation.number is not None:
            if billed:
                self.calls.lose(reservation.number)
            else:
                self.calls.free(reservation.number)

    def call_repeated(self, reservation: Reservation) -> Reservation:
        """A call that is made again, though it may have been made: that time is held back until it is known.

        Raises:
            DiskError: it cannot be recorded.
        """
        before = Reservation(self, None, bare=reservation.worst, key=reservation.key)
        if self.calls is not None:
            before.number = self.calls.begin(before.key, before.worst)
        before.state = "begun"
        self._count(before, 1)
        self.requests += 1
        return before

    def may_have_paid(self, key: str) -> bool:
        """Whether an earlier call for this key may have been billed and its answer lost."""
        return self.calls is not None and self.calls.is_lost(key)

    def tokens_of(
        self, request: Request | None, body: bytes, usage: Usage | None, worst: Usage, *, billed_as: str | None = None
    ) -> Usage:
        """The tokens that an answered call counts for; its own are counted where there is a ceiling."""
        spent = tokens_spent(
            request,
            body,
            usage,
            worst,
            prices=self.prices,
            count_tokens=self._bounded,
            sent_tier=self._sent_tier,
        )
        return spent if billed_as is None else spent._replace(tier=billed_as)

    def cost_usd(self, answer: Answer, *, spent: Usage | None = None) -> float | None:
        """US dollars that this run paid for an answer that it asked for; None without prices or a whole `usage`.

        None, too, where a part of it has no price: by a tier that the prices do not know, for tokens of sound, or for
        those that the service keeps in its cache for twelve hours.

        Args:
            answer: live, or from the cache.
            spent: what it counted for, if that is known.
        """
        if self.prices is None or answer.source not in {"api", "batch"}:
            return None if self.prices is None else 0.0
        usage = answer.usage or usage_of(answer.body)
        if usage is None:
            return None
        if spent is None:
            worst = self.worst_of(answer.request, worst_case(answer.request))
            billed_as = "batch" if answer.source == "batch" else None
            spent = self.tokens_of(answer.request, answer.body, usage, worst, billed_as=billed_as)
        is_priced = self.prices.knows(spent.tier) and not (isinstance(usage, ReportedUsage) and usage.has_unpriced)
        return self.prices.usd(spent) if is_priced else None

    def usd_of_call(self, request: Request, least: Usage, most: Usage) -> tuple[float, float]:
        """US dollars of a call at its least and at its most, for so many tokens; 0 without prices."""
        if self.prices is None:
            return 0.0, 0.0
        asked = self.billed_as or tier_of(request.body.get("service_tier") or self._sent_tier)
        return self.prices.usd(least._replace(tier=asked or STANDARD)), self.prices.usd(self.worst_of(request, most))

    def worst_of(self, request: Request | None, bare: Usage) -> Usage:
        """The most that a call can take: what its request says, and what the server has been seen to add.

        Of the ways in which these tokens may be billed it is the dearest: by a dearer tier, all of the prompt written
        into the service's cache.
        """
        prompt, completion = bare.prompt_tokens + self._excess[0], bare.completion_tokens + self._excess[1]
        if self.billed_as is not None:
            if self.prices is None:
                return Usage(prompt, 0, completion, 0, self.billed_as, is_long(prompt, None))
            return self.prices.worst(prompt, completion, (self.billed_as,))
        asked = (None if request is None else request.body.get("service_tier")) or self._sent_tier
        if self.prices is None:
            tier = STANDARD if asked is None else tier_of(asked) or STANDARD
            return Usage(prompt, 0, completion, 0, tier, is_long(prompt, None))
        return self.prices.worst(prompt, completion, {*self.prices.may_serve(asked), *self._tiers_seen})

    def _ceiling_passed_by(self, reservation: Reservation) -> str | None:
        """The run's ceiling that a call could pass at its worst, beside all that is reserved; None if it fits."""
        most = self._ceilings
        if most.requests is not None and self.requests + self._not_begun + 1 > most.requests:
            return "requests"
        if not most.need_bounds:
            return None
        reserved = self._reserved.with_all([reservation.worst])
        if most.tokens is not None and self.usage.total + reserved.total > most.tokens:
            return "tokens"
        if most.usd is not None and self.prices is not None:
            return "usd" if self.prices.usd(self.usage) + self.prices.usd(reserved) > most.usd else None
        return None

    def _take(self, reservation: Reservation) -> _Obstacle | None:
        """Reserve a call, unless something is in its way, which is returned then."""
        if self._one_at_a_time and self._reservations:
            return _Obstacle("run", "one first")
        reservation.worst = self.worst_of(reservation.request, reservation.bare)
        if (passed := self._ceiling_passed_by(reservation)) is not None:
            return _Obstacle("run", passed)
        self._count(reservation, 1)
        reservation.state = "reserved"
        if self._others is not None and (shared := self._raise_shared(self._others)) is not None:
            self._count(reservation, -1)
            reservation.state = "waiting"
            return shared
        return None

    def _raise_shared(self, others: _Others) -> _Obstacle | None:
        try:
            passed = others.ledger.raise_to(self.amount, self._reservations)
        except (CacheError, DiskError) as error:
            self._close_for(error)
            return _Obstacle("run", "closed")
        return None if passed is None else _Obstacle(passed.whose, passed.which, passed)

    def _count(self, reservation: Reservation, by: Literal[1, -1]) -> None:
        """Add a reservation, or take it away."""
        self._reservations += by
        self._not_begun += by * (reservation.state != "begun")
        if self._bounded:
            self._reserved.add(reservation.worst, by)

    def settle(self, reservation: Reservation, spent: Usage | None) -> None:
        """End a reservation, of which this was spent; None for nothing."""
        self._count(reservation, -1)
        reservation.state = "ended"
        if spent is not None:
            self.usage.add(spent)
            if self.prices is not None and spent.tier not in self._tiers_seen:
                self._learn_tier(spent.tier, self.prices)
            if self._bounded and (
                spent.prompt_tokens > reservation.worst.prompt_tokens
                or spent.completion_tokens > reservation.worst.completion_tokens
            ):
                self._learn_excess(reservation, spent)
        self._publish()
        if self._waiting:
            self._admit()

    def answered(self, reservation: Reservation, usage: Usage | None, body: bytes = b"") -> Usage:
        """Settle a call that was answered; returns the tokens that it counts for."""
        spent = self.tokens_of(reservation.request, body, usage, reservation.worst, billed_as=self.billed_as)
        if self._bounded and self.calls is not None and reservation.number is not None:
            # Before others are let in for what it did not take: after a crash it would count at its worst beside them.
            with contextlib.suppress(DiskError):  # the next call meets the same disk before it is made
                self.calls.answered(reservation.number, spent)
        self._one_at_a_time = self._never_more_than_one  # before others are let in; `settle` may doubt again
        self.settle(reservation, spent)
        return spent

    def sync_shared(self) -> None:
        """Make the ledger of several runs durable against a power cut; may be called from any thread."""
        if self._others is not None:
            self._others.ledger.sync()

    def _publish(self) -> None:
        """Tell other runs what this one has spent and reserved."""
        if self._others is not None:
            try:
                self._others.ledger.set_to(self.amount, self._reservations)
            except (CacheError, DiskError) as error:
                self._close_for(error)

    def _close_for(self, error: CacheError | DiskError) -> None:
        """Let no further call start, because the ledger of several runs cannot be kept; no answer is lost to that."""
        if self.closed is None:
            self.closed = StopRunError(str(error), reason=BUDGET)

    def _learn_tier(self, tier: str, prices: Prices) -> None:
        """Reserve as much as by a tier that served a call; where it has no price, no ceiling in dollars can be kept."""
        self._tiers_seen.add(tier)
        if prices.knows(tier):
            return
        which = "a tier that is not known here" if tier == UNKNOWN_TIER else f"the tier {tier!r}"
        said = f"the server served a call by {which}, which has no price in this job"
        if self._needs_prices:
            self.close(
                StopRunError(
                    f"{said}, so that no ceiling in dollars can be kept: write prices.tiers.{tier}, or ask for another "
                    'tier with model.params.service_tier, such as "default"',
                    reason=BUDGET,
                )
            )
        else:
            log.warning("%s: what such calls cost is not in cost_usd; write prices.tiers.%s", said, tier)

    def _learn_excess(self, reservation: Reservation, spent: Usage) -> None:
        """Reserve more with each later call: the server adds tokens of its own, or goes beyond the maximum.

        A small excess is the same each time: what a template adds, a last token. After a large one anything may come:
        twice as much is reserved, and where it was the answer's, calls are made one at a time from here on.
        """
        bare, worst = reservation.bare, reservation.worst
        prompt, completion = spent.prompt_tokens - bare.prompt_tokens, spent.completion_tokens - bare.completion_tokens
        unbounded = _is_large(completion, bare.completion_tokens)
        self._excess = (
            max(self._excess[0], prompt * (1 + _is_large(prompt, bare.prompt_tokens))),
            max(self._excess[1], completion * (1 + unbounded)),
        )
        self._one_at_a_time = True
        self._never_more_than_one = self._never_more_than_one or unbounded
        log.warning(
            "the server counted %d + %d tokens for a call of at most %d + %d: from here on each call reserves more, "
            "and %s, but the calls already under way may pass the job's ceilings",
            spent.prompt_tokens,
            spent.completion_tokens,
            worst.prompt_tokens,
            worst.completion_tokens,
            "they are made one at a time, as it does not keep to the maximum of output tokens"
            if unbounded
            else "one goes first",
        )

    def _admit(self) -> None:
        """Let waiting calls start, in order, as long as they fit; close the budget if the first can never fit."""
        while self._waiting:
            reservation, turn = self._waiting[0]
            if turn.done():  # cancelled
                self._waiting.popleft()
                continue
            obstacle = None if self.closed is not None else self._take(reservation)
            if obstacle is not None and self.closed is None:
                if self._reservations or self._waits_for_others(obstacle):
                    return
                self.closed = self._ceiling_error(obstacle, reservation)
            self._waiting.popleft()
            if self.closed is not None:
                turn.set_exception(self.closed)
            else:
                turn.set_result(None)

    def _waits_for_others(self, obstacle: _Obstacle) -> bool:
        """Whether calls of other runs are in the way, which may settle for less; looks again soon if so."""
        if self._others is None or obstacle.passed is None:
            return False
        try:
            waits = self._others.may_settle()
        except (CacheError, DiskError) as error:
            self._close_for(error)
            return False
        if waits and not self._others.looks_again:
            self._others.looks_again = True
            asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._look_again, self._others)
        return waits

    def _look_again(self, others: _Others) -> None:
        others.looks_again = False
        self._admit()

    def _ceiling_error(self, obstacle: _Obstacle, reservation: Reservation) -> StopRunError:
        most: Any = getattr(self._ceilings, obstacle.which, None)
        worst, taken = reservation.worst, self.amount
        lost = self.lost if obstacle.passed is None else Bill()  # of other runs it is not known
        reserved = ""
        name, where = {"usd": "max_cost_usd", "tokens": "max_tokens", "requests": "max_requests"}[obstacle.which], ""
        if obstacle.passed is not None:
            most, taken = obstacle.passed.ceiling, obstacle.passed.taken
            name, where = f"{obstacle.whose}_{name}", _WHERE[obstacle.whose]
        if obstacle.which == "usd" and self.prices is not None:
            spent_usd = taken.usd if obstacle.passed is not None else self.prices.usd(self.usage)
            lost_usd = self.prices.usd(lost)
            ceiling, spent = f"{most:g}", f"{_usd(max(0.0, spent_usd - lost_usd))} is spent"
            reserved = f"{_usd(lost_usd)} more is"
            could = f"could cost {_usd(self.prices.usd(worst))}"
        elif obstacle.which == "tokens":
            ceiling, spent = f"{most}", f"{taken.tokens - lost.total} tokens are spent"
            reserved = f"{lost.total} more are"
            could = f"could take {worst.total}"
        else:
            ceiling, spent = f"{most}", f"{counted(taken.requests, 'call')} made"
            could = "would be one more"
        if reserved := reserved if lost.total else "":
            reserved = f", {reserved} reserved for calls that got no answer and may be billed"
        return StopRunError(
            f"limits.{name} = {ceiling} allows no further call: {spent} in {where or 'this run'}{reserved}, and the "
            f"next call {could}. Raise it and run the same command again: it goes on from here.",
            reason=BUDGET,
        )


_WHERE: Final[Mapping[str, str]] = {"job": "all runs of this job", "cache": "all runs that share this cache"}


class _Obstacle(NamedTuple):
    """What keeps a call from starting: a ceiling, and whose, or the one call that goes first."""

    whose: str
    which: str
    passed: Passed | None = None


class _Others:
    """The calls of other runs on the same ledger, which are waited for while any of them settles."""

    def __init__(self, ledger: SharedLedger, patience_s: float) -> None:
        self.ledger = ledger
        self.looks_again = False
        self._patience_s = patience_s
        self._seen = Amount()
        self._changed_at = 0.0

    def may_settle(self) -> bool:
        """Whether another run has calls under way, and one has settled within the patience."""
        seen, processes = self.ledger.others_under_way()
        now = asyncio.get_running_loop().time()
        if seen != self._seen or not processes:
            self._seen, self._changed_at = seen, now
        return bool(processes) and now - self._changed_at < self._patience_s


def _is_large(excess: int, asked: int) -> bool:
    """Whether a server counted so much more than was asked for that nothing seems to bound it."""
    return excess > _SMALL_EXCESS + asked // 4


def _may_be_billed(error: BaseException | None) -> bool:
    """Whether a call that ended with this error may be billed; a cancelled call may."""
    if isinstance(error, StopRunError):
        kind = FAILURES.get(error.reason)
        return error.maybe_billed or kind is None or kind.billed != "no"
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
