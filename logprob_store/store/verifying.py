"""Verification of a store against its manifests, and its repair.

Each listed file must exist, be unchanged and readable, and have its rows in order. The repair takes a damaged part out
of the manifest in all its tables; the calls that it answered count as open again, so that the next run of the job fills
them in from the cache without asking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from logprob_store.errors import StoreError, StoreNotFoundError
from logprob_store.schema import SCHEMA_VERSION, SCHEMA_VERSION_METADATA, call_numbers
from logprob_store.store.call_log import CALL_LOG, read_call_log, restore_call_log
from logprob_store.store.durable_files import checksum
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.lock import locked
from logprob_store.store.manifest import (
    PREVIOUS,
    Manifest,
    Part,
    PartFile,
    manifest_path,
    part_path,
    read_manifest,
    run_folder,
    write_manifest,
)
from logprob_store.stored_types import is_readable
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ORDER: Final = {
    "completions": ["completion_id"],
    "tokens": ["completion_id", "section", "position"],
    "alternatives": ["completion_id", "section", "position", "rank"],
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A damage of a store. `part` is None if it is of the manifest, CALL_LOG if it is of the log of calls."""

    run: str
    part: str | None
    path: Path
    what: str

    def __str__(self) -> str:
        """The file and what is wrong with it, in one line."""
        return f"{self.path}: {self.what}"


def verify_store(store: Path, *, runs: list[str] | None = None) -> list[Problem]:
    """Check every committed file of a store; an empty list means that all are intact.

    Every byte is read once for its checksum, and the keys for their order.

    Raises:
        StoreNotFoundError: there is no store.
    """
    if not (store / "runs").is_dir():
        raise StoreNotFoundError(store)
    names = sorted(path.parent.name.removeprefix("run=") for path in store.glob("runs/run=*/run.json"))
    return [problem for run in names if runs is None or run in runs for problem in _check_run(store, run)]


def repair_store(store: Path, problems: list[Problem]) -> list[str]:
    """Repair what `verify_store` found; returns what was done, as sentences.

    A damaged manifest is replaced by the one before it. A damaged part is removed in all tables but prompts; its rows
    come back from the cache when the job runs again.

    Raises:
        RunLockedError: a run with a problem is being written.
    """
    done = []
    for run in dict.fromkeys(problem.run for problem in problems):
        with locked(store, run):
            mine = [problem for problem in problems if problem.run == run]
            if any(problem.part is None for problem in mine):
                done.append(_restore_manifest(store, run))
                mine = [problem for problem in _check_run(store, run) if problem.part is not None]
            if any(problem.part == CALL_LOG for problem in mine):
                done.append(_repair_call_log(store, run))
                mine = [problem for problem in mine if problem.part != CALL_LOG]
            if mine:
                done.append(_drop_parts(store, run, mine))
    return done


def _check_run(store: Path, run: str) -> Iterator[Problem]:
    path = manifest_path(store, run)
    try:
        manifest = read_manifest(path)
    except StoreError as error:
        yield Problem(run, None, path, str(error))
        return
    for part in manifest.parts:
        for table, listed in part.files.items():
            file = part_path(store, table, run, part.name)
            if (what := _check_file(file, table, listed)) is not None:
                yield Problem(run, part.name, file, what)

    calls = run_folder(store, run) / CALL_LOG
    if (what := _check_call_log(calls, manifest)) is not None:
        yield Problem(run, CALL_LOG, calls, what)


def _check_call_log(path: Path, manifest: Manifest) -> str | None:
    """What is wrong with a run's log of calls, None if nothing; a run that made no call has none."""
    if not path.is_file():
        return "is missing" if manifest.spent.requests else None
    state = read_call_log(path.read_bytes())
    if not state.has_totals:
        return "has lost its beginning"
    return f"has {state.damaged} damaged records" if state.damaged else None


def _repair_call_log(store: Path, run: str) -> str:
    """Rewrite a run's log of calls from what can be read of it and from what the manifest says was spent."""
    spent = read_manifest(manifest_path(store, run)).spent
    usage = Usage(spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens)
    path = run_folder(store, run) / CALL_LOG
    state = read_call_log(path.read_bytes() if path.is_file() else b"")
    restore_call_log(path, state, least=(spent.requests, usage))
    return f"run {run}: what it spent was put together from what remains of {CALL_LOG} and from the manifest"


def _check_file(path: Path, table: str, listed: PartFile) -> str | None:
    if not path.is_file():
        return "is missing"
    crc, size = _checksum(path)
    if size != listed.size:
        return f"has {size} bytes, the manifest says {listed.size}"
    if crc != listed.crc32:
        return f"has changed: its checksum is {crc:08x}, the manifest says {listed.crc32:08x}"
    return _check_rows(path, table, listed)


