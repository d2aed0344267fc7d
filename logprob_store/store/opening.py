"""Opening a run for writing: a new run, or one that goes on if its job and prompts are unchanged."""

from __future__ import annotations

import contextlib
import os
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from logprob_store.errors import DiskError, InputError, RunChangedError, StoreError
from logprob_store.store.commit import RunWriter
from logprob_store.store.durable_files import make_folder
from logprob_store.store.lock import take_lock
from logprob_store.store.manifest import (
    MOST_SESSIONS,
    RUN_NAME,
    Input,
    Manifest,
    SessionRecord,
    manifest_path,
    read_manifest,
    run_folder,
    write_manifest,
)
from logprob_store.store.part_files import remove_unlisted_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


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
    """Begin a run, or go on with it; the files that a killed session left unlisted are removed.

    Args:
        store: the store's folder.
        run: the run's name.
        job_name: the job's name.
        job: the job's identity (`Job.identity`), which must be the same in each session.
        inputs: the prompts files, which must be the same in each session.
        samples: the most calls that a prompt has.
        grows: do not compare `inputs` with those in the manifest: an import adds files to them.

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
        is_new = not path.exists()
        if is_new:
            manifest = _new_manifest(run, job_name, job, inputs, samples)
        else:
            manifest = read_manifest(path)
            _check_unchanged(manifest, job, manifest.inputs if grows else inputs)
        _begin_session(manifest)
        try:
            if is_new:
                write_manifest(path, manifest)
            remove_unlisted_files(store, manifest)
        except OSError as error:
            raise DiskError(f"run {run}", store, error) from error
        writer = RunWriter(store, manifest, lock)
        on_error.pop_all()
    return writer


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


def _check_unchanged(manifest: Manifest, job: Mapping[str, Any], inputs: Sequence[Input]) -> None:
    """Check that a run goes on with the job and the prompts that it began with.

    Raises:
        RunChangedError: it does not; the error lists each difference.
    """
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
