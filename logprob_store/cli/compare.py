"""The command `compare`: what changed between two runs, with an exit code that says whether the limits allow it.

The comparison is computed by `logprob_store.metrics.two_runs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from logprob_store.cli.chosen_runs import passed_over
from logprob_store.cli.common import EXIT_CHANGED, EXIT_UNKNOWN, JsonOption, StorePath, echo, print_table, write_frame
from logprob_store.cli.completion import complete_run
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    import polars as pl

    from logprob_store.analysis.opened_store import Store

_NUMBERS: Final = (
    *("run_a", "run_b", "pairs", "only_a", "only_b", "copied"),
    *("missing_share", "missing_prompt_share", "added_share", "added_prompt_share"),
)
_PRINTED_COLUMNS: Final = ("prompt_id", "answer_a", "answer_b", "first_difference", "delta_confidence", "mean_js")


def compare(
    store: StorePath,
    run_a: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN_A",
            autocompletion=complete_run,
            help="The run to compare with; default: RUN_B's job's last before it.",
        ),
    ] = None,
    run_b: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN_B", autocompletion=complete_run, help="The run that may have changed; default: the newest."
        ),
    ] = None,
    *,
    other: Annotated[Path | None, typer.Option(metavar="STORE2", help="The store of RUN_B, if another.")] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", help="Let case, white space and a full stop at the end make no difference.")
    ] = False,
    max_flip_rate: Annotated[float, typer.Option(help="Share of answers that may differ.")] = 0.02,
    max_perplexity_increase: Annotated[
        float, typer.Option(help="By what share of itself the perplexity may rise.")
    ] = 0.05,
    max_js: Annotated[
        float | None, typer.Option(help="Mean Jensen-Shannon divergence by token, nats; default: no limit.")
    ] = None,
    max_missing: Annotated[
        float, typer.Option(help="Share of RUN_A's prompts or answers that RUN_B lacks, of tokens without a logprob.")
    ] = 0.05,
    max_added: Annotated[
        float | None, typer.Option(help="Share of RUN_B's prompts or answers that RUN_A lacks; default: no limit.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples of the intervals.")] = 1000,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write all pairs to a .parquet, .csv, .json or .jsonl file.")
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Pairs to print.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs of the same prompts; without names, the newest run with the one before it of the same job.

    The most changed answers, then what changed over all with 95 % intervals, then one line that says whether it is
    within the limits. One is passed where the true value is above it with 95 % confidence; inf is no limit.
    Exit codes: 0 within them, 2 there is nothing to compare, 5 a limit is passed, 6 a limit cannot be judged.
    """
    from logprob_store.analysis.opened_store import open_store
    from logprob_store.metrics.samples import normalised_text
    from logprob_store.metrics.two_runs.verdict import checked_limits
    from logprob_store.view.terminal_tables import without_dust

    limits = {
        "max_flip_rate": max_flip_rate,
        "max_perplexity_increase": max_perplexity_increase,
        "max_js": max_js,
        "max_missing": max_missing,
        "max_added": max_added,
    }
    checked_limits(limits)
    answer = normalised_text() if normalise else "text"
    ours = open_store(store)
    theirs = None if other is None else open_store(other)
    comparison = ours.compare(run_a, run_b, other=theirs, answer=answer).collect()
    summary = comparison.summary(resamples=resamples)
    if run_b is None and (said := passed_over(theirs or ours, summary.run_b)):
        typer.echo(printable(f"run {summary.run_b} against {summary.run_a}; {said}"), err=True)
    sampled = [run for opened, run in ((ours, summary.run_a), (theirs or ours, summary.run_b)) if _samples(opened, run)]
    verdict = summary.verdict(**limits)
    if output is not None:
        write_frame(comparison.prompts.sort("prompt_id", "sample_index", "choice_index").collect(), output)
    changed = _most_changed(comparison.prompts, limit)
    if as_json:
        echo(
            {
                "verdict": verdict.line,
                "exceeded": list(verdict.exceeded),
                "unknown": list(verdict.unknown),
                "at_least": summary.at_least,
                "sampled": sampled,
                **{name: getattr(summary, name) for name in _NUMBERS},
                "metrics": summary.metrics.to_dicts(),
                "prompts": changed.to_dicts(),
            }
        )
    else:
        print_table(changed.select(_PRINTED_COLUMNS), least=("mean_js", "first_difference"))
        print_table(without_dust(summary.metrics.drop("resamples")))
        if sampled:
            echo(f"{' and '.join(sampled)} drew answers at a temperature above 0: then equal models differ too, often")
        echo(verdict.line)
    if not verdict.passed:
        raise typer.Exit(EXIT_CHANGED if verdict.exceeded else EXIT_UNKNOWN)


def _samples(store: Store, run: str) -> bool:
    """Whether the job of a run asked for answers that are drawn, as servers do unless `temperature` is 0."""
    job = store.only(run).manifests[0].job
    if job.get("model.endpoint") == "decisions":
        return False
    temperature = job.get("model.params.temperature", 1)
    return "model.name" in job and isinstance(temperature, int | float) and temperature > 0


def _most_changed(prompts: pl.LazyFrame, limit: int) -> pl.DataFrame:
    """The pairs that differ most: flipped answers first, then by divergence, then by change of confidence."""
    import polars as pl

    order = ["flip", "mean_js", pl.col("delta_confidence").abs(), "prompt_id"]
    both = prompts.filter(pl.col("flip").is_not_null())
    return both.sort(order, descending=[True, True, True, False], nulls_last=True).head(limit).collect()
