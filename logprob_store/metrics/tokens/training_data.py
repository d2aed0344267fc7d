"""Whether a text was in the training data, as far as logprobs of the chosen tokens can tell.

Polars expressions. Leaves out Min-k%++ and whatever else needs the whole vocabulary, which no API gives
(docs/metrics.md says which), and the decision itself: a score separates texts of one kind and length at best.
"""

from __future__ import annotations

import zlib
from typing import Final

import polars as pl

from logprob_store.metrics.arguments import Column, as_column

LOWEST_SHARE: Final = 0.2
"""Of the tokens: what `min_k_probability` is of, unless said otherwise."""

EXACT: Final = 1e-9
"""0.29 * 100 is 28.999999999999996 in floating point, and floor(kT) is meant to be 29."""


def min_k_probability(column: Column = "logprob", *, k: float = LOWEST_SHARE) -> pl.Expr:
    """Min-K% Prob: the mean of the lowest floor(kT) logprobs, at least one.

    Range (-inf, 0], nats, up speaks for a text that was seen in training: one that was not has a few words of very low
    probability. Needs: the `logprob` of the text's tokens (the `prompt` section of runs that scored given text).
    Source: Shi et al. 2024 (arXiv:2310.16789). Nulls are left out and not in T; no scored token gives null; one token,
    its own.

    Raises:
        ValueError: `k` is not a share above 0.

    Two fifths of five tokens are two, the lowest -4 and -3:

    >>> tokens = pl.DataFrame({"logprob": [-1.0, -4.0, -2.0, -3.0, -0.5]})
    >>> tokens.select(min_k_probability(k=0.4)).item()
    -3.5
    """
    if not 0 < k <= 1:
        raise ValueError(f"k {k} is not a share of the tokens above 0 and at most 1: 0.2 is the lowest fifth")
    logprob = as_column(column)
    lowest = (logprob.count() * k + EXACT).floor().clip(lower_bound=1.0).cast(pl.UInt32)
    return logprob.drop_nulls().bottom_k(lowest).mean().alias("min_k_probability")


def zlib_ratio(mean_logprob: Column = "mean_logprob", *, text: Column = "text") -> pl.Expr:
    """The mean logprob over the size of the text when compressed: (1/T) sum l / len(zlib(text)).

    Range (-inf, 0], nats per token and byte, up speaks for a text that was seen in training: the model finds it likely
    though it does not repeat itself. Needs: one row per text with its mean logprob, as `store.text_scores()` and
    `store.scores()` have them. Source: Carlini et al. 2021 (arXiv:2012.07805), the ratio of log perplexity to zlib
    entropy, there with the other sign. Compressed is the text's UTF-8 at zlib's level 6, in Python, one text after
    another: tens of MB a second. A null in either gives null; an empty text compresses to 8 bytes.

    "aaaaaaaa" in 11 bytes:

    >>> texts = pl.DataFrame({"mean_logprob": [-2.2], "text": ["a" * 8]})
    >>> round(texts.select(zlib_ratio()).item(), 6)
    -0.2
    """
    size = as_column(text).map_batches(_compressed_sizes, return_dtype=pl.UInt32, is_elementwise=True)
    return (as_column(mean_logprob) / size).alias("zlib_ratio")


def _compressed_sizes(texts: pl.Series) -> pl.Series:
    sizes = [None if text is None else len(zlib.compress(text.encode())) for text in texts]
    return pl.Series(texts.name, sizes, dtype=pl.UInt32)
