"""Writing a run: commits of whole parts, and the manifest that lists them.

A commit writes the files of a part under temporary names, syncs and renames them, syncs their folders, and replaces the
manifest last. A process killed at any instant leaves a part in all its tables or in none.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

import polars as pl

from logprob_store.errors import DiskError
from logprob_store.events import emit
from logprob_store.schema import FAILURES, arrow_schema, call_numbers
from logprob_store.store.durable_files import FILE_MODE, create_file, sync_folder
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.manifest import (
    COUNTED_TABLES,
    Manifest,
    Part,
    Spent,
    listed_paths,
    manifest_path,
    part_path,
    run_folder,
    table_folder,
    write_manifest,
)
from logprob_store.store.part_files import remove_part_files, scan_part_files, write_part_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import pyarrow as pa

    from logprob_store.store.lock import RunLock
    from logprob_store.store.manifest import PartFile

log = logging.getLogger(__name__)


_ROOM_BYTES: Final = 1 << 16


def room_path(store: Path, run: str) -> Path:
    """A file that keeps room on the disk while a session lasts, for it to say how it ended if the disk is full then."""
    return run_folder(store, run) / "room"


def keep_room(store: Path, run: str) -> None:
    """Write that file; in its bytes a file system finds nothing to compress.

    Raises:
        OSError: there is no room even for it.
    """
    try:
        with os.fdopen(create_file(room_path(store, run)), "wb") as file:
            file.write(os.urandom(_ROOM_BYTES))
    except OSError as error:
        if error.errno != errno.EFBIG:  # of a limit on the size of a file: what is written last may be small enough
            raise


class RunWriter:
    """The one writer of a run, from `opening.open_run` to `close`; also a context manager.

    `settled` holds the numbers of the calls that have an outcome. Of those, `open_failures` maps the ones that failed
    and are asked again to their error type, and `failed_at` to the time of their failure (`first_at` of the row).
    """

    def __init__(self, store: Path, manifest: Manifest, lock: RunLock, *, file_mode: int = FILE_MODE) -> None:
        self.store = store
        self.manifest = manifest
        self.settled = IntervalSet(manifest.settled)
        self._lock = lock
        self.file_mode = file_mode
        self._room = room_path(store, manifest.run)
        rows, _ = self._read_failures()
        calls = call_numbers(rows, manifest.samples)
        self.open_failures: dict[int, str] = dict(zip(calls, rows["error_type"].to_list(), strict=True))
        self.failed_at: dict[int, datetime] = dict(zip(calls, rows["first_at"].to_list(), strict=True))

    @property
    def run(self) -> str:
        """The run's name."""
        return self.manifest.run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def commit(
        self,
        tables: Mapping[str, pa.Table],
        *,
        settled: Iterable[int] = (),
        absent: Iterable[tuple[int, int]] = (),
        passed: Mapping[str, int] | None = None,
        prompts_passed: int = 0,
        prompts_read: int = 0,
        counts: Mapping[str, int] | None = None,
        sync_spent: Callable[[], Spent | None] | None = None,
    ) -> None:
        """Add one part; when this returns, its rows are durable and listed.

        Args:
            tables: rows by table name; a table without rows gets no file.
            settled: the numbers of the calls whose outcomes these rows are.
            absent: half-open intervals of call numbers that belong to no call.
            passed: calls among these that were passed over, by the reason.
            prompts_passed: prompts that get no row, because all their calls were passed over.
            prompts_read: how many prompts, from the first, have a row with this part, or need none.
            counts: added to the manifest's counts, beside the numbers of rows.
            sync_spent: called just before the manifest is written: makes durable what the run has spent and returns it.

        Raises:
            DiskError: it could not be written, and the store is as it was.
        """
        self._check_lock()
        started = time.monotonic()
        name = f"part-{self.manifest.next_part:05d}"
        files = {table: rows for table, rows in tables.items() if rows.num_rows}
        added = {table: rows.num_rows for table, rows in files.items() if table in COUNTED_TABLES} | dict(counts or {})
        try:
            part = Part(name, {table: self._write(table, name, rows) for table, rows in files.items()}, added)
            for table in files:
                sync_folder(self._folder(table))
        except OSError as error:
            remove_part_files(self.store, self.run, name, files)
            raise DiskError(f"part {name}", self.store, error) from error
        self.settled.update(settled)
        outcomes = len(self.settled)
        self.settled.update_intervals(absent)
        self.manifest.absent += len(self.settled) - outcomes
        if files:
            self.manifest.parts.append(part)
            self.manifest.next_part += 1
        for reason, calls in (passed or {}).items():
            self.manifest.passed[reason] = self.manifest.passed.get(reason, 0) + calls
        self.manifest.prompts_passed += prompts_passed
        self.manifest.prompts_read = max(self.manifest.prompts_read, prompts_read)
        for field, count in added.items():
            setattr(self.manifest.counts, field, getattr(self.manifest.counts, field) + count)
        self._write_manifest(sync_spent)
        if files:
            self._log_commit(part, time.monotonic() - started)

    def finish(
        self,
        state: str,
        *,
        reason: str | None = None,
        message: str | None = None,
        calls: int = 0,
        verdict: Mapping[str, float] | None = None,
        sync_spent: Callable[[], Spent | None] | None = None,
    ) -> None:
        """Record how the session ended, and remove the rows of failures whose calls have an answer by now.

        Args:
            state: `finished`, `stopped` or `interrupted`.
            reason: the failure class that stopped the session.
            message: the text of the error that ended the session.
            calls: made in this session.
            verdict: seconds by what held calls up.
            sync_spent: as for `commit`.

        Raises:
            DiskError: it could not be written, and the store is as it was.
        """
        self._free_room()
        self.manifest.state = state
        rows, listed = self._read_failures()
        if rows.height != listed:
            try:
                self._replace_failures(rows, sync_spent)
            except OSError as error:
                raise DiskError("the open failures", self.store, error) from error
        self.manifest.counts.failures = rows.height
        self.manifest.failed = dict(sorted(Counter(rows["error_type"]).items()))
        session = self.manifest.sessions[-1]
        session.ended_at, session.state, session.reason, session.message = datetime.now(UTC), state, reason, message
        session.calls, session.verdict = calls, dict(verdict or {})
        try:
            self._write_manifest(sync_spent)
        except DiskError:
            self._write_manifest(None)  # how the session ended, at least
            raise

    def committed_keys(self) -> set[str]:
        """The request keys of all calls that have a row."""
        found: set[str] = set()
        for table in ("completions", "failures"):
            if files := listed_paths(self.store, self.manifest, table):
                keys = scan_part_files(files).select("request_key")
                found.update(keys.drop_nulls().unique().collect()["request_key"])
        return found

    def note_call_log(self) -> None:
        """Write into the manifest that the log of calls was begun, so that it is missed if it is gone.

        Raises:
            DiskError: it could not be written.
        """
        if not self.manifest.has_call_log:
            self.manifest.has_call_log = True
            self._write_manifest(None)

    def close(self) -> None:
        """Release the run's lock; the kernel does so too when the process ends."""
        self._free_room()
        self._lock.close()

    def _free_room(self) -> None:
        with contextlib.suppress(OSError):
            self._room.unlink(missing_ok=True)

    def _write_manifest(self, sync_spent: Callable[[], Spent | None] | None) -> None:
        self.manifest.settled = self.settled.intervals
        self.manifest.updated_at = datetime.now(UTC)
        if sync_spent is not None and (now := sync_spent()) is not None:
            self.manifest.spent = now
        self._check_lock()
        try:
            write_manifest(manifest_path(self.store, self.run), self.manifest, mode=self.file_mode)
        except OSError as error:
            raise DiskError("the manifest", self.store, error) from error

    def _check_lock(self) -> None:
        try:
            self._lock.check()
        except OSError as error:
            raise DiskError(f"run {self.run}", self.store, error) from error

    def _log_commit(self, part: Part, seconds: float) -> None:
        rows = {table: file.rows for table, file in part.files.items()}
        size = sum(file.size for file in part.files.values())  # bytes
        emit(
            log,
            "part_committed",
            "%s of run %s: %.1f MB committed in %.2f s",
            part.name,
            self.run,
            size / 1e6,
            seconds,
            run=self.run,
            part=part.name,
            rows=rows,
            bytes=size,
            seconds=seconds,
        )

    def _folder(self, table: str) -> Path:
        return table_folder(self.store, table, self.run)

    def _path(self, table: str, part: str) -> Path:
        return part_path(self.store, table, self.run, part)

    def _write(self, table: str, part: str, rows: pa.Table) -> PartFile:
        return write_part_file(self.store, self.manifest, table, part, rows, mode=self.file_mode)

    def _read_failures(self) -> tuple[pl.DataFrame, int]:
        """The failures whose calls are still without an answer, and the number of rows that the files have now."""
        files = listed_paths(self.store, self.manifest, "failures")
        if not files:
            return FAILURES.to_frame(), 0
        rows = pl.read_parquet(files, hive_partitioning=False, glob=False)
        answered = listed_paths(self.store, self.manifest, "completions")
        still_open = rows.unique(["prompt_index", "sample_index"], keep="last", maintain_order=True)
        if answered:
            scan = scan_part_files(answered)
            keys = scan.select("prompt_index", "sample_index")
            still_open = still_open.lazy().join(keys, on=["prompt_index", "sample_index"], how="anti").collect()
        return still_open.sort("prompt_index", "sample_index"), rows.height

    def _replace_failures(self, rows: pl.DataFrame, sync_spent: Callable[[], Spent | None] | None) -> None:
        """List one part with these failures in place of all files of failures; delete those once it is listed."""
        old = [part.name for part in self.manifest.parts if "failures" in part.files]
        for part in self.manifest.parts:
            part.files.pop("failures", None)
        self.manifest.parts = [part for part in self.manifest.parts if part.files]
        if rows.height:
            name = f"part-{self.manifest.next_part:05d}"
            arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(arrow_schema(FAILURES))
            self.manifest.parts.append(Part(name, {"failures": self._write("failures", name, arrow)}))
            self.manifest.next_part += 1
            sync_folder(self._folder("failures"))
        self._write_manifest(sync_spent)
        for name in old:
            self._path("failures", name).unlink(missing_ok=True)
