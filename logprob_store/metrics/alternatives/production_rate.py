"""Entropy production: the contributions of a token's likeliest alternatives to its entropy, and scores of them.

Two steps: group alternatives by `POSITION` for `entropy_contributions`, then group these by `KEYS` for `epr` or `wepr`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypedDict

import polars as pl

from logprob_store.metrics.alternatives.entropy import partial_nats
from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.right_table import of_given_column, only_of_alternatives

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_K: Final = 15
"""The alternatives of a token that are read by default, as published."""


class WeprWeights(TypedDict):
    """The weights of `wepr`."""

    intercept: float
    mean: Sequence[float]
    top: Sequence[float]


def entropy_contributions(column: Column = "logprob", *, k: int = LARGEST_K) -> pl.Expr:
    """What each of a token's likeliest alternatives contributes to its entropy: a list, the likeliest first.

    Formula: -p ln p of the k largest p.
    Range: of each item [0, 1/e]. Unit: nats.
    Needs: the `logprob` of alternatives, by token.
    Nulls: left out, so that the next one takes the rank; no alternative with a logprob gives null.
    Source: Moslonka et al. 2025 (arXiv:2509.04492), with k = 15.

    Raises:
        ValueError: `k` is below 1.

    1/2 and 1/4 contribute ln 2 / 2 each, and 1/8 contributes 3/8 ln 2:

    >>> from math import log
    >>> top = pl.DataFrame({"logprob": [log(0.25), log(0.5), log(0.125)]})
    >>> top.select(entropy_contributions(k=2)).item().round(6).to_list()
    [0.346574, 0.346574]
    """
    _check_k(k)
    likeliest = as_column(column).drop_nulls().sort(descending=True).head(k)
    contributions = (0.0 - likeliest.exp() * likeliest).implode()
    known = as_column(column).count() > 0
    return only_of_alternatives(pl.when(known).then(contributions).alias("entropy_contributions"))


def epr(column: Column = "entropy_contributions") -> pl.Expr:
    """The entropy production rate: the mean over the tokens of the entropy that their likeliest alternatives have.

    Formula: mean over tokens of sum of -p ln p over the k likeliest alternatives.
    Range: [0, ln V], lower is surer. Unit: nats per token.
    Needs: the `entropy_contributions` of each token of an answer. `store.scores(metrics=["epr"])` has it with k = 15.
    Nulls: tokens without an alternative are left out; no other token gives null.
    Source: Moslonka et al. 2025 (arXiv:2509.04492), for the detection of hallucinations.

    Tokens of 0.3 and 0.5 nats:

    >>> pl.DataFrame({"entropy_contributions": [[0.2, 0.1], [0.3, 0.2], None]}).select(epr().round(6)).item()
    0.4
    """
    return of_given_column(
        column,
        lambda contributions: contributions.list.sum().mean(),
        function="epr",
        table="alternatives",
        dtype=pl.List(pl.Float64),
    )


def wepr(weights: WeprWeights, *, column: Column = "entropy_contributions") -> pl.Expr:
    """The weighted entropy production rate: a logistic regression on the contributions of each rank.

    Formula: 1 / (1 + exp(-z)), z = intercept + sum over ranks r of mean_r x (mean over tokens of the contribution of
    rank r) + top_r x (its maximum over tokens).
    Range: [0, 1]: the probability of what the weights were fitted to; of the published ones, a hallucination, so that
    lower is better. Unit: none.
    Needs: the `entropy_contributions` of each token of an answer, and weights that you have fitted, or have from the
    authors, for this model.
    Nulls: tokens without an alternative are left out; no other token gives null. A token that has fewer alternatives is
    left out of the mean of the ranks that it lacks; a rank that no token has counts 0.
    Source: Moslonka et al. 2025 (arXiv:2509.04492).

    Args:
        weights: a dictionary of `intercept`, a number; `mean`, the weights of the mean contribution of each rank; and
            `top`, those of the largest one. The first item of each list belongs to the likeliest alternative.
        column: the contributions.

    Raises:
        ValueError: a key of the weights is missing or unknown, `mean` and `top` are empty or of unequal length, or a
            weight is not a finite number.

    The first rank has a mean of 0.2 and a maximum of 0.3: z = -1 + 2 x 0.2 + 1 x 0.3 = -0.3.

    >>> rows = pl.DataFrame({"entropy_contributions": [[0.1], [0.3]]})
    >>> round(rows.select(wepr({"intercept": -1.0, "mean": [2.0], "top": [1.0]})).item(), 6)
    0.425557
    """
    _check_weights(weights)
    return of_given_column(
        column,
        lambda contributions: _regression(contributions, weights),
        function="wepr",
        table="alternatives",
        dtype=pl.List(pl.Float64),
    )


def _regression(contributions: pl.Expr, weights: WeprWeights) -> pl.Expr:
    logit = pl.lit(float(weights["intercept"]))
    for rank, (of_mean, of_top) in enumerate(zip(weights["mean"], weights["top"], strict=True)):
        contribution = contributions.list.get(rank, null_on_oob=True)
        logit += of_mean * contribution.mean().fill_null(0.0) + of_top * contribution.max().fill_null(0.0)
    known = (contributions.list.len() > 0).any()
    return pl.when(known).then(1.0 / (1.0 + (0.0 - logit).exp()))


def production_of_token(largest_rank: int, *, column: Column = "logprob", k: int = LARGEST_K) -> pl.Expr:
    """The sum of `entropy_contributions`; without a sort where `largest_rank` says that there are no more than k."""
    logprob = as_column(column)
    # Ranks count from 0 or 1.
    likeliest = logprob if largest_rank < k else logprob.top_k(k)
    return pl.when(logprob.count() > 0).then(partial_nats(likeliest))


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k {k} is not a number of alternatives: it must be at least 1")


def _check_weights(weights: WeprWeights) -> None:
    if set(weights) != {"intercept", "mean", "top"}:
        raise ValueError(f"weights have the keys {', '.join(weights)}: they are intercept, mean and top")
    mean, top = weights["mean"], weights["top"]
    if not mean or len(mean) != len(top):
        raise ValueError(f"weights have {len(mean)} for the mean and {len(top)} for the top: give one for each rank")
    if not all(math.isfinite(weight) for weight in (weights["intercept"], *mean, *top)):
        raise ValueError("a weight is not a finite number")
