"""Between which two values the entropy of the next token must lie, given what the API showed.

Polars expressions over the `alternatives` table, grouped by token (`POSITION`). Leaves out the single figures
(`topk_entropy`). k is the number of alternatives with a logprob, p_k the least likely of them, S their sum,
m = max(0, 1 - S) the mass that was not shown, V the size of the vocabulary.
"""

from __future__ import annotations

import math

import polars as pl

from logprob_store.metrics.alternatives.entropy import partial_nats, x_ln_x
from logprob_store.metrics.alternatives.topk import LARGEST_RANK, hidden_mass, second_largest, where_two
from logprob_store.metrics.arguments import Column, as_column, ln_base

_LARGEST_VOCABULARY = 2**31
"""Token ids are Int32."""

_CONTRADICTION = 1.001
"""Wire logprobs are rounded: m may exceed what V - k copies of p_k hold by this much and be believed."""


def entropy_lower(
    column: Column = "logprob",
    *,
    vocabulary_size: int | None = None,
    top: pl.Expr | None = None,
    appended: bool = False,
    rank: Column | None = None,
    largest_rank: int = LARGEST_RANK,
    base: float = math.e,
) -> pl.Expr:
    """The least entropy the next token can have had, given what was shown.

    No token that was not shown is likelier than p_k, the least likely that was, so m is at its most
    concentrated as floor(m / p_k) copies of p_k and the rest r: partial - (m - r) ln p_k - r ln r.

    Range [0, ln V], nats (base=2: bits). Needs: the `logprob` of alternatives, by token. `top` says which rows are
    the k most likely, when others are among them: `pl.col("rank") > 0` after `with_chosen`. Where one of them may
    be a sampled token that is listed though it is not among the likeliest (legacy completions, vLLM),
    `appended=True` takes the second least likely for p_k, a somewhat lower bound that holds in any case; `rank` and
    `largest_rank` make that faster, as in `margin`. Where more copies would be needed than there are tokens
    (`vocabulary_size`, or 2**31), p_k cannot be the limit and m counts as one token, which is a lower bound
    whatever was shown. Source: entropy is concave, so its least value is at an extreme point. Nulls are left out,
    their mass is in m, and as it may be that of one of them, m then counts as one token; fewer than two
    alternatives give null.

    Raises:
        ValueError: a vocabulary_size below 1, or a base not above 1.

    p = (1/2, 1/5): m = 3/10 holds one 1/5 and leaves 1/10, so H(.5, .2, .2, .1) = 1.220607:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.2)]}).select(entropy_lower()).item(), 6)
    1.220607
    """
    logprob = as_column(column)
    hidden = hidden_mass(logprob)
    limits = logprob if top is None else pl.when(top).then(logprob)
    smallest = 0.0 - second_largest(0.0 - limits, rank, largest_rank) if appended else limits.min()
    unknown = logprob.null_count() if top is None else (top & logprob.is_null()).sum()
    places = _places(logprob, vocabulary_size)
    limit = smallest.exp()
    rest = (hidden - (hidden / limit).floor() * limit).clip(lower_bound=0.0)
    filled = partial_nats(logprob) - (hidden - rest) * smallest - x_ln_x(rest)
    # a top alternative without a logprob may be the likeliest of all: one that rounding took above 1 is
    limited = (limit > 0) & (unknown == 0)
    believable = limited & (hidden <= limit * places * _CONTRADICTION)
    # the minimum with the upper bound: rounding alone may put m a hair above V - k copies of p_k
    fits = pl.min_horizontal(filled, _spread(logprob, places))
    nats = pl.when(believable).then(fits).otherwise(partial_nats(logprob) - x_ln_x(hidden))
    return where_two(logprob, nats / ln_base(base)).alias("entropy_lower")


def entropy_upper(column: Column = "logprob", *, vocabulary_size: int, base: float = math.e) -> pl.Expr:
    """The most entropy the next token can have had: m spread evenly over the V - k tokens not shown.

    partial - m ln(m / (V - k)). Range [0, ln V], nats (base=2: bits). Needs: the `logprob` of alternatives,
    by token, and the size of the model's vocabulary. Source: the uniform distribution has the most entropy. A
    vocabulary no larger than k has no place for m: it is rounding then, and counts as one token. Nulls are
    left out, their mass is in m; fewer than two alternatives give null.

    Raises:
        ValueError: a vocabulary_size below 1, or a base not above 1.

    p = (1/2, 1/4), V = 4: the missing 1/4 as 2 x 1/8 gives H = 1/2 + 1/2 + 2 x 3/8 = 1.75 bits:

    >>> from math import log
    >>> top = pl.DataFrame({"logprob": [log(0.5), log(0.25)]})
    >>> round(top.select(entropy_upper(vocabulary_size=4, base=2)).item(), 6)
    1.75
    """
    logprob = as_column(column)
    nats = _spread(logprob, _places(logprob, vocabulary_size))
    return where_two(logprob, nats / ln_base(base)).alias("entropy_upper")


def entropy_bounds(
    column: Column = "logprob",
    *,
    vocabulary_size: int,
    top: pl.Expr | None = None,
    appended: bool = False,
    base: float = math.e,
) -> tuple[pl.Expr, pl.Expr]:
    """`entropy_lower` and `entropy_upper` for one vocabulary: the true entropy is between them.

    Range [0, ln V], nats (base=2: bits), lower <= upper always. Needs, source, nulls and errors: as the two
    say.

    p = (1/2, 1/4), V = 4: m = 1/4 as one token of 1/4, or as two of 1/8:

    >>> from math import log
    >>> top = pl.DataFrame({"logprob": [log(0.5), log(0.25)]})
    >>> [round(h, 6) for h in top.select(*entropy_bounds(vocabulary_size=4, base=2)).row(0)]
    [1.5, 1.75]
    """
    return (
        entropy_lower(column, vocabulary_size=vocabulary_size, top=top, appended=appended, base=base),
        entropy_upper(column, vocabulary_size=vocabulary_size, base=base),
    )


def _places(logprob: pl.Expr, vocabulary_size: int | None) -> pl.Expr:
    """V - k, how many tokens were not shown; 0 where V is no larger than k."""
    size = _LARGEST_VOCABULARY if vocabulary_size is None else vocabulary_size
    if size < 1:
        raise ValueError(f"vocabulary_size {size} is not a number of tokens: it must be at least 1")
    # as a float: polars counts are unsigned, and V - k must not wrap around
    return (float(size) - logprob.count()).clip(lower_bound=0.0)


def _spread(logprob: pl.Expr, places: pl.Expr) -> pl.Expr:
    hidden = hidden_mass(logprob)
    return partial_nats(logprob) - x_ln_x(hidden) + hidden * places.clip(lower_bound=1.0).log()
