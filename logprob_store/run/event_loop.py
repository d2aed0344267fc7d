"""Running a coroutine to its end from code that is not async, also where an event loop runs already: in a notebook."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")
_LOOK_UP_S: Final = 0.2


def run_to_end(work: Coroutine[Any, Any, _T], *, on_interrupt: Callable[[], object] | None = None) -> _T:
    """What a coroutine returns; in a thread of its own where the current one has a running event loop.

    Args:
        work: the coroutine.
        on_interrupt: called at Ctrl-C while such a thread is waited for, to end its work early. A second Ctrl-C ends
            the wait.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    thread = ThreadPoolExecutor(max_workers=1)
    try:
        done = thread.submit(asyncio.run, work)
        try:
            return _result(done)
        except KeyboardInterrupt:
            if on_interrupt is None:
                raise
            on_interrupt()
            return _result(done)
    finally:
        thread.shutdown(wait=False)


def _result(done: Future[_T]) -> _T:
    """The result of a future; looks up now and then, as a signal that another thread receives wakes nobody up."""
    while not done.done():
        wait([done], timeout=_LOOK_UP_S)
    return done.result()
