"""How calls ended, and what that means for rates, concurrency and breaker.

Which of these a failure concerns is in `logprob_store.failure_policy`; which call starts next is decided by `pacer`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.events import emit
from logprob_store.failure_policy import FAILURES
from logprob_store.spending.request_tokens import BYTES_PER_TOKEN, estimate_tokens, most_output, worst_case

if TYPE_CHECKING:
    from logprob_store.errors import LogprobStoreError
    from logprob_store.pacing.breaker import Breaker
    from logprob_store.pacing.concurrency import Concurrency
    from logprob_store.pacing.rates import RateLimits
    from logprob_store.pacing.silence import Silence
    from logprob_store.pacing.slot import Slot
    from logprob_store.request import Request
    from logprob_store.usage import ServerReport

log = logging.getLogger(__name__)

_TOO_LONG_IN_A_ROW: Final = 3
"""Waits beyond the patience, without an answer between them, that stop the run."""
_REFUSALS: Final = frozenset({"rate_limit", "over_limit"})
"""What a call may get that is above the server's whole limit."""
_REFUSALS_OF_A_LIMIT: Final = 8
"""Refusals in a row that show a limit, whatever the headers report: they do not report every limit."""

_PAGES_TO_OPEN: Final = 2
"""Prompts that got a page in place of an answer, before the first answer, from which on the server is probed."""

_NEWEST_SHARE: Final = 0.05
"""Weight of the newest value in a running average."""
_ASSUMED_LATENCY_S: Final = 0.1
"""Latency before the first answer."""
_HEADROOM: Final = 1.25
"""Factor on the number of calls at once that the rate limit needs."""
_LONGEST_WAVE_DELAY_S: Final = 30.0
_NOT_REACHED: Final = (
    "the server could not be reached for {seconds} s. {where}. See that it runs and that model.base_url is its "
    "address, then run the same command to go on; for a server that takes longer to start, set limits.retry_for_s."
)
_LONGEST_ANSWER: Final = 1_000_000
"""Tokens of an answer that the request sets no maximum for."""


