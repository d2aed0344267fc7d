"""Opening a run for writing: a new run, or one that goes on if its job and prompts are unchanged."""

from __future__ import annotations

import contextlib
import logging
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from logprob_store.errors import CACHED_IS_NOT_ASKED, DiskError, RunChangedError, StoreError, disk_error
from logprob_store.store.beginning import lock_new_run, lock_run, remove_trial
from logprob_store.store.call_log import CALL_LOG, OF_ANOTHER_RUN, UNKNOWN_SPENT, open_call_log
from logprob_store.store.commit import RunWriter, keep_room
from logprob_store.store.durable_files import FILE_MODE
from logprob_store.store.grown_inputs import compare_inputs, with_digests
from logprob_store.store.manifest import (
    MOST_SESSIONS,
    Input,
    Manifest,
    SessionRecord,
    check_run_name,
    find_manifest,
    manifest_path,
    run_folder,
    write_manifest,
)
from logprob_store.store.part_files import (
    check_folders,
    missing_files,
    missing_files_sentence,
    remove_unlisted_files,
    set_aside_unlisted_files,
    unlisted_files,
)
from logprob_store.store.removal import finish_removal
from logprob_store.store.verifying import check_call_log

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from logprob_store.store.call_log import CallLog, OpenCall
    from logprob_store.store.grown_inputs import Compared, PromptRows
    from logprob_store.store.manifest import Found
    from logprob_store.usage import Usage

log = logging.getLogger(__name__)

_OWN_NAME: Final = "Give it a run of its own with --run NAME"
_OWN_RUN: Final = (
    "Begin another run with --new (or --run NAME), replace the old one with --replace if it was a trial "
    "(in Python: new=True, replace=True)"
)


def open_run(
    store: Path,
    run: str,
    *,
    job_name: str,
    job: Mapping[str, Any],
    inputs: Sequence[Input],
    samples: int,
    rows: PromptRows | None = None,
    grows: bool = False,
    new: bool = False,
    replace: bool = False,
    file_mode: int = FILE_MODE,
) -> RunWriter:
    """Begin a run, or go on with it; the files that a killed session left unlisted are removed.

    Where the manifest is damaged or gone, its copy takes its place, and unlisted files are set aside.

    Args:
        store: the store's folder.
        run: the run's name.
        job_name: the job's name.
        job: the job's identity (`Job.identity`), which must be the same in each session.
        inputs: the prompts files, which must be the same in each session, but for rows added at their end.
        samples: the most calls that a prompt has.
        rows: of the prompts files; without them no row may be added.
        grows: do not compare `inputs` with those in the manifest: an import adds files to them.
        new: begin a run under the name, or the next free one: `<run>.2`, `<run>.3` and so on.
        replace: take the run of that name out, if it is a trial, and begin it anew.
        file_mode: the permissions of new files.

    Raises:
        InputError: the run's name is not usable.
        RunLockedError: another process writes this run.
        RunChangedError: the run was made by another job or from other prompts.
        StoreError: the store cannot be written, or has parts of this run and no manifest.
        DiskError: there is no room to begin.
    """
    check_run_name(run)
    if replace:
        remove_trial(store, run)
    run, lock = lock_new_run(store, run) if new else (run, lock_run(store, run))
    with contextlib.ExitStack() as on_error:
        on_error.callback(lock.close)
        try:
            finish_removal(store, run)
        except OSError as error:
            raise disk_error(f"run {run}", store, error) or StoreError(
                f"what is left of a removed run {run} cannot be removed: {error}"
            ) from error
        check_folders(store, run)
        found = find_manifest(store, run)
        if found is None:
            manifest = _new_manifest(run, job_name, job, inputs, samples)
            _check_without_parts(store, manifest)
            manifest.inputs = with_digests(inputs, rows)
            manifest.columns = {} if rows is None else rows.types()
        elif grows:
            manifest = found.manifest
            compared = check_unchanged(manifest, job, manifest.inputs, rows, samples=samples, advice=_OWN_NAME)
            _note_inputs(manifest, compared)
        else:
            manifest = as_it_goes_on(found, job, inputs, rows, samples=samples)
        _begin_session(manifest)
        try:
            keep_room(store, run)
            if found is None or manifest is not found.manifest:
                write_manifest(manifest_path(store, run), manifest, mode=file_mode)
            if found is None or found.problem is None:
                remove_unlisted_files(store, manifest)
            else:
                log.warning("%s", restore_manifest(store, manifest, found.problem, mode=file_mode))
            if missing := missing_files(store, manifest):
                log.warning("%s", missing_files_sentence(store, run, missing))
        except OSError as error:
            raise DiskError(f"run {run}", store, error) from error
        writer = RunWriter(store, manifest, lock, file_mode=file_mode)
        on_error.pop_all()
    return writer


