"""Scores of a sequence of tokens: sums, means and extremes of the logprobs of the chosen tokens.

Polars expressions over the `tokens` table, for any `group_by`, `over`, `filter` or `select`. Each reads the rows that
it is given: leave prompt tokens out with `generated()`. In the formulas, l is the logprob of a token, p = exp(l), and T
the number of scored tokens.

Nulls are logprobs that the store flagged: a sentinel, -inf, a value above 0, or a missing one. Every score leaves them
out; `scored_tokens` and `unscored_tokens` count the tokens with and without a logprob. Where no token is scored, a
score is null: never NaN, 0 or 1.
"""

from __future__ import annotations

import math

import polars as pl

from logprob_store.metrics.arguments import Column, as_column, ln_base, ln_threshold
from logprob_store.metrics.right_table import only_of_tokens


def logprob_sum(column: Column = "logprob") -> pl.Expr:
    """The sum of the logprobs: the natural logarithm of the probability of the whole sequence.

    Formula: sum l.
    Range: (-inf, 0], higher is better. Unit: nats. Every token adds to it, so longer answers score lower: compare
    answers of equal length, or use `mean_logprob`.
    Needs: `logprob`.
    Nulls: left out, so that the sum is of the scored tokens only; no scored token gives null.
    Source: the chain rule of probability.

    Two scored tokens: -0.5 - 1.5 = -2.

    >>> pl.DataFrame({"logprob": [-0.5, None, -1.5]}).select(logprob_sum()).item()
    -2.0
    """
    return only_of_tokens(_sum(column).alias("logprob_sum"), column)


def joint_probability(column: Column = "logprob") -> pl.Expr:
    """The probability of the whole sequence.

    Formula: exp(sum l).
    Range: [0, 1], higher is better. Unit: none. It depends on the length as `logprob_sum` does: a long answer has a
    tiny joint probability, however sure each of its tokens is. Below about e^-745 it is 0.0.
    Needs: `logprob`.
    Nulls: left out; no scored token gives null.
    Source: OpenAI cookbook, "Using logprobs", section on bytes.

    1/2 times 1/4:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.25)]}).select(joint_probability()).item(), 6)
    0.125
    """
    return only_of_tokens(_sum(column).exp().alias("joint_probability"), column)


def mean_logprob(column: Column = "logprob") -> pl.Expr:
    """The mean logprob of a token.

    Formula: (1/T) sum l.
    Range: (-inf, 0], higher is better. Unit: nats per token.
    Needs: `logprob`.
    Nulls: left out of the sum and of T; no scored token gives null.
    Source: length-normalised log-likelihood, as in Wu et al. 2016 (arXiv:1609.08144) with exponent 1.

    The mean of -0.5 and -1.5:

    >>> pl.DataFrame({"logprob": [-0.5, None, -1.5]}).select(mean_logprob()).item()
    -1.0
    """
    return only_of_tokens(as_column(column).mean().alias("mean_logprob"), column)


def confidence(column: Column = "logprob") -> pl.Expr:
    """The length-normalised probability: the geometric mean of the probabilities of the tokens.

    Formula: exp((1/T) sum l), which is 1 / `perplexity`.
    Range: [0, 1], higher is better. Unit: none. It says how sure the model was of its words, not how often it is right.
    Needs: `logprob`.
    Nulls: left out; no scored token gives null.
    Source: Malinin and Gales 2021 (arXiv:2002.07650), length-normalised likelihood.

    The geometric mean of 1/2 and 1/8 is 1/4:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(confidence()).item(), 6)
    0.25
    """
    return only_of_tokens(as_column(column).mean().exp().alias("confidence"), column)


def perplexity(column: Column = "logprob") -> pl.Expr:
    """The perplexity: the number of equally likely tokens from which the model chose, on average.

    Formula: exp(-(1/T) sum l), which is 1 / `confidence`.
    Range: [1, inf), lower is better. Unit: none. Comparable only between models with the same tokenizer. The perplexity
    of a corpus is not the mean of the perplexities of its answers: see `corpus_perplexity`.
    Needs: `logprob`.
    Nulls: left out; no scored token gives null.
    Source: Jelinek et al. 1977; OpenAI cookbook, "Using logprobs", section on perplexity.

    1 / the geometric mean of 1/2 and 1/8:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(perplexity()).item(), 6)
    4.0
    """
    return only_of_tokens((-as_column(column).mean()).exp().alias("perplexity"), column)


