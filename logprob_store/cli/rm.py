"""The command `rm`: removes runs from a store.

The removal itself is in `logprob_store.store.removal`.
"""

from __future__ import annotations

import fnmatch
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.common import JsonOption, StorePath, echo
from logprob_store.counted import counted, shown_size

if TYPE_CHECKING:
    from pathlib import Path


def rm(
    store: StorePath,
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="The runs to remove; or patterns, as 'trial-*'.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask first; needed where nobody can be asked.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove runs whole: their rows in all tables, their manifests and their logs of calls.

    Answers that are in the cache stay there, so that the same job gets them again without asking.
    """
    from logprob_store.errors import InputError
    from logprob_store.run.batches_under_way import refuse_removal
    from logprob_store.store.removal import remove_run
    from logprob_store.store.run_folders import runs_with_files

    names = runs_with_files(store)
    runs = _chosen(runs, names)
    if not as_json:
        for run in runs:
            echo(_described(store, run))
    if dry_run:
        echo({"removed": [], "would_remove": runs} if as_json else "nothing was removed")
        return
    if not yes and (as_json or not sys.stdin.isatty()):
        raise InputError("rm asks before it removes, and nobody can be asked here: add --yes")
    if not yes and not typer.confirm(f"Remove {'this run' if len(runs) == 1 else f'these {len(runs)} runs'}?"):
        raise typer.Exit(1)
    for run in runs:
        refuse_removal(store, run)
    for run in runs:
        remove_run(store, run)
        if not as_json:
            echo(f"removed {run}")
    if as_json:
        echo({"removed": runs})


def _chosen(wanted: list[str], names: list[str]) -> list[str]:
    """The runs that names and patterns mean, each once."""
    from logprob_store.errors import RunNotFoundError

    chosen: dict[str, None] = {}
    for run in wanted:
        found = [run] if run in names else fnmatch.filter(names, run)
        if not found:
            raise RunNotFoundError(run, names)
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _described(store: Path, run: str) -> str:
    """A run and what is removed with it, in a line."""
    from logprob_store.errors import StoreError
    from logprob_store.store.lock import state_now
    from logprob_store.store.manifest import find_manifest
    from logprob_store.store.removal import run_files

    files = run_files(store, run)
    size = sum(path.lstat().st_size for path in files)  # bytes
    try:
        found = find_manifest(store, run)
    except StoreError:
        found = None
    if found is None:
        what = "no manifest that can be read"
    else:
        manifest = found.manifest
        state = state_now(store, run, manifest.state)
        if state == "finished" and manifest.is_partial:
            state = "trial"
        what = (
            f"{state}, begun {manifest.created_at:%Y-%m-%d %H:%M} UTC, "
            f"{counted(manifest.counts.prompts, 'prompt')}, {counted(manifest.counts.completions, 'completion')}"
        )
    return f"{run}: {what}; {counted(len(files), 'file')}, {shown_size(size)}"
