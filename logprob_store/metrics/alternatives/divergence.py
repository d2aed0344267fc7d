"""How far two distributions over the next token are apart, as far as the alternatives of both can tell.

Polars expressions over one row per token that either side showed, grouped by place. Leaves out bringing the rows of two
runs together (`comparing`).

An API shows k tokens of V, and of a token that only one side showed, the other's probability is not known. So the
outcomes are: each token that both showed; those that only the first showed, together; those that only the second
showed, together; and all others. What a side did not show, m = 1 - sum p, is the tail, and is parted between the
others' tokens and the rest in the way that makes the divergence least. Putting outcomes together never raises a
divergence (the data-processing inequality), so the results are **lower bounds** of the true ones, exact where both show
everything.
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
"""Wire logprobs are rounded, and no mass left is not none at all: without this a KL would be infinite."""


def kl_divergence(first: Column = "logprob_a", second: Column = "logprob_b") -> pl.Expr:
    """KL(a || b) = sum p_a ln(p_a / p_b), its lower bound from what both sides showed.

    Range [0, inf), nats, down is closer; not symmetric. Needs: the logprob of each token on both sides, null where that
    side did not show it, by place. Source: Kullback and Leibler 1951; the bound: the data-processing inequality.
    Probabilities of the second side count as at least 1e-9, so that the result stays finite. Flagged logprobs are null,
    as if they had not been shown. A side that showed nothing gives null.

    (1/2, 1/2) against (1/4, 3/4): 1/2 ln 2 + 1/2 ln 2/3 = 0.143841. With the second token shown by the first side only,
    it goes with what is left of the other, 3/4, and the result is the same:

    >>> from math import log
    >>> both = pl.DataFrame({"logprob_a": [log(1 / 2), log(1 / 2)], "logprob_b": [log(1 / 4), log(3 / 4)]})
    >>> round(both.select(kl_divergence()).item(), 6)
    0.143841
    >>> round(both.with_columns(logprob_b=pl.Series([log(1 / 4), None])).select(kl_divergence()).item(), 6)
    0.143841
    """
    return _bound(as_column(first), as_column(second), _kl_term).alias("kl_divergence")


def js_divergence(first: Column = "logprob_a", second: Column = "logprob_b") -> pl.Expr:
    """The Jensen-Shannon divergence, the mean of KL(a || c) and KL(b || c) with c = (a + b) / 2; its lower bound.

    Range [0, ln 2], nats, down is closer; symmetric, and finite whatever is shown: the one to watch. Needs, source and
    nulls: as `kl_divergence`; Lin 1991.

    Two that share nothing, of which each showed all it has, are ln 2 apart:

    >>> shown = pl.DataFrame({"logprob_a": [0.0, None], "logprob_b": [None, 0.0]})
    >>> round(shown.select(js_divergence()).item(), 6)
    0.693147
    """
    bound = _bound(as_column(first), as_column(second), _js_term)
    return bound.clip(upper_bound=math.log(2)).alias("js_divergence")


def _bound(first: pl.Expr, second: pl.Expr, term: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> pl.Expr:
    """The least divergence that agrees with what was shown; `term` is its summand of two probabilities.

    With s the mass that only the first showed, t that only the second showed, m and n what they did not show, the best
    is to give all but the common tokens one ratio: they are then one outcome, (s + m, t + n). That needs the first to
    have put t (s + m) / (t + n) of its hidden m on what the second showed, which is possible while s t <= m n. Beyond
    that the best is to put all of it there: outcomes (s, n) and (m, t).
    """
    # when and then, not filter: within a group, filter keeps polars from streaming
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
