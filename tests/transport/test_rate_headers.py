"""Rate limits in headers, in all the forms that servers use."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.errors import LogprobStoreError
from logprob_store.transport.rate_headers import read_rate_limits, retry_after_s, seconds_until
from logprob_store.transport.refusals import error_of_status
from logprob_store.usage import RateLimit, ServerReport

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DATE = "Sun, 01 Mar 2026 12:00:00 GMT"
FAR_OFF = "Thu, 01 Jan 1998 00:00:00 GMT"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("350us", 0.00035),
        ("2m59.56s", 179.56),
        ("0", 0.0),
        ("90", 90.0),
        (" 0.5 ", 0.5),
        ("1772366430", 30.0),  # 2026-03-01T12:00:30Z
        ("1772366430500", 30.5),
        ("2026-03-01T12:00:30Z", 30.0),
        ("2026-03-01T13:00:30+01:00", 30.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("2026-03-01T11:00:00Z", 0.0),  # gone by
        ("", None),
        ("soon", None),
        ("-1", 0.0),
        ("1s2", None),
        ("5 s", None),
        ("nan", None),
        ("inf", None),
        ("999d", None),
        ("9" * 400, None),
        ("2126-03-01T12:00:30Z", None),
    ],
)
def test_a_reset(text: str, expected: float | None) -> None:
    """It is a duration, seconds, or a point in time; anything else is ignored."""
    assert seconds_until(text, now=NOW) == pytest.approx(expected)


@pytest.mark.parametrize("reset", ["883612830", "883612830000", "1998-01-01T00:00:30Z"])
def test_a_clock_that_is_far_off(reset: str) -> None:
    """A point in time is measured by the answer's own `Date`, here 30 s before it."""
    reset = {"883612830": "1000000030", "883612830000": "1000000030000"}.get(reset, reset)
    date = FAR_OFF if reset.startswith("1998") else "Sun, 09 Sep 2001 01:46:40 GMT"  # 1e9 s after the epoch

    assert seconds_until(reset, date=date, now=NOW) == 30.0


def test_a_date_that_is_not_of_the_clock_of_the_limits() -> None:
    """If the answer's `Date` gives no sensible wait, the local clock is used."""
    assert seconds_until("2026-03-01T12:00:30Z", date=FAR_OFF, now=NOW) == 30.0
    assert seconds_until("2026-03-01T12:00:30Z", date="nonsense", now=NOW) == 30.0


@pytest.mark.parametrize(
    ("headers", "requests", "tokens"),
    [
        (
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-limit-tokens": "150000",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            RateLimit(60, 59, 1.0),
            RateLimit(150000, 149984, 360.0),
        ),
        ({"X-RateLimit-Remaining-Requests": "7"}, RateLimit(remaining=7), None),
        ({"x-ratelimit-limit-tokens": "10"}, None, RateLimit(limit=10)),
        ({"x-ratelimit-remaining-requests": "-3"}, RateLimit(remaining=0), None),
        ({"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "1"}, RateLimit(remaining=1), None),
        ({"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"}, None, None),
        ({"x-ratelimit-limit-requests": "0.0001", "x-ratelimit-remaining-requests": "1"}, None, None),
        ({"x-ratelimit-limit-requests": "\u0661\u0662", "x-ratelimit-reset-requests": "\u0665s"}, None, None),
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2026-03-01T12:00:01Z",
                "date": DATE,
            },
            RateLimit(50, 49, 1.0),
            None,
        ),
    ],
)
def test_levels(headers: dict[str, str], requests: RateLimit | None, tokens: RateLimit | None) -> None:
    """Readable headers are used, though others are missing or unreadable."""
    report = read_rate_limits(headers, now=NOW)

    assert report is not None
    assert (report.requests, report.tokens) == (requests, tokens)


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-ratelimit-limit-images": "5", "x-ratelimit-limit-furlongs": "3", "date": DATE, "ratelimit-reset": "1"}],
    ids=["none", "unknown suffixes"],
)
def test_headers_without_limits(headers: dict[str, str]) -> None:
    """No header, or headers with other suffixes, report nothing."""
    assert read_rate_limits(headers) is None


_ABSURD = st.sampled_from(
    [
        "Wed, 21 Oct 2026 07:28:10 +99999999999999999999", "21 Jan 99999999999999 24:00:00",
        "Mon, 31 Dec 9999 23:59:59",
        "0001-01-01T00:00:00+23:59", "1e400", "-1e400", "nan", "-nan", "-5", "6", str(2**63), "\u0661\u0662",
        "9" * 10_000, "1" * 10_000 + "s", "1ms" * 4000, "1e309s", "0x10", "1_000", "", " ", ",", "+1", "1,0", "1;w=60",
    ]
)  # fmt: skip
_DATE_PART = st.sampled_from(
    ["Wed,", "21", "Oct", "2026", "99999999999999", "07:28:10", "24:00", "GMT", "+2400", "+99999999999999999999", "-"]
)
_VALUE = _ABSURD | st.text(max_size=40) | st.lists(_DATE_PART, max_size=7).map(" ".join) | st.floats().map(str)


@given(_VALUE, _VALUE, _VALUE, _VALUE)
def test_no_header_is_an_error(limit: str, remaining: str, reset: str, date: str) -> None:
    """Whatever a server sends, each number read is finite, not negative, and no wait is longer than a month."""
    values = {"limit": limit, "remaining": remaining, "reset": reset}
    report = read_rate_limits({f"x-ratelimit-{kind}-tokens": value for kind, value in values.items()} | {"date": date})
    waits = [retry_after_s({"retry-after-ms": limit, "retry-after": reset, "date": date})]

    level = None if report is None else report.tokens
    if level is not None:
        assert all(amount is None or 0 <= amount < float("inf") for amount in level)
        waits.append(level.reset_s)
    assert all(wait is None or 0 <= wait <= 32 * 86400 for wait in waits)


@given(_VALUE, _VALUE, st.sampled_from(["true", "false", "TRUE", "\u0661"]), st.sampled_from([200, 302, 429, 500, 599]))
def test_no_header_of_a_refusal_is_an_error(value: str, date: str, again: str, status: int) -> None:
    """The refusal is an error of this package whatever its headers hold."""
    headers = {"retry-after": value, "retry-after-ms": date, "date": date, "x-should-retry": again, "location": value}

    assert isinstance(error_of_status(status, headers, value.encode(errors="replace")), LogprobStoreError)


@pytest.mark.parametrize("zone", ["+99999999999999999999", "+9999999999", "-99999999"])
@pytest.mark.parametrize("header", ["date", "x-ratelimit-reset-requests", "retry-after"])
def test_a_date_in_a_zone_that_cannot_be_is_unsaid(header: str, zone: str) -> None:
    """The other headers still count."""
    headers = {"x-ratelimit-remaining-requests": "5", header: f"Wed, 21 Oct 2026 07:28:10 {zone}"}

    assert read_rate_limits(headers, now=NOW) == ServerReport(RateLimit(remaining=5))
    assert retry_after_s(headers, now=NOW) is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "250", "retry-after": "2"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "\u0665"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 32 Foo 2026"}, None),
        ({"retry-after": "1790000000"}, None),
        ({"retry-after": "2592000"}, 2_592_000.0),  # a month's quota: 30 days
        ({"retry-after": ""}, None),
    ],
    ids=str,
)
def test_retry_after_s(headers: dict[str, str], expected: float | None) -> None:
    """Other values, and more than 32 days, are ignored; a past date is 0 seconds."""
    assert retry_after_s(headers) == expected
