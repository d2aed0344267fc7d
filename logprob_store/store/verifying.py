"""Verification of a store: each file against the run's manifest, and the manifest against the rows.

Each listed file must exist, be unchanged and readable, be of its run and part, and have its rows in order. What the
manifest counts must be in the files, and the answers must be to the prompts that the run has under their numbers. What
is mended, and how, is in `repair`.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from logprob_store.counted import counted
from logprob_store.errors import RunNotFoundError, StoreError
from logprob_store.schema import SCHEMA_VERSION, SCHEMA_VERSION_METADATA, call_numbers
from logprob_store.store.call_log import CALL_LOG, call_log_problem
from logprob_store.store.durable_files import checksum
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.lock import is_being_written
from logprob_store.store.manifest import (
    COPY,
    COUNTED_TABLES,
    Manifest,
    PartFile,
    find_manifest,
    listed_paths,
    manifest_path,
    no_manifest,
    part_path,
    read_manifest,
    run_folder,
)
from logprob_store.store.part_files import PART_METADATA, RUN_METADATA, scan_part_files, unlisted_files
from logprob_store.store.run_folders import removed_folder, runs_with_files
from logprob_store.stored_types import is_readable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

_ORDER: Final = {
    "completions": ["completion_id"],
    "tokens": ["completion_id", "section", "position"],
    "alternatives": ["completion_id", "section", "position", "rank"],
    "decisions": ["completion_id", "question_index", "option_index"],
}
_MISSING: Final = "is missing"
_CALL: Final = ("prompt_index", "sample_index")


@dataclass(frozen=True, slots=True)
class Problem:
    """A damage of a store.

    `kind` is `manifest` (it or its copy is damaged or gone), `call log`, `part` (a file of rows), `unlisted` (a file of
    rows that is not the run's), `rows` (the manifest and the rows contradict each other), `batch` (what is written down
    of one) or `removal` (that of the run was broken off). `part` names the part, for the kind `part` alone. `mendable`
    says whether a repair does anything.
    """

    run: str
    kind: Literal["manifest", "call log", "part", "unlisted", "rows", "batch", "removal"]
    path: Path
    what: str
    part: str | None = None
    mendable: bool = True

    @property
    def is_missing(self) -> bool:
        """Whether it is a file of rows that is not there."""
        return self.kind == "part" and self.what == _MISSING

    def __str__(self) -> str:
        """The file and what is wrong with it, in one line."""
        return self.what if self.kind == "batch" else f"{self.path}: {self.what}"


def verify_store(store: Path, *, runs: Collection[str] | None = None) -> list[Problem]:
    """Check every committed file of a store; an empty list means that all are intact.

    Every byte is read once for its checksum, and the keys for their order.

    Args:
        store: the store's folder.
        runs: only these runs, names or patterns such as `nightly-*`; all when None.

    Raises:
        StoreNotFoundError: there is no store.
        RunNotFoundError: the store has no such run.
    """
    names = runs_with_files(store)
    chosen = set(names) if runs is None else set()
    for run in runs or ():
        if not (found := fnmatch.filter(names, run)):
            raise RunNotFoundError(run, names)
        chosen.update(found)
    return [problem for run in names if run in chosen for problem in _check_run_or_removal(store, run)]


def _check_run_or_removal(store: Path, run: str) -> Iterator[Problem]:
    if (removed := removed_folder(store, run)).exists():
        what = f"holds what is left of run {run}, whose removal was broken off: `logprobs rm {store} {run}` finishes it"
        yield Problem(run, "removal", removed, what)
    else:
        yield from check_run(store, run)


def check_run(store: Path, run: str) -> Iterator[Problem]:
    """The problems of one run."""
    path = manifest_path(store, run)
    try:
        found = find_manifest(store, run)
        if found is None:
            raise no_manifest(store, run)
    except StoreError as error:
        yield Problem(run, "manifest", path, str(error).removeprefix(f"{path} "), mendable=False)
        return
    manifest = found.manifest
    if found.problem is not None:
        yield Problem(run, "manifest", path, found.problem.removeprefix(f"{path} "))
    elif (what := _check_copy(path.with_name(COPY))) is not None:
        yield Problem(run, "manifest", path.with_name(COPY), what)
    damaged = [
        Problem(run, "part", file, what, part.name)
        for part in manifest.parts
        for table, listed in part.files.items()
        for file in [part_path(store, table, run, part.name)]
        if (what := _check_file(file, table, part.name, manifest, listed)) is not None
    ]
    yield from damaged
    # A run that was killed may have left such files, and removes them when it goes on.
    if manifest.state != "running" and not is_being_written(store, run):
        for file in unlisted_files(store, manifest):
            yield Problem(run, "unlisted", file, "is listed by no manifest; engines that read folders see its rows")
    if not damaged:
        for what in _contradictions(store, manifest):
            yield Problem(run, "rows", path, what)
    if (what := check_call_log(store, manifest)) is not None:
        yield Problem(run, "call log", run_folder(store, run) / CALL_LOG, what)


def settled_by_rows(store: Path, manifest: Manifest) -> IntervalSet:
    """The numbers of the calls that have an outcome among the rows of the parts."""
    settled = IntervalSet()
    for table in ("completions", "failures"):
        settled.update_intervals(calls_of_rows(listed_paths(store, manifest, table), manifest.samples).intervals)
    return settled


def calls_of_rows(files: Sequence[Path], samples: int) -> IntervalSet:
    """The numbers of the calls that files have rows of.

    Args:
        files: of completions, or of failures.
        samples: the run's.
    """
    calls = IntervalSet()
    if files:
        calls.update(call_numbers(scan_part_files(files).select(_CALL).unique().collect(), samples))
    return calls


def listed_rows(manifest: Manifest, table: str) -> int:
    """The number of rows that a manifest lists of a table."""
    return sum(part.files[table].rows for part in manifest.parts if table in part.files)


def _check_copy(path: Path) -> str | None:
    """What is wrong with a manifest's copy; version 0.1.0 made none, and a killed process may not have come to it."""
    try:
        read_manifest(path)
    except FileNotFoundError:
        return None
    except StoreError as error:
        return str(error).removeprefix(f"{path} ")
    return None


