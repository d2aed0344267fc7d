"""Requests and tokens per minute: how soon the next call may start.

`PerMinuteLimit` is one limit; `RateLimits` combines both, and the pauses that the server's headers ask for. Time is
always an argument, so that a test can pass hours in a moment. How many calls run at once is decided by `concurrency`.

A limit is kept in two ways:

- Starts are spread evenly at 98.5 % of the limit. At most 20 ms worth of them start together, because limits are often
  enforced per second.
- A ledger of the last minute never lets its sum exceed the limit, however uneven the calls are and whatever was started
  before the limit was known. Of a limit of 20 or more it leaves one unused: a server that has none left asks for a
  pause, and some ask for a whole minute.

What a server reports is a hint. A limit below what it has just served is doubted, and so is what else is reported of
it; one that its answers no longer report is forgotten after a minute; and no call fails for a reported limit, unless
one that is as large was refused.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from logprob_store.events import emit

if TYPE_CHECKING:
    from logprob_store.usage import RateLimit, ServerReport

log = logging.getLogger(__name__)

_SHARE_USED: Final = 0.985
_MINUTE_S: Final = 60.0
_LONGEST_MINUTE_S: Final = 61.0
_BUCKETS_PER_SECOND: Final = 4
_BURST_S: Final = 0.02
_SMALLEST_BURST_S: Final = 0.005
_BURST_RECOVERY_S: Final = 60.0
_MAX_CREDIT_S: Final = 0.9
_MAX_CATCH_UP_S: Final = 0.75
_CATCH_UP_SHARE: Final = 1 / 4
_ONE_UNUSED_FROM: Final = 20
_SHORTEST_LOGGED_PAUSE_S: Final = 1.0


class PerMinuteLimit:
    """One limit per minute: of the job, of the server, or the smaller of both.

    The header's name does not say whether a server's number is per minute: some say `requests` and mean a day. So it is
    inferred: a limit that takes more than a minute to recover while some of it is left is no limit per minute. Starts
    are not spread over such a limit; once it is used up, there is a pause.

    `per_minute` is the limit that holds now, None if there is none. `exceeds_a_minute` says whether the server's limit
    is for longer than a minute. `burst_s` is how many seconds' worth of calls may start together.

    Args:
        per_minute: the job's own limit.

    >>> limit = PerMinuteLimit(60)
    >>> limit.take(0.0, 1); round(limit.wait_s(0.0, 1), 2), round(limit.wait_s(1.0, 1), 2)
    (1.0, 0.0)
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self.per_minute = per_minute
        self.burst_s = _BURST_S
        self._of_job = per_minute
        self._of_server: float | None = None
        self.exceeds_a_minute = False
        self._reported_at = 0.0
        self._refused: float | None = None
        self._served = _Served()
        self._next_start = 0.0
        self._credit_s = 0.0
        self._catch_up_s = 0.0
        self._ledger: dict[int, float] = {}  # quarter of a second to the cost of the calls started in it
        self._sum = 0.0

    def wait_s(self, now: float, cost: float) -> float:
        """Seconds until a call of this cost may start; one above the whole limit waits until the ledger is empty."""
        if self.per_minute is None:
            return 0.0
        usable = self.per_minute - 1 if self.per_minute >= _ONE_UNUSED_FROM else self.per_minute
        wait = max(0.0, self._next_start - self.burst_s - now)
        self._forget_old_starts(now)
        excess = self._sum + cost - max(usable, cost)
        if excess > 0:
            for bucket, spent in self._ledger.items():
                excess -= spent
                if excess <= 0:
                    return max(wait, (bucket + 1) / _BUCKETS_PER_SECOND + _MINUTE_S - now)
        return wait

    def take(self, now: float, cost: float, *, waited: bool = False) -> None:
        """Count the start of a call.

        A call that waited and starts late, because this machine was busy, leaves time unused. Up to 0.75 s of it are
        caught up: the next starts follow each other in three quarters of the usual time. Time in which no call waited
        is not caught up.
        """
        bucket = int(now * _BUCKETS_PER_SECOND)
        ledger = self._ledger
        if bucket in ledger:
            ledger[bucket] += cost
        else:
            self._forget_old_starts(now)
            ledger[bucket] = cost
        self._sum += cost
        if self.per_minute is not None:
            step_s = cost * _MINUTE_S / (self.per_minute * _SHARE_USED)
            if waited and self._next_start and self.burst_s == _BURST_S:
                self._catch_up_s = min(_MAX_CATCH_UP_S, self._catch_up_s + max(0.0, now - self._next_start))
            sooner_s = min(self._catch_up_s, step_s * _CATCH_UP_SHARE)
            self._catch_up_s -= sooner_s
            self._next_start = max(self._next_start, now) + step_s - sooner_s - self._credit_s
            self._credit_s = 0.0

    def settle(self, taken_at: float, change: float, now: float) -> None:
        """Correct the cost of a call that was started at `taken_at`; a negative change gives cost back.

        If the call took less than was counted, the next start moves forward, but never into the past. What is left
        over is credit: the start after it comes sooner by that much. Credit is at most 0.9 s more than this change is
        worth.
        """
        bucket = int(taken_at * _BUCKETS_PER_SECOND)
        if bucket in self._ledger:
            self._ledger[bucket] += change
            self._sum += change
        if self.per_minute is not None:
            change_s = change * _MINUTE_S / (self.per_minute * _SHARE_USED)
            self._next_start += change_s
            if self._of_job is None:
                # The server's count, which may be wrong, and its minute will be over by then.
                self._next_start = min(self._next_start, now + _MINUTE_S)
            unusable_s = min(now - self._next_start, -change_s)
            if unusable_s > 0:
                self._credit_s = min(_MAX_CREDIT_S - change_s, self._credit_s + unusable_s)
                self._next_start += unusable_s

    def learn(self, reported: RateLimit, now: float) -> bool:
        """Take over the limit that the server reports, unless it has just served more; returns whether it is believed.

        A bucket that fills up within a minute serves up to twice its size in that minute.
        """
        limit, remaining, reset_s = reported
        if limit is None:
            return True
        if self._served.largest(now) > limit or self._served.in_a_minute(now) > 2 * limit:
            if self._of_server is not None:
                self._set_server_limit(None, now)  # what it said before it had served so much
            return False
        self._reported_at = now
        exceeds_a_minute = bool(remaining) and reset_s is not None and reset_s > _LONGEST_MINUTE_S
        if limit != self._of_server or (exceeds_a_minute and not self.exceeds_a_minute):
            self._set_server_limit(limit, now, exceeds_a_minute=exceeds_a_minute)
        return True

    def served(self, used: float, counted: float, now: float) -> None:
        """Count an answer, and forget a limit that it is above or that was last reported more than a minute ago.

        Args:
            used: what the answer took.
            counted: what its call counted as when it started.
            now: the loop's time, seconds.
        """
        largest = max(used, counted)
        self._served.add(used, largest, now)
        if self._of_server is not None and (largest > self._of_server or now - self._reported_at > _MINUTE_S):
            self._set_server_limit(None, now)

    def refused(self, cost: float) -> None:
        """Count a refusal of a call: if it is above the server's whole limit, none that is as large need be tried."""
        if self._of_server is not None and cost > self._of_server:
            self._refused = cost if self._refused is None else min(self._refused, cost)

    def too_small_for(self, cost: float) -> float | None:
        """The whole limit, if a call of this cost is above it and would wait for ever; None if not."""
        if self._of_job is not None and cost > self._of_job:
            return self._of_job
        return self._of_server if self._refused is not None and cost >= self._refused else None

    def _set_server_limit(self, limit: float | None, now: float, *, exceeds_a_minute: bool = False) -> None:
        self._of_server, self.exceeds_a_minute, self._refused = limit, exceeds_a_minute, None
        per_minute = _smaller(self._of_job, None if exceeds_a_minute else limit)
        if per_minute != self.per_minute:
            backlog = max(0.0, self._next_start - now) * (self.per_minute or 0.0)
            self._next_start = now + backlog / per_minute if per_minute else 0.0
            self.per_minute = per_minute

    def set_burst(self, burst_s: float) -> None:
        """Set how many seconds' worth of calls may start together, from 5 to 20 ms, and catch up no lost time."""
        self.burst_s = min(_BURST_S, max(_SMALLEST_BURST_S, burst_s))
        self._catch_up_s = 0.0

    def _forget_old_starts(self, now: float) -> None:
        newest_old = (now - _MINUTE_S) * _BUCKETS_PER_SECOND - 1
        ledger = self._ledger
        while ledger and (oldest := next(iter(ledger))) <= newest_old:
            self._sum -= ledger.pop(oldest)
        if not ledger:
            self._sum = 0.0


