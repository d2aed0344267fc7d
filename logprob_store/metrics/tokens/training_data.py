"""Traces of training data: scores that are higher for texts a model saw in training.

Polars expressions. Such a score at best separates texts of one kind and length; where to draw the line is not decided
here. Min-k%++ and whatever else needs the probabilities of the whole vocabulary is left out, because no API gives
these.
"""

from __future__ import annotations

import zlib
from typing import Final

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.right_table import only_of_tokens

LOWEST_SHARE: Final = 0.2
"""The share of the tokens that `min_k_probability` takes by default."""

EXACT: Final = 1e-9
"""Added before floor(k T): 0.29 * 100 is 28.999999999999996 in floating point, and the floor has to be 29."""


def min_k_probability(column: Column = "logprob", *, k: float = LOWEST_SHARE) -> pl.Expr:
    """Min-K% Prob: the mean of the lowest logprobs of a text.

    Formula: the mean of the lowest max(1, floor(k T)) logprobs.
    Range: (-inf, 0], higher speaks for a text that was seen in training. Unit: nats per token. An unseen text has a few
    words of very low probability.
    Needs: the `logprob` of the tokens of a text: the `prompt` section of runs with `mode = "score"`.
    Nulls: left out, also of T; no scored token gives null.
    Source: Shi et al. 2024 (arXiv:2310.16789).

    Args:
        column: the logprobs.
        k: the share of the tokens to take.

    Raises:
        ValueError: `k` is not above 0 and at most 1.

    Two fifths of five tokens are two, the lowest -4 and -3:

    >>> tokens = pl.DataFrame({"logprob": [-1.0, -4.0, -2.0, -3.0, -0.5]})
    >>> tokens.select(min_k_probability(k=0.4)).item()
    -3.5
    """
    if not 0 < k <= 1:
        raise ValueError(f"k {k} is not a share of the tokens above 0 and at most 1: 0.2 is the lowest fifth")
    logprob = as_column(column)
    lowest = (logprob.count() * k + EXACT).floor().clip(lower_bound=1.0).cast(pl.UInt32)
    metric = logprob.drop_nulls().bottom_k(lowest).mean()
    return only_of_tokens(metric.alias("min_k_probability"), column)


def zlib_ratio(mean_logprob: Column = "mean_logprob", *, text: Column = "text") -> pl.Expr:
    """The mean logprob of a text, divided by the size of the text when compressed.

    Formula: (1/T) sum l / len(zlib(text)), with the text in UTF-8, compressed at level 6.
    Range: (-inf, 0], higher speaks for a text that was seen in training: the model finds it likely, though it does not
    repeat itself. Unit: nats per token and byte.
    Needs: one row per text with the mean logprob of its tokens, as `store.text_scores()` gives them:
    `store.text_scores().with_columns(ls.zlib_ratio())`. Of answers, `store.scores(metrics=["zlib_ratio"])`: their
    `text` is the section `content` alone, and their `mean_logprob` is of all sections, reasoning and tool calls too.
    Python compresses one text after another, tens of MB a second.
    Nulls: a null text or mean gives null. An empty text compresses to 8 bytes.
    Source: Carlini et al. 2021 (arXiv:2012.07805), the ratio of log perplexity to zlib entropy, there with the opposite
    sign.

    Eight letters a compress to 11 bytes, and -2.2 / 11 = -0.2:

    >>> texts = pl.DataFrame({"mean_logprob": [-2.2], "text": ["a" * 8]})
    >>> round(texts.select(zlib_ratio()).item(), 6)
    -0.2
    """
    size = as_column(text).map_batches(_compressed_sizes, return_dtype=pl.UInt32, is_elementwise=True)
    return (as_column(mean_logprob) / size).alias("zlib_ratio")


def _compressed_sizes(texts: pl.Series) -> pl.Series:
    sizes = [None if text is None else len(zlib.compress(text.encode())) for text in texts]
    return pl.Series(texts.name, sizes, dtype=pl.UInt32)
