"""The perplexity of many sequences together.

A polars expression over one row per sequence. Leaves out the perplexity of one (`sequence`) and of bytes and words
(`texts`).
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.arguments import Column, as_column

By: TypeAlias = Literal["token", "sequence"]


def corpus_perplexity(
    logprob_sum: Column = "logprob_sum", *, tokens: Column = "scored_tokens", by: By = "token"
) -> pl.Expr:
    """The perplexity of a corpus, from one row per sequence.

    `token`: exp(-sum sum l / sum T), in which every token counts the same, and long sequences more. `sequence`:
    exp(mean of NLL_i), NLL_i = -sum l / T of sequence i, in which every sequence counts the same: the geometric mean of
    their perplexities. Never the arithmetic mean of perplexities, which one bad sequence can set. Range [1, inf), down
    is better; comparable only between models with one tokenizer. Needs: the rows of `store.scores()`, or any column of
    logprob sums and one of the tokens they are of. Source: Jelinek et al. 1977. Sequences where either is null, or
    without tokens, are left out; none left gives null.

    Raises:
        ValueError: an unknown `by`.

    One token of 1/16, and three of 1/2 each: 7 bits for 4 tokens; or 4 bits and 1 bit a token:

    >>> from math import log
    >>> rows = pl.DataFrame({"logprob_sum": [-4 * log(2), -3 * log(2)], "scored_tokens": [1, 3]})
    >>> rows.select(corpus_perplexity().log(2).round(6)).item()
    1.75
    >>> rows.select(corpus_perplexity(by="sequence").log(2).round(6)).item()
    2.5
    """
    nats, count = as_column(logprob_sum), as_column(tokens)
    usable = nats.is_not_null() & (count > 0)
    match by:
        case "token":
            total = count.filter(usable).sum()
            mean: pl.Expr = pl.when(total > 0).then(nats.filter(usable).sum() / total)
        case "sequence":
            mean = (nats.filter(usable) / count.filter(usable)).mean()
        case _:
            raise ValueError(f"corpus_perplexity by {by!r}: it is by {' or '.join(get_args(By))}")
    return (0.0 - mean).exp().alias("corpus_perplexity")