class _Served:
    """What a server has served of late: its largest call, and the sum of a minute."""

    def __init__(self) -> None:
        self._largest = self._largest_at = 0.0
        self._minute = 0
        self._sums = (0.0, 0.0)  # of the present minute and of the one before

    def add(self, used: float, largest: float, now: float) -> None:
        if largest >= self.largest(now):
            self._largest, self._largest_at = largest, now
        self._turn_to(now)
        self._sums = self._sums[0] + used, self._sums[1]

    def largest(self, now: float) -> float:
        return self._largest if now - self._largest_at <= _MINUTE_S else 0.0

    def in_a_minute(self, now: float) -> float:
        self._turn_to(now)
        return max(self._sums)

    def _turn_to(self, now: float) -> None:
        minute = int(now // _MINUTE_S)
        if minute != self._minute:
            self._sums = 0.0, self._sums[0] if minute == self._minute + 1 else 0.0
            self._minute = minute


class RateLimits:
    """The limits of requests and tokens, and the pauses once one is used up.

    Args:
        requests_per_minute: the job's own limit; the server's is learned, and the smaller one holds.
        tokens_per_minute: the same for tokens.
        patience_s: longer pauses are not made; whether the server means them shows at the next refusal.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        patience_s: float = 600.0,
    ) -> None:
        self.requests = PerMinuteLimit(requests_per_minute)
        self.tokens = PerMinuteLimit(tokens_per_minute)
        self.paused_until = 0.0
        self._patience_s = patience_s
        self._burst_set_at = -_BURST_RECOVERY_S
        self._logged = self.requests.per_minute, self.tokens.per_minute

    def wait_s(self, now: float, tokens: float) -> float:
        """Seconds until a call that takes `tokens` may start."""
        return max(self.paused_until - now, self.requests.wait_s(now, 1), self.tokens.wait_s(now, tokens), 0.0)

    def take(self, now: float, tokens: float, *, waited: bool = False) -> None:
        """Count the start of a call that takes `tokens`."""
        self.requests.take(now, 1, waited=waited)
        self.tokens.take(now, tokens, waited=waited)
        if self.requests.burst_s < _BURST_S and now - self._burst_set_at > _BURST_RECOVERY_S:
            self._set_burst(self.requests.burst_s * 2, now)

    def learn(self, report: ServerReport, now: float) -> float:
        """Take over what an answer reports; once nothing remains of a limit, pause until the later of the two resets.

        A limit for longer than a minute does not prolong the pause while some of it is left: its reset may be a day
        away. Returns the seconds of the pause, also where it exceeds the patience and is not made; 0 for none.
        """
        pause_s, is_used_up = 0.0, False
        for limit, reported in ((self.requests, report.requests), (self.tokens, report.tokens)):
            if reported is None or not limit.learn(reported, now):
                continue
            is_used_up = is_used_up or reported.remaining == 0
            if reported.reset_s is not None and (reported.remaining == 0 or not limit.exceeds_a_minute):
                pause_s = max(pause_s, reported.reset_s)
        self._log_new_limits()
        if not is_used_up:
            return 0.0
        self.pause(pause_s, now, why="reset")
        return pause_s

    def pause(self, seconds: float, now: float, *, why: str = "retry_after") -> None:
        """Let nothing start for `seconds`, unless that exceeds the patience."""
        if seconds <= self._patience_s:
            # Every call under way may report the same pause: log only what begins it or adds a second to it.
            if now + seconds - max(self.paused_until, now) >= _SHORTEST_LOGGED_PAUSE_S:
                emit(log, "paused", "nothing starts for %.1f s (%s)", seconds, why, seconds=seconds, why=why)
            self.paused_until = max(self.paused_until, now + seconds)

    def delay(self, seconds: float, now: float) -> None:
        """Let nothing start for `seconds` more, after the present pause if there is one."""
        self.paused_until = min(max(self.paused_until, now) + seconds, now + self._patience_s)

    def refused(self, started_at: float, now: float) -> None:
        """Let fewer calls start together for a while: refused within the limits, they may be enforced per second."""
        if started_at > self._burst_set_at and self.requests.per_minute is not None:
            self._set_burst(self.requests.burst_s / 2, now)

    def served(self, used_tokens: float, counted_tokens: float, now: float) -> None:
        """Count an answer: what its call took in tokens, and what it counted as when it started."""
        self.requests.served(1, 1, now)
        self.tokens.served(used_tokens, counted_tokens, now)
        self._log_new_limits()

    def _log_new_limits(self) -> None:
        requests, tokens = self.requests.per_minute, self.tokens.per_minute
        if (requests, tokens) == self._logged:
            return
        self._logged = requests, tokens
        limits = {"requests": requests, "tokens": tokens}
        message = " and ".join(f"{limit:g} {name}" for name, limit in limits.items() if limit is not None)
        emit(
            log,
            "limit_learned",
            "the limits are now: %s a minute",
            message or "none",
            requests_per_minute=requests,
            tokens_per_minute=tokens,
        )

    def _set_burst(self, seconds: float, now: float) -> None:
        self._burst_set_at = now
        self.requests.set_burst(seconds)
        self.tokens.set_burst(seconds)


def _smaller(one: float | None, other: float | None) -> float | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)
