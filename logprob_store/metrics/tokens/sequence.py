"""Scores of a sequence of tokens, from the logprobs of the tokens that were chosen.

Polars expressions over the `tokens` table: put them in any `group_by`, `over`, `filter` or `select`. Each
reads the rows it is given, so leave prompt tokens out with `generated()`. Leaves out everything that needs
alternatives (`topk`, `topk_entropy`) or a join (`scores`).

Nulls are logprobs the store flagged (a sentinel, -inf, above 0, missing). They are left out of every score,
and `scored_tokens` and `unscored_tokens` say how many went in and how many did not. No scored token gives
null: never NaN, never 0, never 1.
"""

from __future__ import annotations

import math

import polars as pl

from logprob_store.metrics.arguments import Column, as_column, ln_base


def logprob_sum(column: Column = "logprob") -> pl.Expr:
    """The sum of the logprobs, sum l: ln of the probability of the whole sequence.

    Range (-inf, 0], nats, up is better; but every token adds to it, so a longer answer scores lower: compare
    answers of one length, or use `mean_logprob`. Needs: `logprob`. Source: the chain rule of probability.
    Nulls are left out (the sum is then of the scored tokens only); no scored token gives null; one token, its
    own l.

    >>> pl.DataFrame({"logprob": [-0.5, None, -1.5]}).select(logprob_sum()).item()
    -2.0
    """
    logprob = as_column(column)
    # polars sums nothing to 0.0, which would read as "certain"
    return pl.when(logprob.count() > 0).then(logprob.sum()).alias("logprob_sum")


def joint_probability(column: Column = "logprob") -> pl.Expr:
    """The probability of the whole sequence, exp(sum l).

    Range [0, 1], up is better; length-biased as `logprob_sum` is: a long answer has a tiny joint probability
    however sure each of its tokens is (below about e^-745 it is 0.0). Needs: `logprob`. Source: OpenAI
    cookbook, "Using logprobs", section on bytes. Nulls are left out; no scored token gives null; one token,
    its own p.

    Half times a quarter:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.25)]}).select(joint_probability()).item(), 6)
    0.125
    """
    return logprob_sum(column).exp().alias("joint_probability")


def mean_logprob(column: Column = "logprob") -> pl.Expr:
    """The mean logprob of a token, (1/T) sum l.

    Range (-inf, 0], nats per token, up is better. Needs: `logprob`. Source: length-normalised log-likelihood,
    as in Wu et al. 2016 (arXiv:1609.08144) with exponent 1. Nulls are left out of sum and T; no scored token
    gives null; one token, its own l.

    >>> pl.DataFrame({"logprob": [-0.5, None, -1.5]}).select(mean_logprob()).item()
    -1.0
    """
    return as_column(column).mean().alias("mean_logprob")


def confidence(column: Column = "logprob") -> pl.Expr:
    """The length-normalised probability, exp((1/T) sum l): the geometric mean of the tokens' p.

    Range [0, 1], up is better; 1 / `perplexity`. It is how sure the model was of its words, which is not how
    often it is right. Needs: `logprob`. Source: Malinin and Gales 2021 (arXiv:2002.07650), length-normalised
    likelihood. Nulls are left out; no scored token gives null; one token, its own p.

    The geometric mean of 1/2 and 1/8 is 1/4:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(confidence()).item(), 6)
    0.25
    """
    return mean_logprob(column).exp().alias("confidence")


def perplexity(column: Column = "logprob") -> pl.Expr:
    """The perplexity, exp(-(1/T) sum l): among how many equally likely tokens the model chose, on average.

    Range [1, inf), down is better; 1 / `confidence`. Comparable only between models with one tokenizer.
    Needs: `logprob`. Source: Jelinek et al. 1977; OpenAI cookbook, "Using logprobs", section on perplexity.
    Nulls are left out; no scored token gives null; one token, 1/p.

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(perplexity()).item(), 6)
    4.0
    """
    return (-mean_logprob(column)).exp().alias("perplexity")


def min_probability(column: Column = "logprob") -> pl.Expr:
    """The probability of the least likely token, exp(min l).

    Range [0, 1], up is better. One bad word shows here while a long answer's mean hides it. Needs: `logprob`.
    Source: Manakul et al. 2023 (arXiv:2303.08896), the grey-box Max(-log p), as a probability.
    Nulls are left out; no scored token gives null; one token, its own p.

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(min_probability()).item(), 6)
    0.125
    """
    return as_column(column).min().exp().alias("min_probability")


def max_surprisal(column: Column = "logprob", *, base: float = math.e) -> pl.Expr:
    """The surprisal of the least likely token, -min l / ln(base).

    Range [0, inf), nats (base=2: bits), down is better. Needs: `logprob`. Source: Manakul et al. 2023
    (arXiv:2303.08896), Max(-log p). Nulls are left out; no scored token gives null; one token, its own
    surprisal.

    1/8 is a surprise of three bits:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(max_surprisal(base=2)).item(), 6)
    3.0
    """
    # subtracted from 0.0 rather than negated, so that a certain token gives 0.0 and not -0.0
    return (0.0 - as_column(column).min() / ln_base(base)).alias("max_surprisal")


def mean_surprisal(column: Column = "logprob", *, base: float = math.e) -> pl.Expr:
    """The mean surprisal of a token, -(1/T) sum l / ln(base): ln of the perplexity.

    Range [0, inf), nats per token (base=2: bits), down is better. Needs: `logprob`. Source: Shannon 1948;
    Manakul et al. 2023 (arXiv:2303.08896), Avg(-log p). Nulls are left out; no scored token gives null; one
    token, its own.

    The mean of one bit and three bits:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(mean_surprisal(base=2)).item(), 6)
    2.0
    """
    return (0.0 - as_column(column).mean() / ln_base(base)).alias("mean_surprisal")


def low_confidence_share(column: Column = "logprob", *, threshold: float = 0.5) -> pl.Expr:
    """The share of scored tokens with p < threshold.

    Range [0, 1], down is better. A p equal to the threshold is not low. Needs: `logprob`. Source: the
    low-probability tokens of Jiang et al. 2023 (FLARE, arXiv:2305.06983), counted. Nulls count neither above
    nor below; no scored token gives null; one token, 0 or 1.

    Raises:
        ValueError: `threshold` is not a probability above 0.

    One of two scored tokens is below a half:

    >>> from math import log
    >>> pl.DataFrame({"logprob": [log(0.5), None, log(0.25)]}).select(low_confidence_share()).item()
    0.5
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} is not a probability above 0 and at most 1")
    return (as_column(column) < math.log(threshold)).mean().alias("low_confidence_share")


def scored_tokens(column: Column = "logprob") -> pl.Expr:
    """How many tokens have a logprob: the T of every mean.

    Range [0, inf), tokens. Needs: `logprob`. Source: the data contract. Nulls are not counted; no rows give
    0.

    >>> pl.DataFrame({"logprob": [-0.5, None, -1.5]}).select(scored_tokens()).item()
    2
    """
    return as_column(column).count().alias("scored_tokens")


def unscored_tokens(column: Column = "logprob") -> pl.Expr:
    """How many tokens have none: flagged as sentinel, -inf, above 0 or missing, and in no score.

    Range [0, inf), tokens, down is better. Needs: `logprob`. Source: the data contract, `schema.LogprobFlag`.
    Only nulls are counted; no rows give 0.

    >>> pl.DataFrame({"logprob": [-0.5, None, -1.5]}).select(unscored_tokens()).item()
    1
    """
    return as_column(column).null_count().alias("unscored_tokens")
