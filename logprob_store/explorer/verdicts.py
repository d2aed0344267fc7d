"""Which of the prepared answers are right, by a column that the job keeps of its prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from logprob_store.analysis.calibrators.expected_answers import same_text
from logprob_store.errors import InputError
from logprob_store.schema import PROMPTS

if TYPE_CHECKING:
    from logprob_store.explorer.preparing import Prepared


def with_verdicts(prepared: Prepared, expected: str) -> Prepared:
    """The rows with `verdict`: `right` where the answer is the expected one but for case and spaces around, or `wrong`.

    Of typed questions the label is judged. It is null for failures, and where nothing is expected.

    Args:
        prepared: the rows.
        expected: the column of the prompts.

    Raises:
        InputError: no run kept such a column.
    """
    prompts = prepared.store.prompts
    names = [name for name in prompts.collect_schema().names() if name not in {"run", *PROMPTS}]
    if expected not in names:
        kept = f"there are: {', '.join(names)}" if names else "no other was: name them in the job's prompts.keep"
        raise InputError(f"--expected {expected}: no such column was kept with the prompts; {kept}")
    runs = prepared.rows.schema["run"]
    truths = (
        prompts.select(pl.col("run").cast(runs), "prompt_index", pl.col(expected).cast(pl.String).alias("expected"))
        .unique(["run", "prompt_index"], keep="last")
        .collect()
    )
    said = pl.when(pl.col("label_probability").is_not_null()).then("label").otherwise("search")
    right = same_text(said, pl.col("expected"))
    verdict = pl.when(right).then(pl.lit("right")).when(~right).then(pl.lit("wrong"))
    rows = (
        prepared.rows.lazy()
        .join(truths.lazy(), on=["run", "prompt_index"], how="left", maintain_order="left")
        .with_columns(verdict=pl.when(pl.col("completion_id").is_not_null()).then(verdict).cast(pl.Categorical))
        .drop("expected")
        .collect()
    )
    return replace(prepared, rows=rows)
