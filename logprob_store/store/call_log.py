"""The file that remembers what a run has spent: `runs/run=<run>/calls.log`, appended to around every call.

A record is written before a call is made and another once its answer is durable, each with one `os.write` and no sync:
they survive the death of the process at any instant. A power cut may lose those since the last part was committed,
when the file is synced. A call that was begun and not ended was under way when the process died: it counts as spent at
its worst case, and its key is *lost*: whoever asks it again may pay twice.

Holds the format, the state that its records add up to, and rewriting it small. Leaves out ceilings (`ceilings`), and
what a lost call's answer may be found in (`wiring` looks into the cache).

Records have one length and each its checksum, so a damaged one costs itself and nothing after it. The run's writer lock
keeps other processes away; here a lock keeps the thread that rewrites the file apart from the one that appends.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from logprob_store.errors import DiskError
from logprob_store.store.durable_files import sync_folder
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

CALL_LOG: Final = "calls.log"
REWRITE_ABOVE: Final = 4 << 20
"""Bytes from which the file is rewritten at the next commit: 26,000 calls."""

_TOTALS, _BEGUN, _ENDED, _FREE, _LOST = range(1, 6)
_MAGIC: Final = b"logprob-store calls 1".ljust(32)
_FIELDS: Final = struct.Struct("<BxxxQQQQQ32s")
_CRC: Final = struct.Struct("<I")
RECORD_BYTES: Final = _CRC.size + _FIELDS.size
_KEY_BYTES: Final = 32


class OpenCall(NamedTuple):
    """A call that was begun: the key asked for, and its worst case."""

    number: int
    key: str
    worst: Usage


@dataclass(slots=True)
class Read:
    """What a file's records add up to; `damaged` counts those that cannot be read, `torn` the bytes after the last."""

    requests: int
    spent: Usage
    next_number: int
    open: dict[int, OpenCall]
    lost: set[str]
    has_totals: bool
    damaged: int
    torn: int


def read_call_log(content: bytes) -> Read:
    """Add up the records of a file, passing over damaged ones."""
    state = Read(0, Usage(), 1, {}, set(), has_totals=False, damaged=0, torn=len(content) % RECORD_BYTES)
    for start in range(0, len(content) - state.torn, RECORD_BYTES):
        record = content[start + _CRC.size : start + RECORD_BYTES]
        if _CRC.unpack_from(content, start)[0] != zlib.crc32(record):
            state.damaged += 1
            continue
        kind, number, *tokens, requests, key = _FIELDS.unpack(record)
        _apply(state, kind, number, Usage(*tokens), requests, key)
    return state


def _apply(state: Read, kind: int, number: int, usage: Usage, requests: int, raw: bytes) -> None:  # noqa: PLR0917
    key = raw.hex()
    state.next_number = max(state.next_number, number + 1)
    if kind == _TOTALS:
        state.has_totals = raw == _MAGIC
        state.requests, state.spent = requests, usage
    elif kind == _BEGUN:
        state.requests += 1
        state.open[number] = OpenCall(number, key, usage)
    else:
        # Of a call whose begin is damaged the end says all but that it was made.
        state.requests += number > 0 and state.open.pop(number, None) is None
        if kind != _FREE:
            state.spent += usage
        if kind == _LOST:
            state.lost.add(key)
        elif kind == _ENDED:
            state.lost.discard(key)


