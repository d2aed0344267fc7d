"""The lock of a run, which allows one writer at a time.

The kernel releases the lock when its process ends, however it ends. So the lock shows what the manifest cannot: whether
a run whose manifest says `running` has crashed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from logprob_store.errors import RunLockedError
from logprob_store.store.manifest import run_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_RETRY_AFTER_S: Final = 0.05
"""Longer than `is_being_written` holds its lock: a file that is locked after that has a writer."""


@contextlib.contextmanager
def locked(store: Path, run: str) -> Iterator[None]:
    """Hold a run's lock, as its writer does.

    Raises:
        RunLockedError: another process writes this run.
    """
    descriptor = take_lock(run_folder(store, run) / "lock", run)
    try:
        yield
    finally:
        os.close(descriptor)


def take_lock(path: Path, run: str) -> int:
    """Lock a run's lock file; returns its descriptor. Closing that, or the end of the process, releases the lock.

    Raises:
        RunLockedError: another process writes this run.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    for last in (False, True):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if last:
                os.close(descriptor)
                raise RunLockedError(run, path) from None
            time.sleep(_RETRY_AFTER_S)
        else:
            break
    return descriptor


def is_being_written(store: Path, run: str) -> bool:
    """Whether a live process has the run open for writing; False where the lock file cannot be read.

    Takes a shared lock for an instant; a writer that comes at this instant tries again (`take_lock`).
    """
    try:
        descriptor = os.open(run_folder(store, run) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def state_now(store: Path, run: str, noted: str) -> str:
    """The state of a run: that of its manifest (`noted`), corrected by whether a process writes the run now.

    It is `running` while a process writes it, and `crashed` if none does and the manifest still says `running`.
    """
    if is_being_written(store, run):
        return "running"
    return "crashed" if noted == "running" else noted
