"""The cache of raw answers by request key, on disk before anything parses them.

A value is a zstd frame with one line of JSON (`_Meta`) and then the body exactly as it came. The frame has a checksum
and holds its key, so that an answer under another request's key, as a damaged index of the database gives it, is found
to be damage too. Which answers may be reused is decided by `run`.

Three of diskcache's defaults would lose or endanger answers and are turned off: eviction (above 1 GiB it silently drops
the oldest), files beside the database (a million of them), and pickle (a planted file would execute code). A value that
cannot be read is logged and counts as missing, so that its answer is asked for again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import tempfile
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

import diskcache
import msgspec
import zstandard

from logprob_store.counted import counted
from logprob_store.errors import MAKE_ROOM, CacheError, DiskError, disk_error
from logprob_store.events import emit
from logprob_store.processes import users_of
from logprob_store.request import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from logprob_store.request import Request

log = logging.getLogger(__name__)

_VERSION: Final = 1
_LARGEST_ANSWER_BYTES: Final = 2**30
_SQLITE_CACHE_PAGES: Final = 512
_KEYS_PER_SELECT: Final = 64
_ZSTD_LEVEL: Final = 1
"""Level 3 takes longer and makes text that is mostly digits no smaller (docs/performance.md)."""


_OF_DAMAGE: Final = (sqlite3.DatabaseError, ValueError, TypeError, AttributeError)
"""What SQLite and diskcache raise over a damaged file: diskcache trusts the settings that it finds there."""
_OF_THE_DISK: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL})
_OF_PERMISSIONS: Final = frozenset({sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN})
_FAULTS: Final = (sqlite3.Error, diskcache.Timeout, OSError, *_OF_DAMAGE)


class _Meta(msgspec.Struct, omit_defaults=True):
    version: int = 0
    status: int = 200
    headers: dict[str, str] = {}
    attempts: int = 1
    latency_s: float | None = None
    fetched_at: datetime | None = None
    run: str | None = None
    maybe_billed: bool = False
    call: int | None = None
    paid_for: tuple[int, int] | None = None
    key: str | None = None
    """None in answers of version 0.1.0, which cannot be checked."""
    batch: bool = False


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer as the cache holds it, without its request."""

    meta: _Meta
    body: bytes

    def answer(self, request: Request, *, run: str | None = None) -> Answer:
        """This as the answer to `request`. Its source is `cache`, but `api` or `batch` if `run` paid for it itself."""
        meta = self.meta
        own = run is not None and meta.run == run
        return Answer(
            request,
            meta.status,
            meta.headers,
            self.body,
            ("batch" if meta.batch else "api") if own else "cache",
            attempts=meta.attempts,
            latency_s=meta.latency_s,
            fetched_at=meta.fetched_at,
            run=meta.run,
            maybe_billed=own and meta.maybe_billed,
        )

    def was_bought_by(self, run: str, call: int) -> bool:
        """Whether this answer came from call number `call` of that run."""
        return self.meta.run == run and self.meta.call == call

    def was_paid_for(self, request: Request) -> bool:
        """Whether this is the one of several equal requests for which the call was made: it carries the cost."""
        return self.meta.paid_for == (request.prompt_index, request.sample_index)


class _PlainDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """A diskcache `Disk` that keeps bytes under text keys inside SQLite, and refuses pickles and all other values."""

    def put(self, key: object) -> tuple[Any, bool]:
        if not isinstance(key, str):
            raise TypeError(f"cache keys are text, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: object) -> str | None:
        return key if raw and isinstance(key, str) else None

    def store(self, value: Any, read: object, key: object = None) -> tuple[int, int, None, Any]:  # noqa: ARG002
        if not isinstance(value, bytes):
            raise TypeError(f"cache values are bytes, not {type(value).__name__}")
        return 0, diskcache.core.MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: int, filename: str | None, value: Any, read: object) -> bytes:  # noqa: ARG002
        if mode != diskcache.core.MODE_RAW or filename is not None or not isinstance(value, bytes):
            raise ValueError("a value that is not plain bytes")
        return value

    def remove(self, file_path: str) -> None:
        """Delete no file: values have none, so a row that names one was planted."""


