"""How many calls may run at once: more while that helps, fewer when the server refuses.

The rule is additive increase and multiplicative decrease with a gate. It starts at 32 and doubles with every window of
answers (slow start) until the first refusal. From then on it grows by 5 % a window, and is cut to 80 % once for each
wave of refusals.

A window is as many answers as calls are allowed at once. It lets the number grow only if at least 80 % of these calls
were in use, because otherwise it shows nothing about more calls; a failure of the server starts the window anew.
Waiting for a free place is in `pacer`.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 32
_GROWTH: Final = 0.05
_CUT: Final = 0.8
_IN_USE: Final = 0.8
_COOLDOWN_S: Final = 1.0


class Concurrency:
    """The number of calls allowed at once (`limit`), and of those under way (`in_use`).

    Args:
        ceiling: the most that is ever allowed.
        first: the number to start with.

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
        """Count a call that starts."""
        self.in_use += 1
        self._most_in_use = max(self._most_in_use, self.in_use)

    def ended(self) -> None:
        """Count a call that ended."""
        self.in_use -= 1

    def succeeded(self, started_at: float, now: float) -> None:
        """Count an answer, and grow at the end of a window.

        Ignored are answers to calls sent before the last cut, and answers within a second after it: they do not show
        whether the lower number is right.
        """
        if self.limit >= self.ceiling or started_at <= self._cut_at or now < self._cut_at + _COOLDOWN_S:
            return
        self._answers += 1
        if self._answers < self.limit:
            return
        if self._most_in_use >= _IN_USE * self.limit:
            growth = self.limit if self._slow_start else max(1, int(_GROWTH * self.limit))
            self.limit = min(self.ceiling, self.limit + growth)
        self._new_window()

    def raise_to(self, number: int) -> None:
        """Allow as many calls at once as it takes to use the server's rate limit; only during slow start."""
        if self._slow_start and number > self.limit:
            self.limit = min(self.ceiling, number)
            self._new_window()

    def server_failed(self) -> None:
        """Start the window anew, so that nothing grows now; nothing is cut, as fewer calls would not help."""
        self._new_window()

    def refused(self, started_at: float, now: float) -> bool:
        """Cut after a refusal without a time to wait, once for all calls sent before the cut; returns whether."""
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
