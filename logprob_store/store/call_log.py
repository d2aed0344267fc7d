"""The log of a run's calls, `runs/run=<run>/calls.log`, from which a later session knows what was spent.

A record is written before a call is made, and another once its answer is durable, each with one `os.write` and no sync:
they survive the death of the process at any instant. A power cut may lose the records since the last commit of a part,
which syncs the file. A call that was begun and not ended was under way when the process died: it counts as spent at its
worst case, or at what it took where its answer had come, and its key is *lost*, which means that asking it again may
pay twice. (`run.spent` first looks for the answers of such calls in the cache.) The key of an ended call is *kept*
until the answer's row is committed: if the answer is gone from the cache by then, its key is lost too.

The file says of which run it is, so that the log of another run in its place is found; files of version 0.1.0 do not.
All records have the same length, and each has a checksum, so a damaged one costs itself and nothing after it. The run's
lock keeps other processes away; a lock in here keeps the thread that rewrites the file apart from the one that appends.
Ceilings are in `spending.budget`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import threading
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from logprob_store.errors import DiskError
from logprob_store.store.durable_files import FILE_MODE, create_file, sync_folder
from logprob_store.usage import STANDARD, TIERS, UNKNOWN_TIER, Bill, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

CALL_LOG: Final = "calls.log"
REWRITE_ABOVE: Final = 4 << 20
"""Bytes of the file, 17,000 to 26,000 calls, above which the next commit rewrites it."""

OF_ANOTHER_RUN: Final = "is the log of another run"
_MISSING: Final = "is missing"
_WITHOUT_BEGINNING: Final = "has lost its beginning"
UNKNOWN_SPENT: Final = frozenset({OF_ANOTHER_RUN, _MISSING, _WITHOUT_BEGINNING})
"""The problems of a file with which it is not known what its run spent (`call_log_problem`)."""

_TOTALS, _BEGUN, _ENDED, _FREE, _LOST, _RUN, _BILLED, _ANSWERED = range(1, 9)
_MAGIC: Final = b"logprob-store calls 1".ljust(32)
_FIELDS: Final = struct.Struct("<BBBxQQQQQ32s")
"""Kind, place of the tier in `TIERS`, whether the prompt was long, number, tokens of the prompt, cached ones, those of
the answer, those written into the service's cache (in the totals: calls), key. Version 0.1.0 wrote zeros for what it
did not know."""
_CRC: Final = struct.Struct("<I")
RECORD_BYTES: Final = _CRC.size + _FIELDS.size
_KEY_BYTES: Final = 32
_NO_KEY: Final = bytes(_KEY_BYTES)


class OpenCall(NamedTuple):
    """A call that was begun and not ended: its request key, and its worst case in tokens.

    Once it is answered, its worst case is what it took.
    """

    number: int
    key: str
    worst: Usage
    is_answered: bool = False


@dataclass(slots=True)
class CallLogState:
    """The sum of a file's records.

    `requests` counts the calls begun, `spent` the tokens of the ended and lost ones, `reserved` those of the lost ones
    among them; files of version 0.1.0 do not say these. `open` has the open calls by
    number, `lost` the keys of lost ones, `kept` those of ended ones, whose rows may not be committed. `has_totals` is
    false if the first record is missing, `run` is the digest of the run's id, `damaged` counts the records that cannot
    be read, `torn` the bytes after the last whole record.
    """

    requests: int
    spent: Bill
    next_number: int
    open: dict[int, OpenCall]
    lost: set[str]
    kept: set[str]
    has_totals: bool
    damaged: int
    torn: int
    run: bytes | None = None
    reserved: Bill = field(default_factory=Bill)


def read_call_log(content: bytes) -> CallLogState:
    """Add up the records of a file, without the damaged ones."""
    state = CallLogState(0, Bill(), 1, {}, set(), set(), has_totals=False, damaged=0, torn=len(content) % RECORD_BYTES)
    for start in range(0, len(content) - state.torn, RECORD_BYTES):
        record = content[start + _CRC.size : start + RECORD_BYTES]
        if _CRC.unpack_from(content, start)[0] != zlib.crc32(record):
            state.damaged += 1
            continue
        kind, tier, is_long, number, prompt, cached, completion, last, raw = _FIELDS.unpack(record)
        if kind == _TOTALS:
            state.has_totals = raw == _MAGIC
            state.requests, state.spent, last = last, Bill(), 0
        usage = Usage(prompt, cached, completion, last, _tier_at(tier), bool(is_long))
        _apply(state, kind, number, usage, raw)
    return state


def _tier_at(place: int) -> str:
    """The tier of a record; one that a newer version wrote has no price here."""
    return TIERS[place] if place < len(TIERS) else UNKNOWN_TIER


def _apply(state: CallLogState, kind: int, number: int, usage: Usage, raw: bytes) -> None:
    key = raw.hex()
    state.next_number = max(state.next_number, number + 1)
    if kind in {_TOTALS, _BILLED}:
        state.spent.add(usage)
    elif kind == _RUN:
        state.run = raw
    elif kind in {_BEGUN, _ANSWERED}:
        state.requests += number not in state.open
        state.open[number] = OpenCall(number, key, usage, kind == _ANSWERED)
    else:
        begun = state.open.pop(number, None)
        if number > 0 and begun is None:  # the record of its begin is damaged; number 0 is of no call
            state.requests += 1
        if kind != _FREE:
            state.spent.add(usage)
        if kind == _LOST:
            state.reserved.add(usage)
        if kind == _LOST and (number > 0 or not any(usage[:4])):  # else it is the sum, which has no key
            state.lost.add(key)
        elif kind == _ENDED:
            state.lost.discard(key)
            state.kept.add(key)


def call_log_problem(content: bytes | None, *, run_id: str, begun: bool) -> str | None:
    """What is wrong with a run's log of calls, as the end of a sentence about the file; None if nothing.

    Args:
        content: of the file; None if there is none.
        run_id: the run's id.
        begun: whether the run has begun a log, by its manifest.
    """
    if content is None:
        return _MISSING if begun else None
    state = read_call_log(content)
    if is_of_another_run(state, run_id):
        return OF_ANOTHER_RUN
    if not state.has_totals:
        return _WITHOUT_BEGINNING
    return f"has {state.damaged} damaged records" if state.damaged else None


def is_of_another_run(state: CallLogState, run_id: str) -> bool:
    """Whether a file says that it belongs to a run with another id."""
    return state.run not in {None, _digest(run_id)}


class CallLog:
    """The log of a run's calls. Make one with `open_call_log`; append from one thread only.

    `requests` counts all calls begun, `next_number` is that of the next one. `spent` sums the tokens of the ended
    calls, and the worst case of the lost ones, which `reserved` has alone.
    """

    def __init__(self, path: Path, state: CallLogState, *, run_id: str | None = None, mode: int = FILE_MODE) -> None:
        self._path = path
        self._run = state.run if run_id is None else _digest(run_id)
        self._mode = mode
        self.requests = state.requests
        self.spent = state.spent
        self.reserved = state.reserved
        self.next_number = state.next_number
        self._open = state.open
        self._lost = state.lost
        self._kept = state.kept
        self._writing = threading.Lock()
        self._rewriting = threading.Lock()
        self._appended: list[bytes] | None = None  # records since a rewrite began; None without one under way
        self._file = -1
        self._size = 0

    def begin(self, key: str, worst: Usage) -> int:
        """Record that a call is about to be made; returns its number.

        Raises:
            DiskError: it cannot be recorded, so the call must not be made.
        """
        with self._writing:
            number = self.next_number
            self._append(_BEGUN, number, worst, bytes.fromhex(key))
            self.next_number += 1
            self.requests += 1
            self._open[number] = OpenCall(number, key, worst)
        return number

    def open_call(self, number: int) -> tuple[str, Usage] | None:
        """The key and the worst case of a call that was begun and not ended; None if it is no such call."""
        call = self._open.get(number)
        return None if call is None else (call.key, call.worst)

    def answered(self, number: int, usage: Usage) -> None:
        """Record the tokens of a call whose answer has come and is not durable yet: that is its worst case now.

        Raises:
            DiskError: it cannot be recorded.
        """
        if (call := self._open.get(number)) is not None:
            with self._writing:
                self._append(_ANSWERED, number, usage, bytes.fromhex(call.key))
                self._open[number] = call._replace(worst=usage, is_answered=True)

    def end(self, number: int, usage: Usage | None) -> None:
        """Record the tokens of a call whose answer is durable; None counts as its worst case."""
        if (call := self._open.get(number)) is not None:
            took = call.worst if usage is None else usage
            with self._writing:
                self._append(_ENDED, number, took, bytes.fromhex(call.key))
                self.settle(call, took)

    def committed(self, key: str) -> None:
        """Take note that the row of an answer is committed, so that its key need not be kept.

        It is not recorded: after a crash, the rows themselves tell.
        """
        self._kept.discard(key)

    def free(self, number: int) -> None:
        """Record that a call was surely not billed."""
        if number in self._open:
            with self._writing:
                self._append(_FREE, number, Usage(), _NO_KEY)
                del self._open[number]

    def lose(self, number: int) -> None:
        """Record that a call's answer was lost: its worst case counts as spent."""
        if (call := self._open.get(number)) is not None:
            with self._writing:
                self._append(_LOST, number, call.worst, bytes.fromhex(call.key))
                self.settle(call, None)

    def is_lost(self, key: str) -> bool:
        """Whether a call for this key may have been billed without leaving an answer."""
        return key in self._lost

    def sync(self) -> None:
        """Make the records durable against a power cut; may be called from any thread.

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
        """Drop what is of no use to a later session, and close the file.

        Raises:
            DiskError: it could not be written.
        """
        try:
            if self._file >= 0:
                self.rewrite()
        except OSError as error:
            raise DiskError("the calls made", self._path, error) from error
        finally:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def rewrite(self) -> None:
        """Replace the file by a shorter one with the same sums; may be called from any thread.

        Records that are appended meanwhile go into both files, so that the file under the name is always complete.
        """
        with self._rewriting:
            with self._writing:
                records, self._appended = list(self._snapshot()), []
            temporary = self._path.with_name(f".{CALL_LOG}.tmp")
            try:
                file = create_file(temporary, mode=self._mode)
                try:
                    _write(file, b"".join(records))
                    os.fsync(file)
                    with self._writing:
                        _write(file, b"".join(self._appended))
                        temporary.replace(self._path)
                        self._file, file = file, self._file
                        self._size = os.fstat(self._file).st_size
                finally:
                    if file >= 0:
                        os.close(file)
            finally:
                self._appended = None
        sync_folder(self._path.parent)

    def settle(self, call: OpenCall, usage: Usage | None) -> None:
        """Close an open call, which took this usage; None if its answer is lost."""
        del self._open[call.number]
        self.spent.add(call.worst if usage is None else usage)
        if usage is None:
            self.reserved.add(call.worst)
            self._lost.add(call.key)
        else:
            self._lost.discard(call.key)
            self._kept.add(call.key)

    def lose_kept(self, keys: set[str]) -> None:
        """Take note that answers which were kept are gone: asking for them again pays twice."""
        self._kept -= keys
        self._lost |= keys
        if keys:
            log.warning(
                "%s: %d answers that this run has paid for are gone from the cache, as after a crash that damaged it: "
                "they are asked for again, and their rows say maybe_billed",
                self._path,
                len(keys),
            )

    def _snapshot(self) -> Iterator[bytes]:
        # The totals leave out the open calls, whose records count them when they are read, and the tokens of lost ones.
        answered = self.spent.with_all([Usage()])
        for line in self.reserved:
            answered.add(line, -1)
        plain, *others = sorted(answered, key=lambda line: (line.tier, line.is_long))
        yield _record(_TOTALS, self.next_number - 1, plain, _MAGIC, self.requests - len(self._open))
        # The totals have no place for the tokens that were written into the service's cache.
        for line in (Usage(written_tokens=plain.written_tokens), *others):
            if any(line[:4]):
                yield _record(_BILLED, 0, line, _NO_KEY)
        for line in self.reserved:
            if any(line[:4]):
                yield _record(_LOST, 0, line, _NO_KEY)
        if self._run is not None:
            yield _record(_RUN, 0, Usage(), self._run)
        for key in self._kept:
            yield _record(_ENDED, 0, Usage(), bytes.fromhex(key))
        for key in self._lost:  # after those that are kept: a key may be both
            yield _record(_LOST, 0, Usage(), bytes.fromhex(key))
        for call in self._open.values():
            kind = _ANSWERED if call.is_answered else _BEGUN
            yield _record(kind, call.number, call.worst, bytes.fromhex(call.key))

    def _append(self, kind: int, number: int, usage: Usage, key: bytes) -> None:
        """Write a record; the caller holds the lock `_writing`, and changes the state under it."""
        record = _record(kind, number, usage, key)
        try:
            if os.write(self._file, record) != RECORD_BYTES:
                raise OSError(f"only a part of {RECORD_BYTES} bytes was written")  # noqa: TRY301
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise DiskError("a call", self._path, error) from error
        self._size += RECORD_BYTES
        if self._appended is not None:
            self._appended.append(record)


def open_call_log(
    path: Path,
    *,
    find: Callable[[Sequence[OpenCall]], Mapping[int, Usage]] = lambda _: {},
    gone: Callable[[set[str]], set[str]] = lambda _: set(),
    under_way: Container[int] = (),
    mode: int = FILE_MODE,
    least: tuple[int, Bill] | None = None,
    run_id: str | None = None,
) -> CallLog:
    """Open a run's log, new or not, and settle the calls that were under way when its last process died.

    Args:
        path: in the run's folder, which exists and is locked.
        find: returns, of some open calls, the usage of those whose answer was kept after all, by the call's number.
        gone: returns, of the keys of ended calls, those whose answer is neither in the cache nor in a committed row.
        under_way: the numbers of calls that stay open, because a batch at the service has them.
        mode: the permissions of the file.
        least: the requests and tokens that the run has spent at least, from its manifest: they count where the file is
            lost or its beginning is damaged.
        run_id: the id of the run, which the file notes.

    Raises:
        DiskError: it cannot be written.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
        state = read_call_log(content)
        _warn(path, state)
        calls = CallLog(path, _at_least(state, least), run_id=run_id, mode=mode)
        left = [call for call in state.open.values() if call.number not in under_way]
        kept = find(left) if left else {}
        for call in left:
            calls.settle(call, kept.get(call.number))
        calls.lose_kept(gone(set(state.kept)) if state.kept else set())
        calls.rewrite()
    except OSError as error:
        raise DiskError("the calls made", path, error) from error
    return calls


