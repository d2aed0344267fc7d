"""The command `verify`: a store's files checked against their manifests, and damaged parts taken out.

Checks and repairs are in `logprob_store.store.verifying`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.common import EXIT_INPUT, JsonOption, StorePath, echo
from logprob_store.cli.completion import complete_run
from logprob_store.counted import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from logprob_store.store.verifying import Problem


def verify(
    store: StorePath,
    *,
    run: Annotated[
        str | None,
        typer.Option("--run", autocompletion=complete_run, help="Only this run, or a pattern. Default: all."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged parts out; the job then takes its own answers back.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every file of a store against its manifest: there, whole, readable, sorted."""
    import dataclasses

    from logprob_store.store.repair import Repairs, repair_store
    from logprob_store.store.verifying import verify_store

    problems = [*verify_store(store, runs=None if run is None else [run]), *_of_batches(store, run)]
    if not as_json:
        for problem in problems:
            echo(str(problem))
    lost = [] if repair else list(_lost(store, run))
    repairs = repair_store(store, problems) if repair else Repairs([], [])
    if as_json:
        found = [dataclasses.asdict(problem) for problem in problems]
        echo({"problems": found, "repairs": repairs.done, "not_repaired": repairs.not_done, "lost": lost})
    elif not problems:
        echo(f"{store}: all is well" if not lost else f"{store}: every file is whole")
    elif not repair:
        echo(f"{counted(len(problems), 'problem')}; {_what_repair_does(store, problems)}")
    else:
        for line in (*repairs.done, *repairs.not_done):
            echo(line)
    if not as_json:
        for line in lost:
            echo(line)
    if repairs.not_done or (problems and not repair):
        raise typer.Exit(EXIT_INPUT)


def _what_repair_does(store: Path, problems: Sequence[Problem]) -> str:
    """Which problems `--repair` mends."""
    mendable = sum(problem.mendable for problem in problems)
    if not mendable:
        return "--repair mends none of them"
    which = "" if mendable == len(problems) else f" {mendable} of them"
    return f"`logprobs verify {store} --repair` mends{which or (' it' if mendable == 1 else ' them')}"


def _of_batches(store: Path, run: str | None) -> Iterator[Problem]:
    """Damage to what says which batches are under way, which costs money when it is lost."""
    import fnmatch

    from logprob_store.batch.journal import damage_of
    from logprob_store.store.manifest import run_folder
    from logprob_store.store.run_folders import run_names
    from logprob_store.store.verifying import Problem

    for name in run_names(store):
        if run is None or fnmatch.fnmatchcase(name, run):
            for path, what in damage_of(run_folder(store, name)):
                yield Problem(name, "batch", path, what, mendable=False)


def _lost(store: Path, run: str | None) -> Iterator[str]:
    """What repairs took out of the runs and no session has taken back."""
    import fnmatch

    from logprob_store.errors import StoreError
    from logprob_store.store.manifest import find_manifest
    from logprob_store.store.missing_answers import lost_sentence
    from logprob_store.store.run_folders import run_names

    for name in run_names(store):
        with contextlib.suppress(StoreError):  # it is among the problems
            found = find_manifest(store, name) if run is None or fnmatch.fnmatchcase(name, run) else None
            if found is not None and (said := lost_sentence(found.manifest)) is not None:
                yield said
