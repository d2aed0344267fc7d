"""The command `verify`: a store's files checked against their manifests, and damaged parts taken out.

Checks and repairs are in `logprob_store.store.verifying`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from logprob_store.cli.common import EXIT_INPUT, StorePath, echo


def verify(
    store: StorePath,
    *,
    run: Annotated[str | None, typer.Option("--run", help="Only this run, or a pattern. Default: all.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged parts out, so that the job fills them in from the cache.")
    ] = False,
) -> None:
    """Check every file of a store against its manifest: there, whole, readable, sorted."""
    from logprob_store.store.repair import repair_store
    from logprob_store.store.verifying import verify_store

    problems = verify_store(store, runs=None if run is None else [run])
    for problem in problems:
        echo(str(problem))
    if not problems:
        echo(f"{store}: all is well")
        return
    if not repair:
        echo(f"{len(problems)} problems; `logprobs verify {store} --repair` mends what can be mended")
        raise typer.Exit(EXIT_INPUT)
    for line in repair_store(store, problems):
        echo(line)
