"""The ledger of all runs that share a cache folder, for ceilings of a job over its runs and of all jobs together.

Each run has an entry in the file `spending.ledger` with the most that it can have spent: what it spent, and the worst
case of its calls under way. An entry is raised before a call is made, and only if the sum of all entries stays under
the ceilings; it is lowered when the call has settled. So the sum never passes a ceiling, whatever dies when: what a
killed process had under way stays in its entry, until the run goes on and knows from its own record of calls what
became of it.

The kernel has an entry once it is written, so the death of a process loses nothing; a power cut may lose the changes
since the last `sync`. Each change is made under a lock of the file. The file also has the sums of its entries: a call
reads these alone, so its cost does not grow with the number of runs. Opening the file adds up the entries again.
The module `budget` keeps the ceilings of one run, and lets calls wait for others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
import time
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from logprob_store.errors import CacheError, DiskError, disk_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from logprob_store.spending.ceilings import Ceilings

LEDGER: Final = "spending.ledger"
_LEDGER_IN_WORDS: Final = "what all runs have spent"

_ENTRY: Final = struct.Struct("<B7x16s16s64sQQQQQ")
"""Kind, run, job, the name of the job, requests, tokens, dollars in units of 1e-9, calls under way, process."""
_CRC: Final = struct.Struct("<I")
_SIZE: Final = _CRC.size + _ENTRY.size
_FOLDER, _JOB, _RUN = range(1, 4)
_NOBODY: Final = bytes(16)
_NANO: Final = 1_000_000_000
_MOST: Final = 2**63
_LOCK_FOR_S: Final = 10.0
_LOCK_AGAIN_S: Final = 0.001


class Amount(NamedTuple):
    """Calls, tokens, and dollars in units of 1e-9; dollars are those of each job's own prices."""

    requests: int = 0
    tokens: int = 0
    nano_usd: int = 0

    @property
    def usd(self) -> float:
        """The dollars."""
        return self.nano_usd / _NANO

    def plus(self, other: Amount, times: int = 1) -> Amount:
        """The sum with another amount, or the difference with `times=-1`."""
        return Amount(*(max(0, mine + times * its) for mine, its in zip(self, other, strict=True)))


class EarlierSpent(NamedTuple):
    """What a run has spent by its own record of calls.

    `sure` leaves out the calls that are open in the record; `most` has them at their worst. `is_whole` says that the
    record is there and undamaged, `nano_usd_a_token` is the dearest price of a token, in dollars of 1e-9.
    """

    sure: Amount
    most: Amount
    is_whole: bool = False
    nano_usd_a_token: int = 0


class Passed(NamedTuple):
    """A ceiling that a call could pass: whose (`job` or `cache`), which (`usd`, ...), and what is taken of it."""

    whose: str
    which: str
    ceiling: float
    taken: Amount


class _Entry(NamedTuple):
    kind: int
    run: bytes
    job: bytes
    name: bytes
    amount: Amount
    under_way: int = 0
    process: int = 0


