"""Divergence of two distributions over the next token: lower bounds, from what two servers showed.

Polars expressions over one row per token that either side showed, grouped by position. `compare` brings the rows of two
runs together.

An API shows k tokens of V. The probability of a token that only one side showed is unknown on the other side. So the
outcomes are: each token that both sides showed; the tokens that only the first showed, together; those that only the
second showed, together; and all others. The mass that a side did not show, m = 1 - sum p, is divided between the tokens
that only the other side showed and the rest so that the divergence is as small as it can be. Merging outcomes never
raises a divergence (the data-processing inequality). So the results are lower bounds of the true values, and equal to
them where both sides show everything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.alternatives.topk import hidden_mass
from logprob_store.metrics.arguments import Column, as_column

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST_HIDDEN: Final = 1e-9
"""The least p of the second side: rounded logprobs can leave no mass at all, and a KL would be infinite."""


def kl_divergence(first: Column = "logprob_a", second: Column = "logprob_b") -> pl.Expr:
    """The Kullback-Leibler divergence KL(a || b): a lower bound, from what both sides showed.

    Formula: sum p_a ln(p_a / p_b), over the outcomes that can be told apart on both sides. p_b counts as at least 1e-9,
    so that the result is finite.
    Range: [0, inf), lower is closer; not symmetric. Unit: nats.
    Needs: one row per token and position, with its logprob on both sides, null on a side that did not show it.
    Nulls: flagged logprobs count as not shown; null where a side showed nothing.
    Source: Kullback and Leibler 1951; the bound follows from the data-processing inequality.

    (1/2, 1/2) and (1/4, 3/4): 1/2 ln 2 + 1/2 ln 2/3 = 0.143841. Where only the first side showed the second token, that
    token is compared with the 3/4 that the other side did not show, and the result is the same:

    >>> from math import log
    >>> both = pl.DataFrame({"logprob_a": [log(1 / 2), log(1 / 2)], "logprob_b": [log(1 / 4), log(3 / 4)]})
    >>> round(both.select(kl_divergence()).item(), 6)
    0.143841
    >>> round(both.with_columns(logprob_b=pl.Series([log(1 / 4), None])).select(kl_divergence()).item(), 6)
    0.143841
    """
    return _bound(as_column(first), as_column(second), _kl_term).alias("kl_divergence")


def js_divergence(first: Column = "logprob_a", second: Column = "logprob_b") -> pl.Expr:
    """The Jensen-Shannon divergence: a lower bound, from what both sides showed.

    Formula: (KL(a || c) + KL(b || c)) / 2, with c = (a + b) / 2.
    Range: [0, ln 2], lower is closer; symmetric. Unit: nats. It is finite whatever was shown, so it is the better one
    to watch.
    Needs: as `kl_divergence`.
    Nulls: as `kl_divergence`.
    Source: Lin 1991; the bound follows from the data-processing inequality.

    Two distributions that share no token, each shown completely, are ln 2 apart:

    >>> shown = pl.DataFrame({"logprob_a": [0.0, None], "logprob_b": [None, 0.0]})
    >>> round(shown.select(js_divergence()).item(), 6)
    0.693147
    """
    bound = _bound(as_column(first), as_column(second), _js_term)
    return bound.clip(upper_bound=math.log(2)).alias("js_divergence")


def _bound(first: pl.Expr, second: pl.Expr, term: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> pl.Expr:
    """The least divergence that agrees with what was shown; `term` is its summand for two probabilities.

    Let s be the mass that only the first side showed, t the mass that only the second showed, and m and n what the two
    did not show. The divergence is least where all tokens but the common ones have the same ratio: they are then one
    outcome, (s + m, t + n). For that, the first side must have put t (s + m) / (t + n) of its hidden mass m on the
    tokens of t, which is possible while s t <= m n. Beyond that it is least with all of m on them: the outcomes are (s,
    n) and (m, t).
    """
    # when/then, not filter: a filter within a group keeps polars from streaming.
    common = pl.when(first.is_not_null() & second.is_not_null()).then(term(first.exp(), second.exp())).sum()
    s = pl.when(second.is_null()).then(first.exp()).sum()
    t = pl.when(first.is_null()).then(second.exp()).sum()
    m, n = hidden_mass(first), hidden_mass(second)
    rest = pl.when(s * t <= m * n).then(term(s + m, t + n)).otherwise(term(s, n) + term(m, t))
    known = (first.count() > 0) & (second.count() > 0)
    return pl.when(known).then((common + rest).clip(lower_bound=0.0))


def _kl_term(p: pl.Expr, q: pl.Expr) -> pl.Expr:
    return pl.when(p > 0).then(p * (p / q.clip(lower_bound=_LEAST_HIDDEN)).log()).otherwise(0.0)


def _js_term(p: pl.Expr, q: pl.Expr) -> pl.Expr:
    middle = (p + q) / 2
    return (_towards(p, middle) + _towards(q, middle)) / 2


def _towards(p: pl.Expr, middle: pl.Expr) -> pl.Expr:
    return pl.when(p > 0).then(p * (p / middle).log()).otherwise(0.0)
