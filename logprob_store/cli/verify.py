"""The command `verify`: a store's files checked against their manifests, and damaged parts taken out.

Checks and repairs are in `logprob_store.store.verifying`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from logprob_store.cli.common import EXIT_INPUT, JsonOption, StorePath, echo
from logprob_store.cli.completion import complete_run
from logprob_store.counted import counted


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

    problems = verify_store(store, runs=None if run is None else [run])
    if not as_json:
        for problem in problems:
            echo(str(problem))
    repairs = repair_store(store, problems) if repair else Repairs([], [])
    if as_json:
        found = [dataclasses.asdict(problem) for problem in problems]
        echo({"problems": found, "repairs": repairs.done, "not_repaired": repairs.not_done})
    elif not problems:
        echo(f"{store}: all is well")
    elif not repair:
        echo(f"{counted(len(problems), 'problem')}; `logprobs verify {store} --repair` mends what can be mended")
    else:
        for line in (*repairs.done, *repairs.not_done):
            echo(line)
    if repairs.not_done or (problems and not repair):
        raise typer.Exit(EXIT_INPUT)