class SharedLedger:
    """A run's view of the ledger. Make one with `open_shared_ledger`; use it from one thread.

    Args:
        path: of the file.
        file: its descriptor.
        run: the run's id.
        job: the job's name.
        ceilings: of the `job` and of the `cache`.
    """

    def __init__(self, path: Path, file: int, *, run: str, job: str, ceilings: Mapping[str, Ceilings]) -> None:
        self._path = path
        self._file = file
        self._inode = os.fstat(file).st_ino
        self._run = _digest(run)
        self._job = _digest(job)
        self._name = job.encode()[:64]
        self._ceilings = ceilings
        self._mine = Amount()
        self._unrecorded = Amount()
        self._places = {"cache": 0, "job": 0, "run": 0}

    def begin(self, spent: Amount, earlier: Mapping[str, EarlierSpent]) -> None:
        """Make the run's entry: what it has spent in earlier sessions.

        Args:
            spent: by this run, by its record of calls. Where the entry has more calls that have ended, the record was
                lost or is old, and what the entry has beyond it counts from here on.
            earlier: what other runs of the job have spent, by run id: their entries are mended by it.
        """
        with self._locked():
            entries = self._read()
            _mend(entries, earlier, job=self._job, name=self._name)
            self._places["run"] = _place(entries, _RUN, run=self._run)
            self._unrecorded = _unrecorded(entries[self._places["run"]], spent)
            self._mine = spent.plus(self._unrecorded)
            entries[self._places["run"]] = self._entry(self._mine, 0)
            self._places["job"] = _place(entries, _JOB, job=self._job)
            entries[self._places["job"]] = _Entry(_JOB, _NOBODY, self._job, self._name, Amount())
            for number, entry in enumerate(_summed(entries)):
                self._write(number, entry)

    def raise_to(self, amount: Amount, under_way: int) -> Passed | None:
        """Raise the run's entry, unless that could pass a ceiling, which is returned then."""
        amount = amount.plus(self._unrecorded)
        with self._locked():
            sums = self._sums()
            more = amount.plus(self._mine, -1)
            for whose, entry in sums.items():
                if (passed := _passed(whose, self._ceilings[whose], entry.amount, more)) is not None:
                    return passed
            self._change(sums, amount, under_way)
        return None

    def set_to(self, amount: Amount, under_way: int) -> None:
        """Set the run's entry to what is spent and under way now, which may be more than a ceiling allows."""
        with self._locked():
            self._change(self._sums(), amount.plus(self._unrecorded), under_way)

    def others_under_way(self) -> tuple[Amount, list[int]]:
        """All that is taken in this folder, and the processes that have calls under way, without this run."""
        with self._locked():
            entries = self._read()
        busy = [entry.process for entry in entries if entry.kind == _RUN and entry.run != self._run and entry.under_way]
        return entries[0].amount, [process for process in busy if _is_alive(process)]

    def sync(self) -> None:
        """Make the changes durable against a power cut.

        Raises:
            DiskError: it could not be written.
        """
        try:
            os.fsync(self._file)
        except OSError as error:
            raise DiskError(_LEDGER_IN_WORDS, self._path, error) from error

    def close(self) -> None:
        """Sync, and close the file."""
        try:
            self.sync()
        finally:
            os.close(self._file)

    def _entry(self, amount: Amount, under_way: int) -> _Entry:
        return _Entry(_RUN, self._run, self._job, self._name, amount, under_way, os.getpid())

    def _sums(self) -> dict[str, _Entry]:
        """The sums over the folder and over the job; of those that have a ceiling only what they need."""
        return {whose: self._read_one(self._places[whose]) for whose in ("cache", "job")}

    def _change(self, sums: Mapping[str, _Entry], amount: Amount, under_way: int) -> None:
        """Write the sums first when they rise and last when they fall: a death in between leaves them too high."""
        writes = [
            (self._places[whose], entry._replace(amount=entry.amount.plus(amount).plus(self._mine, -1)))
            for whose, entry in sums.items()
        ]
        own = (self._places["run"], self._entry(amount, under_way))
        rises = any(new > old for new, old in zip(amount, self._mine, strict=True))
        for number, entry in [*writes, own] if rises else [own, *writes]:
            self._write(number, entry)
        self._mine = amount

    def _read(self) -> list[_Entry]:
        content = os.pread(self._file, os.fstat(self._file).st_size, 0)
        return read_entries(content, self._path) or [_Entry(_FOLDER, _NOBODY, _NOBODY, b"", Amount())]

    def _read_one(self, number: int) -> _Entry:
        return _unpack(os.pread(self._file, _SIZE, number * _SIZE), self._path)

    def _write(self, number: int, entry: _Entry) -> None:
        record = _pack(entry)
        if os.pwrite(self._file, record, number * _SIZE) != len(record):
            raise OSError(errno.ENOSPC, f"only a part of {len(record)} bytes was written")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._lock()
            try:
                self._check_in_place()
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError as error:
            raise disk_error(_LEDGER_IN_WORDS, self._path, error) or CacheError(
                f"{self._path} cannot be used ({error}): a ceiling over several runs needs it. Put the cache on a "
                "local disk"
            ) from error

    def _lock(self) -> None:
        """Lock the file, which each holder has for microseconds; one that was stopped just then is not waited for."""
        until = time.monotonic() + _LOCK_FOR_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise CacheError(
                        f"{self._path} has been locked by another process for {_LOCK_FOR_S:g} s: end that process, "
                        "then give the same command"
                    ) from None
                time.sleep(_LOCK_AGAIN_S)
            else:
                return

    def _check_in_place(self) -> None:
        """Check that the file still has its name: another one in its place would know nothing of this run."""
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._inode:
            raise CacheError(
                f"{self._path} was removed or replaced while this run uses it, so that a ceiling over several runs "
                "cannot be kept: put it back, or give the same command to begin a new one"
            )


def open_shared_ledger(folder: Path, *, run: str, job: str, ceilings: Mapping[str, Ceilings]) -> SharedLedger:
    """Open the ledger of a cache folder, new or not; `begin` has to follow.

    Raises:
        CacheError: it cannot be opened.
        DiskError: its disk is full, read-only or failing.
    """
    path = folder / LEDGER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise disk_error(_LEDGER_IN_WORDS, path, error) or CacheError(
            f"{path} cannot be opened ({error}): a ceiling over several runs needs it"
        ) from error
    return SharedLedger(path, file, run=run, job=job, ceilings=ceilings)


def read_spent(folder: Path, job: str, earlier: Mapping[str, EarlierSpent] = MappingProxyType({})) -> dict[str, Amount]:
    """What is taken by the `job` and in the whole `cache`, by a ledger, or none, and by `earlier` as for `begin`.

    Raises:
        CacheError: it is damaged.
    """
    path = folder / LEDGER
    entries = read_entries(path.read_bytes(), path) if path.is_file() else []
    _mend(entries, earlier, job=_digest(job), name=b"")
    taken = {"job": Amount(), "cache": Amount()}
    for entry in entries:
        if entry.kind == _RUN:
            taken["cache"] = taken["cache"].plus(entry.amount)
            if entry.job == _digest(job):
                taken["job"] = taken["job"].plus(entry.amount)
    return taken