def check_call_log(store: Path, manifest: Manifest) -> str | None:
    """What is wrong with a run's log of calls, None if nothing; a run that made no call may have none."""
    path = run_folder(store, manifest.run) / CALL_LOG
    return call_log_problem(
        path.read_bytes() if path.is_file() else None,
        run_id=manifest.run_id,
        begun=manifest.has_call_log or manifest.spent.requests > 0,
    )


def _check_file(path: Path, table: str, part: str, manifest: Manifest, listed: PartFile) -> str | None:
    if (what := _check_bytes(path, listed)) is not None:
        return what
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        return f"is no readable Parquet: {error}"
    if metadata.num_rows != listed.rows:
        return f"has {counted(metadata.num_rows, 'row')}, the manifest says {listed.rows}"
    return _check_origin(metadata.metadata or {}, part, manifest) or (
        _check_columns(path) if table == "prompts" else _check_order(path, table)
    )


def _check_bytes(path: Path, listed: PartFile) -> str | None:
    if path.is_symlink():
        return f"is a link to {path.readlink()}"
    if not path.is_file():
        return _MISSING
    with path.open("rb") as file:
        crc, size = checksum(file)
    if size != listed.size:
        return f"has {size} bytes, the manifest says {listed.size}"
    if crc != listed.crc32:
        return f"has changed: its checksum is {crc:08x}, the manifest says {listed.crc32:08x}"
    return None