class AnswerCache:
    """Answers by request key, in one folder that several processes may share.

    Use it as a context manager; methods may be called from any thread.

    Args:
        path: the folder; created if it is missing.
        file_mode: the permissions of new files.

    Raises:
        CacheError: the folder cannot be used.
        DiskError: its disk is full, read-only or failing.
    """

    def __init__(self, path: Path, *, file_mode: int = 0o600) -> None:
        self.path = path
        try:
            _create_database(path, file_mode)
            self._disk = diskcache.Cache(
                str(path),
                disk=_PlainDisk,
                timeout=60,
                eviction_policy="none",
                cull_limit=0,
                statistics=0,
                sqlite_synchronous=2,  # FULL: answers survive a power cut; put_many commits many at once
                disk_min_file_size=_LARGEST_ANSWER_BYTES,
                # By default each connection caches 32 MB of pages and maps 64 MB; answers are read only once.
                sqlite_cache_size=_SQLITE_CACHE_PAGES,
                sqlite_mmap_size=0,
            )
        except _FAULTS as error:
            raise self._unusable("opened", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._disk)

    def close(self) -> None:
        """Close this thread's connection; Python closes the connections of threads that have ended."""
        self._disk.close()

    def holds(self, key: str) -> bool:
        """Whether there is a value under `key`, readable or not.

        Raises:
            CacheError: the cache cannot be read.
        """
        try:
            return key in self._disk
        except _FAULTS as error:
            raise self._unusable("read", error) from error

    def missing(self, keys: set[str]) -> set[str]:
        """Those of the keys that have no readable answer.

        Raises:
            CacheError: the cache cannot be read.
        """
        return keys - self.get_many(keys).keys()

    def get(self, key: str) -> CachedAnswer | None:
        """The answer under `key`; None if there is none, or none that can be read."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, CachedAnswer]:
        """The readable answers of `keys`, by key.

        Raises:
            CacheError: the cache cannot be read.
        """
        found = {}
        wanted = set(keys)
        decompressor = zstandard.ZstdDecompressor()
        for key, mode, filename, value in self._rows(list(wanted)):
            if key not in wanted:  # a damaged index leads to other rows; what was asked for is not found
                continue
            try:
                found[key] = _unpack(key, self._disk.disk.fetch(mode, filename, value, read=False), decompressor)
            except (ValueError, zstandard.ZstdError, msgspec.DecodeError) as error:
                message = "cache value %s is damaged and will be asked for again: %s"
                emit(log, "cache_damaged", message, str(key)[:12], error, request_key=str(key))
        return found

    def _rows(self, keys: Sequence[str]) -> Iterator[tuple[str, int, str | None, object]]:
        # Diskcache reads each value in its own statement and transaction. Many in one statement take half as long, and
        # release and retake the interpreter's lock once per value instead of four times.
        for first in range(0, len(keys), _KEYS_PER_SELECT):
            some = keys[first : first + _KEYS_PER_SELECT]
            marks = ",".join("?" * len(some))
            select = f"SELECT key, mode, filename, value FROM Cache WHERE raw = 1 AND key IN ({marks})"  # noqa: S608
            try:
                yield from self._disk._sql(select, some).fetchall()  # noqa: SLF001
            except _FAULTS as error:
                raise self._unusable("read", error) from error

    def put_many(self, answers: Sequence[Answer]) -> None:
        """Write answers in one transaction; when this returns they are on disk.

        Raises:
            DiskError: they cannot be written (the disk is full or read-only, or was locked for a minute).
        """
        # One compressor for all answers, because each takes memory; not kept, because threads must not share it.
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True, write_content_size=True)
        values = [(answer.request.key, _pack(answer, compressor)) for answer in answers]
        try:
            with self._disk.transact():
                for key, value in values:
                    self._disk.set(key, value)
        except _FAULTS as error:
            raise DiskError(counted(len(values), "answer"), self.path, error, advice=self._advice(error)) from error

    def _unusable(self, how: str, error: Exception) -> CacheError | DiskError:
        """The error for a database that cannot be opened or read, for which SQLite may have to write."""
        what = "the cache's database"
        if _is_of_the_disk(error):
            return DiskError(what, self.path, error)
        if _code(error) == sqlite3.SQLITE_CANTOPEN:  # SQLite does not say why it cannot make a file
            error = _why_not_written(self.path) or error
        return disk_error(what, self.path, error) or CacheError(
            f"the cache at {self.path} cannot be {how}: {error}. {self._advice(error)}."
        )

    def _advice(self, error: Exception) -> str:
        """What to do about an error of the database."""
        if isinstance(error, diskcache.Timeout) or "locked" in str(error):
            return f"It is in use by {users_of(self.path / 'cache.db')}: let that go on, or end it"
        if isinstance(error, _OF_DAMAGE) and not (_is_of_the_disk(error) or _code(error) in _OF_PERMISSIONS):
            return (
                f"Its file is damaged: move {self.path / 'cache.db'} and the files beside it away. There, `sqlite3 "
                "cache.db .recover | sqlite3 new.db` rescues the answers that no store has yet; put the new file in "
                "the old one's place"
            )
        return MAKE_ROOM

    def keys(self) -> Iterable[str]:
        """All request keys, in the order of their first writing."""
        return (key for key in self._disk if key is not None)


@contextlib.contextmanager
def open_cache(folder: Path | None, *, file_mode: int = 0o600) -> Iterator[AnswerCache | None]:
    """The cache in a folder, for as long as the context lasts; None without a folder.

    Raises:
        CacheError: it cannot be opened.
        DiskError: its disk is full, read-only or failing.
    """
    if folder is None:
        yield None
        return
    with AnswerCache(folder, file_mode=file_mode) as cache:
        yield cache


def _why_not_written(folder: Path) -> OSError | None:
    """Why no file can be made in a folder; None if one can."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error
    return None


