"""Perplexity of texts: scores of each text that was sent, and of many sequences together by token, byte and word.

Scores of several candidates for one context are in `candidates`.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.given.alignment import placed_tokens, scored_texts
from logprob_store.metrics.tokens import sequence
from logprob_store.schema import KEYS

By: TypeAlias = Literal["token", "sequence"]

_WORD = r"\S+"


def text_scores(tokens: pl.LazyFrame, completions: pl.LazyFrame, prompts: pl.LazyFrame) -> pl.LazyFrame:
    """One row per text that was sent: how likely the model holds it.

    Columns: run, completion_id, prompt_id, prompt_index, sample_index, text; scored_tokens, unscored_tokens,
    scored_bytes and scored_words, of the tokens that have a logprob; logprob_sum, mean_logprob, confidence, perplexity,
    min_probability; bits_per_byte, byte_perplexity, word_perplexity. Ranges, units and sources: as each one's own
    function says.

    The text is all that was sent: of a candidate, context and continuation. The first token of a text has no logprob,
    for nothing is before it, unless the server begins with a token of its own; lengths are therefore those of the
    scored tokens, not of the text. Null lengths and what is divided by them: the tokens do not spell the text. A
    text without any scored token has null scores. Needs: three tables with tokens in the section `prompt`.

    "Hi", " you" and " all", of which the first has no logprob and the others 1/2 and 1/8: 4 bits for 8 bytes, 2 words.

    >>> done = {"run": "r", "completion_id": [0], "prompt_id": "a", "prompt_index": 0, "sample_index": 0}
    >>> prompts = pl.LazyFrame({"run": "r", "prompt_index": [0], "messages": '"Hi you all"'})
    >>> rows = {"token": ["Hi", " you", " all"], "logprob": [None, math.log(1 / 2), math.log(1 / 8)]}
    >>> tokens = pl.LazyFrame({"position": [0, 1, 2], **rows}).with_columns(
    ...     run=pl.lit("r"), completion_id=pl.lit(0), section=pl.lit("prompt"), bytes=pl.lit(None, pl.Binary)
    ... )
    >>> table = text_scores(tokens, pl.LazyFrame({**done, "choice_index": 0}), prompts)
    >>> shown = pl.col("perplexity", "bits_per_byte", "word_perplexity").round(6)
    >>> table.select("scored_tokens", "unscored_tokens", "scored_bytes", shown).collect().rows()
    [(2, 1, 8, 4.0, 0.5, 4.0)]
    """
    texts = scored_texts(completions, prompts).select(*KEYS, "text")
    placed = placed_tokens(tokens, texts).filter(
        # A begin-of-text token is no part of the text; of tokens without a place nobody knows.
        (pl.col("behind") < pl.col("text").str.len_bytes()).fill_null(value=True)
    )
    logprob = pl.col("logprob")
    scored = logprob.is_not_null()
    written = pl.col("token").filter(scored).sort_by(pl.col("position").filter(scored)).str.join()
    reached = (pl.col("behind") + pl.col("size")).max()
    placed_all = pl.col("size").null_count() == 0
    sums = placed.group_by(KEYS).agg(
        pl.col("text").first(),
        sequence.scored_tokens(),
        # The first token of a text, of which nobody has a logprob, may have no row.
        sequence.unscored_tokens() + (reached < pl.col("text").first().str.len_bytes()).fill_null(value=False),
        pl.when(placed_all).then(pl.col("size").filter(scored).sum()).alias("scored_bytes"),
        pl.when(placed_all).then(written.str.count_matches(_WORD)).alias("scored_words"),
        sequence.logprob_sum(),
        sequence.mean_logprob(),
        sequence.confidence(),
        sequence.perplexity(),
        sequence.min_probability(),
    )
    per_length = [
        bits_per_byte().over(KEYS),
        byte_perplexity().over(KEYS),
        word_perplexity().over(KEYS),
    ]
    who = completions.select(*KEYS, "prompt_id", "prompt_index", "sample_index", "choice_index")
    who = who.filter(pl.col("choice_index") == 0).drop("choice_index")
    return who.join(sums, on=KEYS, how="inner").with_columns(per_length)


def corpus_perplexity(
    logprob_sum: Column = "logprob_sum", *, tokens: Column = "scored_tokens", by: By = "token"
) -> pl.Expr:
    """The perplexity of a corpus, from one row per sequence.

    `token`: exp(-sum sum l / sum T), in which every token counts the same, and long sequences more. `sequence`:
    exp(mean of NLL_i), NLL_i = -sum l / T of sequence i, in which every sequence counts the same: the geometric mean of
    their perplexities. Never the arithmetic mean of perplexities, which one bad sequence can set. Range [1, inf), down
    is better; comparable only between models with one tokenizer. Needs: the rows of `store.scores()`, or any column of
    logprob sums and one of the tokens they are of. Source: Jelinek et al. 1977. Sequences where either is null, or
    without tokens, are left out; none left gives null.

    Raises:
        ValueError: an unknown `by`.

    One token of 1/16, and three of 1/2 each: 7 bits for 4 tokens; or 4 bits and 1 bit a token:

    >>> rows = pl.DataFrame({"logprob_sum": [-4 * math.log(2), -3 * math.log(2)], "scored_tokens": [1, 3]})
    >>> rows.select(corpus_perplexity().log(2).round(6)).item()
    1.75
    >>> rows.select(corpus_perplexity(by="sequence").log(2).round(6)).item()
    2.5
    """
    nats, count = as_column(logprob_sum), as_column(tokens)
    usable = nats.is_not_null() & (count > 0)
    match by:
        case "token":
            total = count.filter(usable).sum()
            mean: pl.Expr = pl.when(total > 0).then(nats.filter(usable).sum() / total)
        case "sequence":
            mean = (nats.filter(usable) / count.filter(usable)).mean()
        case _:
            raise ValueError(f"corpus_perplexity by {by!r}: it is by {' or '.join(get_args(By))}")
    return (0.0 - mean).exp().alias("corpus_perplexity")


def bits_per_byte(logprob_sum: Column = "logprob_sum", *, size: Column = "scored_bytes") -> pl.Expr:
    """The bits that a byte of text costs, -sum l / (B ln 2): a ratio of sums over all rows, never a mean of ratios.

    Range [0, inf), bits per byte, down is better; comparable between models of different tokenizers. Needs: the rows of
    `text_scores`, or any column of logprobs and one of the bytes they are for. Source: Gao et al. 2020
    (arXiv:2101.00027), section 3.1. Rows where either is null are left out; no bytes give null.

    4 bits for 8 bytes and 2 bits for 4 bytes:

    >>> rows = pl.DataFrame({"logprob_sum": [-4 * math.log(2), -2 * math.log(2)], "scored_bytes": [8, 4]})
    >>> rows.select(bits_per_byte().round(6)).item()
    0.5
    """
    return (_nats_per(logprob_sum, size) / math.log(2)).alias("bits_per_byte")


def byte_perplexity(logprob_sum: Column = "logprob_sum", *, size: Column = "scored_bytes") -> pl.Expr:
    """The perplexity of a byte, exp(-sum l / B) = 2 ** `bits_per_byte`.

    Range [1, inf), down is better. Needs, nulls: as `bits_per_byte`. Source: lm-evaluation-harness, `byte_perplexity`.

    >>> rows = pl.DataFrame({"logprob_sum": [-4 * math.log(2)], "scored_bytes": [4]})
    >>> rows.select(byte_perplexity().round(6)).item()
    2.0
    """
    return _nats_per(logprob_sum, size).exp().alias("byte_perplexity")


def word_perplexity(logprob_sum: Column = "logprob_sum", *, words: Column = "scored_words") -> pl.Expr:
    """The perplexity of a word, exp(-sum l / words): a ratio of sums over all rows.

    Range [1, inf), down is better. A word is what white space separates, which says little of Chinese or Japanese.
    Needs, nulls: as `bits_per_byte`. Source: lm-evaluation-harness, `word_perplexity` (which counts the empty text
    before a leading space as a word; we do not).

    Two words for 4 bits:

    >>> rows = pl.DataFrame({"logprob_sum": [-4 * math.log(2)], "scored_words": [2]})
    >>> rows.select(word_perplexity().round(6)).item()
    4.0
    """
    return _nats_per(logprob_sum, words).exp().alias("word_perplexity")


def _nats_per(logprob_sum: Column, units: Column) -> pl.Expr:
    nats, count = as_column(logprob_sum), as_column(units)
    usable = nats.is_not_null() & count.is_not_null()
    total = count.filter(usable).sum()
    return pl.when(total > 0).then((0.0 - nats.filter(usable).sum()) / total)
