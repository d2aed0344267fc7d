"""One row of scores per completion, lazily.

Leaves out the formulas (`sequence`, `topk`, `topk_entropy`) and opening a store (`logprob_store.store`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl
from polars.io.plugins import register_io_source

from logprob_store.metrics import sequence
from logprob_store.metrics.columns import POSITION, generated
from logprob_store.metrics.topk import margin, missing_mass
from logprob_store.metrics.topk_entropy import entropy
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["scores"]

_FROM_COMPLETIONS: Final = (
    *KEYS,
    "prompt_id",
    "prompt_index",
    "sample_index",
    "choice_index",
    "finish_reason",
    "text",
    "token_count",
)
_FROM_ALTERNATIVES: Final = ("mean_entropy", "mean_margin", "mean_missing_mass")


def scores(tokens: pl.LazyFrame, alternatives: pl.LazyFrame | None, completions: pl.LazyFrame) -> pl.LazyFrame:
    """One row per completion: who it is, and how sure the model was of it.

    Columns: run, completion_id, prompt_id, prompt_index, sample_index, choice_index, finish_reason, text,
    token_count; scored_tokens, unscored_tokens, logprob_sum, joint_probability, mean_logprob, confidence,
    perplexity, min_probability over the tokens of all sections but `prompt`; mean_entropy (the `tail` form,
    nats), mean_margin and mean_missing_mass, means over the tokens that have at least two alternatives with a
    logprob.

    A completion without tokens stays, with nulls and scored_tokens 0; without alternatives (or with None for
    the table) the last three are null. The order of rows is not promised. To count the mass of sampled tokens
    the API did not list, give `with_chosen(alternatives, tokens)` as alternatives.

    Lazy: a filter on the keys reaches the files, and the alternatives are read only when a column from them
    is asked for. Needs: the three tables. Ranges, directions, sources: as each metric's own function says.

    Two tokens of 1/2 and 1/8, the second completion without any:

    >>> from math import log
    >>> tokens = pl.LazyFrame(
    ...     {"run": "r", "completion_id": [1, 1], "section": "content", "logprob": [log(0.5), log(0.125)]}
    ... )
    >>> completions = pl.LazyFrame(
    ...     {
    ...         "run": "r",
    ...         "completion_id": [1, 2],
    ...         "prompt_id": ["a", "b"],
    ...         "prompt_index": [0, 1],
    ...         "sample_index": 0,
    ...         "choice_index": 0,
    ...         "finish_reason": "stop",
    ...         "text": "",
    ...         "token_count": [2, 0],
    ...     }
    ... )
    >>> table = scores(tokens, None, completions).sort("completion_id")
    >>> table.select("prompt_id", "scored_tokens", pl.col("perplexity").round(6)).collect().rows()
    [('a', 2, 4.0), ('b', 0, None)]
    """
    narrow = completions.select(_FROM_COMPLETIONS).join(_token_scores(tokens), on=KEYS, how="left")
    narrow = narrow.with_columns(pl.col("scored_tokens", "unscored_tokens").fill_null(0))
    if alternatives is None:
        return narrow.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in _FROM_ALTERNATIVES)
    wide = narrow.join(_alternative_scores(alternatives), on=KEYS, how="left")
    return _narrow_where_enough(narrow, wide)


def _token_scores(tokens: pl.LazyFrame) -> pl.LazyFrame:
    return (
        tokens.filter(generated())
        .group_by(KEYS)
        .agg(
            sequence.scored_tokens(),
            sequence.unscored_tokens(),
            sequence.logprob_sum(),
            sequence.joint_probability(),
            sequence.mean_logprob(),
            sequence.confidence(),
            sequence.perplexity(),
            sequence.min_probability(),
        )
    )


def _alternative_scores(alternatives: pl.LazyFrame) -> pl.LazyFrame:
    by_token = (
        alternatives.filter(generated())
        .group_by(POSITION)
        .agg(entropy(form="tail"), margin(rank="rank"), missing_mass())
    )
    return by_token.group_by(KEYS).agg(pl.col("entropy", "margin", "missing_mass").mean().name.prefix("mean_"))


def _narrow_where_enough(narrow: pl.LazyFrame, wide: pl.LazyFrame) -> pl.LazyFrame:
    """`wide`, planned as `narrow` when the query asks for no other column.

    polars keeps a left join none of whose columns are selected, for it cannot know that keys are unique, and
    would scan all alternatives for a list of perplexities. A horizontal concat is dropped, but stops filters.
    So we choose once the query's columns are known, and hand filters on.
    """
    enough = set(narrow.collect_schema())

    def plan(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        # polars names the predicate's columns among those it asks for
        table = wide if columns is None or not enough.issuperset(columns) else narrow
        if predicate is not None:
            table = table.filter(predicate)
        if columns is not None:
            table = table.select(columns)
        if n_rows is not None:
            table = table.head(n_rows)
        # not collect_batches: in polars 2.1 a damaged file ends its batches early, without an error
        yield table.collect(engine="streaming")

    return register_io_source(plan, schema=wide.collect_schema, is_pure=True, explain_name="scores")
