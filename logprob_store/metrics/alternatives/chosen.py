"""The chosen token beside its alternatives: with its own mass, its rank, and whether it was the most likely.

Leaves out the metrics of alternatives alone (`topk`, `topk_entropy`).
"""

from __future__ import annotations

import polars as pl

from logprob_store.metrics.arguments import POSITION, Column, as_column

_TOKEN = ("token", "bytes", "token_id", "logprob", "logprob_flag")
_ALTERNATIVE = (*POSITION, "rank", *_TOKEN)


def with_chosen(alternatives: pl.LazyFrame, tokens: pl.LazyFrame) -> pl.LazyFrame:
    """The alternatives, and the chosen token as one more where the API did not list it.

    A sampled token may not be among the top k. Its probability is known all the same: with it, `missing_mass`
    and the entropies count it. It is found by `token_id` when both rows have one, else by `token` and, when
    both rows have them, `bytes`. Rows added have `rank` 0: they were not delivered, and do not limit what was
    not shown (`entropy_lower(top=pl.col("rank") > 0)`). A chosen token without a logprob is not added.

    Returns the columns of POSITION, rank, token, bytes, token_id, logprob, logprob_flag, and
    `chosen_logprob`, the chosen token's logprob on every row of its position (null where it has none, or no
    such token is stored). Needs: both tables, with those columns. Source: the data contract.

    >>> where = {"run": "r", "completion_id": 0, "section": "content", "position": 0}
    >>> none = pl.lit(None, dtype=pl.String)
    >>> rows = pl.LazyFrame({"token": ["a", "b"], "logprob": [-0.5, -1.5], "rank": [1, 2]})
    >>> where = {name: pl.lit(value) for name, value in where.items()}
    >>> rows = rows.with_columns(**where, bytes=none, token_id=none, logprob_flag=none)
    >>> tokens = rows.head(1).drop("rank").with_columns(token=pl.lit("c"), logprob=pl.lit(-3.0))
    >>> with_chosen(rows, tokens).sort("rank").select("rank", "token").collect().rows()
    [(0, 'c'), (1, 'a'), (2, 'b')]
    """
    keys = list(POSITION)
    chosen = tokens.select(*keys, pl.col(_TOKEN).name.prefix("chosen_"))
    beside = alternatives.select(_ALTERNATIVE).join(chosen, on=keys, how="left")
    listed = beside.filter(is_chosen()).select(keys)
    rank_type = alternatives.select("rank").collect_schema()["rank"]
    unlisted = (
        tokens.filter(pl.col("logprob").is_not_null())
        .join(listed, on=keys, how="anti")
        .select(*keys, pl.lit(0, dtype=rank_type).alias("rank"), *_TOKEN, chosen_logprob="logprob")
    )
    return pl.concat([beside.select(*_ALTERNATIVE, "chosen_logprob"), unlisted])


def is_chosen() -> pl.Expr:
    """Whether an alternative is the token that was chosen, whose columns stand beside it as `chosen_*`."""
    by_id = pl.col("token_id") == pl.col("chosen_token_id")
    # bytes tell tokens apart that are shown alike; a server that sends them on one side only says nothing
    alike = (pl.col("bytes") == pl.col("chosen_bytes")).fill_null(value=True)
    return by_id.fill_null((pl.col("token") == pl.col("chosen_token")) & alike)


def chosen_rank(column: Column = "logprob", *, chosen: Column = "chosen_logprob") -> pl.Expr:
    """The chosen token's place by probability: 1 + how many alternatives are likelier.

    Range [1, k + 1], 1 is the most likely; equals share the better place. k + 1 means below all that were
    shown: at least that place. Needs: the alternatives, by token, with the chosen token's logprob on each
    row, as `with_chosen` gives them. Source: the rank of GLTR, Gehrmann et al. 2019 (arXiv:1906.04043). Nulls
    are left out; an unscored chosen token, or fewer than two alternatives, give null.

    >>> rows = pl.DataFrame({"logprob": [-2.0, -0.5, -1.0], "chosen_logprob": -1.0})
    >>> rows.select(chosen_rank()).item()
    2
    """
    logprob, own = as_column(column), as_column(chosen)
    likelier = (logprob > own).sum()
    known = (logprob.count() > 1) & (own.count() > 0)
    return pl.when(known).then(likelier + 1).alias("chosen_rank")


def greedy(column: Column = "logprob", *, chosen: Column = "chosen_logprob") -> pl.Expr:
    """Whether the chosen token is the most likely: `chosen_rank` = 1, ties included.

    Boolean; its mean over tokens is the share a greedy decoder would have written too. Needs, source and
    nulls: as `chosen_rank`.

    >>> pl.DataFrame({"logprob": [-2.0, -0.5], "chosen_logprob": -0.5}).select(greedy()).item()
    True
    """
    return (chosen_rank(column, chosen=chosen) == 1).alias("greedy")
