"""The commands about a store as a whole: `import`, `status` and `verify`.

Holds what they print. Leaves out the reading of foreign files (`logprob_store.importing`) and of stores
(`logprob_store.store`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from logprob_store.cli.common import EXIT_FAILURES, EXIT_INPUT, JsonOption, RunOption, StorePath
from logprob_store.cli.output import near, open_runs, say, show_rich

if TYPE_CHECKING:
    import polars as pl

    from logprob_store.analysis.opened_store import Store
    from logprob_store.importing.importer import ImportSummary

_NEWEST = 20


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files, or folders of them.")],
    *,
    store: Annotated[Path, typer.Option(help="The store to write.")],
    run: Annotated[str, typer.Option("--run", help="The run's name; the same name adds to the same run.")] = "import",
    provider: Annotated[
        str, typer.Option(help="The service in request keys, where a recording does not name it.")
    ] = "import",
    as_json: JsonOption = False,
) -> None:
    """Import responses that you already have; importing them again adds nothing.

    Takes raw responses, {request, response} pairs, Batch API output (with its input files, for the requests), recorded
    streams and fixtures, as JSON or JSON Lines, plain, .gz or .zst. Exit codes: 0 done, 2 nothing that can be imported,
    3 finished, with lines that are failures.
    """
    from logprob_store.importing.api import import_responses

    summary = import_responses(files, store, run=run, provider=provider)
    say(_summary_dict(summary) if as_json else _import_line(summary))
    if summary.failures:
        raise typer.Exit(EXIT_FAILURES)


def status(store: StorePath, *, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Show the runs of a store: how they stand, their counts, and the failures still open.

    A run is running while a process writes it, then finished, stopped, interrupted
    or crashed; all but finished ones go on with the same command.
    Of many runs the newest 20 are shown; --json has all.
    """
    from logprob_store.view.terminal_tables import anomalies_frame, failures_frame, frame_table, runs_frame

    opened = open_runs(store, run)
    if as_json:
        say({"runs": _runs_now(opened).to_dicts(), "failures": failures_frame(opened).to_dicts()})
        return
    names = opened.run_names
    say(f"{store}: {len(names)} run{'' if len(names) == 1 else 's'}")
    if older := names[:-_NEWEST]:
        failed = sum(manifest.counts.failures for manifest in opened.manifests[:-_NEWEST])
        say(f"the newest {_NEWEST}; {len(older)} older ones, with {failed} failures, are left out (--run, --json)")
        opened = opened.only(*names[-_NEWEST:])
    runs = _runs_now(opened)
    show_rich(frame_table(runs_frame(runs)))
    for name, state, message in runs.select("run", "state", "message").drop_nulls().iter_rows():
        say(f"{name} {state}: {message}")
    failures = failures_frame(opened)
    if (odd := anomalies_frame(opened)).height:
        say("oddities in what the server sent; docs/store.md says what each means")
        show_rich(frame_table(odd))
    if failures.height:
        say("open failures; a job, started again, asks them again")
        show_rich(frame_table(failures))


def verify(
    store: StorePath,
    *,
    run: RunOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged parts out, so that the job fills them in from the cache.")
    ] = False,
) -> None:
    """Check every file of a store against its manifest: there, whole, readable, sorted."""
    from logprob_store.store.verifying import repair_store, verify_store

    problems = verify_store(store, runs=None if run is None else [run])
    for problem in problems:
        say(str(problem))
    if not problems:
        say(f"{store}: all is well")
        return
    if not repair:
        say(f"{len(problems)} problems; `logprobs verify {store} --repair` mends what can be mended")
        raise typer.Exit(EXIT_INPUT)
    for line in repair_store(store, problems):
        say(line)


def _runs_now(store: Store) -> pl.DataFrame:
    import polars as pl

    from logprob_store.store.lock import state_now

    states = [state_now(store.path, manifest.run, manifest.state) for manifest in store.manifests]
    ends = [manifest.sessions[-1] if manifest.sessions else None for manifest in store.manifests]
    # What ended the last session says nothing of one that is running now, or has crashed since.
    ends = [end if state in {"stopped", "interrupted"} else None for end, state in zip(ends, states, strict=True)]
    return store.runs.collect().with_columns(
        state=pl.Series(states, dtype=pl.String),
        reason=pl.Series([end and end.reason for end in ends], dtype=pl.String),
        message=pl.Series([end and end.message for end in ends], dtype=pl.String),
    )


def _summary_dict(summary: ImportSummary) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(summary), "store": str(summary.store)}


def _import_line(summary: ImportSummary) -> str:
    failed = ", ".join(f"{count} {error_type}" for error_type, count in sorted(summary.problems.items()))
    line = (
        f"run {summary.run} {summary.size / 1e6:.1f} MB in {summary.files} files after {summary.seconds:.1f} s. "
        f"{summary.records} answers found: {summary.added} added, {summary.already} there already, "
        f"{sum(summary.problems.values())} failed{f' ({failed})' if failed else ''}. "
        f"{summary.completions} completions with {summary.tokens} tokens are in {near(summary.store)}"
    )
    if summary.ambiguous:
        line += f"\n{summary.ambiguous} answers without their request: the inputs have several under their custom_id"
    if summary.failures:
        line += f"\n{summary.failures} failures are open in the run; `logprobs status` lists them"
    return line