def restore_call_log(path: Path, state: CallLogState, *, least: tuple[int, Bill], run_id: str) -> None:
    """Rewrite a damaged file from what could be read of it; open calls stay open."""
    calls = CallLog(path, _at_least(state, least), run_id=run_id)
    calls.rewrite()
    calls.close()


def _at_least(state: CallLogState, least: tuple[int, Bill] | None) -> CallLogState:
    """Raise the sums of a damaged or lost file to those of the manifest, which are older.

    The sums of an undamaged file are kept, even where they are smaller: the manifest may count an answer whose call is
    open in the file.
    """
    if least is None or (state.has_totals and not state.damaged):
        return state
    state.requests = max(state.requests, least[0])
    state.spent = state.spent.at_least(least[1])
    return state


def _warn(path: Path, state: CallLogState) -> None:
    if state.damaged or state.torn:
        log.warning(
            "%s is damaged: %d records and the %d bytes at its end cannot be read and are left out; what the run spent "
            "may be more than is counted from here on",
            path,
            state.damaged,
            state.torn,
        )


def _record(kind: int, number: int, usage: Usage, key: bytes, requests: int | None = None) -> bytes:
    prompt, cached, completion, written, tier, is_long = usage
    place = 0 if tier == STANDARD else TIERS.index(tier)
    last = written if requests is None else requests
    fields = _FIELDS.pack(kind, place, is_long, number, prompt, cached, completion, last, key)
    return _CRC.pack(zlib.crc32(fields)) + fields


def _digest(run_id: str) -> bytes:
    return hashlib.sha256(run_id.encode()).digest()


def _write(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]
