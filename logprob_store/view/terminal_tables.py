"""Tables for the terminal: their columns for runs, failures and scores, and the printing of any DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl
from rich import box
from rich.table import Table
from rich.text import Text

from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from logprob_store.analysis.opened_store import Store

_WIDEST_CELL: Final = 60
_LONG_TEXTS: Final = frozenset({"text", "example", "message", "continuation", "answer_a", "answer_b"})


def frame_table(frame: pl.DataFrame) -> Table:
    """A DataFrame as a table: numbers to the right, text made safe and cut off at 60 characters."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, kind in frame.schema.items():
        # A long text may be shortened to fit the terminal; a name or a number cut short is useless.
        is_long = name in _LONG_TEXTS
        justify: JustifyMethod = "right" if kind.is_numeric() else "left"
        table.add_column(
            Text(printable(name)), justify=justify, overflow="ellipsis" if is_long else "fold", no_wrap=not is_long
        )
    for row in frame.iter_rows():
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = printable(str(value))
    return text if len(text) <= _WIDEST_CELL else text[: _WIDEST_CELL - 3] + "..."


def runs_frame(runs: pl.DataFrame) -> pl.DataFrame:
    """One row per run: its state, its counts, and where its answers came from.

    Args:
        runs: rows of `store.runs`.
    """
    names = {"from_api": "api", "from_cache": "cache", "from_fixtures": "fixtures"}
    sources = pl.concat_str(
        [pl.when(pl.col(column) > 0).then(pl.format("{} {}", column, pl.lit(name))) for column, name in names.items()],
        separator=", ",
        ignore_nulls=True,
    )
    return runs.select(
        "run",
        "state",
        "prompts",
        completions="completions",
        tokens="tokens",
        failed="failures",
        answers=sources,
        **({"spent_usd": "spent_usd"} if runs["spent_usd"].is_not_null().any() else {}),
    )


def scores_and_columns(store: Store) -> tuple[pl.LazyFrame, list[str], list[str]]:
    """The scores for what the runs did, the columns of them to show, and the columns to sort by."""
    jobs = [manifest.job for manifest in store.manifests]
    if not jobs or any(job.get("model.mode") != "score" for job in jobs):
        columns = ["completion_id", "prompt_id", "text", "token_count", "confidence", "perplexity"]
        return store.scores(), columns, ["confidence"]
    if all(job.get("prompts.continuations") for job in jobs):
        columns = ["completion_id", "prompt_id", "rank", "continuation", "scored_tokens", "loglikelihood", "greedy"]
        return store.candidate_scores(), columns, ["run", "prompt_index", "rank", "candidate"]
    columns = ["completion_id", "prompt_id", "text", "scored_tokens", "perplexity", "bits_per_byte"]
    return store.text_scores(), columns, ["confidence"]


def anomalies_frame(store: Store) -> pl.DataFrame:
    """One row per run with anomalies, counted by kind; docs/store.md explains the kinds."""
    kinds = (
        *("flagged", "chosen_missing", "text_differs", "lossy_bytes", "without_tokens"),
        *("choices_differ", "model_differs", "tier_differs"),
    )
    found = store.runs.select("run", *kinds).filter(pl.any_horizontal(pl.col(kinds) > 0)).collect()
    # Most runs have one kind or two: a column for each of the others would be a row of zeros.
    return found.select("run", *(kind for kind in kinds if found[kind].max()))


def failures_frame(store: Store) -> pl.DataFrame:
    """The open failures, counted by run and error_type, with one message as an example."""
    return (
        store.failures.group_by("run", "error_type", maintain_order=True)
        .agg(prompts=pl.len(), maybe_billed=pl.col("maybe_billed").sum(), example=pl.col("message").first())
        .collect()
    )