def _check_rows(path: Path, table: str, listed: PartFile) -> str | None:
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        return f"is no readable Parquet: {error}"
    if metadata.num_rows != listed.rows:
        return f"has {metadata.num_rows} rows, the manifest says {listed.rows}"
    version = (metadata.metadata or {}).get(SCHEMA_VERSION_METADATA)
    if version != str(SCHEMA_VERSION).encode():
        return f"has schema version {version!r}, expected {SCHEMA_VERSION}"
    return _check_columns(path) if table == "prompts" else _check_order(path, table)


def _check_columns(path: Path) -> str | None:
    """What is wrong with a kept column: versions up to 0.1 wrote types that polars cannot read."""
    unreadable = [field for field in pq.read_schema(path) if not is_readable(field.type)]
    if unreadable:
        listed = ", ".join(f"{field.name!r} ({field.type})" for field in unreadable)
        return f"has columns that polars cannot read: {listed}"
    try:
        pl.read_parquet(path, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return f"cannot be read by polars: {' '.join(str(error).split())}"
    return None


def _check_order(path: Path, table: str) -> str | None:
    columns = _ORDER.get(table)
    if columns is None:
        return None
    keys = pl.read_parquet(path, columns=columns, hive_partitioning=False).select(
        pl.col(name).to_physical() if name == "section" else pl.col(name) for name in columns
    )
    return None if keys.equals(keys.sort(columns)) else f"is not sorted by {', '.join(columns)}"


def _checksum(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        return checksum(file)


def _restore_manifest(store: Path, run: str) -> str:
    path = manifest_path(store, run)
    previous = run_folder(store, run) / PREVIOUS
    try:
        manifest = read_manifest(previous)
    except (StoreError, OSError) as error:
        raise StoreError(
            f"{path} is damaged and {previous} cannot stand in for it ({error}). Delete the folders run={run} of this "
            "store and run the job again: answers in the cache are not asked again."
        ) from error
    write_manifest(path, manifest)
    return f"run {run}: the manifest was replaced by the one before it; run the job again to add what came after"


def _drop_parts(store: Path, run: str, problems: list[Problem]) -> str:
    path = manifest_path(store, run)
    manifest = read_manifest(path)
    # Without its prompts a part keeps its answers: they may be paid for and in no cache.
    damaged = {problem.part for problem in problems if problem.path.parent.parent.name != "prompts"}
    before = len(IntervalSet(manifest.settled)) - manifest.absent
    files = {file for part in manifest.parts for file in _files(store, run, part)}
    _drop_prompts_from_first_damaged(
        manifest, {problem.part for problem in problems if problem.path.parent.parent.name == "prompts"}
    )
    manifest.parts = [_prompts_only(part) if part.name in damaged else part for part in manifest.parts]
    manifest.parts = [part for part in manifest.parts if part.files]
    manifest.settled = _settled(store, manifest).intervals
    manifest.absent = 0
    manifest.state = "interrupted"
    write_manifest(path, manifest)
    for file in files - {file for part in manifest.parts for file in _files(store, run, part)}:
        file.unlink(missing_ok=True)
    lost = before - len(IntervalSet(manifest.settled))
    taken = len({problem.part for problem in problems})
    return (
        f"run {run}: damaged parts taken out: {taken}; answers to fill in: {lost}. "
        "Run the job again: answers that are in the cache are not asked again"
    )


def _drop_prompts_from_first_damaged(manifest: Manifest, damaged: set[str | None]) -> None:
    """Drop the files of prompts from the first damaged one on: the next run writes prompts in order from there.

    Args:
        manifest: is changed.
        damaged: the parts whose file of prompts is damaged.
    """
    all_intact = True
    rows = 0
    for part in manifest.parts:
        all_intact = all_intact and part.name not in damaged
        if not all_intact:
            part.files.pop("prompts", None)
        elif "prompts" in part.files:
            rows += part.files["prompts"].rows
    if not all_intact:
        manifest.prompts_read = rows


def _prompts_only(part: Part) -> Part:
    return Part(part.name, {table: file for table, file in part.files.items() if table == "prompts"})


def _files(store: Path, run: str, part: Part) -> set[Path]:
    return {part_path(store, table, run, part.name) for table in part.files}


def _settled(store: Path, manifest: Manifest) -> IntervalSet:
    """The calls that have an outcome in the parts that are left."""
    settled = IntervalSet()
    for table in ("completions", "failures"):
        for part in manifest.parts:
            if table in part.files:
                path = part_path(store, table, manifest.run, part.name)
                rows = pl.read_parquet(path, columns=["prompt_index", "sample_index"], hive_partitioning=False)
                settled.update(call_numbers(rows.unique(), manifest.samples))
    return settled
