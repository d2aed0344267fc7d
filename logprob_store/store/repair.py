"""Repair of what `verifying` finds.

A damaged manifest is replaced by its copy. The answers of a damaged part are taken out in all their tables, and their
calls count as open again. The manifest notes them as lost: the next run of the job takes back what the cache has of the
run's own answers, and lets no later ones take their place (`run.lost_answers`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from logprob_store.errors import StoreError
from logprob_store.schema import TABLES
from logprob_store.store.call_log import CALL_LOG, is_of_another_run, read_call_log, restore_call_log
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.lock import take_lock
from logprob_store.store.manifest import (
    COUNTED_TABLES,
    Manifest,
    Part,
    find_manifest,
    listed_paths,
    manifest_path,
    no_manifest,
    part_path,
    read_manifest,
    run_folder,
    write_manifest,
)
from logprob_store.store.opening import restore_manifest
from logprob_store.store.part_files import scan_part_files, set_aside_unlisted_files
from logprob_store.store.removal import finish_removal
from logprob_store.store.tables import StoreTables
from logprob_store.store.verifying import calls_of_rows, check_run, listed_rows, settled_by_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from logprob_store.store.verifying import Problem


_KINDS: Final = ("prompts", "failures", "answers")
"""Of what a damaged file may have rows; the tables of answers belong together."""


class Repairs(NamedTuple):
    """What a repair did, and the runs that it could not mend, each with the reason; as sentences."""

    done: list[str]
    not_done: list[str]


def repair_store(store: Path, problems: Sequence[Problem]) -> Repairs:
    """Repair what `verify_store` found; a run that cannot be mended, or is being written, keeps no other from it."""
    repairs = Repairs([], [])
    for run in dict.fromkeys(problem.run for problem in problems):
        of_run = [problem for problem in problems if problem.run == run]
        if not any(problem.mendable for problem in of_run):
            repairs.not_done.append(f"run {run} cannot be mended")  # the problem says why, and what to do
            continue
        try:
            repairs.done.extend(_repair_run(store, run, of_run))
        except StoreError as error:
            repairs.not_done.append(f"run {run} cannot be mended: {error}")
    return repairs


def _repair_run(store: Path, run: str, problems: Sequence[Problem]) -> Iterator[str]:
    if any(problem.kind == "removal" for problem in problems):
        finish_removal(store, run)
        yield f"run {run}: its removal was finished"
        return
    if find_manifest(store, run) is None:
        raise no_manifest(store, run)
    with take_lock(store, run):
        if any(problem.kind == "manifest" for problem in problems):
            yield _restore_manifest(store, run)
            problems = list(check_run(store, run))
        if any(problem.kind == "call log" for problem in problems):
            yield _repair_call_log(store, run)
        if any(problem.kind == "unlisted" for problem in problems):
            moved = set_aside_unlisted_files(store, read_manifest(manifest_path(store, run)))
            yield f"run {run}: set aside {len(moved)} files that it does not list, the first as {moved[0]}"
        damaged = [problem for problem in problems if problem.kind == "part"]
        if damaged or any(problem.kind == "rows" for problem in problems):
            yield _take_out_parts(store, run, damaged)


def _restore_manifest(store: Path, run: str) -> str:
    found = find_manifest(store, run)
    if found is None:
        raise no_manifest(store, run)
    if found.problem is not None:
        return f"{restore_manifest(store, found.manifest, found.problem)}; run the job again to add what is missing"
    write_manifest(manifest_path(store, run), found.manifest)
    return f"run {run}: the copy of the manifest was written anew"


def _repair_call_log(store: Path, run: str) -> str:
    """Rewrite a run's log of calls from what can be read of it and from what the manifest says was spent."""
    manifest = read_manifest(manifest_path(store, run))
    spent = manifest.spent
    path = run_folder(store, run) / CALL_LOG
    state = read_call_log(path.read_bytes() if path.is_file() else b"")
    if is_of_another_run(state, manifest.run_id):
        path.rename(path.with_name(f"{CALL_LOG}.of-another-run"))
        state = read_call_log(b"")
    restore_call_log(path, state, least=(spent.requests, spent.bill), run_id=manifest.run_id)
    return (
        f"run {run}: what it spent was put together from what remains of {CALL_LOG} and from the manifest; calls since "
        "its last part may be missing: lower the ceilings of the job by what they may have cost"
    )


