"""Runs that begin anew: under the next free name, or in the place of a trial."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from logprob_store.counted import counted
from logprob_store.errors import RunLockedError, StoreError, disk_error
from logprob_store.store.durable_files import make_folder
from logprob_store.store.lock import take_lock
from logprob_store.store.manifest import find_manifest, run_folder
from logprob_store.store.removal import remove_run
from logprob_store.store.run_folders import check_place, is_store, run_names, runs_with_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from logprob_store.store.lock import RunLock
    from logprob_store.store.manifest import Manifest


def lock_run(store: Path, run: str) -> RunLock:
    """Make a run's folder, if there is none, and lock it.

    Raises:
        RunLockedError: another process writes the run.
        StoreError: the store cannot be written, or would be inside another one.
        DiskError: the disk is full, read-only or failing.
    """
    if store.is_file():
        raise StoreError(f"the store {store} is a file: name a folder, which need not be there yet (store.path)")
    check_place(store)
    try:
        make_folder(run_folder(store, run))
        return take_lock(store, run)
    except OSError as error:
        raise disk_error(f"run {run}", store, error) or StoreError(
            f"the store at {store} cannot be written: {error}"
        ) from error


def lock_new_run(store: Path, run: str) -> tuple[str, RunLock]:
    """The first free name of `<run>`, `<run>.2`, `<run>.3` and so on, locked; no two processes get the same.

    Raises:
        StoreError: the store cannot be written.
    """
    for name in free_names(store, run):
        try:
            lock = lock_run(store, name)
        except RunLockedError:
            continue
        if find_manifest(store, name) is None:
            return name, lock
        lock.close()
    raise AssertionError("there is always another name")


def free_names(store: Path, run: str) -> Iterator[str]:
    """The names that are free of `<run>`, `<run>.2`, `<run>.3` and so on, as they are now."""
    taken = set(runs_with_files(store)) if is_store(store) else set()
    names = (run if number == 1 else f"{run}.{number}" for number in count(1))
    return (name for name in names if name not in taken)


def check_replaceable(store: Path, run: str) -> None:
    """See that a run may be taken out by `--replace`, if there is one: that it did not finish over all its prompts.

    Raises:
        StoreError: it did, and has answers.
    """
    if not is_store(store) or run not in run_names(store):
        return
    found = find_manifest(store, run)
    if found is not None and _is_whole(found.manifest):
        raise StoreError(
            f"run {run!r} is finished over all its prompts, with "
            f"{counted(found.manifest.counts.completions, 'completion')}, and "
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
    if is_store(store) and run in runs_with_files(store):
        remove_run(store, run)


def _is_whole(manifest: Manifest) -> bool:
    """Whether a run finished over all its prompts; one without any answer is worth nothing."""
    return manifest.state == "finished" and not manifest.is_partial and manifest.counts.completions > 0
