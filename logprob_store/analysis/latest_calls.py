"""The calls that have the newest answer of each prompt over the runs of a store: what `Store.latest` shows.

A prompt is known by its job and its id; each of its samples counts by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from logprob_store.store.tables import StoreTables

CALL: Final = ("run", "prompt_index", "sample_index")
_SAMPLE: Final = ("job", "prompt_id", "sample_index")


def latest_calls(store: StoreTables) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The newest answer of each prompt's sample, and the newest failure of those that no run has an answer of.

    Returns:
        Two tables of calls: run, prompt_index and sample_index.
    """
    answered = _calls(store, "completions")
    newest = answered.group_by(_SAMPLE).agg(pl.col("order").max())
    failed = _calls(store, "failures").join(newest, on=_SAMPLE, how="anti")
    newest_failed = failed.group_by(_SAMPLE).agg(pl.col("order").max())
    kept, kept_failed = (
        rows.join(last, on=[*_SAMPLE, "order"], how="semi").select(CALL).unique().collect(engine="streaming")
        for rows, last in ((answered, newest), (failed, newest_failed))
    )
    return kept, kept_failed


def _calls(store: StoreTables, table: str) -> pl.LazyFrame:
    """The calls that have a row in a table, with their job and the place of their run, the oldest first."""
    names = store.run_names
    runs = pl.LazyFrame(
        {"run": names, "order": range(len(names)), "job": [manifest.job_name for manifest in store.manifests]},
        schema={"run": pl.String, "order": pl.Int64, "job": pl.String},
    )
    rows: pl.LazyFrame = getattr(store, table)
    return rows.select(*CALL, "prompt_id").join(runs, on="run")
