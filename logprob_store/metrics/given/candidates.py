"""Multiple choice: how likely each of several continuations of one context is, and which is the likeliest.

Scores of whole texts are in `texts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.arguments import POSITION
from logprob_store.metrics.given.alignment import ALIGNED, ANSWERED, ASKED, aligned_tokens, asked_texts, scored_texts
from logprob_store.metrics.right_table import check_table
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

_CANDIDATE_KEYS: Final = ("run", "prompt_index", "candidate")
_PROMPT_KEYS: Final = ("run", "prompt_id", "prompt_index")
_SCORE_COLUMNS: Final = (
    *(*_PROMPT_KEYS, "candidate", "completion_id", "continuation"),
    *("scored_tokens", "unscored_tokens", "straddles"),
    *("loglikelihood", "loglikelihood_per_char", "loglikelihood_per_byte", "greedy", "rank"),
)
_CHOICE_COLUMNS: Final = (
    *(*_PROMPT_KEYS, "candidates", "scored_candidates"),
    *("choice", "continuation", "choice_per_char", "choice_per_byte", "margin"),
)


def candidate_scores(
    tokens: pl.LazyFrame, alternatives: pl.LazyFrame | None, completions: pl.LazyFrame, prompts: pl.LazyFrame
) -> pl.LazyFrame:
    """The likelihood of each candidate after its context, one row per candidate.

    Columns:

    - `run`, `prompt_id`, `prompt_index`
    - `candidate`: its index in the list of the prompt, the `sample_index`
    - `completion_id`, `continuation`
    - `scored_tokens`, `unscored_tokens`: tokens of the continuation with a logprob, and without
    - `straddles`: whether a token crosses the beginning of the continuation
    - `loglikelihood`: the sum of the logprobs of its tokens
    - `loglikelihood_per_char`, `loglikelihood_per_byte`: the same divided by the length of the continuation as given
    - `greedy`: whether each of its tokens is the likeliest at its position
    - `rank`: 1 + the number of candidates of the prompt that are likelier

    White space at the end of the context counts as part of the continuation, because most tokenizers put it into the
    token of the first word (lm-evaluation-harness, `TemplateLM._encode_pair`). A token that still crosses the beginning
    counts whole, because its logprob cannot be divided, and sets `straddles`.

    Formula: loglikelihood = sum of the logprobs of the tokens of the continuation.
    Range: (-inf, 0], higher is better. Unit: nats; nats per character; nats per byte.
    Needs: the four tables of a run with `mode = "score"`. Without alternatives (None), `greedy` is null.
    Nulls: a candidate without an answer has no `completion_id` and no scores. One whose tokens do not spell what was
    sent has no counts. One with an unscored token, such as the first of a text without context, has neither
    `loglikelihood` nor `greedy`: a sum without its least likely token would be too high. `greedy` is also null where a
    token has fewer than two alternatives.
    Source: Brown et al. 2020 (arXiv:2005.14165), section 2.4; per byte, Gao 2021, "Multiple Choice Normalization in LM
    Evaluation".

    The context is "Is"; " yes" is one token of 1/2, " no" is two tokens of 1/2 and 1/4:

    >>> from math import log
    >>> asked = '{"context":"Is","continuations":[" yes"," no"]}'
    >>> prompts = pl.LazyFrame({"run": "r", "prompt_id": "a", "prompt_index": [0], "messages": asked})
    >>> done = {"run": "r", "completion_id": [0, 1000], "prompt_index": 0, "sample_index": [0, 1], "choice_index": 0}
    >>> rows = {"completion_id": [0, 0, 1000, 1000, 1000], "position": [0, 1, 0, 1, 2]}
    >>> rows |= {"token": ["Is", " yes", "Is", " n", "o"], "logprob": [None, log(1 / 2), None, log(1 / 2), log(1 / 4)]}
    >>> tokens = pl.LazyFrame(rows).with_columns(
    ...     run=pl.lit("r"), section=pl.lit("prompt"), bytes=pl.lit(None, pl.Binary)
    ... )
    >>> table = candidate_scores(tokens, None, pl.LazyFrame(done), prompts).sort("candidate")
    >>> table.select("continuation", "scored_tokens", pl.col("loglikelihood").exp().round(6), "rank").collect().rows()
    [(' yes', 1, 0.5, 1), (' no', 2, 0.125, 2)]
    """
    check_table(tokens, "tokens", "candidate_scores", ALIGNED)
    if alternatives is not None:
        check_table(alternatives, "alternatives", "candidate_scores", (*POSITION, "logprob"))
    check_table(completions, "completions", "candidate_scores", ANSWERED)
    check_table(prompts, "prompts", "candidate_scores", (*ASKED, "prompt_id"))
    context_bytes = pl.col("context").str.strip_chars_end().str.len_bytes()
    texts = (
        scored_texts(completions, prompts)
        .filter(pl.col("continuation").is_not_null())
        .select(*KEYS, "text", continuation_bytes=pl.col("text").str.len_bytes().cast(pl.Int64) - context_bytes)
    )
    counted = _with_greedy(aligned_tokens(tokens, texts).filter(_in_continuation()), alternatives)
    candidates = _asked_candidates(prompts).join(
        completions.filter(pl.col("choice_index") == 0).select(
            "run", "prompt_index", "completion_id", candidate="sample_index"
        ),
        on=_CANDIDATE_KEYS,
        how="left",
    )
    loglikelihood = pl.col("loglikelihood")
    return (
        candidates.join(_score_sums(counted), on=KEYS, how="left")
        .with_columns(
            loglikelihood_per_char=loglikelihood / pl.col("continuation").str.len_chars(),
            loglikelihood_per_byte=loglikelihood / pl.col("continuation").str.len_bytes(),
            rank=loglikelihood.rank("min", descending=True).over("run", "prompt_index"),
        )
        .select(_SCORE_COLUMNS)
    )


def _asked_candidates(prompts: pl.LazyFrame) -> pl.LazyFrame:
    """One row per candidate of every prompt, answered or not."""
    listed = asked_texts(prompts).filter(pl.col("continuations").is_not_null())
    numbered = listed.with_columns(candidate=pl.int_ranges(0, pl.col("continuations").list.len(), dtype=pl.Int32))
    return numbered.select(*_PROMPT_KEYS, "candidate", continuation="continuations").explode(
        "candidate", "continuation"
    )


def _in_continuation() -> pl.Expr:
    """Whether a token counts in the score of the continuation, the last `continuation_bytes` of the text."""
    after, continuation = pl.col("bytes_after"), pl.col("continuation_bytes")
    # A token without a string belongs to the token that follows it, except the begin-of-text token.
    empty_at_beginning = (pl.col("byte_length") == 0) & (after == continuation) & (pl.col("position") > 0)
    return (after < continuation) | empty_at_beginning


def _with_greedy(counted: pl.LazyFrame, alternatives: pl.LazyFrame | None) -> pl.LazyFrame:
    """The tokens with `greedy`: whether each is the likeliest of at least two alternatives."""
    if alternatives is None:
        return counted.with_columns(greedy=pl.lit(None, pl.Boolean))
    others = alternatives.filter(pl.col("section") == "prompt").group_by(POSITION)
    shown = others.agg(largest=pl.col("logprob").max(), count=pl.col("logprob").count()).drop("section")
    likeliest = pl.when(pl.col("count") > 1).then(pl.col("logprob") >= pl.col("largest"))
    return counted.join(shown, on=[*KEYS, "position"], how="left").with_columns(greedy=likeliest)


def _score_sums(counted: pl.LazyFrame) -> pl.LazyFrame:
    """One row per completion: counts, `straddles`, `loglikelihood` and `greedy` of its continuation."""
    logprob = pl.col("logprob")
    bytes_from_begin = pl.col("bytes_after") + pl.col("byte_length")
    # The first token of a text, which has no logprob, may have no row.
    unscored = logprob.null_count() + (bytes_from_begin.max() < pl.col("continuation_bytes").first())
    return counted.group_by(KEYS).agg(
        scored_tokens=logprob.count(),
        unscored_tokens=unscored,
        straddles=(bytes_from_begin > pl.col("continuation_bytes")).any(),
        loglikelihood=pl.when(unscored == 0).then(logprob.sum()),
        greedy=pl.when(unscored == 0).then(pl.col("greedy").all(ignore_nulls=False)),
    )


def choices(
    candidates: pl.LazyFrame,
    *,
    unconditional: pl.LazyFrame | None = None,
    on: Sequence[str] = ("prompt_id", "continuation"),
) -> pl.LazyFrame:
    """The candidate that the model chooses, by several ways to compare them, one row per prompt.

    Columns:

    - `run`, `prompt_id`, `prompt_index`
    - `candidates`, `scored_candidates`: how many there are, and how many have a loglikelihood
    - `choice`, `continuation`: the candidate with the highest loglikelihood l(y|x), and its text
    - `choice_per_char`, `choice_per_byte`: the one with the highest l(y|x) / length, which does not favour short ones
    - `margin`: l(y|x) of the first minus that of the second
    - `choice_pmi`, `margin_pmi` (with `unconditional`): the same by l(y|x) - l(y|premise), which does not favour
      continuations that are likely anywhere

    Formula: choice = argmax over candidates y of l(y|x); margin = l(first|x) - l(second|x).
    Range: of the margins [0, inf), higher is surer. Unit: nats.
    Needs: `candidate_scores`.
    Nulls: all choices of a prompt are null while one of its candidates has no score, because that candidate may be the
    best. The margin is also null where there is only one candidate. Of equal candidates the first in the list is
    chosen.
    Source: lm-evaluation-harness, `acc`, `acc_norm`, `acc_bytes`; PMI-DC, Holtzman et al. 2021 (arXiv:2104.08315).

    Args:
        candidates: the rows of `candidate_scores`.
        unconditional: the rows of `candidate_scores` of another run, in which the continuations follow a premise that
            says nothing about the question, such as "Answer:".
        on: the columns that match the candidates of the two runs; `["continuation"]` where the run with the premise has
            each text once.

    "yes" is likelier, but "certainly" is likelier per character (-3/9 > -2/3):

    >>> rows = {"candidate": [0, 1], "continuation": ["yes", "certainly"], "loglikelihood": [-2.0, -3.0]}
    >>> table = pl.LazyFrame({"run": "r", "prompt_id": "a", "prompt_index": 0, **rows}).with_columns(
    ...     loglikelihood_per_char=pl.col("loglikelihood") / pl.Series([3, 9]),
    ...     loglikelihood_per_byte=pl.col("loglikelihood") / pl.Series([3, 9]),
    ... )
    >>> choices(table).select("continuation", "choice", "choice_per_char", "margin").collect().rows()
    [('yes', 0, 1, 1.0)]

    After the premise alone, "yes" has -1 and "certainly" -5, so the question raises them by -1 and 2:

    >>> premise = table.with_columns(loglikelihood=pl.Series([-1.0, -5.0]))
    >>> choices(table, unconditional=premise).select("choice_pmi", "margin_pmi").collect().rows()
    [(1, 3.0)]
    """
    ways = {"": "loglikelihood", "_per_char": "loglikelihood_per_char", "_per_byte": "loglikelihood_per_byte"}
    if unconditional is not None:
        premise = unconditional.select(*on, premise="loglikelihood").unique(on)
        candidates = candidates.join(premise, on=on, how="left").with_columns(
            pmi=pl.col("loglikelihood") - pl.col("premise")
        )
        ways["_pmi"] = "pmi"
    table = candidates.group_by(_PROMPT_KEYS).agg(
        pl.len().alias("candidates"),
        pl.col("loglikelihood").count().alias("scored_candidates"),
        *(_of_likeliest("candidate", by).alias(f"choice{name}") for name, by in ways.items()),
        _of_likeliest("continuation", "loglikelihood"),
        *(_margin(by).alias(f"margin{name}") for name, by in ways.items() if name in {"", "_pmi"}),
    )
    return table.select(*_CHOICE_COLUMNS, *(() if unconditional is None else ("choice_pmi", "margin_pmi")))


def _of_likeliest(column: str, by: str) -> pl.Expr:
    """The column's value for the candidate with the highest `by`; null while one candidate has none."""
    best = pl.col(column).sort_by(by, "candidate", descending=[True, False], nulls_last=True).first()
    return pl.when(pl.col(by).null_count() == 0).then(best)


def _margin(by: str) -> pl.Expr:
    """The highest `by` minus the second highest; null while one candidate has none, or where there is only one."""
    ordered = pl.col(by).sort(descending=True)
    enough = (pl.col(by).null_count() == 0) & (pl.len() > 1)
    return pl.when(enough).then(ordered.get(0, null_on_oob=True) - ordered.get(1, null_on_oob=True))
