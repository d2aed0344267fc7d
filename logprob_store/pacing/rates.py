"""Requests and tokens per minute: how soon the next call may start.

Holds `Window`, one limit, and `RateLimits`, both of them and the pauses that the server's headers ask for. Time is an
argument everywhere, so that a test can drive hours in a moment. Leaves out how many calls run at once (`concurrency`).

A limit is kept in two ways at once. Starts are *spread* evenly at 98.5 % of it, at most 20 ms worth of them together,
as limits are often enforced per second; and a *ledger* of the last minute never lets its sum pass the limit, however
uneven the calls and whatever was started before the limit was known. From 20 on it keeps one back: a server that has
none left asks for a pause, and some ask for a whole minute.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from logprob_store.events import emit

if TYPE_CHECKING:
    from logprob_store.usage import RateLimit, ServerReport

log = logging.getLogger(__name__)

_SHARE: Final = 0.985
_MINUTE_S: Final = 60.0
_BUCKETS_A_SECOND: Final = 4
_MINUTE_AT_MOST_S: Final = 61.0
_BURST_S: Final = 0.02
_LEAST_BURST_S: Final = 0.005
_CALM_S: Final = 60.0
_CREDIT_S: Final = 0.9
_LATE_S: Final = 0.75
_FASTER: Final = 1 / 4
_KEEPS_ONE: Final = 20
_WORTH_SAYING_S: Final = 1.0


class Window:
    """One limit per minute: of the job, of the server, or the smaller of both.

    Whether a server's number means a minute is not in its name: some say `requests` and mean a day. It is inferred: a
    limit that needs more than a minute to be whole again while some of it is left is no limit per minute. Such a one
    is not spread; only once it is used up there is a pause.

    Args:
        per_minute: the job's own limit.

    >>> window = Window(60)
    >>> window.take(0.0, 1); round(window.wait_s(0.0, 1), 2), round(window.wait_s(1.0, 1), 2)
    (1.0, 0.0)
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self.limit = per_minute
        self.most = per_minute
        self.burst_s = _BURST_S
        self._fixed = per_minute
        self._told: float | None = None
        self._longer = False
        self._next = 0.0
        self._credit_s = 0.0
        self._late_s = 0.0
        self._ledger: dict[int, float] = {}
        self._sum = 0.0

    def wait_s(self, now: float, cost: float) -> float:
        """Seconds until a call of this cost may start; one above the whole limit may when it is alone."""
        if self.limit is None:
            return 0.0
        most = self.limit - 1 if self.limit >= _KEEPS_ONE else self.limit
        wait = max(0.0, self._next - self.burst_s - now)
        self._forget(now)
        excess = self._sum + cost - max(most, cost)
        if excess > 0:
            for bucket, spent in self._ledger.items():
                excess -= spent
                if excess <= 0:
                    return max(wait, (bucket + 1) / _BUCKETS_A_SECOND + _MINUTE_S - now)
        return wait

    def take(self, now: float, cost: float, *, waited: bool = False) -> None:
        """Note a start.

        A start that waited and comes late, because this machine was busy, leaves time that was not used; up to 0.75 s
        of it are made good by the next starts, a third faster than else. After a lull there is nothing to make good.
        """
        bucket = int(now * _BUCKETS_A_SECOND)
        ledger = self._ledger
        if bucket in ledger:
            ledger[bucket] += cost
        else:
            self._forget(now)
            ledger[bucket] = cost
        self._sum += cost
        if self.limit is not None:
            step_s = cost * _MINUTE_S / (self.limit * _SHARE)
            if waited and self._next and self.burst_s == _BURST_S:
                self._late_s = min(_LATE_S, self._late_s + max(0.0, now - self._next))
            faster_s = min(self._late_s, step_s * _FASTER)
            self._late_s -= faster_s
            self._next = max(self._next, now) + step_s - faster_s - self._credit_s
            self._credit_s = 0.0

    def settle(self, taken_at: float, change: float, now: float) -> None:
        """Correct the cost of a call that was started at `taken_at`: less than nothing gives back.

        What comes back too late to be used at once is kept for the next start, up to a second's worth and itself.
        """
        bucket = int(taken_at * _BUCKETS_A_SECOND)
        if bucket in self._ledger:
            self._ledger[bucket] += change
            self._sum += change
        if self.limit is not None:
            change_s = change * _MINUTE_S / (self.limit * _SHARE)
            self._next += change_s
            late_s = min(now - self._next, -change_s)
            if late_s > 0:
                self._credit_s = min(_CREDIT_S - change_s, self._credit_s + late_s)
                self._next += late_s

    def heard(self, level: RateLimit, now: float) -> None:
        """Learn from what the server says."""
        limit, remaining, reset_s = level
        longer = bool(remaining) and reset_s is not None and reset_s > _MINUTE_AT_MOST_S
        if limit is None or (limit == self._told and (self._longer or not longer)):
            return
        self._told, self._longer = limit, longer
        per_minute = _least(self._fixed, None if self._longer else self._told)
        self.most = _least(self._fixed, self._told)
        if per_minute != self.limit:
            behind = max(0.0, self._next - now) * (self.limit or 0.0)
            self._next = now + behind / per_minute if per_minute else 0.0
            self.limit = per_minute

    def tighten(self, burst_s: float) -> None:
        """Let so many seconds' worth start together, and below the usual make nothing good."""
        self.burst_s = min(_BURST_S, max(_LEAST_BURST_S, burst_s))
        self._late_s = 0.0

    def is_longer(self) -> bool:
        """Whether the server's limit is for longer than a minute."""
        return self._longer

    def _forget(self, now: float) -> None:
        gone = (now - _MINUTE_S) * _BUCKETS_A_SECOND - 1
        ledger = self._ledger
        while ledger and (oldest := next(iter(ledger))) <= gone:
            self._sum -= ledger.pop(oldest)
        if not ledger:
            self._sum = 0.0