def min_probability(column: Column = "logprob") -> pl.Expr:
    """The probability of the least likely token.

    Formula: exp(min l).
    Range: [0, 1], higher is better. Unit: none. One bad word shows here, where the mean of a long answer hides it.
    Needs: `logprob`.
    Nulls: left out; no scored token gives null.
    Source: Manakul et al. 2023 (arXiv:2303.08896), the grey-box Max(-log p), as a probability.

    The smaller of 1/2 and 1/8:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(min_probability()).item(), 6)
    0.125
    """
    return only_of_tokens(as_column(column).min().exp().alias("min_probability"), column)


def max_surprisal(column: Column = "logprob", *, base: float = math.e) -> pl.Expr:
    """The surprisal of the least likely token.

    Formula: -min l / ln(base).
    Range: [0, inf), lower is better. Unit: nats (base=2: bits).
    Needs: `logprob`.
    Nulls: left out; no scored token gives null.
    Source: Manakul et al. 2023 (arXiv:2303.08896), Max(-log p).

    Raises:
        ValueError: `base` is not above 1.

    1/8 has a surprisal of three bits:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(max_surprisal(base=2)).item(), 6)
    3.0
    """
    # Subtracted from 0.0, not negated, so that a certain token gives 0.0 and not -0.0.
    return only_of_tokens((0.0 - as_column(column).min() / ln_base(base)).alias("max_surprisal"), column)


def mean_surprisal(column: Column = "logprob", *, base: float = math.e) -> pl.Expr:
    """The mean surprisal of a token: the logarithm of the perplexity.

    Formula: -(1/T) sum l / ln(base).
    Range: [0, inf), lower is better. Unit: nats per token (base=2: bits per token).
    Needs: `logprob`.
    Nulls: left out; no scored token gives null.
    Source: Shannon 1948; Manakul et al. 2023 (arXiv:2303.08896), Avg(-log p).

    Raises:
        ValueError: `base` is not above 1.

    The mean of one bit and three bits:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob": [log(0.5), log(0.125)]}).select(mean_surprisal(base=2)).item(), 6)
    2.0
    """
    return only_of_tokens((0.0 - as_column(column).mean() / ln_base(base)).alias("mean_surprisal"), column)


def low_confidence_share(column: Column = "logprob", *, threshold: float = 0.5) -> pl.Expr:
    """The share of the scored tokens that have a low probability.

    Formula: (tokens with p < threshold) / T.
    Range: [0, 1], lower is better. Unit: none.
    Needs: `logprob`.
    Nulls: left out of both counts; no scored token gives null.
    Source: the low-probability tokens of FLARE, Jiang et al. 2023 (arXiv:2305.06983), counted.

    Raises:
        ValueError: `threshold` is not a probability above 0.

    One of two scored tokens is below 1/2; a p equal to the threshold is not low:

    >>> from math import log
    >>> pl.DataFrame({"logprob": [log(0.5), None, log(0.25)]}).select(low_confidence_share()).item()
    0.5
    """
    share = (as_column(column) < ln_threshold(threshold)).mean()
    return only_of_tokens(share.alias("low_confidence_share"), column)


def scored_tokens(column: Column = "logprob") -> pl.Expr:
    """The number of tokens with a logprob: the T of every mean.

    Formula: the count of l.
    Range: [0, inf). Unit: tokens.
    Needs: `logprob`.
    Nulls: not counted; no rows give 0.
    Source: the format of the store, docs/store.md.

    Two of three tokens have a logprob:

    >>> pl.DataFrame({"logprob": [-0.5, None, -1.5]}).select(scored_tokens()).item()
    2
    """
    return only_of_tokens(as_column(column).count().alias("scored_tokens"), column)


def unscored_tokens(column: Column = "logprob") -> pl.Expr:
    """The number of tokens without a logprob, which are in no score.

    Formula: the count of null l: what the server sent was a sentinel, -inf or above 0, or it sent nothing.
    Range: [0, inf), lower is better. Unit: tokens.
    Needs: `logprob`.
    Nulls: counted; no rows give 0.
    Source: the format of the store, docs/store.md.

    One of three tokens has no logprob:

    >>> pl.DataFrame({"logprob": [-0.5, None, -1.5]}).select(unscored_tokens()).item()
    1
    """
    return only_of_tokens(as_column(column).null_count().alias("unscored_tokens"), column)


def _sum(column: Column) -> pl.Expr:
    logprob = as_column(column)
    # The sum of no rows is 0.0 in polars, which would mean "certain".
    return pl.when(logprob.count() > 0).then(logprob.sum())
