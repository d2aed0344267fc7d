"""Perplexity of texts: scores of each text that was sent, and of many sequences together by token, byte and word.

Scores of several candidates for one context are in `candidates`.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.given.alignment import ALIGNED, ANSWERED, ASKED, aligned_tokens, scored_texts
from logprob_store.metrics.right_table import check_table
from logprob_store.metrics.tokens import sequence
from logprob_store.schema import KEYS

By: TypeAlias = Literal["token", "sequence"]

_WORD = r"\S+"


def text_scores(tokens: pl.LazyFrame, completions: pl.LazyFrame, prompts: pl.LazyFrame) -> pl.LazyFrame:
    """The scores of each text that was sent, one row per text.

    The text is everything that was sent; for a candidate, the context and the continuation. Columns:

    - `run`, `completion_id`, `prompt_id`, `prompt_index`, `sample_index`, `text`
    - `scored_tokens`, `unscored_tokens`: tokens with a logprob, and without
    - `scored_bytes`, `scored_words`: the length of the scored tokens, not of the text
    - `logprob_sum`, `mean_logprob`, `confidence`, `perplexity`, `min_probability`, `bits_per_byte`, `byte_perplexity`,
      `word_perplexity`: the metric of that name, over the tokens of the text, with its formula, range, unit and source

    Needs: the tokens (section `prompt`), completions and prompts of a run with `mode = "score"`.
    Nulls: tokens without a logprob are left out and counted in `unscored_tokens`. The first token of a text is one of
    them, unless the server puts a token of its own in front. A text without a scored token has null scores. Where the
    tokens do not spell the text, the lengths are null, and so is everything divided by them.

    "Hi", " you" and " all": the first has no logprob, the others have 1/2 and 1/8, 4 bits for 8 bytes and 2 words.

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
    check_table(tokens, "tokens", "text_scores", ALIGNED)
    check_table(completions, "completions", "text_scores", (*ANSWERED, "prompt_id"))
    check_table(prompts, "prompts", "text_scores", ASKED)
    texts = scored_texts(completions, prompts).select(*KEYS, "text")
    aligned = aligned_tokens(tokens, texts).filter(
        # Without begin-of-text tokens. Where the tokens do not spell the text, no token's place is known: all stay.
        (pl.col("bytes_after") < pl.col("text").str.len_bytes()).fill_null(value=True)
    )
    sums = aligned.group_by(KEYS).agg(
        pl.col("text").first(),
        *_lengths(),
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
    identity = completions.select(*KEYS, "prompt_id", "prompt_index", "sample_index", "choice_index")
    identity = identity.filter(pl.col("choice_index") == 0).drop("choice_index")
    return identity.join(sums, on=KEYS, how="inner").with_columns(per_length)


def _lengths() -> list[pl.Expr]:
    """The counts of scored and unscored tokens of a text, and the bytes and words of the scored ones."""
    scored = pl.col("logprob").is_not_null()
    scored_text = pl.col("token").filter(scored).sort_by(pl.col("position").filter(scored)).str.join()
    spelled = pl.col("byte_length").null_count() == 0
    # The first token of a text, which has no logprob, may have no row: the tokens then begin after the text does.
    covered_bytes = (pl.col("bytes_after") + pl.col("byte_length")).max()
    first_missing = (covered_bytes < pl.col("text").first().str.len_bytes()).fill_null(value=False)
    return [
        sequence.scored_tokens(),
        sequence.unscored_tokens() + first_missing,
        pl.when(spelled).then(pl.col("byte_length").filter(scored).sum()).alias("scored_bytes"),
        pl.when(spelled).then(scored_text.str.count_matches(_WORD)).alias("scored_words"),
    ]


def corpus_perplexity(
    logprob_sum: Column = "logprob_sum", *, tokens: Column = "scored_tokens", by: By = "token"
) -> pl.Expr:
    """The perplexity of many sequences together, from one row per sequence.

    Formula: by "token", exp(-sum of logprobs / sum of tokens), in which every token counts the same, so long sequences
    count more. By "sequence", exp(mean over sequences of -logprob_sum / tokens), the geometric mean of the perplexities
    of the sequences, in which every sequence counts the same. Neither is the arithmetic mean of the perplexities, which
    one bad sequence can dominate.
    Range: [1, inf), lower is better; comparable only between models with the same tokenizer. Unit: none.
    Needs: rows of `store.scores()`, or any column of logprob sums and one of the tokens that they are of.
    Nulls: sequences where either column is null, or that have no token, are left out; none left gives null.
    Source: Jelinek et al. 1977.

    Raises:
        ValueError: `by` is unknown.

    One token of 1/16, and three of 1/2 each. By token: 7 bits for 4 tokens. By sequence: the mean of 4 bits and 1 bit.

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
    """The bits that the model needs for a byte of text, over all rows together.

    Formula: -sum of logprobs / (sum of bytes * ln 2): a ratio of sums, never a mean of the ratios of the rows.
    Range: [0, inf), lower is better; comparable between models with different tokenizers. Unit: bits per byte.
    Needs: rows of `text_scores`, or any column of logprob sums and one of the bytes that they are of.
    Nulls: rows where either column is null are left out; no bytes give null.
    Source: Gao et al. 2020 (arXiv:2101.00027), section 3.1.

    4 bits for 8 bytes and 2 bits for 4 bytes:

    >>> rows = pl.DataFrame({"logprob_sum": [-4 * math.log(2), -2 * math.log(2)], "scored_bytes": [8, 4]})
    >>> rows.select(bits_per_byte().round(6)).item()
    0.5
    """
    return (_nats_per(logprob_sum, size) / math.log(2)).alias("bits_per_byte")


def byte_perplexity(logprob_sum: Column = "logprob_sum", *, size: Column = "scored_bytes") -> pl.Expr:
    """The perplexity per byte of text, over all rows together.

    Formula: exp(-sum of logprobs / sum of bytes) = 2 ** `bits_per_byte`: a ratio of sums.
    Range: [1, inf), lower is better; comparable between models with different tokenizers. Unit: none.
    Needs: rows of `text_scores`, or any column of logprob sums and one of the bytes that they are of.
    Nulls: rows where either column is null are left out; no bytes give null.
    Source: lm-evaluation-harness, `byte_perplexity`.

    4 bits for 4 bytes, 1 bit per byte:

    >>> rows = pl.DataFrame({"logprob_sum": [-4 * math.log(2)], "scored_bytes": [4]})
    >>> rows.select(byte_perplexity().round(6)).item()
    2.0
    """
    return _nats_per(logprob_sum, size).exp().alias("byte_perplexity")


def word_perplexity(logprob_sum: Column = "logprob_sum", *, words: Column = "scored_words") -> pl.Expr:
    """The perplexity per word of text, over all rows together.

    Formula: exp(-sum of logprobs / sum of words): a ratio of sums. A word is a run of characters without white space,
    which says little about Chinese or Japanese.
    Range: [1, inf), lower is better; comparable between models with different tokenizers. Unit: none.
    Needs: rows of `text_scores`, or any column of logprob sums and one of the words that they are of.
    Nulls: rows where either column is null are left out; no words give null.
    Source: lm-evaluation-harness, `word_perplexity`, which also counts the empty text before a leading space as a word.

    4 bits for 2 words, 2 bits per word:

    >>> rows = pl.DataFrame({"logprob_sum": [-4 * math.log(2)], "scored_words": [2]})
    >>> rows.select(word_perplexity().round(6)).item()
    4.0
    """
    return _nats_per(logprob_sum, words).exp().alias("word_perplexity")


def _nats_per(logprob_sum: Column, units: Column) -> pl.Expr:
    """The nats per byte or word: a ratio of sums over all rows where both are known."""
    nats, count = as_column(logprob_sum), as_column(units)
    usable = nats.is_not_null() & count.is_not_null()
    total = count.filter(usable).sum()
    return pl.when(total > 0).then((0.0 - nats.filter(usable).sum()) / total)
