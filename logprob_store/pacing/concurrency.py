"""How many calls at once: more while that helps, fewer when the server refuses.

Holds the rule, additive increase and multiplicative decrease with a gate: it starts at 32 and doubles with every window
of answers (slow start) until the first refusal; from then on it grows by 5 % a window, and is cut to 80 % once for each
wave of refusals. Leaves out waiting for a slot (`pacer`).

A window is as many answers as calls are allowed at once. It counts towards growth only if at least 80 % of those were
in use, as otherwise nothing is known about more; a failure of the server in it starts it anew.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 32
_GROWTH: Final = 0.05
_CUT: Final = 0.8
_IN_USE: Final = 0.8
_COOLDOWN_S: Final = 1.0


class Concurrency:
    """The number of calls allowed at once, and of those under way.

    Args:
        ceiling: the most that is ever allowed.
        first: where to start.

    >>> allowed = Concurrency(1000, first=10)
    >>> for _ in range(10): allowed.started()
    >>> for _ in range(10): allowed.succeeded(started_at=0.0, now=1.0)
    >>> allowed.limit
    20
    """

    def __init__(self, ceiling: int, *, first: int = FIRST) -> None:
        self.ceiling = ceiling
        self.limit = min(first, ceiling)
        self.in_use = 0
        self._most_in_use = 0
        self._answers = 0
        self._slow_start = True
        self._cut_at = -_COOLDOWN_S

    def started(self) -> None:
        """A call is under way."""
        self.in_use += 1
        self._most_in_use = max(self._most_in_use, self.in_use)

    def ended(self) -> None:
        """A call is no longer under way."""
        self.in_use -= 1

    def succeeded(self, started_at: float, now: float) -> None:
        """An answer; those sent before a cut, or within a second after it, say nothing about the time since."""
        if self.limit >= self.ceiling or started_at <= self._cut_at or now < self._cut_at + _COOLDOWN_S:
            return
        self._answers += 1
        if self._answers < self.limit:
            return
        if self._most_in_use >= _IN_USE * self.limit:
            growth = self.limit if self._slow_start else max(1, int(_GROWTH * self.limit))
            self.limit = min(self.ceiling, self.limit + growth)
        self._new_window()

    def needs(self, number: int) -> None:
        """So many calls at once would use the server's own limit: during slow start that is no guess, so take them."""
        if self._slow_start and number > self.limit:
            self.limit = min(self.ceiling, number)
            self._new_window()

    def troubled(self) -> None:
        """The server failed: no growth for a window, and no cut, as fewer calls would not mend it."""
        self._new_window()

    def refused(self, started_at: float, now: float) -> bool:
        """Refused without a time to wait: cut, once for all calls that were sent before the cut; returns whether."""
        self._slow_start = False
        if started_at <= self._cut_at:
            return False
        self.limit = max(1, int(_CUT * self.limit))
        self._cut_at = now
        self._new_window()
        return True

    def _new_window(self) -> None:
        self._answers = 0
        self._most_in_use = self.in_use