@contextlib.contextmanager
def open_calls(
    writer: RunWriter,
    *,
    find: Callable[[Sequence[OpenCall]], Mapping[int, Usage]],
    gone: Callable[[set[str]], set[str]],
    under_way: Container[int] = (),
    spent_must_be_known: bool,
) -> Iterator[CallLog]:
    """The log of a run's calls, new or not, noted in the manifest; a few damaged records cause a warning.

    Args:
        writer: of the run.
        find: as for `open_call_log`.
        gone: returns, of some keys, those without an answer in the cache.
        under_way: as for `open_call_log`.
        spent_must_be_known: as it must where there is a ceiling.

    Raises:
        StoreError: what was spent must be known and is not; or the log is that of another run, which must not be
            written over.
        DiskError: the log or the manifest cannot be written.
    """
    manifest, path = writer.manifest, run_folder(writer.store, writer.run) / CALL_LOG
    problem = check_call_log(writer.store, manifest)
    if problem in UNKNOWN_SPENT and (spent_must_be_known or problem == OF_ANOTHER_RUN):
        raise StoreError(
            f"{path} {problem}, so that what this run has spent is not known, and no ceiling on it can be kept. Put "
            f"the file back; or `logprobs verify {writer.store} --repair` begins a new one with what the manifest "
            "says was spent, which lacks the calls since the last part"
        )
    if problem in UNKNOWN_SPENT:
        log.warning("%s %s: what the run spent is taken from its manifest", path, problem)
    before = manifest.spent
    calls = open_call_log(
        path,
        find=find,
        gone=lambda keys: gone(keys - writer.committed_keys()),
        under_way=under_way,
        mode=writer.file_mode,
        least=(before.requests, before.bill),
        run_id=manifest.run_id,
    )
    with contextlib.closing(calls):
        writer.note_call_log()
        yield calls


def restore_manifest(store: Path, manifest: Manifest, problem: str, *, mode: int = FILE_MODE) -> str:
    """Put a manifest's copy in its place; returns what was done, as a sentence.

    The copy may be older by one commit: files that it does not list are set aside, not removed.

    Args:
        store: the store's folder.
        manifest: the copy.
        problem: what is wrong with the manifest.
        mode: the permissions of the new file.

    Raises:
        OSError: it cannot be written.
    """
    moved = set_aside_unlisted_files(store, manifest)
    write_manifest(manifest_path(store, manifest.run), manifest, mode=mode)
    said = f"run {manifest.run}: {problem}; its copy was put in its place"
    if moved:
        said += f", and {len(moved)} files that the copy does not list were set aside, the first as {moved[0]}"
    return said


def _check_without_parts(store: Path, manifest: Manifest) -> None:
    """See that a run that is to begin has no parts: no session writes one before the manifest.

    Raises:
        StoreError: it has.
    """
    if parts := [path for path in unlisted_files(store, manifest) if not path.is_symlink()]:
        path = manifest_path(store, manifest.run)
        raise StoreError(
            f"{path} and its copy are gone, and the run has {len(parts)} files of rows, such as {parts[0]}: to begin "
            f"it anew would remove them. If the store was copied, copy the manifest again; or `logprobs rm {store} "
            f"{manifest.run}` removes the files, or give the run another name; {CACHED_IS_NOT_ASKED}."
        )


