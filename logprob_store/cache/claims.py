"""Claims: which process is asking for which key, so that no call is made by two at once.

Holds one lock per key among all who share a cache folder: one byte of a file, at an offset that follows from the key.
The kernel keeps such locks in memory and lets go of them when their holder dies, however it dies; there is nothing to
clean up. Leaves out what is done under a claim and the answer itself (`asking`, `cache`).

Claims hold within one machine. `docs/decisions/` tells what else there was.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import struct
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CacheError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

FILE: Final = "claims.lock"

# Locks of an open file, not of a process: two askers in one process exclude each other too, and closing one file of
# theirs does not drop the other's locks. Linux has them; elsewhere there are the process's.
_OF_OPEN_FILE: Final = getattr(fcntl, "F_OFD_SETLK", None)
_FLOCK: Final = struct.Struct("hhqqi4x")
_FIRST_WAIT_S: Final = 0.002
_LONGEST_WAIT_S: Final = 0.2


class Claims:
    """The claims of one asker on keys of one cache folder.

    Where the file system has no locks a warning says so once, and every claim is granted.

    Args:
        folder: the cache's.

    Raises:
        CacheError: the file of locks cannot be made.

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

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._granted_unseen = False
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CacheError(f"the cache at {folder} cannot be shared: {error}") from error

    def take(self, key: str) -> bool:
        """Claim a key; False when somebody else has it. Takes some 2 microseconds, and never waits."""
        if self._granted_unseen:
            return True
        try:
            self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB, key)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            self._granted_unseen = True
            log.warning(
                "%s cannot be locked (%s): if another process uses this cache now, both may ask for the same answers. "
                "Put the cache on a local disk.",
                self._path,
                error,
            )
        return True

    async def wait(self, key: str) -> None:
        """Claim a key, as soon as whoever has it lets go or dies."""
        pause_s = _FIRST_WAIT_S
        while not self.take(key):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_WAIT_S)

    def release(self, key: str) -> None:
        """Let go of a key."""
        if not self._granted_unseen:
            self._lock(fcntl.LOCK_UN, key)

    def close(self) -> None:
        """Let go of all keys."""
        os.close(self._file)

    def _lock(self, how: int, key: str) -> None:
        # 62 bits of the key's sha256. Should two keys ever meet there, one waits for the other, and no harm is done.
        offset = int(key[:16], 16) >> 2
        if _OF_OPEN_FILE is None:
            fcntl.lockf(self._file, how, 1, offset)
            return
        kind = fcntl.F_UNLCK if how == fcntl.LOCK_UN else fcntl.F_WRLCK
        fcntl.fcntl(self._file, _OF_OPEN_FILE, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
