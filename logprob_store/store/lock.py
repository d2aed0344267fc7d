"""The lock of a run, which allows one writer at a time.

The kernel releases the lock when its process ends, however it ends. So the lock shows what the manifest cannot: whether
a run whose manifest says `running` has crashed.

What is locked is the run's folder, and the file `lock` in it. The file is for file systems that lock no folders, and
for version 0.1.0, which knew no other; it may be deleted while the folder is locked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final, Self

from logprob_store.errors import RunLockedError
from logprob_store.processes import users_of
from logprob_store.store.durable_files import FILE_MODE
from logprob_store.store.manifest import run_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_RETRY_AFTER_S: Final = 0.05
"""Longer than `is_being_written` holds its lock: what is locked after that has a writer."""
_NO_SUCH_LOCKS: Final = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EISDIR})
"""What file systems answer that lock no folders: NFS, for one, locks only what is open for writing."""


class RunLock:
    """A run's lock, from `take_lock` to `close`; also a context manager."""

    def __init__(self, folder: Path, held: dict[Path, int]) -> None:
        self._folder = folder
        self._held = held  # descriptors by path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock; the kernel does so too when the process ends."""
        while self._held:
            os.close(self._held.popitem()[1])

    def check(self) -> None:
        """See that the lock is still of what has its path: a folder that was moved or made anew has another writer.

        Raises:
            OSError: it is not; nothing must be written there.
        """
        path = self._folder if self._folder in self._held else _lock_file(self._folder)
        mine, there = os.fstat(self._held[path]), path.lstat()
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            raise OSError(errno.ESTALE, "it was moved, or deleted and made anew, while the run was written", str(path))


def take_lock(store: Path, run: str) -> RunLock:
    """Lock a run whose folder exists.

    Raises:
        RunLockedError: another process writes this run.
        OSError: the lock cannot be made.
    """
    folder = run_folder(store, run)
    file = _lock_file(folder)
    lock = RunLock(folder, held := {})
    with contextlib.ExitStack() as on_error:
        on_error.callback(lock.close)
        if file.is_symlink():
            file.unlink()  # planted: what it leads to is not this run's lock
        for path, flags in ((folder, os.O_RDONLY | os.O_DIRECTORY), (file, os.O_RDWR | os.O_CREAT)):
            held[path] = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
            has_locked = _lock(held[path])
            if has_locked is False:
                raise RunLockedError(run, users_of(path), path)
            if has_locked is None:
                os.close(held.pop(path))
        if file not in held:
            raise OSError(errno.ENOLCK, "this file system has no locks", str(file))
        lock.check()
        on_error.pop_all()
    return lock


@contextlib.contextmanager
def lock_folder(folder: Path, run: str) -> Iterator[None]:
    """Lock a folder that is no run's any more, for as long as the context lasts, where the file system can.

    Raises:
        RunLockedError: another process has locked it.
        OSError: it cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _lock(descriptor) is False:
            raise RunLockedError(run, "a process that removes it", folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock an open file or folder; False if another process has it, None where the file system has no such locks."""
    for last in (False, True):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not last:
                time.sleep(_RETRY_AFTER_S)
        except OSError as error:
            if error.errno in _NO_SUCH_LOCKS:
                return None
            raise
        else:
            return True
    return False


def is_being_written(store: Path, run: str) -> bool:
    """Whether a live process has the run open for writing; False where that cannot be read.

    Takes a shared lock for an instant; a writer that comes at this instant tries again (`take_lock`).
    """
    folder = run_folder(store, run)
    return any(_is_locked(path) for path in (folder, _lock_file(folder)))


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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


def _lock_file(folder: Path) -> Path:
    return folder / "lock"


def state_now(store: Path, run: str, noted: str) -> str:
    """The state of a run: that of its manifest (`noted`), corrected by whether a process writes the run now.

    It is `running` while a process writes it, and `crashed` if none does and the manifest still says `running`.
    """
    if is_being_written(store, run):
        return "running"
    return "crashed" if noted == "running" else noted
