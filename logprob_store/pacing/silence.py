"""How long a server has given no sign of life while calls were made, and when a run says so.

A call that fails as in an outage is no sign of life. What waits then, and for how long, is decided by `breaker`.
"""

from __future__ import annotations

from typing import Final

_SHOWN_AFTER_S: Final = 1.0
"""Seconds of failures that are shown; a single one passes sooner."""
_HANG_SHOWN_AFTER_S: Final = 10.0
_LOGGED_AFTER_S: Final = 10.0
_HANG_LOGGED_AFTER_S: Final = 30.0
"""The same for calls that hang. Models that think take as long, so it is logged only if it was never as long."""


class Silence:
    """Counts the seconds since the last sign of life, or since the first call after a time without any.

    >>> silence = Silence()
    >>> silence.started(10.0)
    >>> silence.seconds(25.0)
    15.0
    >>> silence.ended(25.0, under_way=1)
    >>> silence.seconds(26.0)
    1.0
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._longest_s = 0.0
        self._is_logged = False

    def started(self, now: float) -> None:
        """Count a call that starts; `now` is the loop's time."""
        if self._since is None:
            self._since = now

    def ended(self, now: float, *, under_way: int) -> None:
        """Count a sign of life; `under_way` calls are still at the server."""
        self._longest_s = max(self._longest_s, self.seconds(now))
        self._since = now if under_way else None
        self._is_logged = False

    def seconds(self, now: float) -> float:
        """Seconds without a sign of life; 0 where nothing is waited for."""
        return 0.0 if self._since is None else now - self._since

    def is_shown(self, now: float, *, fails: bool) -> bool:
        """Whether it is long enough to be shown.

        Args:
            now: the loop's time.
            fails: whether calls fail; else they hang.
        """
        return self.seconds(now) >= (_SHOWN_AFTER_S if fails else _HANG_SHOWN_AFTER_S)

    def is_to_be_logged(self, now: float, *, fails: bool) -> bool:
        """Whether it is long enough to be logged, which is so once."""
        after_s = _LOGGED_AFTER_S if fails else max(_HANG_LOGGED_AFTER_S, 2 * self._longest_s)
        if self._is_logged or self.seconds(now) < after_s:
            return False
        self._is_logged = True
        return True
