"""Removing a run whole: its manifest, log of calls and lock, and its parts in all tables.

The run's folder is renamed first, in one step: from then on no reader sees the run. Then its folders of rows are moved
into that folder, and it is deleted. Killed at any instant, the run is there as it was, or gone for all readers and
`verify` names what is left; the next removal, or the next run of that name, finishes it. Deleting the parts first was
rejected, because readers would find a run with files missing, and deleting the manifest alone first, because a new run
of the same name could begin while the old run's files go.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from logprob_store.errors import RunNotFoundError, StoreError, disk_error
from logprob_store.store.durable_files import make_folder, sync_folder
from logprob_store.store.lock import lock_folder, take_lock
from logprob_store.store.manifest import manifest_path, run_folder, table_folder
from logprob_store.store.run_folders import ALL_TABLES, removed_folder, runs_with_files

if TYPE_CHECKING:
    from pathlib import Path


def run_files(store: Path, run: str) -> list[Path]:
    """All files of a run, links among them."""
    folders = [run_folder(store, run), removed_folder(store, run), *_row_folders(store, run)]
    found = [folder for folder in folders if folder.is_symlink()]
    for folder in folders:
        if not folder.is_symlink():
            found += sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return found


def remove_run(store: Path, run: str) -> None:
    """Remove a run and all its files; what links lead to stays.

    Raises:
        RunNotFoundError: the store has no file of such a run.
        RunLockedError: a process writes the run.
        StoreError: its folder is a link, or a file cannot be removed.
    """
    folder, removed = run_folder(store, run), removed_folder(store, run)
    if run not in (names := runs_with_files(store)):
        raise RunNotFoundError(run, names)
    if folder.is_symlink():
        raise StoreError(f"{folder} is a link to {folder.readlink()}: remove the run in the store that it is in")
    try:
        if removed.exists():
            finish_removal(store, run)
        if not (folder.exists() or _row_folders(store, run)):
            return
        make_folder(folder)  # rows may be all that there is of the run
        with take_lock(store, run):
            folder.rename(removed)
            sync_folder(removed.parent)
            _delete(store, run)
    except OSError as error:
        raise disk_error(f"the removal of run {run}", store, error, of_answers=False) or StoreError(
            f"run {run} cannot be removed: {error}"
        ) from error


def finish_removal(store: Path, run: str) -> None:
    """Finish a removal that was broken off, if there is one.

    Raises:
        RunLockedError: another process is at it.
        OSError: a file cannot be removed.
    """
    removed = removed_folder(store, run)
    if removed.exists():
        with contextlib.suppress(FileNotFoundError), lock_folder(removed, run):  # another process may just have done it
            _delete(store, run)


def _delete(store: Path, run: str) -> None:
    """Move the run's rows into the folder that is deleted, and delete it."""
    removed = removed_folder(store, run)
    # An older version of this program may have begun the run anew: those rows are not moved.
    for folder in [] if manifest_path(store, run).exists() else _row_folders(store, run):
        folder.rename(removed / folder.parent.name)
        sync_folder(folder.parent)
    shutil.rmtree(removed)  # follows no links
    sync_folder(removed.parent)


def _row_folders(store: Path, run: str) -> list[Path]:
    folders = (table_folder(store, table, run) for table in ALL_TABLES)
    return [folder for folder in folders if folder.is_symlink() or folder.is_dir()]
