"""Rate limits and times to wait, read from the headers of an answer.

A header that is missing, has another suffix or cannot be read counts as unsaid; the other headers still count.
`pacing.rates` keeps calls within the limits.
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
    from collections.abc import Iterable, Mapping

_LONGEST_WAIT_S: Final = 32 * 86400.0
"""A month's quota may be used up; a longer wait is ignored."""
_LONGEST_DATE: Final = 100
"""Characters."""
_EPOCH_S: Final = 1e9
"""Bare numbers from here on are seconds since the epoch (9 September 2001 and later), smaller ones seconds to wait."""
_EPOCH_MS: Final = 1e11
"""Bare numbers from here on are milliseconds since the epoch."""

_SPELLINGS: Final = (
    "x-ratelimit-{kind}-{dimension}",
    "anthropic-ratelimit-{dimension}-{kind}",
)
"""`dimension` is requests or tokens; `kind` is limit, remaining or reset."""
_BARE: Final = "x-ratelimit-{kind}"
"""Without a unit, as OpenRouter sends it: a limit of requests, whose reset is milliseconds since the epoch."""
_HEADERS: Final = {_BARE.format(kind=kind): ("requests", kind) for kind in ("limit", "remaining", "reset")} | {
    spelling.format(dimension=dimension, kind=kind): (dimension, kind)
    for spelling in _SPELLINGS
    for dimension in ("requests", "tokens")
    for kind in ("limit", "remaining", "reset")
}
_RAW_HEADERS: Final = frozenset(name.encode() for name in _HEADERS)
_WAIT_IN_WORDS: Final = re.compile(
    r"\b(?:re)?try\b[a-z ]{0,30}? (?:in|after) (?:"
    r"(\d{1,9}(?:\.\d{1,9})?) (seconds?|minutes?|hours?)|((?:\d{1,9}(?:\.\d{1,9})?(?:ms|[dhms]))+))\b",
    re.IGNORECASE,
)
"""`Please try again in 6m0s`, OpenAI; `Please retry after 26 seconds`, Azure."""
_SECONDS_IN: Final = {"s": 1, "m": 60, "h": 3600}
_WAIT_HEADERS: Final = {"retry-after-ms": 1e-3, "retry-after": 1.0}
"""Header to its unit in seconds, the preferred one first."""

_UNITS_S: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_NUMBER_AND_UNIT: Final = r"([0-9]+(?:\.[0-9]+)?)(ms|us|µs|ns|d|h|m|s)"
_NUMBERS_AND_UNITS: Final = re.compile(_NUMBER_AND_UNIT)
_DURATION: Final = re.compile(rf"(?:{_NUMBER_AND_UNIT})+")


