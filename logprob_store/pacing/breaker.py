"""A circuit breaker: waits out an outage without using up the attempts of prompts.

It decides when an outage begins, when the server is probed, and when waiting ends. Which failures point to an outage is
in `logprob_store.failure_policy`.
"""

from __future__ import annotations

import logging
import math
from typing import Final

from logprob_store.events import emit

log = logging.getLogger(__name__)

PROMPTS_TO_OPEN: Final = 8
_FIRST_PROBE_S: Final = 0.25
_LONGEST_PROBE_S: Final = 10.0
_STUCK_PROBE_S: Final = 30.0


class Breaker:
    """Opens when calls fail in a row and none succeeds; then lets one call at a time through to probe the server.

    It opens after as many failures in a row as calls are under way, of at least 8 different prompts: one or two prompts
    that break the server each time are no outage. A call that had no connection to the server failed for no prompt, and
    one such failure is enough, unless nobody wants to wait. While it is open, failures do not count as attempts. The
    first sign of life closes it. After `patience_s` it gives up: calls go through and count until one succeeds.

    Args:
        patience_s: seconds that an outage is waited out.
        reach_s: the same for a server to which no connection was ever made, if that is less: its address may be wrong.
        server: what is waited for, for people.
        waits_at_once: whether one call without a connection is enough.

    >>> breaker = Breaker(600)
    >>> [breaker.failed(str(n), under_way=2, now=0.0) for n in range(8)][-2:], breaker.is_open
    ([True, False], True)
    >>> breaker.wait_s(0.1)
    0.15
    """

    def __init__(
        self, patience_s: float, *, reach_s: float = math.inf, server: str = "the server", waits_at_once: bool = True
    ) -> None:
        self._patience_s = patience_s
        self._server = server
        self._waits_at_once = waits_at_once
        self._reach_s = min(reach_s, patience_s)
        self.never_reached = True
        self._in_a_row = 0
        self._prompts: set[str] = set()
        self._opened_at: float | None = None
        self._why = ""
        self._given_up = False
        self._next_probe_at = 0.0
        self._probe_interval_s = _FIRST_PROBE_S

    @property
    def patience_s(self) -> float:
        """Seconds that an outage is waited out, as of now."""
        return self._reach_s if self.never_reached else self._patience_s

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._opened_at is not None

    @property
    def why(self) -> str:
        """How the last call failed, for people; empty since the last sign of life."""
        return self._why if self._in_a_row else ""

    @property
    def outage(self) -> str | None:
        """How the last call failed while calls are held back, or none ever reached the server; for people."""
        return self.why if self.is_open or (self._in_a_row and self.never_reached) else None

    def wait_s(self, now: float) -> float:
        """Seconds until a call may start: 0 when closed, else until the next probe."""
        if self._opened_at is None:
            return 0.0
        return 0.0 if self.has_given_up(now) else max(0.0, self._next_probe_at - now)

    def has_given_up(self, now: float) -> bool:
        """Whether an outage has lasted longer than the patience, and no call has been answered since."""
        if self._opened_at is not None and now - self._opened_at >= self.patience_s:
            lasted_s = now - self._opened_at
            message = "the server has not answered for %.0f s: it is no longer waited for"
            emit(log, "outage_given_up", message, lasted_s, seconds=lasted_s)
            self._opened_at, self._given_up = None, True
        return self._given_up

    def started(self, now: float) -> None:
        """Count a call that starts. While open it is a probe; the next waits for its end, but for 30 s at most."""
        if self._opened_at is not None:
            self._next_probe_at = now + _STUCK_PROBE_S

    def abandoned(self, now: float) -> None:
        """Count a call that ended without an outcome, such as one that was cancelled."""
        if self._opened_at is not None:
            self._next_probe_at = min(self._next_probe_at, now + self._probe_interval_s)

    def answered(self) -> None:
        """Count a sign of life: any answer that does not point to an outage."""
        self.never_reached = False
        if self._opened_at is not None:
            emit(log, "outage_ended", "the server answers again: going on")
        if self._in_a_row:
            self._in_a_row = 0
            self._prompts.clear()
            self._opened_at, self._given_up = None, False

    def failed(
        self,
        key: str,
        *,
        under_way: int,
        now: float,
        is_probe: bool = False,
        why: str = "no answer",
        prompts_to_open: int = PROMPTS_TO_OPEN,
        reached: bool = True,
    ) -> bool:
        """Count a call that got no answer, or an error of the server.

        Args:
            key: the request's key.
            under_way: calls at the server, this one included.
            now: the loop's time, seconds.
            is_probe: whether the call was started while the breaker was open.
            why: how the call failed, for people.
            prompts_to_open: different prompts whose calls failed in a row, at least, for the breaker to open.
            reached: whether there was a connection to the server.

        Returns:
            Whether the call counts as an attempt.
        """
        self._in_a_row += 1
        self.never_reached = self.never_reached and not reached
        self._why = why
        if self._given_up:
            return True
        if self._opened_at is not None:
            if is_probe:
                self._probe_interval_s = min(_LONGEST_PROBE_S, 2 * self._probe_interval_s)
                self._next_probe_at = now + self._probe_interval_s
            return False
        if len(self._prompts) < PROMPTS_TO_OPEN:
            self._prompts.add(key)
        may_be_the_prompt = reached or not self._waits_at_once
        if (may_be_the_prompt and len(self._prompts) < prompts_to_open) or self._in_a_row < under_way:
            return True
        emit(
            log,
            "outage_began",
            "%s failed (%s): waiting up to %.0f s for %s, one call at a time",
            "a call" if self._in_a_row == 1 else f"{self._in_a_row} calls in a row",
            why,
            self.patience_s,
            self._server,
            in_a_row=self._in_a_row,
            why=why,
        )
        self._opened_at, self._probe_interval_s = now, _FIRST_PROBE_S
        self._next_probe_at = now + self._probe_interval_s
        return False