def _take_out_parts(store: Path, run: str, problems: Sequence[Problem]) -> str:
    """Take damaged parts out of a manifest, and make what it counts that of the rows that are left."""
    path = manifest_path(store, run)
    manifest = read_manifest(path)
    settled = IntervalSet(manifest.settled)
    before = len(settled) - manifest.absent
    files = _part_files(store, manifest)
    # Each keeps what is whole: without its prompts or failures a part has answers that may be in no cache.
    damaged = {kind: {problem.part for problem in problems if _kind(problem) == kind} for kind in _KINDS}
    answers = _calls_answered(store, manifest, damaged["answers"], but={problem.path for problem in problems})
    _drop_prompts_from_first_damaged(store, manifest, damaged["prompts"])
    for part in manifest.parts:
        if part.name in damaged["failures"]:
            part.files.pop("failures", None)
        if part.name in damaged["answers"]:
            _drop_answers(manifest, part)
    manifest.parts = [part for part in manifest.parts if part.files]
    _count_anew(store, manifest)
    manifest.settled = [] if manifest.is_import else settled_by_rows(store, manifest).intervals
    lost, failures = settled.without(IntervalSet(manifest.settled)), 0
    count = max(before - len(IntervalSet(manifest.settled)), 0)
    if damaged["failures"] and answers is not None:
        # What is known to be no answer was a failure, which is asked again as any other.
        lost, failures = answers, max(count - len(answers), 0)
    manifest.lost = IntervalSet([*manifest.lost, *lost.intervals]).intervals
    manifest.absent = 0
    manifest.passed = {}  # the next session chooses again
    manifest.state = "interrupted"
    write_manifest(path, manifest)
    for file in files - _part_files(store, manifest):
        file.unlink(missing_ok=True)
    taken = len({problem.part for problem in problems})
    return (
        f"run {run}: damaged parts taken out: {taken}; answers lost: {count - failures}"
        f"{f', failures lost: {failures}' if failures else ''}. Run the job again: what its cache still has of this "
        f"run's answers is taken back, and none is asked anew in their place. `logprobs run JOB.toml --run {run} "
        "--dry-run` says how many the cache has"
    )


def _kind(problem: Problem) -> str:
    """Of what the damaged file has rows: prompts, failures or answers."""
    table = problem.path.parent.parent.name
    return table if table in _KINDS else "answers"


def _calls_answered(
    store: Path, manifest: Manifest, parts: Collection[str | None], *, but: Collection[Path]
) -> IntervalSet | None:
    """The calls that parts have an answer of; None where a damaged file hides them."""
    files = [
        part_path(store, "completions", manifest.run, part.name)
        for part in manifest.parts
        if part.name in parts and "completions" in part.files
    ]
    if any(file in but for file in files):
        return None
    return calls_of_rows(files, manifest.samples)


def _count_anew(store: Path, manifest: Manifest) -> None:
    """Make what a manifest counts that of the rows that are left."""
    for table in COUNTED_TABLES:
        setattr(manifest.counts, table, listed_rows(manifest, table))
    failures = StoreTables(store, (manifest,)).failures.select("error_type").collect()["error_type"]
    manifest.counts.failures = len(failures)
    manifest.failed = dict(sorted(Counter(failures).items()))
    next_numbers = (int(part.name.removeprefix("part-")) + 1 for part in manifest.parts)
    manifest.next_part = max([manifest.next_part, *next_numbers])


def _drop_answers(manifest: Manifest, part: Part) -> None:
    """Drop a part's files of answers, and what the part added to the manifest's counts."""
    part.files = {table: file for table, file in part.files.items() if table in _KINDS}
    for name, count in part.counts.items():
        if name not in TABLES:
            setattr(manifest.counts, name, max(0, getattr(manifest.counts, name) - count))
    part.counts = {}


def _drop_prompts_from_first_damaged(store: Path, manifest: Manifest, damaged: Collection[str | None]) -> None:
    """Drop the files of prompts from the first damaged one on: the next run writes prompts in order from there."""
    all_intact = True
    for part in manifest.parts:
        all_intact = all_intact and part.name not in damaged
        if not all_intact:
            part.files.pop("prompts", None)
    if not manifest.is_import:
        rows = listed_rows(manifest, "prompts")
        manifest.prompts_read = _prompts_before_gap(store, manifest) if manifest.prompts_passed else rows
        manifest.prompts_passed = manifest.prompts_read - rows


def _prompts_before_gap(store: Path, manifest: Manifest) -> int:
    """How many prompts, from the first, have a row or were passed over before the last one that has a row."""
    files = listed_paths(store, manifest, "prompts")
    if not files:
        return 0
    last: int = scan_part_files(files).select("prompt_index").max().collect().item()
    return last + 1


def _part_files(store: Path, manifest: Manifest) -> set[Path]:
    return {part_path(store, table, manifest.run, part.name) for part in manifest.parts for table in part.files}
