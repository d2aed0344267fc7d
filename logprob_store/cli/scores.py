"""The command `scores`: perplexity, confidence and more of each completion.

The scores are computed by `logprob_store.metrics.engine`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.chosen_runs import open_runs
from logprob_store.cli.common import (
    JsonOption,
    LimitOption,
    OutputOption,
    RunOption,
    StorePath,
    echo,
    first_rows,
    print_table,
    say_if_cut,
    write_rows,
)

if TYPE_CHECKING:
    import polars as pl

    from logprob_store.analysis.opened_store import Store


def scores(
    store: StorePath,
    *,
    run: RunOption = None,
    output: OutputOption = None,
    sort: Annotated[str | None, typer.Option(help="The column to sort by, lowest first; default: confidence.")] = None,
    limit: LimitOption = 20,
    calibrated: Annotated[
        str | None, typer.Option(metavar="NAME", help="Add the chance of being right, by a saved calibrator.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="The metrics to compute, by name; docs/metrics.md lists them.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score each completion: perplexity, confidence, entropy and more; the least confident first.

    Of runs that scored given text: each candidate, the likeliest of a prompt first, or each text.
    """
    from logprob_store.errors import InputError
    from logprob_store.view.terminal_tables import LEAST_OF_SCORES, scores_and_columns

    opened = open_runs(store, run)
    rows, brief, order = scores_and_columns(opened) if metrics is None else _chosen_scores(opened, metrics)
    if calibrated is not None:
        rows, brief = _with_saved_calibrator(opened, rows, calibrated), [*brief, "calibrated"]
    columns = rows.collect_schema().names()
    if sort is not None and sort not in columns:
        raise InputError(f"--sort {sort}: there is no such column; there are {', '.join(columns)}")
    if output is not None:
        keys = ["run", "completion_id", *(["position"] if "position" in columns else [])]
        frame = _with_kept_columns(rows, opened).sort(keys).collect(engine="streaming")
        write_rows(frame, output, as_json=as_json)
        return
    by = [*(order if sort is None else [sort]), "run", "completion_id"]  # equal scores in the same order each time
    shown, count = first_rows(rows.sort(by, nulls_last=True), limit)
    if as_json:
        echo(shown.to_dicts())
        return
    if shown["run"].n_unique() > 1:
        brief = ["run", *brief]
    least = [name for name in LEAST_OF_SCORES if name != sort]
    print_table(shown.select(*brief, *([] if sort is None or sort in brief else [sort])), least=least)
    say_if_cut(shown.height, count)


def _with_kept_columns(rows: pl.LazyFrame, store: Store) -> pl.LazyFrame:
    """The rows with the columns that the job keeps of the prompts; `<name>_of_prompt` where a score has the name."""
    from logprob_store.schema import PROMPTS

    kept = [name for name in store.prompts.collect_schema().names() if name not in {"run", *PROMPTS}]
    if not kept or "prompt_index" not in rows.collect_schema().names():
        return rows
    return store.with_prompts(rows, kept)


def _chosen_scores(store: Store, metrics: str) -> tuple[pl.LazyFrame, list[str], list[str]]:
    """The scores named by `--metrics`, the columns to print, and the columns to sort by."""
    from logprob_store.errors import InputError

    names = list(dict.fromkeys(name.strip() for name in metrics.split(",") if name.strip()))
    if not names:
        raise InputError("--metrics: name at least one, such as perplexity")
    if any(manifest.job.get("model.mode") == "score" for manifest in store.manifests):
        raise InputError(
            "--metrics is of answers that a model wrote; runs that scored given text have their own columns: leave "
            "--metrics out, or choose a run with --run"
        )
    order = "confidence" if "confidence" in names else names[0]
    return store.scores(metrics=names), ["prompt_id", "completion_id", "text", *names], [order]


def _with_saved_calibrator(opened: Store, rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """The rows with a saved calibrator's columns; warns about runs whose answers differ from those it was fitted on."""
    from logprob_store.analysis.calibrators.apply import differences, with_calibrated
    from logprob_store.analysis.calibrators.storage import load_calibrator
    from logprob_store.view.safe_text import printable

    calibrator = load_calibrator(opened.path, name)
    for run, unlike in differences(calibrator, opened).items():
        said = f"calibrator {name} was fitted on other answers than run {run}: {'; '.join(unlike)}"
        typer.echo(printable(said), err=True)
    return with_calibrated(rows, opened, calibrator)
