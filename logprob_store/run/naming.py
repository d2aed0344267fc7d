"""The name of a run: the job's for the day, one that is free, or one that a trial had."""

from __future__ import annotations

from datetime import date
from itertools import count
from typing import TYPE_CHECKING

from logprob_store.errors import InputError, StoreError
from logprob_store.store.manifest import find_manifest, run_names
from logprob_store.store.removal import remove_run, runs_with_files

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.job import Job
    from logprob_store.store.manifest import Manifest


def default_run_name(job: Job) -> str:
    """`<job>-<date>`: the same run when the job is started again on that day."""
    return f"{job.name}-{date.today().isoformat()}"  # noqa: DTZ011  the user's own date


def name_of_run(job: Job, run: str | None, *, new: bool = False, replace: bool = False) -> str:
    """The run that a job goes on with or begins.

    Args:
        job: has the store.
        run: the name that was asked for; `<job>-<date>` when None.
        new: whether it has to be a run that does not exist: the name, or else `<name>.2`, `<name>.3` and so on.
        replace: whether the run of that name is to be replaced, which cannot be asked for at once with `new`.

    Raises:
        InputError: both `new` and `replace` are given.
    """
    if new and replace:
        raise InputError("--new begins another run and --replace takes the old one out: give one of them")
    name = default_run_name(job) if run is None else run
    store = job.store_folder
    if not new or not (store / "runs").is_dir():
        return name
    taken = set(runs_with_files(store))
    numbered = (f"{name}.{number}" for number in count(2))
    return name if name not in taken else next(free for free in numbered if free not in taken)


def check_replaceable(store: Path, run: str) -> None:
    """See that a run may be taken out by `--replace`, if there is one: that it did not finish over all its prompts.

    Raises:
        StoreError: it did, and has answers.
    """
    if not (store / "runs").is_dir() or run not in run_names(store):
        return
    found = find_manifest(store, run)
    if found is not None and _is_whole(found.manifest):
        raise StoreError(
            f"run {run!r} is finished over all its prompts, with {found.manifest.counts.completions} completions, and "
            "--replace takes out trials only (a run with --limit, or one that did not finish). "
            f"`logprobs rm {store} {run}` removes it; --new begins another run beside it"
        )


def remove_trial(store: Path, run: str) -> None:
    """Take a run out whose name is to be begun anew, if there is one.

    Raises:
        StoreError: as `check_replaceable`.
        RunLockedError: a process writes it.
    """
    check_replaceable(store, run)
    if (store / "runs").is_dir() and run in runs_with_files(store):
        remove_run(store, run)


def _is_whole(manifest: Manifest) -> bool:
    """Whether a run finished over all its prompts; one without any answer is worth nothing."""
    read_all = manifest.prompts_read >= sum(item.rows for item in manifest.inputs)
    return manifest.state == "finished" and read_all and manifest.counts.completions > 0
