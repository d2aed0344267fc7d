"""Entropy of the next token: estimates, and relatives, from the alternatives that the API showed.

Polars expressions over the `alternatives` table, grouped by token (`POSITION`). Bounds of the entropy are in
`entropy_bounds`.

An API shows k tokens of V. In the formulas, p is the probability of an alternative, S their sum, and m = max(0, 1 - S)
the mass that is not shown. A `form` says what to do with m: leave it out (`partial`), share it out in proportion
(`renormalised`), or count it as one more outcome (`tail`). The true entropy is between `entropy_lower` and
`entropy_upper`.

Nulls, the flagged alternatives, are left out, so that their mass is part of m. Fewer than two alternatives with a
logprob give null. An S that rounding takes above 1 counts as 1, so that no result is NaN. `partial` and `tail` are
sums, which polars streams; the renormalised form, negentropy and varentropy gather the alternatives of each token.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
import polars as pl

from logprob_store.metrics.alternatives.topk import hidden_mass, where_two
from logprob_store.metrics.alternatives.two_passes import of_tokens
from logprob_store.metrics.arguments import Column, as_column, ln_base
from logprob_store.metrics.right_table import of_given_column, only_of_alternatives

if TYPE_CHECKING:
    from logprob_store.metrics.alternatives.two_passes import Alternatives, Floats

Form: TypeAlias = Literal["tail", "partial", "renormalised"]


def entropy(column: Column = "logprob", *, form: Form = "tail", base: float = math.e) -> pl.Expr:
    """The entropy of the next token, in one of three forms.

    Formula: `partial` = -sum p ln p; `renormalised` = ln S + partial / S; `tail` = partial - m ln m; divided by
    ln(base).
    Range: [0, ln V], lower is surer; `renormalised` [0, ln k]. Unit: nats (base=2: bits). `partial` and `tail` are at
    most the true entropy; `renormalised` may be above or below it.
    Needs: the `logprob` of alternatives, by token.
    Nulls: left out, so that their mass is in m; fewer than two alternatives give null. `renormalised` is a number where
    every p underflows to 0, too.
    Source: Shannon 1948; that `tail` is a lower bound follows from his grouping property.

    Raises:
        ValueError: `form` is unknown, or `base` is not above 1.

    p = (1/2, 1/4): partial = (1/2) ln 2 + (1/4) ln 4 = ln 2 = 0.693147. The hidden 1/4 adds (1/4) ln 4: 1.5 bits in
    all.

    >>> from math import log
    >>> top = pl.DataFrame({"logprob": [log(0.5), log(0.25)]})
    >>> round(top.select(entropy(form="partial")).item(), 6), round(top.select(entropy(base=2)).item(), 6)
    (0.693147, 1.5)
    """
    logprob = as_column(column)
    nats = _entropy_nats(logprob, form)
    return where_two(logprob, nats / ln_base(base), "entropy")


def negentropy(column: Column = "logprob") -> pl.Expr:
    """How far the alternatives are from equally likely: 1 minus their normalised entropy.

    Formula: 1 - H / ln k, with H the `renormalised` entropy.
    Range: [0, 1], higher is surer: 0 where all k are equally likely, 1 where one has all the mass. Unit: none. It
    ignores m and depends on k: compare it only between runs with the same top_logprobs.
    Needs: the `logprob` of alternatives, by token.
    Nulls: left out, also of k; fewer than two alternatives give null, because ln 1 = 0. Alternatives whose p all
    underflow to 0 have a number, as their shares do.
    Source: 1 - normalised entropy (efficiency), Shannon 1948.

    (2/3, 1/3), renormalised, has 0.918296 bits of the one bit that two outcomes can have:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.25)]}).select(negentropy()).item(), 6)
    0.081704
    """
    logprob = as_column(column)
    share = _entropy_nats(logprob, "renormalised") / logprob.count().cast(pl.Float64).log()
    return where_two(logprob, (1 - share).clip(0.0, 1.0), "negentropy")


def min_negentropy(column: Column = "negentropy") -> pl.Expr:
    """The negentropy of the least sure token of an answer.

    Formula: min over tokens of the negentropy.
    Range: [0, 1], higher is surer. Unit: none. It depends on k, as the negentropy does.
    Needs: the `negentropy` of each token of an answer, as grouping alternatives by `POSITION` gives it.
    `store.scores(metrics=["min_negentropy"])` has it.
    Nulls: left out; no value gives null.
    Source: uqlm's min_token_negentropy, Bouchard and Chauhan 2025 (arXiv:2504.19254).

    >>> pl.DataFrame({"negentropy": [0.9, 0.25, None]}).select(min_negentropy()).item()
    0.25
    """
    return of_given_column(column, pl.Expr.min, function="min_negentropy", table="alternatives")


def varentropy(column: Column = "logprob", *, form: Form = "tail", base: float = math.e) -> pl.Expr:
    """The variance of the surprisal of the next token, in one of three forms.

    Formula: sum p (-ln p - H)^2 / ln(base)^2, over the outcomes of `form`: p / S (`renormalised`), or the p and m
    (`tail`). `partial` is (sum p ln^2 p - H^2) / ln(base)^2 of the p as they are, a variance only where S = 1.
    Range: [0, inf), 0 where all outcomes are equally likely. Unit: squared nats (base=2: squared bits). High entropy
    with low varentropy means many equal options; high varentropy means a few likely options among many unlikely ones.
    Needs: the `logprob` of alternatives, by token.
    Nulls: left out, so that their mass is in m; fewer than two alternatives give null.
    Source: Kontoyiannis and Verdu 2014, Optimal lossless data compression.

    Raises:
        ValueError: `form` is unknown, or `base` is not above 1.

    p = (1/2, 1/4) and m = 1/4: 1/2 x 1 + 1/2 x 4 - 1.5^2 = 0.25 squared bits:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.25)]}).select(varentropy(base=2)).item(), 6)
    0.25
    """
    if form not in get_args(Form):
        raise _unknown(form)
    variance = of_tokens(as_column(column), lambda alternatives: _variance(alternatives, form), fewest=2)
    return only_of_alternatives((variance / ln_base(base) ** 2).alias("varentropy"))


def _variance(alternatives: Alternatives, form: Form) -> Floats:
    """The varentropy of each token in nats squared: the mean surprisal first, then the squared distances from it.

    sum p ln^2 p - H^2, the same number, loses all digits where the surprisals are alike.
    """
    if form == "renormalised":
        p, surprisal = _renormalised(alternatives)
        hidden = np.zeros(len(alternatives.sizes))
    else:
        p, surprisal = np.exp(alternatives.logprob), 0.0 - alternatives.logprob
        hidden = alternatives.not_shown()
    hidden_surprisal = np.zeros(len(hidden))
    if form == "tail":
        hidden = np.maximum(hidden, 0.0)
        hidden_surprisal = 0.0 - np.log(hidden, where=hidden > 0, out=hidden_surprisal)
    # For `partial` the hidden mass has a surprisal of 0: sum p (s - H)^2 + (1 - S) H^2 is sum p s^2 - H^2.
    mean = alternatives.sums(p * surprisal) + hidden * hidden_surprisal
    distances = surprisal - alternatives.each(mean)
    variance = alternatives.sums(p * distances * distances) + hidden * (hidden_surprisal - mean) ** 2
    return np.maximum(variance, 0.0)


def _renormalised(alternatives: Alternatives) -> tuple[Floats, Floats]:
    """The share of each alternative in all of its token's, and its surprisal in nats."""
    # Relative to the likeliest, so that not all of them can underflow.
    shifted = alternatives.logprob - alternatives.each(alternatives.largest())
    shifted -= alternatives.each(np.log(alternatives.sums(np.exp(shifted))))
    return np.exp(shifted), 0.0 - shifted


def _shape(alternatives: Alternatives) -> Floats:
    """The renormalised entropy of each token in nats."""
    p, surprisal = _renormalised(alternatives)
    return alternatives.sums(p * surprisal)


def _entropy_nats(logprob: pl.Expr, form: Form) -> pl.Expr:
    match form:
        case "partial":
            return partial_nats(logprob)
        case "renormalised":
            return of_tokens(logprob, _shape, fewest=2)
        case "tail":
            return partial_nats(logprob) - x_ln_x(hidden_mass(logprob))
        case _:
            raise _unknown(form)


def _unknown(form: str) -> ValueError:
    return ValueError(f"entropy form {form!r} is none of {', '.join(get_args(Form))}")


def partial_nats(logprob: pl.Expr) -> pl.Expr:
    """-sum p ln p over the alternatives, in nats."""
    return 0.0 - (logprob.exp() * logprob).sum()


def x_ln_x(x: pl.Expr) -> pl.Expr:
    """X ln x, which is 0 at 0."""
    return pl.when(x > 0).then(x * x.log()).otherwise(0.0)
