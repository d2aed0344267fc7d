"""Bounds of the entropy of the next token: its least and its greatest value, given what the API showed.

Polars expressions over the `alternatives` table, grouped by token (`POSITION`). Single estimates are in `entropy`.

In the formulas, k is the number of alternatives with a logprob, p_k the least likely of them, S their sum, m = max(0, 1
- S) the mass that is not shown, V the size of the vocabulary, and `partial` = -sum p ln p.

Logprobs that a server rounds to d decimals are up to h = 10^-d / 2 away from the true ones, and the true entropy may
then be outside the bounds: below the lower one by up to about 2 h (ln(1 / h) + H), and above the upper one by up to
about h (ln(V / h) + H), where H is the entropy. With d = 4, V = 262,144 and H = 1 that is 0.0011 and 0.0012 nats. Give
`decimals=d`, and the bounds hold for all logprobs that round to what was shown. The score `mean_entropy_lower` takes
logprobs as exact, since no store says to how many decimals its server rounds; of rounded ones, group alternatives by
`POSITION` for `entropy_lower(decimals=d)`, and take the mean.
"""

from __future__ import annotations

import math

import polars as pl

from logprob_store.metrics.alternatives.entropy import partial_nats, x_ln_x
from logprob_store.metrics.alternatives.topk import LARGEST_RANK, hidden_mass, second_largest, where_two
from logprob_store.metrics.arguments import Column, as_column, ln_base

_LARGEST_VOCABULARY = 2**31
"""The V that is assumed where none is given: token ids are Int32."""

_CONTRADICTION = 1.001
"""How much m may exceed (V - k) p_k, because logprobs are rounded, before p_k is not taken as the limit."""


def entropy_lower(
    column: Column = "logprob",
    *,
    vocabulary_size: int | None = None,
    top: pl.Expr | None = None,
    appended: bool = False,
    rank: Column | None = None,
    largest_rank: int = LARGEST_RANK,
    decimals: int | None = None,
    base: float = math.e,
) -> pl.Expr:
    """The least entropy that the next token can have, given what was shown.

    Formula: (partial - (m - r) ln p_k - r ln r) / ln(base), with r = m - floor(m / p_k) p_k. No hidden token is
    likelier than p_k, so m is most concentrated as floor(m / p_k) tokens of p_k and one of r. Where that needs more
    tokens than the vocabulary has left, as where p_k underflows to 0, p_k cannot be the limit, and m counts as one
    token: partial - m ln m, a lower bound in any case.
    Range: [0, ln V], lower is surer. Unit: nats (base=2: bits).
    Needs: the `logprob` of alternatives, by token.
    Nulls: left out, so that their mass is in m. All of m may then belong to one of them, even to the likeliest (a p
    that rounding took above 1 has no logprob either), so it counts as one token. Fewer than two alternatives give null.
    Source: entropy is concave, so that its least value is at an extreme point.

    Args:
        column: the logprobs.
        vocabulary_size: V; 2**31 where it is not given.
        top: which rows are the k most likely tokens, where others are among them: `pl.col("rank") > 0` after
            `with_chosen`.
        appended: whether one alternative may be a sampled token that is listed though it is not among the likeliest:
            legacy completions list it as the k+1st, vLLM's chat in the place of the last. The second least likely then
            counts as p_k, which always gives a lower bound; in the recordings of this repository it is 4 % lower with 5
            alternatives, 0.3 % with 20.
        rank: a column that makes `appended` faster, as in `margin`.
        largest_rank: the largest value of `rank`, as in `margin`.
        decimals: the decimals that the logprobs are rounded to; None: they are exact. One fewer where they are cut off.
        base: the base of the logarithm.

    Raises:
        ValueError: `vocabulary_size` is below 1, `decimals` is negative, or `base` is not above 1.

    p = (1/2, 1/5): m = 3/10 holds one 1/5 and leaves 1/10, and the entropy of (.5, .2, .2, .1) is 1.220607:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.2)]}).select(entropy_lower()).item(), 6)
    1.220607
    """
    logprob = as_column(column)
    least, most = _rounded_from(logprob, decimals)
    limits = most if top is None else pl.when(top).then(most)
    smallest = 0.0 - second_largest(0.0 - limits, rank, largest_rank) if appended else limits.min()
    unknown = logprob.null_count() if top is None else (top & logprob.is_null()).sum()
    hidden_tokens = _hidden_tokens(logprob, vocabulary_size)
    limit = smallest.exp()
    hidden = hidden_mass(most)
    rest = (hidden - (hidden / limit).floor() * limit).clip(lower_bound=0.0)
    if decimals is None:
        shown, of_rest, of_one = partial_nats(logprob), x_ln_x(rest), x_ln_x(hidden)
    else:
        # -x ln x is concave: over a range it is least at one of the ends.
        most_hidden = hidden_mass(least)
        shown = pl.min_horizontal(_surprise(least), _surprise(most)).sum()
        of_rest = pl.max_horizontal(x_ln_x(rest), x_ln_x(pl.min_horizontal(rest + most_hidden - hidden, limit)))
        of_one = pl.max_horizontal(x_ln_x(hidden), x_ln_x(most_hidden))
    filled = shown - (hidden - rest) * smallest - of_rest
    one_token = shown - of_one
    # A top alternative without a logprob may be the likeliest of all, as one that rounding took above 1 is.
    limited = (limit > 0) & (unknown == 0)
    believable = limited & (hidden <= limit * hidden_tokens * _CONTRADICTION)
    # At most the upper bound: rounding alone may put m slightly above (V - k) p_k.
    fits = pl.min_horizontal(filled, _spread(logprob, hidden_tokens, decimals))
    nats = pl.when(believable).then(fits).otherwise(one_token)
    return where_two(logprob, nats / ln_base(base), "entropy_lower")


