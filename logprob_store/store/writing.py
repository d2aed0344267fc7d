"""Writing a run: parts that are whole or absent, and the manifest that says which.

Holds the lock on a run, the Parquet settings and the order of a commit: files under temporary names, synced, renamed,
folders synced, the manifest replaced last. Killed at any instant, a run has a part in all its tables or in none.
Leaves out where rows come from.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from logprob_store.errors import DiskError, InputError, RunChangedError, StoreError
from logprob_store.events import emit
from logprob_store.schema import FAILURES, SCHEMA_VERSION, SCHEMA_VERSION_METADATA, TABLES, arrow_schema, call_numbers
from logprob_store.store.durable_files import make_folder, sync_file, sync_folder
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.lock import take_lock
from logprob_store.store.manifest import (
    MOST_SESSIONS,
    RUN_NAME,
    Input,
    Manifest,
    Part,
    PartFile,
    SessionRecord,
    Spent,
    manifest_path,
    part_path,
    read_manifest,
    run_folder,
    table_folder,
    write_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

# Chosen for size at reading speed: token texts and ids repeat (dictionary), the high bytes of logprobs do (split).
_PLAIN_COLUMNS: Final = frozenset({"logprob", "logprob_wire", "logprob_sum", "logprob_min", "latency_s"})
# Of texts in any order, the least and the greatest tell a reader nothing, and finding them takes a fifth of the time.
_TEXT_COLUMNS: Final = frozenset({"token", "bytes"})
_ROW_GROUP_ROWS: Final = 1_000_000
# Split into its bytes, a page of so many numbers is eight blocks of zstd, each with bytes of one kind: a tenth less.
_PAGE_ROWS: Final = 1 << 17
_ZSTD_LEVEL: Final = 2


class RunWriter:
    """The one writer of a run, from `open_run` to `close`; also a context manager.

    `settled` holds the calls that have an outcome, `open_failures` those of them that failed and are to be asked
    again, `failed_at` when these failed (the row's `first_at`).
    """

    def __init__(self, store: Path, manifest: Manifest, lock: int) -> None:
        self.store = store
        self.manifest = manifest
        self.settled = IntervalSet(manifest.settled)
        self._lock = lock
        self.open_failures: dict[int, str] = {}
        self.failed_at: dict[int, datetime] = {}
        self._read_open_failures()

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
        prompts_read: int = 0,
        counts: Mapping[str, int] | None = None,
        spent: Callable[[], Spent | None] | None = None,
    ) -> None:
        """Add one part; when this returns, its rows are durable and listed.

        Args:
            tables: rows by table name; empty ones are left out.
            settled: the calls whose outcome these rows are.
            absent: intervals of numbers of calls that there are not.
            prompts_read: how many prompts, from the first, have a row now.
            counts: what to add to the manifest's counts.
            spent: called just before the manifest is written: makes durable what the run has spent, and returns it.

        Raises:
            DiskError: it could not be written, and the store is as it was.
        """
        started = time.monotonic()
        name = f"part-{self.manifest.next_part:05d}"
        files = {table: rows for table, rows in tables.items() if rows.num_rows}
        try:
            part = Part(name, {table: self._write(table, name, rows) for table, rows in files.items()})
            for table in files:
                sync_folder(self._folder(table))
        except OSError as error:
            self._remove(name, files)
            raise DiskError(f"part {name}", self.store, error) from error
        self.settled.update(settled)
        outcomes = len(self.settled)
        self.settled.update_intervals(absent)
        self.manifest.absent += len(self.settled) - outcomes
        if files:
            self.manifest.parts.append(part)
            self.manifest.next_part += 1
        self.manifest.prompts_read = max(self.manifest.prompts_read, prompts_read)
        for field, count in (counts or {}).items():
            setattr(self.manifest.counts, field, getattr(self.manifest.counts, field) + count)
        self._save(spent)
        if files:
            self._say_committed(part, time.monotonic() - started)

    def finish(
        self,
        state: str,
        *,
        reason: str | None = None,
        message: str | None = None,
        calls: int = 0,
        verdict: Mapping[str, float] | None = None,
        spent: Callable[[], Spent | None] | None = None,
    ) -> None:
        """Write down how the session ended, and drop failures that have been made good since.

        Args:
            state: `finished`, `stopped` or `interrupted`.
            reason: the class of failure that stopped it.
            message: what was said about it.
            calls: made in this session.
            verdict: seconds by what held it up.
            spent: as for `commit`.

        Raises:
            DiskError: it could not be written, and the store is as it was.
        """
        self.manifest.state = state
        rows, listed = self._failures()
        if rows.height != listed:
            try:
                self._replace_failures(rows, spent)
            except OSError as error:
                raise DiskError("the open failures", self.store, error) from error
        self.manifest.counts.failures = rows.height
        self.manifest.failed = dict(sorted(Counter(rows["error_type"]).items()))
        session = self.manifest.sessions[-1]
        session.ended_at, session.state, session.reason, session.message = datetime.now(UTC), state, reason, message
        session.calls, session.verdict = calls, dict(verdict or {})
        self._save(spent)

    def close(self) -> None:
        """Let go of the run; the lock also goes with the process, however it ends."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _save(self, spent: Callable[[], Spent | None] | None) -> None:
        self.manifest.settled = self.settled.intervals
        self.manifest.updated_at = datetime.now(UTC)
        if spent is not None and (now := spent()) is not None:
            self.manifest.spent = now
        try:
            write_manifest(manifest_path(self.store, self.run), self.manifest)
        except OSError as error:
            raise DiskError("the manifest", self.store, error) from error

    def _say_committed(self, part: Part, seconds: float) -> None:
        rows = {table: file.rows for table, file in part.files.items()}
        size = sum(file.size for file in part.files.values())
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

    def _remove(self, name: str, tables: Iterable[str]) -> None:
        """Take back what there is of a part: engines that read folders would see it, and it takes up room."""
        for table in tables:
            for file in (f".{name}.parquet.tmp", f"{name}.parquet"):
                with contextlib.suppress(OSError):
                    (self._folder(table) / file).unlink(missing_ok=True)

    def _folder(self, table: str) -> Path:
        return table_folder(self.store, table, self.run)

    def _path(self, table: str, part: str) -> Path:
        return part_path(self.store, table, self.run, part)

    def _write(self, table: str, name: str, rows: pa.Table) -> PartFile:
        folder = self._folder(table)
        make_folder(folder)
        temporary = folder / f".{name}.parquet.tmp"
        metadata = {**(rows.schema.metadata or {}), SCHEMA_VERSION_METADATA: str(SCHEMA_VERSION).encode()}
        plain = [column for column in rows.column_names if column in _PLAIN_COLUMNS]
        pq.write_table(
            rows.replace_schema_metadata(metadata),
            temporary,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            row_group_size=_ROW_GROUP_ROWS,
            max_rows_per_page=_PAGE_ROWS,
            data_page_size=16 * _PAGE_ROWS,  # more than a page of numbers takes, so that rows alone end it
            write_statistics=[column for column in rows.column_names if column not in _TEXT_COLUMNS],
            use_dictionary=[column for column in rows.column_names if column not in _PLAIN_COLUMNS],
            column_encoding=dict.fromkeys(plain, "BYTE_STREAM_SPLIT") or None,
        )
        crc, size = sync_file(temporary)
        temporary.replace(self._path(table, name))
        return PartFile(rows.num_rows, size, crc)

    def _failures(self) -> tuple[pl.DataFrame, int]:
        """The failures that are still open, and how many rows are listed now."""
        listed = [part for part in self.manifest.parts if "failures" in part.files]
        if not listed:
            return FAILURES.to_frame(), 0
        rows = pl.read_parquet([self._path("failures", part.name) for part in listed], hive_partitioning=False)
        answered = [self._path("completions", part.name) for part in self.manifest.parts if "completions" in part.files]
        still_open = rows.unique(["prompt_index", "sample_index"], keep="last", maintain_order=True)
        if answered:
            keys = pl.scan_parquet(answered, hive_partitioning=False).select("prompt_index", "sample_index")
            still_open = still_open.lazy().join(keys, on=["prompt_index", "sample_index"], how="anti").collect()
        return still_open.sort("prompt_index", "sample_index"), rows.height

    def _read_open_failures(self) -> None:
        rows, _ = self._failures()
        calls = call_numbers(rows, self.manifest.samples)
        self.open_failures = dict(zip(calls, rows["error_type"].to_list(), strict=True))
        self.failed_at = dict(zip(calls, rows["first_at"].to_list(), strict=True))

    def _replace_failures(self, rows: pl.DataFrame, spent: Callable[[], Spent | None] | None) -> None:
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
        self._save(spent)
        for name in old:
            self._path("failures", name).unlink(missing_ok=True)


def open_run(
    store: Path,
    run: str,
    *,
    job_name: str,
    job: Mapping[str, Any],
    inputs: Sequence[Input],
    samples: int,
    grows: bool = False,
) -> RunWriter:
    """Begin a run, or go on with it.

    With `grows`, a run goes on whatever its `inputs` were: the writer adds to those in the manifest.

    Whatever an earlier session left behind without listing it in the manifest is removed.

    Raises:
        InputError: the run's name is not usable.
        RunLockedError: another process writes this run.
        RunChangedError: the run was made by another job or from other prompts.
        StoreError: the store cannot be written.
        DiskError: there is no room to begin.
    """
    if not RUN_NAME.fullmatch(run) or run in {".", ".."}:
        raise InputError(f"run name {run!r}: use letters, digits, '.', '_' and '-', at most 128 of them")
    folder = run_folder(store, run)
    try:
        make_folder(folder)
        lock = take_lock(folder / "lock", run)
    except OSError as error:
        raise StoreError(f"the store at {store} cannot be written: {error}") from error
    with contextlib.ExitStack() as on_error:
        on_error.callback(os.close, lock)
        path = manifest_path(store, run)
        if path.exists():
            manifest = read_manifest(path)
            _check_unchanged(manifest, job, manifest.inputs if grows else inputs)
        else:
            now = datetime.now(UTC)
            manifest = Manifest(
                run=run,
                run_id=uuid.uuid4().hex,
                job_name=job_name,
                job=dict(job),
                inputs=list(inputs),
                samples=samples,
                created_at=now,
                updated_at=now,
                software=f"logprob-store {version('logprob-store')}",
            )
        _begin_session(manifest)
        try:
            if not path.exists():
                write_manifest(path, manifest)
            _remove_unlisted(store, manifest)
        except OSError as error:
            raise DiskError(f"run {run}", store, error) from error
        writer = RunWriter(store, manifest, lock)
        on_error.pop_all()
    return writer


def _begin_session(manifest: Manifest) -> None:
    """Add a record of the session that begins, and say of earlier ones without an end that they crashed.

    It is written with the first part, that of the first session with the manifest.
    """
    for session in manifest.sessions:
        if session.state == "running":
            session.state = "crashed"
    begun = SessionRecord(started_at=datetime.now(UTC))
    manifest.sessions = [*manifest.sessions[1 - MOST_SESSIONS :], begun]


def _check_unchanged(manifest: Manifest, job: Mapping[str, Any], inputs: Sequence[Input]) -> None:
    differences = []
    for name in sorted(manifest.job.keys() | job.keys()):
        was, now = manifest.job.get(name), job.get(name)
        if was != now:
            differences.append(f"{name} is {now!r}, was {was!r}")
    before = {item.name: item for item in manifest.inputs}
    after = {item.name: item for item in inputs}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            differences.append(f"prompts file {name} is gone")
        elif name not in before:
            differences.append(f"prompts file {name} is new")
        elif before[name] != after[name]:
            differences.append(
                f"prompts file {name} has other content ({after[name].rows} rows, was {before[name].rows})"
            )
    if differences:
        raise RunChangedError(manifest.run, differences)


def _remove_unlisted(store: Path, manifest: Manifest) -> None:
    for table in (*TABLES, "imports"):
        listed = {f"{part.name}.parquet" for part in manifest.parts if table in part.files}
        folder = table_folder(store, table, manifest.run)
        for path in folder.glob("*") if folder.is_dir() else ():
            leftover = path.name.startswith(".part-") or path.name.startswith("part-")
            if leftover and path.name not in listed:
                path.unlink()