def have_rate_limits(raw_headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether any header reports a rate limit; most servers send none, and raw names are the cheapest to look at.

    >>> have_rate_limits([(b"Date", b"..."), (b"X-RateLimit-Limit-Tokens", b"1000")])
    True
    """
    return any(name.lower() in _RAW_HEADERS for name, _ in raw_headers)


def read_rate_limits(headers: Mapping[str, str], *, now: datetime | None = None) -> ServerReport | None:
    """The rate limits that the headers of an answer report; None where they report none.

    Resets at a time of day are measured against the answer's own `Date`, so a server's wrong clock does no harm.

    Args:
        headers: of any answer, successful or not; names in any case.
        now: the local time, for servers that send no `Date`.

    >>> read_rate_limits({"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59",
    ...            "x-ratelimit-reset-requests": "1s"}).requests
    RateLimit(limit=60.0, remaining=59.0, reset_s=1.0)
    >>> read_rate_limits({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-furlongs": "9"}).tokens
    RateLimit(limit=None, remaining=0.0, reset_s=None)
    """
    found: dict[str, dict[str, str]] = {}  # dimension to kind to value
    date = None
    for name, value in headers.items():
        lower = name.lower()
        if lower in _HEADERS:
            dimension, kind = _HEADERS[lower]
            found.setdefault(dimension, {})[kind] = value
        elif lower == "date":
            date = value
    if not found:
        return None
    return ServerReport(_rate_limit(found.get("requests"), date, now), _rate_limit(found.get("tokens"), date, now))


def _rate_limit(values: dict[str, str] | None, date: str | None, now: datetime | None) -> RateLimit | None:
    if values is None:
        return None
    limit, remaining = _number(values.get("limit")), _number(values.get("remaining"))
    if limit is not None and limit < 1:
        return None  # some servers send 0 of 0 where there is no limit, and no call could keep a limit below one
    reset_s = seconds_until(values["reset"], date=date, now=now) if "reset" in values else None
    if limit is remaining is reset_s is None:
        return None
    return RateLimit(limit, remaining, reset_s)


def _number(text: str | None) -> float | None:
    """A finite number, raised to 0 where it is less; None for any other text."""
    if text is None or not text.isascii():
        return None  # `float` also takes the digits of other scripts
    try:
        value = float(text)
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date; None if unsaid.

    >>> retry_after_s({"retry-after-ms": "1500", "retry-after": "9"})
    1.5
    >>> retry_after_s({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, now=datetime(2026, 10, 21, 7, 28, tzinfo=UTC))
    10.0
    >>> retry_after_s({"retry-after": "soon"}) is None
    True
    """
    for name, unit_s in _WAIT_HEADERS.items():
        text = headers.get(name, "")
        number = None if text.strip().startswith("-") else _number(text)
        if number is not None and (wait := number * unit_s) <= _LONGEST_WAIT_S:
            return wait
    at = http_date_s(headers.get("retry-after"))
    return None if at is None else _seconds_to(at, headers.get("date"), now)


def wait_in_words_s(message: str) -> float | None:
    """Seconds to wait by a refusal's words, as many services say nowhere else; None if they do not say.

    >>> wait_in_words_s("Limit 200, Used 200. Please try again in 7m12s. Visit https://...")
    432.0
    >>> wait_in_words_s("Please retry after 26 seconds."), wait_in_words_s("Please try again in 120ms")
    (26.0, 0.12)
    >>> wait_in_words_s("Please try again later") is None
    True
    """
    found = _WAIT_IN_WORDS.search(message)
    if found is None:
        return None
    number, unit, duration = found.groups()
    return float(number) * _SECONDS_IN[unit[0].lower()] if duration is None else _duration_s(duration.lower())


def seconds_until(text: str, *, date: str | None = None, now: datetime | None = None) -> float | None:
    """Seconds until a reset; None if the text is not understood.

    Understood are durations, bare seconds, seconds or milliseconds since the epoch, ISO and HTTP dates.

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
    if (duration := _duration_s(text)) is not None:
        return duration
    if (at := _point_in_time_s(text)) is None:
        return None
    return _seconds_to(at, date, now)


def _seconds_to(at: float, date: str | None, now: datetime | None) -> float | None:
    """Seconds to a point in time, by the clock of the server that named it (its `Date` header), else by ours.

    The first clock that gives between 0 and 32 days counts. A point that has passed by our clock is 0 seconds away.
    None where no clock gives a sensible wait.

    Args:
        at: seconds since the epoch.
        date: the answer's `Date` header.
        now: the local time.
    """
    clocks = (http_date_s(date), (now or datetime.now(UTC)).timestamp())
    waits = [at - clock for clock in clocks if clock is not None]
    sensible = next((wait for wait in waits if 0 <= wait <= _LONGEST_WAIT_S), None)
    return 0.0 if sensible is None and waits[-1] < 0 else sensible


@lru_cache(maxsize=1024)
def _duration_s(text: str) -> float | None:
    """Seconds of a duration such as 1h2m3.5s, or bare seconds; None if it is neither or longer than 32 days."""
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _NUMBERS_AND_UNITS.findall(text))
    else:
        number = _number(text)
        if number is None or number >= _EPOCH_S:
            return None
        seconds = number
    return seconds if seconds <= _LONGEST_WAIT_S else None


def _point_in_time_s(text: str) -> float | None:
    """Seconds since the epoch of a point in time, written as such a number or as an ISO or HTTP date."""
    if (number := _number(text)) is not None:
        if number < _EPOCH_S:
            return None
        return number / 1000 if number >= _EPOCH_MS else number
    try:
        return _seconds_since_epoch(datetime.fromisoformat(text.upper()))
    except ValueError:
        return http_date_s(text)


@lru_cache(maxsize=16)
def http_date_s(text: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date; None for any other text, such as a date with a zone that cannot be."""
    if text is None or len(text) > _LONGEST_DATE or not text.isascii():
        return None  # `int` also takes the digits of other scripts
    try:
        return _seconds_since_epoch(parsedate_to_datetime(text))
    except (ValueError, OverflowError):
        return None


def _seconds_since_epoch(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
