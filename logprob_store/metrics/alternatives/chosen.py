"""The chosen token among the alternatives: its probability, its rank, and whether it is the most likely."""

from __future__ import annotations

import polars as pl

from logprob_store.metrics.arguments import POSITION, Column, as_column
from logprob_store.metrics.right_table import check_table

_TOKEN = ("token", "bytes", "token_id", "logprob", "logprob_flag")
OF_TOKENS = (*POSITION, *_TOKEN)
"""The columns of tokens and of alternatives by which the chosen one is found."""
OF_ALTERNATIVES = (*POSITION, "rank", *_TOKEN)


def with_chosen(alternatives: pl.LazyFrame, tokens: pl.LazyFrame) -> pl.LazyFrame:
    """The alternatives, with the chosen token added where the server did not list it.

    A sampled token need not be among the top k. Its probability is known all the same; once it is added, `missing_mass`
    and the entropies count it. The chosen token is recognised by `token_id` where both rows have one, else by `token`
    and, where both rows have them, `bytes`. Added rows have `rank` 0: the server did not list them, so they do not
    bound what it left out (`entropy_lower(top=pl.col("rank") > 0)`).

    Columns: those of `POSITION`; rank, token, bytes, token_id, logprob, logprob_flag; and `chosen_logprob`, the logprob
    of the chosen token, in every row of its position.

    Needs: the alternatives and tokens tables.
    Nulls: a chosen token without a logprob is not added. `chosen_logprob` is null where the chosen token has no logprob
    or is not stored.
    Source: the format of the store, docs/store.md.

    The chosen token "c" is not among the two alternatives that were listed:

    >>> place = {"run": "r", "completion_id": 0, "section": "content", "position": 0}
    >>> place |= {"bytes": None, "token_id": None, "logprob_flag": None}
    >>> alternatives = pl.LazyFrame(place | {"rank": [1, 2], "token": ["a", "b"], "logprob": [-0.5, -1.5]})
    >>> tokens = pl.LazyFrame(place | {"token": ["c"], "logprob": [-3.0]})
    >>> with_chosen(alternatives, tokens).sort("rank").select("rank", "token").collect().rows()
    [(0, 'c'), (1, 'a'), (2, 'b')]
    """
    keys = list(POSITION)
    columns = check_table(alternatives, "alternatives", "with_chosen", OF_ALTERNATIVES)
    check_table(tokens, "tokens", "with_chosen", OF_TOKENS)
    beside = _beside_chosen(alternatives, tokens)
    listed = beside.filter(is_chosen()).select(keys)
    unlisted = (
        tokens.filter(pl.col("logprob").is_not_null())
        .join(listed, on=keys, how="anti")
        .select(*keys, pl.lit(0, dtype=columns["rank"]).alias("rank"), *_TOKEN, chosen_logprob="logprob")
    )
    return pl.concat([beside.select(*OF_ALTERNATIVES, "chosen_logprob"), unlisted])


def without_chosen(alternatives: pl.LazyFrame, tokens: pl.LazyFrame) -> pl.LazyFrame:
    """The alternatives that are not the chosen token, with its logprob beside them as `chosen_logprob`."""
    return _beside_chosen(alternatives, tokens).filter(is_chosen().fill_null(value=False).not_())


def _beside_chosen(alternatives: pl.LazyFrame, tokens: pl.LazyFrame) -> pl.LazyFrame:
    """The alternatives, with the chosen token of their position as `chosen_*`."""
    chosen = tokens.select(*POSITION, pl.col(_TOKEN).name.prefix("chosen_"))
    return alternatives.select(OF_ALTERNATIVES).join(chosen, on=POSITION, how="left")


def is_chosen() -> pl.Expr:
    """Whether an alternative is the chosen token, whose columns are in the same row as `chosen_*`."""
    by_id = pl.col("token_id") == pl.col("chosen_token_id")
    # Bytes tell apart tokens whose strings are equal. Where only one side has bytes, the strings decide.
    alike = (pl.col("bytes") == pl.col("chosen_bytes")).fill_null(value=True)
    return by_id.fill_null((pl.col("token") == pl.col("chosen_token")) & alike)


def chosen_rank(column: Column = "logprob", *, chosen: Column = "chosen_logprob") -> pl.Expr:
    """The rank of the chosen token by probability.

    Formula: 1 + the number of alternatives with p above that of the chosen token; equal ones share the better rank.
    Range: [1, k + 1], lower is surer; k + 1 means that the token is less likely than all k that were shown. Unit: none.
    Needs: the alternatives, by token, with `chosen_logprob` in each row, as `with_chosen` gives them.
    Nulls: left out; null where the chosen token has no logprob, or fewer than two alternatives have one.
    Source: the rank of GLTR, Gehrmann et al. 2019 (arXiv:1906.04043).

    One of three alternatives is likelier than the chosen token:

    >>> rows = pl.DataFrame({"logprob": [-2.0, -0.5, -1.0], "chosen_logprob": -1.0})
    >>> rows.select(chosen_rank()).item()
    2
    """
    logprob, own = as_column(column), as_column(chosen)
    likelier = (logprob > own).sum()
    known = (logprob.count() > 1) & (own.count() > 0)
    return pl.when(known).then(likelier + 1).alias("chosen_rank")


def greedy(column: Column = "logprob", *, chosen: Column = "chosen_logprob") -> pl.Expr:
    """Whether the chosen token is the most likely; a tie counts.

    Formula: chosen_rank = 1. The mean over tokens is the share that a greedy decoder would have chosen as well.
    Range: true or false, true is surer.
    Needs: as `chosen_rank`.
    Nulls: as `chosen_rank`.
    Source: as `chosen_rank`.

    The chosen token is the likelier of two:

    >>> pl.DataFrame({"logprob": [-2.0, -0.5], "chosen_logprob": -0.5}).select(greedy()).item()
    True
    """
    return (chosen_rank(column, chosen=chosen) == 1).alias("greedy")