class Outcomes:
    """Updates rates, concurrency and breaker at the end of each call.

    Args:
        rates: learns what answers report about limits and usage.
        concurrency: grows with answers and is cut by refusals.
        breaker: counts failures in a row.
        silence: is ended by a sign of life.
        patience_s: seconds; a longer wait that a refusal asks for is not made.
    """

    def __init__(
        self, rates: RateLimits, concurrency: Concurrency, breaker: Breaker, silence: Silence, *, patience_s: float
    ) -> None:
        self._rates = rates
        self._concurrency = concurrency
        self._breaker = breaker
        self._silence = silence
        self._patience_s = patience_s
        self._closed_until: list[float] = []  # the loop's time, of each refusal in a row beyond the patience
        self._refusals = 0
        self._waves = 0
        self._typical_answer: float | None = None
        self._latency_s: float | None = None
        self._last_words = ""
        self.any_answer = False

    @property
    def typical_answer(self) -> float:
        """Tokens of an answer, as a running average; 0 before the first."""
        return self._typical_answer or 0.0

    def succeeded(self, slot: Slot, now: float) -> None:
        """Take note that the call got its answer."""
        report = slot.report
        self._closed_until.clear()
        self._refusals = 0
        self._waves = 0
        self.any_answer = True
        self._answered(now)
        self._concurrency.succeeded(slot.started_at, now)
        self._latency_s = _average(self._latency_s, now - slot.started_at)
        if (per_minute := self._rates.requests.per_minute) is not None:
            self._concurrency.raise_to(int(_HEADROOM * per_minute / 60 * self._latency_s))
        used = slot.estimate
        if report is not None and report.used_tokens is not None:
            used = report.used_tokens
            if used > slot.estimate:
                used = min(used, _most_tokens(slot.request))
            self._rates.tokens.settle(slot.started_at, used - slot.estimate, now)
            answer = max(0.0, used - len(slot.request.content) / BYTES_PER_TOKEN)
            self._typical_answer = _average(self._typical_answer, answer)
        self._rates.served(used, slot.estimate, now)
        if report is not None:
            self._rates.learn(report, now)

    def failed(self, slot: Slot, error: CallError, now: float) -> None:
        """Take note that the call got no answer; the slot says afterwards whether it counts as an attempt."""
        if not error.maybe_billed:
            self._rates.tokens.settle(slot.started_at, -slot.estimate, now)
        pause_s = 0.0 if error.report is None else self._rates.learn(error.report, now)
        kind = FAILURES.get(error.error_type)
        if error.error_type in _REFUSALS:
            self._rates.tokens.refused(slot.estimate)
        is_page = error.error_type == "malformed_answer" and not self.any_answer
        # Refusals are answers too; but a server that has given nothing else so far may be down behind them.
        is_outage = kind is not None and (kind.pace == "outage" or (kind.name == "rate_limit" and not self.any_answer))
        self._last_words = str(error)
        if is_page:
            # What stands before the service answers, for now or for good. It may be billed, so each is an attempt.
            self._breaker.failed(
                slot.request.key,
                under_way=0,
                now=now,
                is_probe=slot.is_probe,
                why=str(error),
                prompts_to_open=_PAGES_TO_OPEN,
            )
        elif is_outage:
            under_way = self._concurrency.in_use + 1
            slot.counts_as_attempt = self._breaker.failed(
                slot.request.key,
                under_way=under_way,
                now=now,
                is_probe=slot.is_probe,
                why=str(error),
                reached=not isinstance(error, RetryableError) or error.reached,
            )
        else:
            self._answered(now)
        if kind is not None and not kind.counts:
            slot.counts_as_attempt = False
        if kind is not None and kind.pace == "outage":
            self._concurrency.server_failed()
        elif kind is not None and kind.pace == "limit":
            retry_after_s = error.retry_after_s if isinstance(error, RetryableError) else None
            self._refused(slot, retry_after_s or pause_s, now, some_left=_some_left(error.report))

    def _answered(self, now: float) -> None:
        self._breaker.answered()
        self._silence.ended(now, under_way=self._concurrency.in_use)

    def _refused(self, slot: Slot, wait_s: float, now: float, *, some_left: bool) -> None:
        self._refusals += 1
        if some_left and wait_s <= self._patience_s and self._refusals < _REFUSALS_OF_A_LIMIT:
            return  # meant for this call alone, which waits by itself
        self._rates.refused(slot.started_at, now)
        if wait_s:
            if wait_s > self._patience_s:
                self._closed_until.append(now + wait_s)
            self._rates.pause(wait_s, now)
        else:
            self._refused_without_time(slot, now)

    def _refused_without_time(self, slot: Slot, now: float) -> None:
        """Cut concurrency, and slow calls down to the pace that answers would have.

        A refusal is quicker than an answer, so without a delay there would be more calls, not fewer. From the second
        wave of refusals without an answer on, a delay is added that doubles with each wave, up to 30 s.
        """
        latency_s = _ASSUMED_LATENCY_S if self._latency_s is None else self._latency_s
        cut = self._concurrency.refused(slot.started_at, now)
        self._waves += cut
        if cut:
            allowed = self._concurrency.limit
            emit(log, "concurrency_cut", "refused: %d calls at once from here on", allowed, allowed=allowed)
        waves_s = min(_LONGEST_WAVE_DELAY_S, latency_s * 2**self._waves) if cut and self._waves > 1 else 0.0
        self._rates.delay(latency_s / self._concurrency.limit + waves_s, now)

    def reason_to_fail(self, slot: Slot, now: float, *, on_trial: bool) -> LogprobStoreError | None:
        """The error of a call that must not wait for its start; None for all others.

        Args:
            slot: the place of the call.
            now: the loop's time, seconds.
            on_trial: whether the run has had no answer of use: then an outage that outlasts the patience is its end, as
                it is for a run that never reached the server.
        """
        never_reached = self._breaker.never_reached
        if (on_trial or never_reached) and self._breaker.has_given_up(now):
            advice = _NOT_REACHED if never_reached else FAILURES["outage"].advice
            seconds = f"{self._silence.seconds(now):.0f}"
            return StopRunError(advice.format(seconds=seconds, where=self._last_words.rstrip(".")), reason="outage")
        if len(self._closed_until) >= _TOO_LONG_IN_A_ROW:
            hours = (max(self._closed_until) - now) / 3600
            return StopRunError(
                f"the server's limit is used up for another {hours:.1f} hours. Run the same command then to go on, "
                "or raise limits.retry_for_s to wait for it.",
                reason="limit_closed",
            )
        limit = self._rates.tokens.too_small_for(slot.estimate)
        # The estimate may hold what earlier answers are said to have taken, for which no prompt fails.
        if limit is not None and estimate_tokens(slot.request) > limit:
            return CallError(
                f"the request counts as about {slot.estimate} tokens, and the whole limit is {limit:.0f} a minute: it "
                "would wait for ever. Shorten the prompt or lower max_tokens; limits.tokens_per_minute holds the "
                "job's own limit.",
                error_type="over_limit",
            )
        return None


def _some_left(report: ServerReport | None) -> bool:
    """Whether a refusal reports that requests and tokens are left: then it was meant for one call."""
    limits = [] if report is None else [limit for limit in (report.requests, report.tokens) if limit is not None]
    return bool(limits) and all(limit.remaining is not None and limit.remaining > 0 for limit in limits)


def _most_tokens(request: Request) -> int:
    """The most tokens that a call may have taken; what a server says beyond that is no use for pacing."""
    most = most_output(request.body, request.endpoint)
    return worst_case(request).total + (_LONGEST_ANSWER if most is None else 0)


def _average(before: float | None, value: float) -> float:
    """An exponential moving average."""
    return value if before is None else before + _NEWEST_SHARE * (value - before)