class CallLog:
    """A run's calls, as the file has them. Make one with `open_call_log`; append from one thread only.

    `requests` counts all calls begun, `spent` is what the ended ones took, and the lost ones at most.
    """

    def __init__(self, path: Path, state: Read) -> None:
        self._path = path
        self.requests = state.requests
        self.spent = state.spent
        self._next = state.next_number
        self._open = state.open
        self._lost = state.lost
        self._writing = threading.Lock()
        self._rewriting = threading.Lock()
        self._since: list[bytes] | None = None
        self._file = -1
        self._size = 0

    def begin(self, key: str, worst: Usage) -> int:
        """Note that a call is about to be made; returns its number.

        Raises:
            DiskError: it cannot be written, so the call must not be made.
        """
        with self._writing:
            number = self._next
            self._append(_BEGUN, number, worst, bytes.fromhex(key))
            self._next += 1
            self.requests += 1
            self._open[number] = OpenCall(number, key, worst)
        return number

    def end(self, number: int, usage: Usage | None) -> None:
        """Note what a call took whose answer is durable, its worst case where that is unsaid."""
        if (call := self._open.get(number)) is not None:
            took = call.worst if usage is None else usage
            with self._writing:
                self._append(_ENDED, number, took, bytes.fromhex(call.key))
                self.settle(call, took)

    def free(self, number: int) -> None:
        """Note that a call was surely not billed."""
        if number in self._open:
            with self._writing:
                self._append(_FREE, number, Usage(), bytes(_KEY_BYTES))
                del self._open[number]

    def lose(self, number: int) -> None:
        """Note that a call's answer was lost: its worst case is spent."""
        if (call := self._open.get(number)) is not None:
            with self._writing:
                self._append(_LOST, number, call.worst, bytes.fromhex(call.key))
                self.settle(call, None)

    def is_lost(self, key: str) -> bool:
        """Whether a call for this key may have been billed without leaving an answer."""
        return key in self._lost

    def sync(self) -> None:
        """Make what was noted durable against a power cut; from any thread.

        Raises:
            DiskError: it could not be written.
        """
        if self._file < 0:
            return
        try:
            if self._size > REWRITE_ABOVE:
                self.rewrite()
            else:
                os.fsync(self._file)
        except OSError as error:
            raise DiskError("the calls made", self._path, error) from error

    def close(self) -> None:
        """Sync, and close the file."""
        try:
            self.sync()
        finally:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def rewrite(self) -> None:
        """Replace the file by one that says the same in few records; from any thread.

        What is appended meanwhile is in both files, so that a crash finds all of it in the one that has the name.
        """
        with self._rewriting:
            with self._writing:
                records, self._since = list(self._snapshot()), []
            temporary = self._path.with_name(f".{CALL_LOG}.tmp")
            try:
                file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
                try:
                    _write(file, b"".join(records))
                    os.fsync(file)
                    with self._writing:
                        _write(file, b"".join(self._since))
                        temporary.replace(self._path)
                        self._file, file = file, self._file
                        self._size = os.fstat(self._file).st_size
                finally:
                    if file >= 0:
                        os.close(file)
            finally:
                self._since = None
        sync_folder(self._path.parent)

    def settle(self, call: OpenCall, usage: Usage | None) -> None:
        """Close an open call: it took this usage, or None where its answer is lost."""
        del self._open[call.number]
        self.spent += call.worst if usage is None else usage
        if usage is None:
            self._lost.add(call.key)
        else:
            self._lost.discard(call.key)

    def _snapshot(self) -> Iterator[bytes]:
        # Records of what is open count themselves again when they are read.
        yield _record(_TOTALS, self._next - 1, self.spent, _MAGIC, self.requests - len(self._open))
        for key in self._lost:
            yield _record(_LOST, 0, Usage(), bytes.fromhex(key))
        for call in self._open.values():
            yield _record(_BEGUN, call.number, call.worst, bytes.fromhex(call.key))

    def _append(self, kind: int, number: int, usage: Usage, key: bytes) -> None:
        """Write a record; the caller holds the lock, and changes the state under it too."""
        record = _record(kind, number, usage, key)
        try:
            if os.write(self._file, record) != RECORD_BYTES:
                raise OSError(f"only a part of {RECORD_BYTES} bytes was written")  # noqa: TRY301
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise DiskError("a call", self._path, error) from error
        self._size += RECORD_BYTES
        if self._since is not None:
            self._since.append(record)


def open_call_log(
    path: Path,
    *,
    find: Callable[[Sequence[OpenCall]], Mapping[int, Usage]] = lambda _: {},
    least: tuple[int, Usage] = (0, Usage()),
) -> CallLog:
    """Open a run's file, new or not, and settle the calls that were under way when its last process died.

    Args:
        path: in the run's folder, which is there and locked.
        find: of open calls, the usage of those whose answer was kept after all.
        least: requests and tokens that the run has spent at least, as its manifest says: they hold where the file is
            lost or its beginning is damaged.

    Raises:
        DiskError: it cannot be written.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
        state = read_call_log(content)
        _warn(path, state, content, least)
        calls = CallLog(path, _at_least(state, least))
        left = list(state.open.values())
        kept = find(left) if left else {}
        for call in left:
            calls.settle(call, kept.get(call.number))
        calls.rewrite()
    except OSError as error:
        raise DiskError("the calls made", path, error) from error
    return calls


def restore_call_log(path: Path, state: Read, *, least: tuple[int, Usage]) -> None:
    """Write what remains of a damaged file anew; calls that are open stay so."""
    calls = CallLog(path, _at_least(state, least))
    calls.rewrite()
    calls.close()


def _at_least(state: Read, least: tuple[int, Usage]) -> Read:
    """Of a damaged or lost file, a state that its manifest's older sums do not contradict.

    A whole file says it all, and better: the manifest may count an answer that the file has as under way.
    """
    if state.has_totals and not state.damaged:
        return state
    state.requests = max(state.requests, least[0])
    state.spent = Usage(*map(max, state.spent, least[1]))
    return state


def _warn(path: Path, state: Read, content: bytes, least: tuple[int, Usage]) -> None:
    if state.damaged or state.torn:
        log.warning(
            "%s is damaged: %d records and the %d bytes at its end cannot be read and are left out; what the run spent "
            "may be more than is counted from here on",
            path,
            state.damaged,
            state.torn,
        )
    if (not content and least[0]) or (content and not state.has_totals):
        log.warning("%s is gone or has lost its beginning: what the run spent is taken from its manifest", path)


def _record(kind: int, number: int, usage: Usage, key: bytes, requests: int = 0) -> bytes:
    fields = _FIELDS.pack(kind, number, usage[0], usage[1], usage[2], requests, key)
    return _CRC.pack(zlib.crc32(fields)) + fields


def _write(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]
