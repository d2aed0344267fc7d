"""The runs of a store by their folders: with a manifest, with rows, or on their way out.

A store that was copied in part may have the rows of a run and no manifest. What is wrong with files is in `verifying`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from logprob_store.errors import StoreError, StoreNotFoundError
from logprob_store.schema import TABLES
from logprob_store.store.manifest import MANIFESTS, RUN_NAME, run_folder

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

ALL_TABLES: Final = (*TABLES, "imports")
_REMOVED: Final = "removed="
_MOST_NAMED: Final = 3
"""Stores that an error names."""


def removed_folder(store: Path, run: str) -> Path:
    """The folder that a run's files are in while it is removed."""
    return store / "runs" / f"{_REMOVED}{run}"


def is_store(path: Path) -> bool:
    """Whether a folder is a store, or what is left of one."""
    return (path / "runs").is_dir() or bool(_runs_with_rows(path))


def run_names(store: Path) -> list[str]:
    """The runs that a store has a manifest of, or a copy of one, by name.

    Raises:
        StoreNotFoundError: there is no store.
    """
    if not is_store(store):
        raise _not_found(store)
    names = (path.name.removeprefix("run=") for path in (store / "runs").glob("run=*"))
    return sorted(name for name in names if RUN_NAME.fullmatch(name) and _has_manifest(run_folder(store, name)))


def runs_without_manifest(store: Path, with_manifest: Collection[str]) -> list[str]:
    """The runs that a store has rows of, and nothing else; those that are being removed are not among them."""
    return sorted(run for run in _runs_with_rows(store, but=with_manifest) if not removed_folder(store, run).exists())


def runs_with_files(store: Path) -> list[str]:
    """The runs that a store has a manifest or rows of, and those whose removal was broken off or is under way.

    Raises:
        StoreNotFoundError: there is no store.
    """
    removed = (path.name.removeprefix(_REMOVED) for path in (store / "runs").glob(f"{_REMOVED}*"))
    return sorted({*run_names(store), *_runs_with_rows(store), *removed})


def check_place(store: Path) -> None:
    """See that a store is in no folder that belongs to another one, whose readers would find its files.

    Raises:
        StoreError: it is.
    """
    if (outer := _store_around(store)) is not None:
        raise StoreError(
            f"the store {store} would be inside the store {outer}, among its own files: name {outer} itself, or a "
            "folder outside it (store.path)"
        )


def _store_around(path: Path) -> Path | None:
    """The store in whose `runs` or table folders a path is."""
    place = path.resolve()
    for outer in place.parents:
        inside = place.relative_to(outer).parts[0]
        if inside in {"runs", *ALL_TABLES} and (
            any((outer / "runs").glob("run=*/run.json*")) or any((outer / inside).glob("run=*/part-*.parquet"))
        ):
            return outer
    return None


def _has_manifest(folder: Path) -> bool:
    try:
        return any((folder / file).exists() for file in MANIFESTS)
    except OSError:  # it may not be looked into: whoever reads the manifest says so
        return True


def _runs_with_rows(store: Path, but: Collection[str] = ()) -> set[str]:
    folders = (path for table in ALL_TABLES for path in (store / table).glob("run=*"))
    by_name = ((path.name.removeprefix("run="), path) for path in folders)
    return {run for run, path in by_name if run not in but and any(path.glob("part-*.parquet"))}


def _not_found(store: Path) -> StoreNotFoundError:
    """The error for a path without a store, with the store that may have been meant."""
    if store.is_file():
        return StoreNotFoundError(store, "it is a file. A store is a folder, which `store.path` of a job names")
    if (outer := _store_around(store)) is not None:
        return StoreNotFoundError(store, f"it is inside the store {outer}")
    below = sorted(store / path.parent.name for path in store.glob("*/runs") if path.is_dir())
    if below:
        more = len(below) - _MOST_NAMED
        *first, last = [*map(str, below[:_MOST_NAMED]), *([f"{more} more"] if more > 0 else [])]
        listed = f"{', '.join(first)} and {last}" if first else last
        return StoreNotFoundError(store, f"it has no runs/ folder, but {listed} {'has' if len(below) == 1 else 'have'}")
    return StoreNotFoundError(store)