def _is_of_the_disk(error: Exception) -> bool:
    return _code(error) in _OF_THE_DISK


def _code(error: Exception) -> int:
    """SQLite's code of an error, without its details; that of a damaged file where there is none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


def _create_database(folder: Path, mode: int) -> None:
    """Create an empty database if there is none: SQLite gives the files beside it the same permissions."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        file = os.open(folder / diskcache.core.DBNAME, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        os.fchmod(file, mode)  # whatever the umask
        os.close(file)


def _pack(answer: Answer, compressor: zstandard.ZstdCompressor) -> bytes:
    meta = _Meta(
        _VERSION,
        answer.status,
        dict(answer.headers),
        answer.attempts,
        answer.latency_s,
        answer.fetched_at,
        answer.run,
        answer.maybe_billed,
        answer.call,
        (answer.request.prompt_index, answer.request.sample_index),
        answer.request.key,
        answer.source == "batch",
    )
    plain = msgspec.json.encode(meta) + b"\n" + answer.body
    return compressor.compress(plain)


def _unpack(key: str, value: bytes, decompressor: zstandard.ZstdDecompressor) -> CachedAnswer:
    size = zstandard.frame_content_size(value)
    if not 0 < size <= _LARGEST_ANSWER_BYTES:
        raise ValueError(f"it claims {size} bytes")
    plain = decompressor.decompress(value)
    line, _, body = plain.partition(b"\n")
    meta = msgspec.json.decode(line, type=_Meta)
    if meta.version != _VERSION:
        raise ValueError(f"it has version {meta.version}, this logprob-store reads {_VERSION}")
    if meta.key not in {None, key}:
        raise ValueError(f"it is the answer to another request, {str(meta.key)[:12]}")
    return CachedAnswer(meta, body)
