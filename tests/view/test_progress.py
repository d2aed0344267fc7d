"""Progress of a run: the rate, the time left, and the items and width of the line."""

from __future__ import annotations

import logging
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.run.buffer import Progress
from logprob_store.view import progress as view
from logprob_store.view.progress import RateMeter, join_within, progress_items


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the module under test reads."""
    clock = Clock()
    monkeypatch.setattr(view.time, "monotonic", clock)
    return clock


def test_calls_settled_before_the_session_do_not_count_for_the_rate() -> None:
    """A run resumed with 1000 of 1010 calls settled has no rate at first, and 1/s after two calls in 2 s."""
    meter = RateMeter()
    meter.record(0.0, 1000)
    assert (meter.per_second, meter.seconds_left(1010)) == (None, None)
    meter.record(2.0, 1002)

    # 2 calls in 2 s are 1/s, so the 8 that are left take 8 s.
    assert (meter.per_second, meter.seconds_left(1010)) == (1.0, 8.0)


def test_an_outage_shows_in_the_rate_and_not_at_once_in_the_time_left() -> None:
    """After 10 s without a call the rate is 0; the time left uses the last minute, and is unknown after that."""
    meter = RateMeter()
    for second in range(31):
        meter.record(float(second), min(second, 20) * 6)
    # 120 in 30 s are 4/s, so another 120 take 30 s.
    assert (meter.per_second, meter.seconds_left(240)) == (0.0, 30.0)

    for second in range(31, 100):
        meter.record(float(second), 120)

    assert meter.seconds_left(240) is None


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.0, "0.0/s"), (0.05, "3.0/min"), (9.94, "9.9/s"), (41.4, "41/s"), (None, None)]
)
def test_slow_rates_are_shown_a_minute(rate: float | None, expected: str | None) -> None:
    """One call in twenty seconds is 3.0/min, not 0.1/s."""
    meter = RateMeter()
    if rate is not None:
        meter.record(0.0, 0)
        meter.record(10.0, rate * 10)  # type: ignore[arg-type]  # what a rate between two counts would need

    assert (expected in progress_items(Progress(total=10**6), meter)) is (expected is not None)


def test_all_items_of_a_line() -> None:
    """They are the rate, time left, failures, calls in flight, answers by source, and dollars spent."""
    meter = RateMeter()
    meter.record(0.0, 0)
    meter.record(10.0, 1000)
    progress = Progress(
        total=367_000, settled=1000, from_cache=7, from_fixtures=5, failed=2, in_flight=64, spent_usd=12.5
    )

    # 366,000 at 100/s are 3660 s.
    assert progress_items(progress, meter) == [
        "1000/367000", "100/s", "1:01:00 left", "2 failed", "64 in flight", "7 from cache", "5 from fixtures", "$12.50",
    ]  # fmt: skip


@given(st.lists(st.text("ab ", min_size=1, max_size=20), min_size=1), st.integers(0, 60))
def test_a_line_fits_its_width(items: list[str], width: int) -> None:
    """A line is never wider than allowed, unless its first item is, and it drops items from the end."""
    line = join_within(items, width)

    assert len(line) <= max(width, len(items[0]))
    assert ", ".join(items).startswith(line)


@pytest.mark.parametrize("columns", [40, 80])
def test_the_bar_says_why_no_call_is_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    """Whole, however narrow the terminal is, and no longer than it lasts."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    said = (
        "server not reached for 12 s: no connection to 10.200.30.40:18764, http://10.200.30.40:18764/v1; trying again"
    )
    with view.bar() as update:
        update(Progress(total=400, in_flight=3, trouble=said))
        time.sleep(0.3)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)

    assert said.replace(" ", "") in re.sub(r"\s", "", shown)


def test_a_line_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a plain line is written every ten seconds, with four reports a second."""
    with view.lines() as update:
        for quarter in range(4 * 25 + 1):
            clock.now = quarter / 4
            update(Progress(total=400, settled=quarter * 2, in_flight=3))

    # At 8/s 80 calls are settled after 10 s, and the other 320 take 40 s.
    assert capsys.readouterr().err.splitlines() == [
        "80/400, 8.0/s, 0:40 left, 0 failed, 3 in flight",
        "160/400, 8.0/s, 0:30 left, 0 failed, 3 in flight",
    ]


def test_an_event_every_ten_seconds(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """With JSON logs the same is an event."""
    with caplog.at_level(logging.INFO), view.progress_events() as update:
        for second in range(11):
            clock.now = float(second)
            update(Progress(total=400, settled=second, calls=second, in_flight=3, spent_usd=0.25))
    fields = [record.fields for record in caplog.records]  # type: ignore[attr-defined]  # given by `extra`

    assert fields == [
        {
            "total": 400, "settled": 10, "calls": 10, "from_cache": 0, "from_fixtures": 0, "shared": 0, "failed": 0,
            "in_flight": 3, "spent_usd": 0.25, "batches": "", "trouble": None, "per_second": 1.0, "left_s": 390.0,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, "0/120000, 45000 of 120000 done in 3 batches"),
        (80, "0/120000, 45000 of 120000 done in 3 batches, about 2:10 left"),
        (
            120,
            "0/120000, 45000 of 120000 done in 3 batches, about 2:10 left, 2 validating, 1 in_progress",
        ),
    ],
)
def test_batches_are_shown_as_far_as_they_fit(width: int, shown: str) -> None:
    """How many calls are done comes first: beside the bar, a fifth of the terminal, there is room for that."""
    batches = "45000 of 120000 done in 3 batches, about 2:10 left, 2 validating, 1 in_progress"
    items = progress_items(Progress(total=120000, batches=batches), RateMeter())

    assert join_within(items, width - min(30, width // 5) - 1) == shown
