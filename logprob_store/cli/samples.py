"""The command `samples`: how much the answers to each prompt vary.

The figures are computed by `logprob_store.metrics.samples`.
"""

from __future__ import annotations

from logprob_store.cli.chosen_runs import open_runs
from logprob_store.cli.common import (
    JsonOption,
    LimitOption,
    OutputOption,
    RunOption,
    StorePath,
    print_or_write,
)


def samples(
    store: StorePath,
    *,
    run: RunOption = None,
    output: OutputOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Say how much the answers to each prompt vary, by majority and semantic entropy; the least agreed on first.

    Answers that differ in case and white space alone are one. `ls.sample_scores` takes your own clusters.
    """
    import polars as pl

    from logprob_store.errors import InputError

    opened = open_runs(store, run)
    rows = opened.sample_scores().collect(engine="streaming")
    if rows.height and (rows["samples"] <= 1).all():
        raise InputError("each prompt has one answer: set model.samples, or params.n, in the job for several")
    rows = rows.sort(
        "agreement",
        pl.col("semantic_entropy_discrete"),
        "run",
        "prompt_id",
        descending=[False, True, False, False],
        nulls_last=True,
    )
    columns = ["prompt_id", "majority", "agreement", "samples", "clusters", "semantic_entropy", "mc_entropy"]
    print_or_write(rows, output=output, limit=limit, as_json=as_json, columns=columns)
