"""What the headers of an answer say about rate limits and waiting: `x-ratelimit-*`, `retry-after`, the server's clock.

The spellings are `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, Anthropic's
`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, `retry-after-ms` and `retry-after`. A header that is
missing, has another suffix or cannot be read counts as unsaid; the other headers still count. `pacing.rates` keeps the
limits.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from logprob_store.usage import RateLimit, ServerReport

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_WAIT_S: Final = 32 * 86400.0
"""A month's quota may be used up; a server that names a longer wait is not believed."""
_EPOCH_S: Final = 1e9
"""A bare number from here on is a time since the epoch (9 September 2001 and later), below it is seconds to wait."""
_EPOCH_MS: Final = 1e11

_UNITS_S: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PIECE: Final = r"([0-9]+(?:\.[0-9]+)?)(ms|us|µs|ns|d|h|m|s)"
_PIECES: Final = re.compile(_PIECE)
_DURATION: Final = re.compile(rf"(?:{_PIECE})+")


_PLACES: Final = {
    name: (dimension, kind)
    for dimension in ("requests", "tokens")
    for kind in ("limit", "remaining", "reset")
    for name in (f"x-ratelimit-{kind}-{dimension}", f"anthropic-ratelimit-{dimension}-{kind}")
}


def read_rate_limits(headers: Mapping[str, str], *, now: datetime | None = None) -> ServerReport | None:
    """The rate limits that the headers of an answer report; None where they report none. Names may be in any case.

    Times of day are read by the answer's own `Date`, so a server whose clock is far off is understood.

    Args:
        headers: of any answer, good or bad.
        now: the local time, for servers that send no `Date`.

    >>> read_rate_limits({"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59",
    ...            "x-ratelimit-reset-requests": "1s"}).requests
    RateLimit(limit=60.0, remaining=59.0, reset_s=1.0)
    >>> read_rate_limits({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-furlongs": "9"}).tokens
    RateLimit(limit=None, remaining=0.0, reset_s=None)
    """
    found: dict[str, dict[str, str]] = {}
    date = None
    for name, value in headers.items():
        lower = name.lower()
        if lower in _PLACES:
            dimension, kind = _PLACES[lower]
            found.setdefault(dimension, {})[kind] = value
        elif lower == "date":
            date = value
    if not found:
        return None
    return ServerReport(_level(found.get("requests"), date, now), _level(found.get("tokens"), date, now))


def _level(said: dict[str, str] | None, date: str | None, now: datetime | None) -> RateLimit | None:
    if said is None:
        return None
    limit, remaining = _amount(said.get("limit")), _amount(said.get("remaining"))
    if limit is not None and limit < 1:
        return None  # some servers say 0 of 0 where there is no limit, and nobody is to wait for a part of a call
    reset_s = seconds_until(said["reset"], date=date, now=now) if "reset" in said else None
    if limit is remaining is reset_s is None:
        return None
    return RateLimit(limit, remaining, reset_s)


def _amount(text: str | None) -> float | None:
    if text is None or not text.isascii():
        return None  # to Python, digits of all scripts are numbers
    try:
        value = float(text)
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds the server asks to wait: `retry-after-ms`, `retry-after` in seconds or as a date; None if unsaid.

    >>> retry_after_s({"retry-after-ms": "1500", "retry-after": "9"})
    1.5
    >>> retry_after_s({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, now=datetime(2026, 10, 21, 7, 28, tzinfo=UTC))
    10.0
    >>> retry_after_s({"retry-after": "soon"}) is None
    True
    """
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            wait = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if 0 <= wait <= _LONGEST_WAIT_S:
            return wait
    at = _http_date(headers.get("retry-after"))
    return None if at is None else _seconds_to(at, headers.get("date"), now)


def seconds_until(text: str, *, date: str | None = None, now: datetime | None = None) -> float | None:
    """Seconds until a reset: a duration, bare seconds, an epoch in s or ms, an ISO or HTTP date; None if none of these.

    Args:
        text: the header's value.
        date: the answer's `Date` header.
        now: the local time.

    >>> [seconds_until(text) for text in ("1s", "6m0s", "20ms", "1h2m3.5s", "90", "0.5")]
    [1.0, 360.0, 0.02, 3723.5, 90.0, 0.5]
    >>> seconds_until("2040-01-01T00:00:30Z", date="Sun, 01 Jan 2040 00:00:00 GMT")
    30.0
    """
    text = text.strip().lower()
    if (duration := _duration(text)) is not None:
        return duration
    if (at := _moment(text)) is None:
        return None
    return _seconds_to(at, date, now)


def _seconds_to(at: float, date: str | None, now: datetime | None) -> float | None:
    """Seconds to a moment, by the clock of the server that named it (its `Date` header), else by ours.

    The first clock that gives between 0 and 32 days counts. A moment that has passed by our clock is 0 seconds away;
    None where no clock gives a sensible wait.
    """
    clocks = (_http_date(date), (now or datetime.now(UTC)).timestamp())
    waits = [at - clock for clock in clocks if clock is not None]
    sane = next((wait for wait in waits if 0 <= wait <= _LONGEST_WAIT_S), None)
    return 0.0 if sane is None and waits[-1] < 0 else sane


@lru_cache(maxsize=1024)
def _duration(text: str) -> float | None:
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PIECES.findall(text))
    else:
        amount = _amount(text)
        if amount is None or amount >= _EPOCH_S:
            return None
        seconds = amount
    return seconds if seconds <= _LONGEST_WAIT_S else None


def _moment(text: str) -> float | None:
    """A point in time as seconds since the epoch."""
    if (amount := _amount(text)) is not None:
        if amount < _EPOCH_S:
            return None
        return amount / 1000 if amount >= _EPOCH_MS else amount
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return _http_date(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@lru_cache(maxsize=16)
def _http_date(text: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