def _check_origin(metadata: dict[bytes, bytes], part: str, manifest: Manifest) -> str | None:
    """What is wrong with where a file says that it comes from; version 0.1.0 wrote only the version of the schema."""
    version = metadata.get(SCHEMA_VERSION_METADATA)
    if version != str(SCHEMA_VERSION).encode():
        return f"has schema version {version!r}, expected {SCHEMA_VERSION}"
    origin = metadata.get(RUN_METADATA, manifest.run_id.encode()), metadata.get(PART_METADATA, part.encode())
    if origin == (manifest.run_id.encode(), part.encode()):
        return None
    run_id, name = (value.decode(errors="replace") for value in origin)
    return f"is {name} of the run with the id {run_id}, not {part} of {manifest.run_id}"


def _check_columns(path: Path) -> str | None:
    """What is wrong with a kept column: versions up to 0.1 wrote types that polars cannot read."""
    unreadable = [field for field in pq.read_schema(path) if not is_readable(field.type)]
    if unreadable:
        listed = ", ".join(f"{field.name!r} ({field.type})" for field in unreadable)
        return f"has columns that polars cannot read: {listed}"
    try:
        pl.read_parquet(path, hive_partitioning=False, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return f"cannot be read by polars: {' '.join(str(error).split())}"
    return None


def _check_order(path: Path, table: str) -> str | None:
    columns = _ORDER.get(table)
    if columns is None:
        return None
    keys = pl.read_parquet(path, columns=columns, hive_partitioning=False, glob=False).select(
        pl.col(name).to_physical() if name == "section" else pl.col(name) for name in columns
    )
    return None if keys.equals(keys.sort(columns)) else f"is not sorted by {', '.join(columns)}"


def _contradictions(store: Path, manifest: Manifest) -> Iterator[str]:
    """What the manifest says and the rows do not, as ends of a sentence about the manifest."""
    for table in COUNTED_TABLES:
        said, rows = getattr(manifest.counts, table), listed_rows(manifest, table)
        if said != rows:
            yield f"counts {said} {table}, its parts have {rows}"
    numbers = [int(part.name.removeprefix("part-")) for part in manifest.parts]
    if len(set(numbers)) < len(numbers) or max(numbers, default=-1) >= manifest.next_part:
        yield f"gives the next part the number {manifest.next_part}, which is taken"
    if not manifest.is_import:
        yield from _contradictions_of_calls(store, manifest)
    if wrong := _answers_to_other_prompts(store, manifest):
        yield f"lists answers to other prompts than those with their numbers: {', '.join(wrong)}"


def _contradictions_of_calls(store: Path, manifest: Manifest) -> Iterator[str]:
    with_row = manifest.prompts_read - manifest.prompts_passed
    if with_row != (rows := listed_rows(manifest, "prompts")):
        yield f"says that {with_row} prompts have a row, and {rows} have"
    settled, by_rows = IntervalSet(manifest.settled), settled_by_rows(store, manifest)
    outcomes = len(by_rows)
    by_rows.update_intervals(manifest.settled)
    if len(settled) - manifest.absent != outcomes or len(by_rows) != len(settled):
        yield f"says that {len(settled) - manifest.absent} calls have an outcome, and {outcomes} have, or others"


def _answers_to_other_prompts(store: Path, manifest: Manifest) -> list[str]:
    """The first few ids of prompts whose answers have the number of another prompt."""
    prompts, completions = (listed_paths(store, manifest, table) for table in ("prompts", "completions"))
    if not prompts or not completions:
        return []
    asked, answered = (
        scan_part_files(files).select("prompt_index", "prompt_id").unique() for files in (prompts, completions)
    )
    # Prompts whose row is not written yet, or was taken out with a damaged part, are no contradiction.
    wrong = answered.join(asked, on="prompt_index", suffix="_asked").filter(
        pl.col("prompt_id") != pl.col("prompt_id_asked")
    )
    return wrong.sort("prompt_index").head(3).collect()["prompt_id"].to_list()
