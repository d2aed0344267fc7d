"""Progress of a run while it goes: a bar on a terminal, plain lines or events elsewhere.

Holds three context managers that each give a callback for `run_job`, and what they say. Bar and lines write to standard
error, which leaves standard output to results; events go through `logging`.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from logprob_store.run.buffer import Progress

log = logging.getLogger(__name__)

_LINE_EVERY_S: Final = 10.0
_RATE_OVER_S: Final = 10.0
_LEFT_OVER_S: Final = 60.0
_LEAST_S: Final = 1.0
_WIDEST_BAR: Final = 30
_BETWEEN: Final = ", "
_MINUTE: Final = 60
_FEW: Final = 10


class Pace:
    """How fast outcomes come: the rate of the last ten seconds, and the time left at the rate of the last minute.

    >>> pace = Pace()
    >>> for second in range(31): pace.note(float(second), settled=2 * second if second < 20 else 40 + 5 * (second - 20))
    >>> pace.per_second, pace.left_s(total=150)
    (5.0, 20.0)
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, settled: int) -> None:
        """So many outcomes by now (seconds)."""
        while self._seen and self._seen[0][0] < now - _LEFT_OVER_S:
            self._seen.popleft()
        self._seen.append((now, settled))

    @property
    def per_second(self) -> float | None:
        """Outcomes a second over the last ten seconds; None in the first second."""
        return self._rate(_RATE_OVER_S)

    def left_s(self, total: int) -> float | None:
        """Seconds until there are `total`; None while nothing comes."""
        rate = self._rate(_LEFT_OVER_S)
        return (total - self._seen[-1][1]) / rate if rate else None

    def _rate(self, over_s: float) -> float | None:
        if not self._seen:
            return None
        now, settled = self._seen[-1]
        then, before = next(seen for seen in self._seen if seen[0] >= now - over_s)
        return (settled - before) / (now - then) if now - then >= _LEAST_S else None


def words(progress: Progress, pace: Pace) -> list[str]:
    """What is said of a run under way, the most important first.

    >>> from logprob_store.run.buffer import Progress
    >>> words(Progress(total=9, settled=4, from_cache=1, failed=2, in_flight=3, spent_usd=0.5), Pace())
    ['4/9', '2 failed', '3 in flight', '1 from cache', '$0.5000']
    """
    said = [f"{progress.settled}/{progress.total}"]
    if (rate := pace.per_second) is not None:
        said.append(_rate_word(rate))
    if (left_s := pace.left_s(progress.total)) is not None:
        said.append(f"{_clock(left_s)} left")
    said += [f"{progress.failed} failed", f"{progress.in_flight} in flight"]
    if progress.from_cache:
        said.append(f"{progress.from_cache} from cache")
    if progress.from_fixtures:
        said.append(f"{progress.from_fixtures} from fixtures")
    if (usd := progress.spent_usd) is not None:
        said.append(f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}")
    return said


def fitting(said: Sequence[str], width: int) -> str:
    """As many words as fit into `width` columns, and always the first.

    >>> fitting(["4/9", "2 failed", "3 in flight"], 15)
    '4/9, 2 failed'
    """
    line = said[0]
    for word in said[1:]:
        if len(line) + len(_BETWEEN) + len(word) > width:
            break
        line += _BETWEEN + word
    return line


@contextmanager
def bar() -> Iterator[Callable[[Progress], None]]:
    """A bar and a line on the terminal, as wide as that is, gone at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    console, pace = Console(stderr=True), Pace()
    column = BarColumn(bar_width=_WIDEST_BAR)
    with Bar(column, TextColumn("{task.description}", markup=False), console=console, transient=True) as shown:
        task = shown.add_task("", total=None)

        def update(progress: Progress) -> None:
            pace.note(time.monotonic(), progress.settled)
            column.bar_width = min(_WIDEST_BAR, console.width // 5)
            said = fitting(words(progress, pace), console.width - column.bar_width - 1)
            shown.update(task, total=progress.total, completed=progress.settled, description=said)

        yield update


@contextmanager
def lines() -> Iterator[Callable[[Progress], None]]:
    """A plain line every ten seconds, for logs."""

    def write(progress: Progress, pace: Pace) -> None:
        sys.stderr.write(f"{_BETWEEN.join(words(progress, pace))}\n")
        sys.stderr.flush()

    yield _now_and_then(write)


@contextmanager
def progress_events() -> Iterator[Callable[[Progress], None]]:
    """An event every ten seconds, for machines."""

    def write(progress: Progress, pace: Pace) -> None:
        emit(
            log,
            "progress",
            "%s",
            _BETWEEN.join(words(progress, pace)),
            **dataclasses.asdict(progress),
            per_second=pace.per_second,
            left_s=pace.left_s(progress.total),
        )

    yield _now_and_then(write)


def _now_and_then(write: Callable[[Progress, Pace], None]) -> Callable[[Progress], None]:
    pace, last = Pace(), time.monotonic()

    def update(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        pace.note(now, progress.settled)
        if now - last >= _LINE_EVERY_S:
            last = now
            write(progress, pace)

    return update


def _rate_word(per_second: float) -> str:
    if 0 < per_second < 1:
        return f"{per_second * _MINUTE:.1f}/min"
    return f"{per_second:.1f}/s" if per_second < _FEW else f"{per_second:.0f}/s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
