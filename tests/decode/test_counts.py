"""Counts and times of a lying server: what cannot be is null, and sums stay within 64 bits."""

from __future__ import annotations

from typing import Any

import pytest

from logprob_store.decode.formats.body import count_or_none, time_or_none
from logprob_store.decode.formats.native_fields import iso_time_or_none


@pytest.mark.parametrize("value", [-1, 10**9, 2**62, 2**63 - 1, 2**63, 10**40, 1.5, True, "5", None, [], float("nan")])
def test_a_count_that_cannot_be_is_none(value: Any) -> None:
    """A billion tokens is the least that no answer has: thousands of millions of such sums are below 2**63."""
    assert count_or_none(value) is None
    assert (count_or_none(10**9 - 1), count_or_none(12.0)) == (10**9 - 1, 12)


@pytest.mark.parametrize(
    "value", [1e300, -1e300, 10**40, float("nan"), float("inf"), 2**63, "9" * 10_000, True, None, {}, "1e400"]
)
def test_a_time_that_cannot_be_is_none(value: Any) -> None:
    """It costs no answer."""
    assert time_or_none(value) is None
    assert iso_time_or_none(value) is None


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00+99:99"]
)
def test_a_time_beyond_the_calendar_is_none(text: str) -> None:
    """In UTC it is before the year 1, or after 9999."""
    assert iso_time_or_none(text) is None