def read_entries(content: bytes, path: Path) -> list[_Entry]:
    """The entries of a file; sums that are damaged are made anew by `_summed`, as no money is in them alone."""
    if len(content) % _SIZE:
        content = content[: -(len(content) % _SIZE)]  # of an entry that was being added: its call was not made
    return [_unpack(content[start : start + _SIZE], path) for start in range(0, len(content), _SIZE)]


def nano_usd(usd: float | None) -> int:
    """Dollars in units of 1e-9, rounded up; 0 for None.

    >>> nano_usd(0.00012), nano_usd(None)
    (120000, 0)
    """
    return 0 if usd is None else min(-int(-usd * _NANO // 1), _MOST)


def _place(entries: list[_Entry], kind: int, *, run: bytes = _NOBODY, job: bytes = _NOBODY) -> int:
    """The number of an entry, which is added if there is none."""
    for number, entry in enumerate(entries):
        if entry.kind == kind and (entry.run == run if kind == _RUN else entry.job == job):
            return number
    entries.append(_Entry(kind, run, job, b"", Amount()))
    return len(entries) - 1


def _mend(entries: list[_Entry], earlier: Mapping[str, EarlierSpent], *, job: bytes, name: bytes) -> None:
    """Give each run of `earlier` an entry of what it spent; that of a process that lives is its own."""
    for run, by_record in earlier.items():
        place = _place(entries, _RUN, run=_digest(run))
        if not _is_alive(entries[place].process):
            entries[place] = _Entry(_RUN, _digest(run), job, name, _most_spent(entries[place], by_record))


def _most_spent(entry: _Entry, by_record: EarlierSpent) -> Amount:
    """The most that a dead run can have spent, by its entry and by its own record of calls.

    Either may be old, as after it was put back from a backup; which one is, the numbers of calls tell. Where both are
    new, each knows what the other does not: the entry of answers that were not on the disk when the process was killed,
    the record of calls that were reserved and never made. So the least of both is enough.
    """
    noted, most = entry.amount, by_record.most
    if noted.requests < most.requests:
        return Amount(*map(max, noted, most))
    if entry.under_way and by_record.is_whole and most.requests >= noted.requests - entry.under_way:
        # The entry has the dollars of the prices then: what was never made takes no more off than by those of now.
        not_made = max(0, noted.tokens - most.tokens)
        usd = max(most.nano_usd, noted.nano_usd - not_made * by_record.nano_usd_a_token)
        noted = Amount(most.requests, noted.tokens - not_made, min(noted.nano_usd, usd))
    return Amount(*map(max, noted, by_record.sure))


def _unrecorded(entry: _Entry, spent: Amount) -> Amount:
    """What the entry of a run has beyond the run's own record of calls, if that lacks calls that have ended."""
    ended = entry.amount.requests - entry.under_way
    return entry.amount.plus(spent, -1) if ended > spent.requests else Amount()


def _summed(entries: list[_Entry]) -> list[_Entry]:
    """The entries, with the sums of the folder and of each job added up anew."""
    jobs: dict[bytes, Amount] = {}
    for entry in entries:
        if entry.kind == _RUN:
            jobs[entry.job] = jobs.get(entry.job, Amount()).plus(entry.amount)
    whole = Amount()
    for amount in jobs.values():
        whole = whole.plus(amount)
    return [
        entry
        if entry.kind == _RUN
        else entry._replace(amount=jobs.get(entry.job, Amount()) if entry.kind == _JOB else whole)
        for entry in entries
    ]


def _passed(whose: str, most: Ceilings, taken: Amount, more: Amount) -> Passed | None:
    then = taken.plus(more)
    if most.requests is not None and then.requests > most.requests:
        return Passed(whose, "requests", most.requests, taken)
    if most.tokens is not None and then.tokens > most.tokens:
        return Passed(whose, "tokens", most.tokens, taken)
    if most.usd is not None and then.nano_usd > int(most.usd * _NANO):
        return Passed(whose, "usd", most.usd, taken)
    return None


def _pack(entry: _Entry) -> bytes:
    amounts = [min(number, _MOST) for number in entry.amount]
    fields = _ENTRY.pack(*entry[:4], *amounts, entry.under_way, entry.process)
    return _CRC.pack(zlib.crc32(fields)) + fields


def _unpack(record: bytes, path: Path) -> _Entry:
    fields = record[_CRC.size :]
    if len(record) != _SIZE or _CRC.unpack_from(record)[0] != zlib.crc32(fields):
        raise CacheError(
            f"{path} is damaged, so that what all runs together have spent is not known. Move it away to begin a new "
            "one, which starts with what the runs of this job in its store have spent"
        )
    kind, run, job, name, *amounts, under_way, process = _ENTRY.unpack(fields)
    return _Entry(kind, run, job, name, Amount(*amounts), under_way, process)


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def _is_alive(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    if process == 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