def entropy_upper(
    column: Column = "logprob", *, vocabulary_size: int, decimals: int | None = None, base: float = math.e
) -> pl.Expr:
    """The greatest entropy that the next token can have: the hidden mass spread evenly over the tokens not shown.

    Formula: (partial - m ln(m / (V - k))) / ln(base).
    Range: [0, ln V], lower is surer. Unit: nats (base=2: bits). A vocabulary no larger than k leaves no token for m: m
    is then rounding, and counts as one token.
    Needs: the `logprob` of alternatives, by token, and the size of the vocabulary of the model; `decimals` as in
    `entropy_lower`.
    Nulls: left out, so that their mass is in m; fewer than two alternatives give null.
    Source: the uniform distribution has the greatest entropy.

    Raises:
        ValueError: `vocabulary_size` is below 1, `decimals` is negative, or `base` is not above 1.

    p = (1/2, 1/4), V = 4: the hidden 1/4 as 2 x 1/8 gives 1/2 + 1/2 + 2 x 3/8 = 1.75 bits:

    >>> from math import log
    >>> top = pl.DataFrame({"logprob": [log(0.5), log(0.25)]})
    >>> round(top.select(entropy_upper(vocabulary_size=4, base=2)).item(), 6)
    1.75
    """
    logprob = as_column(column)
    nats = _spread(logprob, _hidden_tokens(logprob, vocabulary_size), decimals)
    return where_two(logprob, nats / ln_base(base), "entropy_upper")


def entropy_bounds(
    column: Column = "logprob",
    *,
    vocabulary_size: int,
    top: pl.Expr | None = None,
    appended: bool = False,
    decimals: int | None = None,
    base: float = math.e,
) -> tuple[pl.Expr, pl.Expr]:
    """Both bounds of the entropy of the next token: the true entropy is between them.

    Formula: `entropy_lower` and `entropy_upper` of the same vocabulary.
    Range: [0, ln V], lower is surer; the first is at most the second. Unit: nats (base=2: bits).
    Needs: the `logprob` of alternatives, by token, and the size of the vocabulary of the model. Logprobs that are
    rounded need `decimals`, or the true entropy may be outside.
    Nulls: as `entropy_lower` and `entropy_upper`.
    Source: as `entropy_lower` and `entropy_upper`.

    Raises:
        ValueError: `vocabulary_size` is below 1, `decimals` is negative, or `base` is not above 1.

    p = (1/2, 1/4), V = 4: m = 1/4 as one token of 1/4, or as two of 1/8:

    >>> from math import log
    >>> top = pl.DataFrame({"logprob": [log(0.5), log(0.25)]})
    >>> [round(h, 6) for h in top.select(*entropy_bounds(vocabulary_size=4, base=2)).row(0)]
    [1.5, 1.75]
    """
    return (
        entropy_lower(
            column, vocabulary_size=vocabulary_size, top=top, appended=appended, decimals=decimals, base=base
        ),
        entropy_upper(column, vocabulary_size=vocabulary_size, decimals=decimals, base=base),
    )


def _rounded_from(logprob: pl.Expr, decimals: int | None) -> tuple[pl.Expr, pl.Expr]:
    """The least and the greatest logprob that rounds to each."""
    if decimals is None:
        return logprob, logprob
    if decimals < 0:
        raise ValueError(f"decimals {decimals} is not a number of decimals: 0 or more, or None for exact logprobs")
    half = 10.0**-decimals / 2
    return logprob - half, (logprob + half).clip(upper_bound=0.0)


def _hidden_tokens(logprob: pl.Expr, vocabulary_size: int | None) -> pl.Expr:
    """V - k, the number of tokens that were not shown; 0 where V is no larger than k."""
    size = _LARGEST_VOCABULARY if vocabulary_size is None else vocabulary_size
    if size < 1:
        raise ValueError(f"vocabulary_size {size} is not a number of tokens: it must be at least 1")
    # A float, because counts are unsigned in polars and V - k must not wrap around.
    return (float(size) - logprob.count()).clip(lower_bound=0.0)


def _spread(logprob: pl.Expr, hidden_tokens: pl.Expr, decimals: int | None) -> pl.Expr:
    """The greatest entropy in nats: m spread evenly over `hidden_tokens` tokens, at least one."""
    least, most = _rounded_from(logprob, decimals)
    hidden, tokens = hidden_mass(least), hidden_tokens.clip(lower_bound=1.0)
    spread = partial_nats(least) - x_ln_x(hidden) + hidden * tokens.log()
    if decimals is None:
        return spread
    # What was shown and is less likely than each hidden token may have more. The entropy against the distribution of
    # `spread` is linear in that, and at least the true one (Gibbs).
    less_likely = ((hidden / tokens).log() - least).clip(lower_bound=0.0)
    return spread + ((most.exp() - least.exp()) * less_likely).sum()


def _surprise(logprob: pl.Expr) -> pl.Expr:
    return 0.0 - logprob.exp() * logprob
