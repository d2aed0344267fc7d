"""Errors over a damaged store: which file it is and what to do, in place of a reader's own words."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from logprob_store.counted import counted

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")


def names_damage(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """The command; where it fails to read and a store that it names is damaged, the error says so."""

    @functools.wraps(command)
    def named(*args: _P.args, **options: _P.kwargs) -> _R:
        import polars as pl
        import pyarrow as pa

        try:
            return command(*args, **options)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError) as error:
            for store in _stores(options):
                _raise_if_damaged(store, error, _runs_read(store, options))
            raise

    return named


def _stores(options: dict[str, object]) -> list[Path]:
    """The stores that a command line names, itself or in its job file."""
    from logprob_store.errors import InputError
    from logprob_store.job import load_job

    named = [path for name in ("store", "other") if isinstance(path := options.get(name), Path)]
    job_file = options.get("job_file")
    if isinstance(job_file, Path) and not named:
        try:
            job = load_job(job_file)
        except InputError:
            return named
        named.append(job.store_folder)
    return named


def _runs_read(store: Path, options: dict[str, object]) -> list[str] | None:
    """The runs that a command line reads; None where that may be any."""
    from logprob_store.analysis.opened_store import Store
    from logprob_store.cli.chosen_runs import runs_meant
    from logprob_store.errors import StoreError
    from logprob_store.store.tables import NEWEST, read_tables

    compared = [run for name in ("run_a", "run_b") if isinstance(run := options.get(name), str)]
    if "job_file" in options or not (compared or "run" in options):
        return None
    wanted = ",".join(compared) if compared else options.get("run") or NEWEST
    try:
        return runs_meant(read_tables(Store, store), str(wanted)).run_names
    except StoreError:
        return None


def _raise_if_damaged(store: Path, error: BaseException, runs: list[str] | None) -> None:
    from logprob_store.errors import StoreError, StoreNotFoundError
    from logprob_store.store.part_files import missing_files_sentence
    from logprob_store.store.verifying import verify_store

    try:
        damaged = [problem for problem in verify_store(store) if problem.kind == "part"]
    except StoreNotFoundError:
        return
    damaged = [problem for problem in damaged if runs is None or problem.run in runs] or damaged
    if not damaged:
        return
    first = damaged[0]
    missing = [one.path for one in damaged if one.is_missing and one.run == first.run]
    if first.is_missing:
        raise StoreError(f"the store is damaged: {missing_files_sentence(store, first.run, missing)}") from error
    raise StoreError(
        f"the store is damaged: {first} ({counted(len(damaged), 'damaged file')} in all). "
        f"`logprobs verify {store} --repair` takes damaged parts out; the job, run again, takes back those of the "
        "run's own answers that its cache still has"
    ) from error
