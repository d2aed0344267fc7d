"""Claims: locks on request keys, so that two processes do not make the same call at once.

A claim locks one byte of a file in the cache folder, at an offset that follows from the key. The kernel keeps such
locks in memory and releases them when their holder ends, however it ends, so there is nothing to clean up. What is done
under a claim is in `run.asker`.

Each user of a cache also holds a shared lock of its folder. So somebody who finds the file gone knows whether another
process still has its claims in the deleted one, where they cannot be seen.

Claims work within one machine; docs/decisions/0010-claims.md has the alternatives.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import struct
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CacheError, DiskError, disk_error
from logprob_store.processes import users_of

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_FILE_NAME: Final = "claims.lock"

_OFD_SETLK: Final = getattr(fcntl, "F_OFD_SETLK", None)
"""Locks of an open file: two `Claims` in one process exclude each other, and closing one releases no lock of the other.

Linux has them; elsewhere the locks belong to the process.
"""
_FLOCK: Final = struct.Struct("hhqqi4x")
_FIRST_WAIT_S: Final = 0.002
_LONGEST_WAIT_S: Final = 0.2


class Claims:
    """Claims on keys of one cache folder.

    Where the file system has no locks, every claim is granted, and one warning is logged.

    Args:
        folder: the cache's folder.
        open_file_locks: use locks of the open file, where the system has them, instead of the process's.

    Raises:
        CacheError: the file of locks cannot be made, or was deleted under another process that uses the cache.

    >>> import tempfile; from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> one, other = Claims(folder), Claims(folder)
    >>> one.take("5f" * 32), other.take("5f" * 32), other.take("60" * 32)
    (True, False, True)
    >>> one.release("5f" * 32)
    >>> other.take("5f" * 32)
    True
    >>> one.close(); other.close()
    """

    def __init__(self, folder: Path, *, open_file_locks: bool = True) -> None:
        self.path = folder / _FILE_NAME
        self._lock_command = _OFD_SETLK if open_file_locks else None
        self._has_no_locks = False
        try:
            self._folder, is_alone = _share_folder(folder)
        except OSError as error:
            raise _unusable(folder, error) from error
        with contextlib.ExitStack() as on_error:
            on_error.callback(os.close, self._folder)
            try:
                if self.path.is_symlink():
                    self.path.unlink()  # planted: what it leads to is no file of locks
                create = os.O_CREAT if is_alone else 0
                self._file = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | create, 0o600)
            except FileNotFoundError:
                raise CacheError(
                    f"{self.path} was deleted while {users_of(folder)} uses the cache: what is being asked there "
                    "cannot be seen, and would be paid for twice. Wait until that has ended, then run this again."
                ) from None
            except OSError as error:
                raise _unusable(folder, error) from error
            if is_alone:
                _lock_folder(self._folder, fcntl.LOCK_SH)
            on_error.pop_all()

    def take(self, key: str) -> bool:
        """Claim a key without waiting; returns False if another `Claims` has it. Takes about 2 microseconds."""
        if self._has_no_locks:
            return True
        try:
            self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB, key)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            self._has_no_locks = True
            log.warning(
                "%s cannot be locked (%s): if another process uses this cache now, both may ask for the same answers. "
                "Put the cache on a local disk.",
                self.path,
                error,
            )
        return True

    async def wait(self, key: str) -> None:
        """Claim a key as soon as its holder releases it or ends."""
        pause_s = _FIRST_WAIT_S
        while not self.take(key):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_WAIT_S)

    def release(self, key: str) -> None:
        """Release a key."""
        if not self._has_no_locks and self._file >= 0:
            self._lock(fcntl.LOCK_UN, key)

    def close(self) -> None:
        """Release all keys; a task that is cancelled later may still release its own."""
        os.close(self._file)
        os.close(self._folder)
        self._file = -1

    def _lock(self, operation: int, key: str) -> None:
        # 62 bits of the key's sha256. If two keys ever have the same offset, one waits for the other; no harm is done.
        offset = int(key[:16], 16) >> 2
        if self._lock_command is None:
            fcntl.lockf(self._file, operation, 1, offset)
            return
        kind = fcntl.F_UNLCK if operation == fcntl.LOCK_UN else fcntl.F_WRLCK
        fcntl.fcntl(self._file, self._lock_command, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))


def _unusable(folder: Path, error: OSError) -> CacheError | DiskError:
    return disk_error("the file of locks", folder, error) or CacheError(
        f"the cache at {folder} cannot be shared: {error}"
    )


def _share_folder(folder: Path) -> tuple[int, bool]:
    """Open a folder and lock it: shared with others that use it, or exclusively if there are none.

    Returns:
        Its descriptor; and whether no other process has it, as far as can be known.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if _lock_folder(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
        return descriptor, True
    _lock_folder(descriptor, fcntl.LOCK_SH)  # waits as long as another one needs to make its file
    return descriptor, False


def _lock_folder(descriptor: int, operation: int) -> bool:
    """Lock a folder; False if another process has it locked. Where folders cannot be locked, nobody is known."""
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        log.debug("the cache's folder cannot be locked: %s", error)
    return True