def _new_manifest(run: str, job_name: str, job: Mapping[str, Any], inputs: Sequence[Input], samples: int) -> Manifest:
    now = datetime.now(UTC)
    return Manifest(
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


def _begin_session(manifest: Manifest) -> None:
    """Add a record of the session that begins; an earlier session without an end has crashed.

    The record is on disk with the next write of the manifest: at once for a new run, else with the first part.
    """
    for session in manifest.sessions:
        if session.state == "running":
            session.state = "crashed"
    begun = SessionRecord(started_at=datetime.now(UTC))
    manifest.sessions = [*manifest.sessions[1 - MOST_SESSIONS :], begun]


def as_it_goes_on(
    found: Found, job: Mapping[str, Any], inputs: Sequence[Input], rows: PromptRows | None, *, samples: int
) -> Manifest:
    """The manifest of a run as a session goes on with it; while the run has no answer, job and prompts may change.

    What failed in a try of another job says nothing about this one: its rows are dropped, and all is asked again. What
    was spent stays spent.

    Args:
        found: the run's manifest, as it is in the store.
        job: the job's identity.
        inputs: the prompts files.
        rows: of these files; None where only equal files will do.
        samples: the most calls that a prompt has.

    Raises:
        RunChangedError: the run has answers, and was made by another job or from other prompts.
    """
    manifest = found.manifest
    try:
        compared = check_unchanged(manifest, job, inputs, rows, samples=samples)
    except RunChangedError:
        if found.problem is not None or not _may_change(manifest):
            raise
        log.info("run %s has no answer yet: it begins anew with the job as it is now", manifest.run)
        columns = {} if rows is None else rows.types()
        return manifest.begun_anew(dict(job), with_digests(inputs, rows), columns, samples=samples)
    _note_inputs(manifest, compared)
    manifest.job = dict(job)
    return manifest


def check_unchanged(
    manifest: Manifest,
    job: Mapping[str, Any],
    inputs: Sequence[Input],
    rows: PromptRows | None,
    *,
    samples: int,
    advice: str = _OWN_RUN,
) -> Compared:
    """Check that a run goes on with the job and the prompts that it began with; returns the prompts as they are now.

    Args:
        manifest: of the run.
        job: the job's identity.
        inputs: the prompts files.
        rows: of these files; None where only equal files will do.
        samples: the most calls that a prompt has.
        advice: what the error says to do.

    Raises:
        RunChangedError: it does not; the error lists each difference.
    """
    differences = []
    for name in sorted(manifest.job.keys() | job.keys()):
        was, now = manifest.job.get(name), job.get(name)
        if was != now:
            differences.append(f"{_key_in_job(name, now)} is {now!r}, was {was!r}")
    compared = compare_inputs(manifest, inputs, rows, samples=samples)
    differences += compared.differences
    if differences:
        raise RunChangedError(manifest.run, differences, advice=advice)
    return compared


def _may_change(manifest: Manifest) -> bool:
    """Whether a run of a job has no answer, and had none before a repair.

    A session that was killed may have left answers in the cache that no part has: of such a run it is not known.
    """
    is_known = bool(manifest.sessions) and manifest.sessions[-1].state not in {"running", "crashed"}
    return is_known and not (manifest.counts.completions or manifest.lost or manifest.is_import)


def _key_in_job(name: str, value: object) -> str:
    """The key of the job file behind a name of a job's identity: a provider that is an address comes of base_url."""
    return "model.base_url" if name == "model.provider" and "://" in str(value) else name


def _note_inputs(manifest: Manifest, compared: Compared) -> None:
    """Take the files as they are now into the manifest, which is written with the first part or at the end."""
    before, now = (sum(item.rows for item in items) for items in (manifest.inputs, compared.inputs))
    if now > before:
        log.info("run %s: %d prompts were added since its last session", manifest.run, now - before)
    manifest.inputs, manifest.columns = compared.inputs, compared.columns
