"""File descriptors: as many as the calls of a run need, where the system allows them.

Many systems let a process open 1,024 files unless it asks for more. Each call has a connection, and the store, the
cache and the libraries have files of their own.
"""

from __future__ import annotations

import contextlib
import logging
import resource
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_OTHER_FILES: Final = 128
"""Descriptors that are left to everything but connections."""


class OpenFiles(NamedTuple):
    """The files that this process may open, the calls that these have room for, and what to do if they are too few."""

    allowed: int
    calls: int
    advice: str | None


@contextlib.contextmanager
def room_for(calls: int) -> Iterator[int]:
    """Raise this process's limit of open files for as long as the context lasts; gives the calls that it has room for.

    Args:
        calls: the most at once. Fewer are logged as a warning.
    """
    with raised_limit(calls) as limit:
        if limit.advice is not None:
            log.warning("%s", limit.advice)
        yield limit.calls


@contextlib.contextmanager
def raised_limit(calls: int) -> Iterator[OpenFiles]:
    """Raise this process's limit of open files for as long as the context lasts, for as many calls at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = calls + _OTHER_FILES
    allowed = _raised_to(wanted, soft, hard)
    fitting = calls if allowed >= wanted else min(calls, max(1, allowed - _OTHER_FILES, allowed // 2))
    advice = None
    if fitting < calls:
        advice = (
            f"this process may open {allowed} files, so that {fitting} calls are made at once and not "
            f"limits.concurrency = {calls}: raise the limit (`ulimit -n {wanted}`, LimitNOFILE in systemd)"
        )
    try:
        yield OpenFiles(allowed, fitting, advice)
    finally:
        if allowed != soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _raised_to(wanted: int, soft: int, hard: int) -> int:
    """The limit that holds now: as high as wanted, if the system lets it be."""
    if soft == resource.RLIM_INFINITY:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has a limit of its own below the hard one
        return soft
    return most
