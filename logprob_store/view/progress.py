"""Progress of a run: a bar on a terminal, or a plain line or a log event every ten seconds.

Each of the three is a context manager that yields a callback for `run_job`. Bar and lines write to standard error,
because results go to standard output; events go through `logging`.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from logprob_store.events import emit
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from logprob_store.run.buffer import Progress

log = logging.getLogger(__name__)

_REPORT_EVERY_S: Final = 10.0
_RATE_WINDOW_S: Final = 10.0
_TIME_LEFT_WINDOW_S: Final = 60.0
_SHORTEST_WINDOW_S: Final = 1.0
_WIDEST_BAR: Final = 30  # terminal columns
_SEPARATOR: Final = ", "
_WHOLE_NUMBERS_FROM: Final = 10  # calls a second


class RateMeter:
    """How fast calls are settled: the rate of the last 10 seconds, and the time left at the rate of the last minute.

    >>> meter = RateMeter()
    >>> for second in range(31):
    ...     meter.record(float(second), settled=2 * second if second < 20 else 40 + 5 * (second - 20))
    >>> meter.per_second, meter.seconds_left(total=150)
    (5.0, 20.0)
    """

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()  # (seconds, settled calls)

    def record(self, now: float, settled: int) -> None:
        """Record that `settled` calls have an outcome at the time `now`, in seconds."""
        while self._counts and self._counts[0][0] < now - _TIME_LEFT_WINDOW_S:
            self._counts.popleft()
        self._counts.append((now, settled))

    @property
    def per_second(self) -> float | None:
        """Calls settled a second, over the last 10 seconds; None in the first second."""
        return self._rate(_RATE_WINDOW_S)

    def seconds_left(self, total: int) -> float | None:
        """Seconds until `total` calls are settled; None while the rate is 0 or unknown."""
        rate = self._rate(_TIME_LEFT_WINDOW_S)
        return (total - self._counts[-1][1]) / rate if rate else None

    def _rate(self, window_s: float) -> float | None:
        if not self._counts:
            return None
        now, settled = self._counts[-1]
        then, settled_then = next(count for count in self._counts if count[0] >= now - window_s)
        return (settled - settled_then) / (now - then) if now - then >= _SHORTEST_WINDOW_S else None


def progress_items(progress: Progress, meter: RateMeter) -> list[str]:
    """What a line of progress says, the most important first.

    >>> from logprob_store.run.buffer import Progress
    >>> progress_items(Progress(total=9, settled=4, from_cache=1, failed=2, in_flight=3, spent_usd=0.5), RateMeter())
    ['4/9', '2 failed', '3 in flight', '1 from cache', '$0.5000']
    """
    items = [f"{progress.settled}/{progress.total}"]
    if progress.batches:
        items += progress.batches.split(_SEPARATOR)  # the most important first, so that some fit
    if (rate := meter.per_second) is not None:
        items.append(_rate_text(rate))
    if (left_s := meter.seconds_left(progress.total)) is not None:
        items.append(f"{_duration_text(left_s)} left")
    items.append(f"{progress.failed} failed")
    if not progress.batches:
        items.append(f"{progress.in_flight} in flight")
    if progress.from_cache:
        items.append(f"{progress.from_cache} from cache")
    if progress.from_fixtures:
        items.append(f"{progress.from_fixtures} from fixtures")
    if (usd := progress.spent_usd) is not None:
        items.append(f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}")
    return items


def join_within(items: Sequence[str], width: int) -> str:
    """The first items that fit into `width` terminal columns, joined by commas; the first item is always included.

    >>> join_within(["4/9", "2 failed", "3 in flight"], 15)
    '4/9, 2 failed'
    """
    line = items[0]
    for item in items[1:]:
        if len(line) + len(_SEPARATOR) + len(item) > width:
            break
        line += _SEPARATOR + item
    return line


@contextmanager
def bar() -> Iterator[Callable[[Progress], None]]:
    """A bar and a line of text across the terminal, removed at the end; below it, why no call is answered."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    console, meter = Console(stderr=True), RateMeter()
    column = BarColumn(bar_width=_WIDEST_BAR)
    words = TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold"))
    with Bar(column, words, console=console, transient=True) as shown:
        task = shown.add_task("", total=None)

        def update(progress: Progress) -> None:
            meter.record(time.monotonic(), progress.settled)
            column.bar_width = min(_WIDEST_BAR, console.width // 5)
            text = join_within(progress_items(progress, meter), console.width - column.bar_width - 1)
            if progress.trouble is not None:
                text += f"\n{printable(progress.trouble)}"
            shown.update(task, total=progress.total, completed=progress.settled, description=text)

        yield update


@contextmanager
def lines() -> Iterator[Callable[[Progress], None]]:
    """A plain line every ten seconds, for logs."""

    def write(progress: Progress, meter: RateMeter) -> None:
        trouble = f"; {printable(progress.trouble)}" if progress.batches and progress.trouble else ""
        sys.stderr.write(f"{_SEPARATOR.join(progress_items(progress, meter))}{trouble}\n")
        sys.stderr.flush()

    yield _every_ten_seconds(write)


@contextmanager
def progress_events() -> Iterator[Callable[[Progress], None]]:
    """A log event every ten seconds, for machines."""

    def write(progress: Progress, meter: RateMeter) -> None:
        emit(
            log,
            "progress",
            "%s",
            _SEPARATOR.join(progress_items(progress, meter)),
            **dataclasses.asdict(progress),
            per_second=meter.per_second,
            left_s=meter.seconds_left(progress.total),
        )

    yield _every_ten_seconds(write)


def _every_ten_seconds(write: Callable[[Progress, RateMeter], None]) -> Callable[[Progress], None]:
    """A callback that records each progress report and calls `write` every ten seconds."""
    meter, last = RateMeter(), time.monotonic()

    def update(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        meter.record(now, progress.settled)
        if now - last >= _REPORT_EVERY_S:
            last = now
            write(progress, meter)

    return update


def _rate_text(per_second: float) -> str:
    if 0 < per_second < 1:
        return f"{per_second * 60:.1f}/min"
    return f"{per_second:.1f}/s" if per_second < _WHOLE_NUMBERS_FROM else f"{per_second:.0f}/s"


def _duration_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
