"""Margins, missing mass and token confidence: how sure the model was of the next token.

Polars expressions over the `alternatives` table, grouped by token (`POSITION`). Entropies are in `entropy` and
`entropy_bounds`; what needs the chosen token is in `chosen`.

No server promises a sorted list, so nothing here takes `rank` for the order of probabilities. Nulls, the flagged
alternatives, are left out. Fewer than two alternatives with a logprob give null.
"""

from __future__ import annotations

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.right_table import only_of_alternatives

LARGEST_RANK = 2**15 - 1
"""The largest value of `rank`, an Int16 that counts from 0 or 1."""


def margin(column: Column = "logprob", *, rank: Column | None = None, largest_rank: int = LARGEST_RANK) -> pl.Expr:
    """The difference in probability between the two likeliest alternatives.

    Formula: p1 - p2.
    Range: [0, 1], higher is surer; 0 is a tie. Unit: none.
    Needs: the `logprob` of alternatives, by token.
    Nulls: left out; fewer than two alternatives give null.
    Source: margin sampling, Scheffer et al. 2001; best-versus-second-best.

    Args:
        column: the logprobs.
        rank: a column that tells the alternatives of a token apart, such as "rank". It changes no number, but with it
            polars need not gather each group to find the second: several times faster, in far less memory.
        largest_rank: the largest value of `rank`, 20 with 20 alternatives: three times faster again. If a rank is above
            it, the margin is wrong.

    0.625 - 0.25 = 0.375:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.25), log(0.625)]}).select(margin()).item(), 6)
    0.375
    """
    logprob = as_column(column)
    gap = logprob.max().exp() - second_largest(logprob, rank, largest_rank).exp()
    return where_two(logprob, gap, "margin")


def logprob_margin(
    column: Column = "logprob", *, rank: Column | None = None, largest_rank: int = LARGEST_RANK
) -> pl.Expr:
    """The difference in logprob between the two likeliest alternatives.

    Formula: l1 - l2 = ln(p1 / p2).
    Range: [0, inf), higher is surer; 0 is a tie. Unit: nats. Unlike `margin` it still tells alternatives apart where p1
    is nearly 1. Logprobs taken at temperature t are divided by t, and so is this margin.
    Needs: the `logprob` of alternatives, by token; `rank` and `largest_rank` as in `margin`.
    Nulls: left out; fewer than two alternatives give null.
    Source: the log-odds of the best against the second best.

    1/2 is twice 1/4, and ln 2 = 0.693147:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.25), log(0.5)]}).select(logprob_margin()).item(), 6)
    0.693147
    """
    logprob = as_column(column)
    return where_two(logprob, logprob.max() - second_largest(logprob, rank, largest_rank), "logprob_margin")


def missing_mass(column: Column = "logprob") -> pl.Expr:
    """The probability that the API did not show.

    Formula: m = max(0, 1 - sum p). A sum that rounding takes above 1 gives 0.
    Range: [0, 1], lower is better: what the alternatives say holds for the mass that they have. Unit: none.
    Needs: the `logprob` of alternatives, by token.
    Nulls: left out, so that their mass counts as missing; fewer than two alternatives give null.
    Source: 1 minus the mass of the top k.

    1 - 1/2 - 1/4 = 1/4:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.25)]}).select(missing_mass()).item(), 6)
    0.25
    """
    logprob = as_column(column)
    return where_two(logprob, hidden_mass(logprob), "missing_mass")


def token_confidence(column: Column = "logprob") -> pl.Expr:
    """The token confidence of DeepConf: the mean surprisal of the alternatives.

    Formula: -(1/k) sum ln p over the k alternatives.
    Range: [0, inf), higher is surer: a sure model leaves little for the other tokens, and their -ln p grows. Unit:
    nats. It depends on k.
    Needs: the `logprob` of alternatives, by token.
    Nulls: left out, also of k; fewer than two alternatives give null.
    Source: Fu et al. 2025, "Deep Think with Confidence" (arXiv:2508.15260).

    The mean of one bit and three bits is two bits, 2 ln 2 = 1.386294:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(token_confidence()).item(), 6)
    1.386294
    """
    logprob = as_column(column)
    return where_two(logprob, 0.0 - logprob.mean(), "token_confidence")


def where_two(logprob: pl.Expr, value: pl.Expr, name: str) -> pl.Expr:
    """`value` where at least two alternatives have a logprob, else null: one says nothing about a choice."""
    return only_of_alternatives(pl.when(logprob.count() > 1).then(value).alias(name))


def hidden_mass(logprob: pl.Expr) -> pl.Expr:
    """The mass that was not shown, max(0, 1 - sum p): rounded probabilities may sum to more than 1."""
    return (1.0 - logprob.exp().sum()).clip(lower_bound=0.0)


def second_largest(logprob: pl.Expr, rank: Column | None, largest_rank: int) -> pl.Expr:
    """The second largest logprob of a group, equal to the largest where two tie; -inf or null where there is none.

    `rank` and `largest_rank` are those of `margin`.
    """
    if rank is None:
        return logprob.sort(descending=True, nulls_last=True).get(1, null_on_oob=True)
    # Split the rows by each bit of `rank` in turn. The second largest differs from the largest in some bit; split by
    # that bit, it is the largest of the other half. So it is the maximum, over all bits, of the smaller of the two
    # halves' maxima. Polars streams maxima; sort, top_k or filter within a group would gather all rows of the group.
    index = as_column(rank)
    lowest = float("-inf")
    smaller_maxima = []
    for bit in range(max(largest_rank.bit_length(), 1)):
        has_bit = (index & (1 << bit)) != 0
        ones = pl.when(has_bit).then(logprob).max().fill_null(lowest)
        zeros = pl.when(has_bit).then(None).otherwise(logprob).max().fill_null(lowest)
        smaller_maxima.append(pl.min_horizontal(ones, zeros))
    return pl.max_horizontal(*smaller_maxima)
