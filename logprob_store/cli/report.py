"""The command `report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from logprob_store.cli.chosen_runs import open_runs
from logprob_store.cli.common import JsonOption, RunOption, StorePath, echo
from logprob_store.counted import counted

_MANY: Final = 100_000
"""Answers from which on it takes so long that it says what it does."""


def report(
    store: StorePath,
    *,
    run: RunOption = None,
    expected: Annotated[
        str | None, typer.Option(help="A column kept with the prompts: what the answer should be, for calibration.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help='Labels that the answers choose from, with commas between: "Yes,No".')
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("report.html"),
    as_json: JsonOption = False,
) -> None:
    """Write a run as one HTML page: counts, charts, the comparison with the run before, and answers token by token.

    The file needs no network and is at most 3 MB: of a large run it has the least sure answers, those
    that changed most, some at random, and the failures. `logprobs explore` has them all.
    """
    from logprob_store.analysis.opened_store import open_store
    from logprob_store.errors import InputError
    from logprob_store.view.report.report_file import write_report

    opened = open_runs(store, run)
    names = opened.run_names
    if len(names) != 1:
        raise InputError(f"--run {run}: a report is of one run, and this names {len(names)}: {', '.join(names[:5])}")
    (manifest,) = opened.manifests

    def say(words: str) -> None:
        if manifest.counts.completions >= _MANY:
            typer.echo(f"{words} ...", err=True)

    wanted = None if labels is None else [name.strip() for name in labels.split(",")]
    try:
        written = write_report(open_store(store), names[0], output, expected=expected, labels=wanted, say=say)
    except ImportError as error:
        raise InputError(str(error)) from error
    if as_json:
        echo({"output": output, **written})
        return
    samples = counted(written["samples"], "sample")
    left_out = f", {written['left_out']} more had no room" if written["left_out"] else ""
    echo(f"{output}: run {names[0]} in {written['bytes'] / 1e6:.2f} MB, {samples}{left_out}")
