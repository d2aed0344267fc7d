"""File descriptors: as many as the calls of a run need, where the system allows them.

Many systems let a process open 1,024 files unless it asks for more. Each call has a connection, and the store, the
cache and the libraries have files of their own.
"""

from __future__ import annotations

import contextlib
import logging
import resource
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_OTHER_FILES: Final = 128
"""Descriptors that are left to everything but connections."""


@contextlib.contextmanager
def room_for(calls: int) -> Iterator[int]:
    """Raise this process's limit of open files for as long as the context lasts; gives the calls that it has room for.

    Args:
        calls: the most at once. Fewer are logged as a warning.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = calls + _OTHER_FILES
    allowed = _raised_to(wanted, soft, hard)
    fitting = calls if allowed >= wanted else max(1, allowed - _OTHER_FILES, allowed // 2)
    if fitting < calls:
        log.warning(
            "this process may open %d files, so that %d calls are made at once and not limits.concurrency = %d: raise "
            "the limit (`ulimit -n %d`, LimitNOFILE in systemd)",
            allowed,
            fitting,
            calls,
            wanted,
        )
    try:
        yield min(fitting, calls)
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
