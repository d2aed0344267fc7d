"""How sure the model was of the next token, from the first two alternatives or the mass of all.

Polars expressions over the `alternatives` table, grouped by token (`POSITION`). Leaves out the entropies
(`topk_entropy`, `topk_bounds`) and what needs the chosen token (`chosen`).

The order delivered is not promised to be sorted, so nothing reads `rank` as an order. Nulls (flagged
alternatives) are left out; fewer than two alternatives with a logprob give null.
"""

from __future__ import annotations

import polars as pl

from logprob_store.metrics.arguments import Column, as_column

LARGEST_RANK = 2**15 - 1
"""`rank` is an Int16 that counts from 0 or 1."""


def margin(column: Column = "logprob", *, rank: Column | None = None, largest_rank: int = LARGEST_RANK) -> pl.Expr:
    """The lead of the most likely alternative over the next, p1 - p2.

    Range [0, 1], up is surer; 0 is a tie. Needs: the `logprob` of alternatives, by token. Source: margin
    sampling, Scheffer et al. 2001; best-versus-second-best. Nulls are left out; fewer than two alternatives
    give null.

    `rank="rank"` gives the same numbers several times faster and in far less memory: with a column that tells
    a token's alternatives apart, polars need not gather each group to find its second. Where no rank is above
    `largest_rank` (with 20 alternatives, 20), say so: it is then three times as fast again. A rank above it makes the
    margin wrong.

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.25), log(0.625)]}).select(margin()).item(), 6)
    0.375
    """
    logprob = as_column(column)
    return where_two(logprob, logprob.max().exp() - second_largest(logprob, rank, largest_rank).exp()).alias("margin")


def logprob_margin(
    column: Column = "logprob", *, rank: Column | None = None, largest_rank: int = LARGEST_RANK
) -> pl.Expr:
    """The lead of the most likely alternative over the next, l1 - l2 = ln(p1 / p2).

    Range [0, inf), nats, up is surer; 0 is a tie. It does not saturate where p1 is nearly 1, as `margin`
    does; logprobs taken at temperature t are divided by t, and it with them. Needs: the `logprob` of
    alternatives, by token; `rank` and `largest_rank` as in `margin`. Source: the log-odds of best against
    second best. Nulls are left out; fewer than two give null.

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.25), log(0.5)]}).select(logprob_margin()).item(), 6)
    0.693147
    """
    logprob = as_column(column)
    return where_two(logprob, logprob.max() - second_largest(logprob, rank, largest_rank)).alias("logprob_margin")


def missing_mass(column: Column = "logprob") -> pl.Expr:
    """The probability the API did not show, m = max(0, 1 - sum p).

    Range [0, 1], down is better: what alternatives say holds for the mass they have. Needs: the `logprob` of
    alternatives, by token. Source: 1 minus the mass of the top k. A sum that rounding pushes above 1 gives 0.
    Nulls are left out, so their mass counts as missing; fewer than two alternatives give null.

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.25)]}).select(missing_mass()).item(), 6)
    0.25
    """
    logprob = as_column(column)
    return where_two(logprob, hidden_mass(logprob)).alias("missing_mass")


def token_confidence(column: Column = "logprob") -> pl.Expr:
    """DeepConf's token confidence, -(1/k) sum ln p over the k alternatives.

    Range [0, inf), nats, up is surer (a sure model leaves little for the others, and their -ln p grows); it
    depends on k. Needs: the `logprob` of alternatives, by token. Source: Fu et al. 2025, "Deep Think with
    Confidence" (arXiv:2508.15260). Nulls are left out and not in k; fewer than two alternatives give null.

    The mean of one bit and three bits, 2 ln 2:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(token_confidence()).item(), 6)
    1.386294
    """
    logprob = as_column(column)
    return where_two(logprob, 0.0 - logprob.mean()).alias("token_confidence")


def where_two(logprob: pl.Expr, value: pl.Expr) -> pl.Expr:
    """`value` where at least two alternatives have a logprob, else null: one says nothing about a choice."""
    return pl.when(logprob.count() > 1).then(value)


def hidden_mass(logprob: pl.Expr) -> pl.Expr:
    """m, never below 0: wire logprobs are rounded, and their sum may pass 1."""
    return (1.0 - logprob.exp().sum()).clip(lower_bound=0.0)


def second_largest(logprob: pl.Expr, rank: Column | None, largest_rank: int) -> pl.Expr:
    """The second largest logprob of a group; an equal one counts."""
    if rank is None:
        return logprob.sort(descending=True, nulls_last=True).get(1, null_on_oob=True)
    # A knock-out by the bits of rank. The runner-up differs from the winner in some bit, and where the rows
    # are parted by that bit it leads the winner's opponents, so the larger of all losing sides' maxima is the
    # second largest. Only maxima, so polars streams it; sort, top_k or filter inside a group gather all rows
    # first.
    index = as_column(rank)
    lowest = float("-inf")
    losers = []
    for bit in range(max(largest_rank.bit_length(), 1)):
        has_bit = (index & (1 << bit)) != 0
        ones = pl.when(has_bit).then(logprob).max().fill_null(lowest)
        zeros = pl.when(has_bit).then(None).otherwise(logprob).max().fill_null(lowest)
        losers.append(pl.min_horizontal(ones, zeros))
    return pl.max_horizontal(*losers)