class RateLimits:
    """Both limits, and the pauses once one is used up.

    Args:
        requests_per_minute: the job's own limits; the server's are learned and the smaller ones kept.
        tokens_per_minute: the same.
        patience_s: a pause longer than this is not made: the next refusal says whether it is meant.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        patience_s: float = 600.0,
    ) -> None:
        self.requests = Window(requests_per_minute)
        self.tokens = Window(tokens_per_minute)
        self.paused_until = 0.0
        self._patience_s = patience_s
        self._tightened_at = -_CALM_S

    def wait_s(self, now: float, tokens: float) -> float:
        """Seconds until a call with so many tokens may start."""
        return max(self.paused_until - now, self.requests.wait_s(now, 1), self.tokens.wait_s(now, tokens), 0.0)

    def take(self, now: float, tokens: float, *, waited: bool = False) -> None:
        """Reserve a request and its tokens."""
        self.requests.take(now, 1, waited=waited)
        self.tokens.take(now, tokens, waited=waited)
        if self.requests.burst_s < _BURST_S and now - self._tightened_at > _CALM_S:
            self._burst(self.requests.burst_s * 2, now)

    def heard(self, report: ServerReport, now: float) -> float:
        """Learn from what an answer says; once nothing remains, pause until the later of the two resets.

        A limit for longer than a minute that has some left does not prolong the pause: its reset may be a day away.
        Returns the seconds of that pause, also where it is longer than our patience and not made.
        """
        pause_s, empty = 0.0, False
        before = self.requests.limit, self.tokens.limit
        for window, level in ((self.requests, report.requests), (self.tokens, report.tokens)):
            if level is None:
                continue
            window.heard(level, now)
            empty = empty or level.remaining == 0
            if level.reset_s is not None and (level.remaining == 0 or not window.is_longer()):
                pause_s = max(pause_s, level.reset_s)
        if before != (self.requests.limit, self.tokens.limit):
            self._say_limits()
        if not empty:
            return 0.0
        self.pause(pause_s, now, why="reset")
        return pause_s

    def pause(self, seconds: float, now: float, *, why: str = "retry_after") -> None:
        """Let nothing start for so long, unless that is longer than our patience."""
        if seconds <= self._patience_s:
            # All calls under way may be told of the same pause: said is what begins it or adds a second to it.
            if now + seconds - max(self.paused_until, now) >= _WORTH_SAYING_S:
                emit(log, "paused", "nothing starts for %.1f s (%s)", seconds, why, seconds=seconds, why=why)
            self.paused_until = max(self.paused_until, now + seconds)

    def delay(self, seconds: float, now: float) -> None:
        """Let nothing start for so long, after any pause there is already."""
        self.paused_until = min(max(self.paused_until, now) + seconds, now + self._patience_s)

    def refused(self, started_at: float, now: float) -> None:
        """Refused though within the limits: they may be enforced per second, so start fewer together for a while."""
        if started_at > self._tightened_at and self.requests.limit is not None:
            self._burst(self.requests.burst_s / 2, now)

    def _say_limits(self) -> None:
        requests, tokens = self.requests.limit, self.tokens.limit
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

    def _burst(self, seconds: float, now: float) -> None:
        self._tightened_at = now
        self.requests.tighten(seconds)
        self.tokens.tighten(seconds)


def _least(one: float | None, other: float | None) -> float | None:
    given = [value for value in (one, other) if value is not None]
    return min(given, default=None)
