"""Progress of a run while it goes: a bar on a terminal, plain lines elsewhere.

Holds two context managers that each give a callback for `run_job`. Both write to standard error, which leaves standard
output to results.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from logprob_store.session import Progress

_LINE_EVERY_S: Final = 10.0


@contextmanager
def bar() -> Iterator[Callable[[Progress], None]]:
    """A rich progress bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("asking", total=None)

        def update(progress: Progress) -> None:
            shown.update(task, total=progress.total, completed=progress.settled, description=_said(progress))

        yield update


@contextmanager
def lines() -> Iterator[Callable[[Progress], None]]:
    """A plain line every ten seconds, for logs."""
    last = time.monotonic()

    def update(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            sys.stderr.write(f"{progress.settled}/{progress.total} {_said(progress)}\n")
            sys.stderr.flush()

    yield update


def _said(progress: Progress) -> str:
    return (
        f"{progress.calls} calls, {progress.from_cache + progress.from_fixtures} had, "
        f"{progress.in_flight} in flight, {progress.failed} failed"
    )
