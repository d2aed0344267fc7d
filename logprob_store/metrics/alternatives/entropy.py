"""How spread out the model's next token was, from the alternatives the API showed.

Polars expressions over the `alternatives` table, grouped by token (`POSITION`). Leaves out the bounds
(`topk_bounds`), metrics of the first two or of the mass alone (`topk`), and those that need the whole
vocabulary, which no API gives.

An API shows k tokens of V. The mass it does not show, m = max(0, 1 - S), can be left out (`partial`), shared
out (`renormalised`) or counted as one more outcome (`tail`); the truth lies between `entropy_lower` and
`entropy_upper`.

Nulls (flagged alternatives) are left out and their mass is in m. Fewer than two alternatives with a logprob
give null. Sums that rounding pushes above 1 count as 1: nothing is ever NaN. All expressions are sums, counts
and minima, which polars streams.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.alternatives.topk import hidden_mass, where_two
from logprob_store.metrics.arguments import Column, as_column, ln_base

Form: TypeAlias = Literal["tail", "partial", "renormalised"]


def entropy(column: Column = "logprob", *, form: Form = "tail", base: float = math.e) -> pl.Expr:
    """The entropy of the next token, in one of three honest forms.

    With p the delivered probabilities, S their sum, m = max(0, 1 - S):
    `partial` = -sum p ln p; `renormalised` = ln S + partial / S; `tail` = partial - m ln m.

    Range [0, ln V] (`renormalised`: [0, ln k]), nats (base=2: bits), down is surer. `partial` and `tail`
    never exceed the true entropy; `renormalised` can be on either side of it. Needs: the `logprob` of
    alternatives, by token. Source: Shannon 1948; the grouping property bounds `tail`. Nulls are left out,
    their mass is in m; fewer than two alternatives give null.

    Raises:
        ValueError: an unknown form, or a base not above 1.

    p = (1/2, 1/4): partial = (1/2) ln 2 + (1/4) ln 4 = ln 2; the missing 1/4 adds (1/4) ln 4 = 0.346574:

    >>> from math import log
    >>> top = pl.DataFrame({"logprob": [log(0.5), log(0.25)]})
    >>> round(top.select(entropy(form="partial")).item(), 6), round(top.select(entropy(base=2)).item(), 6)
    (0.693147, 1.5)
    """
    logprob = as_column(column)
    nats = _entropy_nats(logprob, form)
    return where_two(logprob, nats / ln_base(base)).alias("entropy")


def negentropy(column: Column = "logprob") -> pl.Expr:
    """How far the delivered alternatives are from all alike: 1 - H_renormalised / ln k.

    Range [0, 1], up is surer: 0 where all k are equally likely, 1 where one has everything. It knows nothing
    of m and depends on k, so compare it only between runs with one top_logprobs. Needs: the `logprob` of
    alternatives, by token. Source: 1 - normalised entropy (efficiency), Shannon 1948. Nulls are left out and
    not in k; fewer than two alternatives give null (ln 1 = 0).

    q = (2/3, 1/3) has 0.918296 bits of the one bit that two can have:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.25)]}).select(negentropy()).item(), 6)
    0.081704
    """
    logprob = as_column(column)
    share = _entropy_nats(logprob, "renormalised") / logprob.count().cast(pl.Float64).log()
    return where_two(logprob, (1 - share).clip(0.0, 1.0)).alias("negentropy")


def varentropy(column: Column = "logprob", *, form: Form = "tail", base: float = math.e) -> pl.Expr:
    """The variance of the surprisal of the next token, sum p ln^2 p - H^2, over the outcomes of `form`.

    `partial`: the delivered p as they are (a variance only where S = 1); `renormalised`: p / S; `tail`: p and
    m. Range [0, inf), squared nats (base=2: squared bits). High entropy with low varentropy is many equal
    options; high varentropy is a few likely among many unlikely. Needs: the `logprob` of alternatives, by
    token. Source: Kontoyiannis and Verdu 2014, Optimal lossless data compression. Nulls are left out, their
    mass is in m; fewer than two give null.

    Raises:
        ValueError: an unknown form, or a base not above 1.

    p = (1/2, 1/4) and m = 1/4: 1/2 x 1 + 1/2 x 4 - 1.5^2 = 0.25 squared bits:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.25)]}).select(varentropy(base=2)).item(), 6)
    0.25
    """
    logprob = as_column(column)
    square = (logprob.exp() * logprob * logprob).sum()
    match form:
        case "partial":
            variance = square - partial_nats(logprob).pow(2)
        case "renormalised":
            mass = logprob.exp().sum()
            # a variance does not move when ln S is added to every surprisal
            variance = pl.when(mass > 0).then(square / mass - (partial_nats(logprob) / mass).pow(2))
        case "tail":
            hidden = hidden_mass(logprob)
            tail = pl.when(hidden > 0).then(hidden * hidden.log().pow(2)).otherwise(0.0)
            variance = square + tail - _entropy_nats(logprob, "tail").pow(2)
        case _:
            raise _unknown(form)
    return where_two(logprob, variance.clip(lower_bound=0.0) / ln_base(base) ** 2).alias("varentropy")


def _entropy_nats(logprob: pl.Expr, form: Form) -> pl.Expr:
    match form:
        case "partial":
            return partial_nats(logprob)
        case "renormalised":
            mass = logprob.exp().sum()
            # no mass at all (every p underflows) has no shape to renormalise: null
            shape = (mass.log() + partial_nats(logprob) / mass).clip(lower_bound=0.0)
            return pl.when(mass > 0).then(shape)
        case "tail":
            return partial_nats(logprob) - x_ln_x(hidden_mass(logprob))
        case _:
            raise _unknown(form)


def _unknown(form: str) -> ValueError:
    return ValueError(f"entropy form {form!r} is none of {', '.join(get_args(Form))}")


def partial_nats(logprob: pl.Expr) -> pl.Expr:
    """-sum p ln p over the delivered alternatives, in nats."""
    return 0.0 - (logprob.exp() * logprob).sum()


def x_ln_x(x: pl.Expr) -> pl.Expr:
    """X ln x, which is 0 at 0."""
    return pl.when(x > 0).then(x * x.log()).otherwise(0.0)
