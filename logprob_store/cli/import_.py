"""The command `import`: responses from files into a store.

Files are read by `logprob_store.importing`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from logprob_store.cli.common import EXIT_FAILURES, JsonOption, echo, path_from_here
from logprob_store.cli.completion import complete_run
from logprob_store.counted import counted, rows_in_words

if TYPE_CHECKING:
    from logprob_store.importing.importer import ImportSummary


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files, or folders of them.")],
    *,
    store: Annotated[Path, typer.Option(help="The store to write.")],
    run: Annotated[
        str,
        typer.Option("--run", autocompletion=complete_run, help="The run's name; the same name adds to the same run."),
    ] = "import",
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
    echo(_summary_dict(summary) if as_json else _summary_line(summary))
    if summary.failures:
        raise typer.Exit(EXIT_FAILURES)


def _summary_dict(summary: ImportSummary) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(summary), "store": str(summary.store)}


def _summary_line(summary: ImportSummary) -> str:
    failed = ", ".join(f"{count} {error_type}" for error_type, count in sorted(summary.problems.items()))
    rows = rows_in_words(summary.completions, summary.tokens, summary.decisions)
    line = (
        f"run {summary.run} {summary.size / 1e6:.1f} MB in {counted(summary.files, 'file')} after "
        f"{summary.seconds:.1f} s. "
        f"{counted(summary.records, 'answer')} found: {summary.added} added, {summary.already} there already, "
        f"{sum(summary.problems.values())} failed{f' ({failed})' if failed else ''}. "
        f"{rows} in {path_from_here(summary.store)}"
    )
    if summary.ambiguous:
        without = counted(summary.ambiguous, "answer")
        line += f"\n{without} without the request: the inputs have several under the custom_id"
    if summary.failures:
        line += f"\nopen in the run: {counted(summary.failures, 'failure')}; `logprobs status` says which"
    return line
