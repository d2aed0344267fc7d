"""HALT's features: what each generated token and its alternatives say, as the input of a detector of hallucinations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from logprob_store.metrics.alternatives.chosen import OF_ALTERNATIVES, OF_TOKENS, without_chosen
from logprob_store.metrics.alternatives.two_passes import of_tokens
from logprob_store.metrics.arguments import POSITION, generated
from logprob_store.metrics.right_table import check_table
from logprob_store.metrics.tokens.windows import written_order
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from logprob_store.metrics.alternatives.two_passes import Alternatives, Floats


def halt_features(tokens: pl.LazyFrame, alternatives: pl.LazyFrame) -> pl.LazyFrame:
    """The features of HALT: one row per generated token.

    Columns, with l the logprob of the chosen token, and the others the alternatives that are not the chosen token:

    - `run`, `completion_id`, `section`, `position`
    - `average_logprob`: the mean of l and the logprobs of the others; (-inf, 0], nats
    - `rank`: 1 + the number of others that are likelier; [1, k], 1 is surest
    - `entropy_shown`: the entropy of the chosen token and the others, with their probabilities scaled to sum to 1; [0,
      ln k], nats, lower is surer
    - `entropy_others`: the same of the others alone; [0, ln(k - 1)], nats
    - `entropy_decision`: the entropy of the chosen token against the likeliest other, c = p / (p + p of that other):
      -c ln c - (1 - c) ln(1 - c); [0, ln 2], nats, lower is surer
    - `entropy_decision_change`: entropy_decision minus that of the token before it, 0 for the first; [-ln 2, ln 2],
      nats. The tokens are in the order of `written_order`

    All but `entropy_decision` are the five features of the paper, in its order.

    Needs: the tokens and alternatives tables. Tokens of the prompt are left out.
    Nulls: others without a logprob are left out. Where the chosen token has no logprob, or no other has one, all
    features are null, and the next token's change is from the last token that has them.
    Source: HALT (arXiv:2602.02888), equations 4 to 13.

    p = 3/4 against 1/4, then 1/2 against 1/2: the decision's entropy goes from 0.562335 to ln 2.

    >>> from math import log
    >>> rows = {"position": [0, 0, 1, 1], "token": ["a", "b", "c", "d"], "rank": [1, 2, 1, 2]}
    >>> rows |= {"logprob": [log(3 / 4), log(1 / 4), log(1 / 2), log(1 / 2)]}
    >>> both = pl.LazyFrame(rows).with_columns(
    ...     run=pl.lit("r"), completion_id=0, section=pl.lit("content"), bytes=None, token_id=None, logprob_flag=None
    ... )
    >>> table = halt_features(both.filter(rank=1), both).sort("position")
    >>> shown = pl.col("entropy_decision", "entropy_decision_change").round(6)
    >>> table.select("position", "rank", shown).collect().rows()
    [(0, 1, 0.562335, 0.0), (1, 1, 0.693147, 0.130812)]
    """
    check_table(tokens, "tokens", "halt_features", OF_TOKENS)
    check_table(alternatives, "alternatives", "halt_features", OF_ALTERNATIVES)
    answers = tokens.filter(generated())
    others = without_chosen(alternatives.filter(generated()), answers)
    logprob, own = pl.col("logprob"), pl.col("_own")
    by_token = others.group_by(POSITION).agg(
        _count=logprob.count(),
        _sum=logprob.sum(),
        _likelier=(logprob > pl.col("chosen_logprob")).sum(),
        _best=logprob.max(),
        _together=of_tokens(logprob, _log_sum_exp, fewest=1),
        entropy_others=of_tokens(logprob, _entropy, fewest=1),
    )
    rows = answers.select(*POSITION, _own="logprob").join(by_token, on=POSITION, how="left")
    is_own, is_other = _entropy_of_two(pl.col("_together") - own)
    decided = pl.sum_horizontal(_entropy_of_two(pl.col("_best") - own))
    known = own.is_not_null() & (pl.col("_count") > 0)
    features = {
        "average_logprob": (own + pl.col("_sum")) / (pl.col("_count") + 1),
        "rank": pl.col("_likelier") + 1,
        # The entropy of which part, and within the parts (Shannon's grouping property).
        "entropy_shown": is_own + is_other + pl.col("entropy_others") / (1 + (own - pl.col("_together")).exp()),
        "entropy_others": pl.col("entropy_others"),
        "entropy_decision": decided,
    }
    rows = rows.with_columns(pl.when(known).then(feature).alias(name) for name, feature in features.items())
    entropy = pl.col("entropy_decision")
    change = entropy - entropy.forward_fill().shift(1).over(KEYS, order_by=written_order())
    first = pl.when(entropy.is_not_null()).then(0.0)
    return rows.select(*POSITION, *features, entropy_decision_change=change.fill_null(first))


def _entropy_of_two(logit: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """-p ln p of p = 1 / (1 + exp(logit)), and of 1 - p, without a difference from 1 or an overflow."""
    small = (0.0 - logit.abs()).exp()
    surprisals = [x.clip(lower_bound=0.0) + small.log1p() for x in (logit, 0.0 - logit)]
    one, other = ((0.0 - surprisal).exp() * surprisal for surprisal in surprisals)
    return one, other


def _log_sum_exp(alternatives: Alternatives) -> Floats:
    largest = alternatives.largest()
    total: Floats = largest + np.log(alternatives.sums(np.exp(alternatives.logprob - alternatives.each(largest))))
    return total


def _entropy(alternatives: Alternatives) -> Floats:
    """The entropy of the alternatives scaled to sum to 1, in nats."""
    logs = alternatives.logprob - alternatives.each(_log_sum_exp(alternatives))
    return np.maximum(0.0 - alternatives.sums(np.exp(logs) * logs), 0.0)
