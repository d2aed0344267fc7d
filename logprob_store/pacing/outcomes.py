"""How calls ended, and what follows from it for all others.

Holds the way from an outcome to rates, concurrency and breaker: `failures` says which of them it concerns. Leaves out
their rules, and who may call next (`pacer`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.events import emit
from logprob_store.failures import FAILURES
from logprob_store.spending.request_tokens import BYTES_PER_TOKEN

if TYPE_CHECKING:
    from logprob_store.errors import LogprobStoreError
    from logprob_store.pacing.breaker import Breaker
    from logprob_store.pacing.concurrency import Concurrency
    from logprob_store.pacing.rates import RateLimits
    from logprob_store.pacing.slot import Slot
    from logprob_store.usage import ServerReport

log = logging.getLogger(__name__)

_TOO_LONG_IN_A_ROW: Final = 3
_NOT_BY_CHANCE: Final = 8
"""Refusals in a row that are a limit, whatever the headers say: not all limits are in them."""

_NEWEST: Final = 0.05
_FIRST_LATENCY_S: Final = 0.1
_ROOM: Final = 1.25
_LONGEST_WAVE_S: Final = 30.0


class Outcomes:
    """Tells rates, concurrency and breaker what each call's end means for them.

    Args:
        rates: hears what answers say about limits and usage.
        concurrency: grows with answers and is cut by refusals.
        breaker: counts failures in a row.
        patience_s: a refusal for longer than this is none to wait for.
    """

    def __init__(self, rates: RateLimits, concurrency: Concurrency, breaker: Breaker, *, patience_s: float) -> None:
        self._rates = rates
        self._concurrency = concurrency
        self._breaker = breaker
        self._patience_s = patience_s
        self._too_long: list[float] = []
        self._refusals = 0
        self._waves = 0
        self._typical_answer: float | None = None
        self._latency_s: float | None = None

    @property
    def typical_answer(self) -> float:
        """Tokens of an answer, on a running average; 0 before the first."""
        return self._typical_answer or 0.0

    def succeeded(self, slot: Slot, now: float) -> None:
        """The call got its answer."""
        report = slot.report
        self._too_long.clear()
        self._refusals = 0
        self._waves = 0
        self._breaker.answered()
        self._concurrency.succeeded(slot.started_at, now)
        self._latency_s = _average(self._latency_s, now - slot.started_at)
        if (per_minute := self._rates.requests.limit) is not None:
            self._concurrency.needs(int(_ROOM * per_minute / 60 * self._latency_s))
        if report is None:
            return
        if report.used_tokens is not None:
            self._rates.tokens.settle(slot.started_at, report.used_tokens - slot.estimate, now)
            answer = max(0.0, report.used_tokens - len(slot.request.content) / BYTES_PER_TOKEN)
            self._typical_answer = _average(self._typical_answer, answer)
        self._rates.heard(report, now)

    def failed(self, slot: Slot, error: CallError, now: float) -> None:
        """The call got none; its slot learns whether it counts as an attempt."""
        if not error.maybe_billed:
            self._rates.tokens.settle(slot.started_at, -slot.estimate, now)
        pause_s = 0.0 if error.report is None else self._rates.heard(error.report, now)
        kind = FAILURES.get(error.error_type)
        if kind is None or kind.pace != "outage":
            self._breaker.answered()
        if kind is not None and kind.pace == "outage":
            self._concurrency.troubled()
            under_way = self._concurrency.in_use + 1
            slot.counts = self._breaker.failed(slot.request.key, under_way=under_way, now=now, probe=slot.probe)
        elif kind is not None and kind.pace == "limit":
            said_s = error.retry_after_s if isinstance(error, RetryableError) else None
            self._refused(slot, said_s or pause_s, now, has_room=_has_room(error.report))

    def _refused(self, slot: Slot, wait_s: float, now: float, *, has_room: bool) -> None:
        self._refusals += 1
        if has_room and wait_s <= self._patience_s and self._refusals < _NOT_BY_CHANCE:
            return  # the call itself waits as long as it was told to
        self._rates.refused(slot.started_at, now)
        if wait_s:
            if wait_s > self._patience_s:
                self._too_long.append(now + wait_s)
            self._rates.pause(wait_s, now)
        else:
            # A refusal is quick: left alone it would make more calls, not fewer. So it takes as long as an answer does,
            # and wave after wave without an answer ever longer.
            latency_s = _FIRST_LATENCY_S if self._latency_s is None else self._latency_s
            cut = self._concurrency.refused(slot.started_at, now)
            self._waves += cut
            if cut:
                allowed = self._concurrency.limit
                emit(log, "concurrency_cut", "refused: %d calls at once from here on", allowed, allowed=allowed)
            waves_s = min(_LONGEST_WAVE_S, latency_s * 2**self._waves) if cut and self._waves > 1 else 0.0
            self._rates.delay(latency_s / self._concurrency.limit + waves_s, now)

    def problem(self, slot: Slot, now: float) -> LogprobStoreError | None:
        """Why a call must not wait any longer."""
        if len(self._too_long) >= _TOO_LONG_IN_A_ROW:
            hours = (max(self._too_long) - now) / 3600
            return StopRunError(
                f"the server's limit is used up for another {hours:.1f} hours. Run the same command then to go on, "
                "or raise limits.retry_for_s to wait for it.",
                reason="limit_closed",
            )
        most = self._rates.tokens.most
        if most is not None and slot.estimate > most:
            return CallError(
                f"the request counts as about {slot.estimate} tokens, and the whole limit is {most:.0f} a minute: it "
                "would wait for ever. Shorten the prompt or lower max_tokens; limits.tokens_per_minute holds the "
                "job's own limit.",
                error_type="over_limit",
            )
        return None


def _has_room(report: ServerReport | None) -> bool:
    """Whether a refusal says itself that requests and tokens are left: then it was meant for one call."""
    levels = [] if report is None else [level for level in (report.requests, report.tokens) if level is not None]
    return bool(levels) and all(level.remaining is not None and level.remaining > 0 for level in levels)


def _average(before: float | None, value: float) -> float:
    """A running average, in which the past fades."""
    return value if before is None else before + _NEWEST * (value - before)
