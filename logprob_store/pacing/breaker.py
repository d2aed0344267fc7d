"""A circuit breaker: an outage is sat out, without using up what prompts may try.

Holds when an outage is declared, how the server is probed meanwhile, and when waiting ends. Leaves out which failures
point to an outage: `failures` says that.
"""

from __future__ import annotations

import logging
from typing import Final

from logprob_store.events import emit

log = logging.getLogger(__name__)

LEAST_FAILURES: Final = 8
_FIRST_PROBE_S: Final = 0.25
_LONGEST_PROBE_S: Final = 10.0
_STUCK_S: Final = 30.0


class Breaker:
    """Opens when calls fail in a row and none succeeds; then one call at a time is let through to see.

    In a row: as many as are under way, and at least 8, of at least 8 prompts, so that a prompt or two that break the
    server each time are no outage. While it is open, failures do not count as attempts. The first sign of life closes
    it. After `patience_s` it gives up: calls go through and fail as they do, until one succeeds.

    Args:
        patience_s: seconds an outage is sat out.

    >>> breaker = Breaker(600)
    >>> [breaker.failed(str(n), under_way=2, now=0.0) for n in range(8)][-2:], breaker.is_open
    ([True, False], True)
    >>> breaker.hold_s(0.1)
    0.15
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._in_a_row = 0
        self._prompts: set[str] = set()
        self._opened_at: float | None = None
        self._given_up = False
        self._probe_at = 0.0
        self._every_s = _FIRST_PROBE_S

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._opened_at is not None

    def hold_s(self, now: float) -> float:
        """Seconds until a call may start: none when closed, else until the next probe."""
        if self._opened_at is None:
            return 0.0
        if now - self._opened_at >= self._patience_s:
            lasted_s = now - self._opened_at
            message = "the server has not answered for %.0f s: calls fail from here on"
            emit(log, "outage_given_up", message, lasted_s, seconds=lasted_s)
            self._opened_at, self._given_up = None, True
            return 0.0
        return max(0.0, self._probe_at - now)

    def started(self, now: float) -> None:
        """A call starts; while open it is a probe, and the next waits for it, but not for ever."""
        if self._opened_at is not None:
            self._probe_at = now + _STUCK_S

    def withdrawn(self, now: float) -> None:
        """A call ended without an outcome."""
        if self._opened_at is not None:
            self._probe_at = min(self._probe_at, now + self._every_s)

    def answered(self) -> None:
        """Any sign of life."""
        if self._opened_at is not None:
            emit(log, "outage_ended", "the server answers again: going on")
        if self._in_a_row:
            self._in_a_row = 0
            self._prompts.clear()
            self._opened_at, self._given_up = None, False

    def failed(self, key: str, *, under_way: int, now: float, probe: bool = False) -> bool:
        """No answer, or none but an error of the server; returns whether it counts as an attempt."""
        self._in_a_row += 1
        if self._given_up:
            return True
        if self._opened_at is not None:
            if probe:
                self._every_s = min(_LONGEST_PROBE_S, 2 * self._every_s)
                self._probe_at = now + self._every_s
            return False
        if len(self._prompts) < LEAST_FAILURES:
            self._prompts.add(key)
        if len(self._prompts) < LEAST_FAILURES or self._in_a_row < under_way:
            return True
        message = "%d calls in a row failed: waiting for the server, one call at a time"
        emit(log, "outage_began", message, self._in_a_row, in_a_row=self._in_a_row)
        self._opened_at, self._every_s = now, _FIRST_PROBE_S
        self._probe_at = now + self._every_s
        return False
