"""Where in an answer the model was unsure: spans of unlikely tokens, and means over a sliding window.

Polars expressions over the `tokens` table, or over any value per token. They depend on the order of tokens and sort
by it inside, so the order of rows and the borders of parts change nothing. Leaves out scores that know no order
(`sequence`) and the values per token (`topk`).

Order is the order in which a model writes: the prompt, its reasoning, then content, refusal and tool calls, each by
`position`. To keep sections apart, group by `section` too.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.schema import Section

Statistic: TypeAlias = Literal["lowest", "mean", "tail", "bottom"]

_BOTTOM_PARTS: Final = 10
_POSITIONS: Final = 2**32


def written_order() -> pl.Expr:
    """The place of a token in what was written, one ascending integer: reasoning is before content.

    Range [0, 9 * 2**32). Sections follow one another, each by its own `position`, and between two sections the number
    jumps. Needs: `section` and `position`. Source: the data contract, in which each section counts from 0.

    >>> tokens = pl.DataFrame({"section": ["content", "reasoning"], "position": [0, 7], "token": ["4", "So"]})
    >>> tokens.sort(written_order())["token"].to_list()
    ['So', '4']
    """
    # numbers of the enum, twice as large, leave room for reasoning right behind the prompt
    section = pl.col("section").cast(Section).to_physical().cast(pl.Int64) * 2
    place = pl.when(pl.col("section") == "reasoning").then(pl.lit(1, pl.Int64)).otherwise(section)
    return (place * _POSITIONS + pl.col("position").cast(pl.Int64)).alias("written_order")


def longest_low_confidence_span(
    column: Column = "logprob", *, threshold: float = 0.5, order: Column | None = None
) -> pl.Expr:
    """The most tokens in a row with p < threshold.

    Range [0, T], tokens, down is better. A p equal to the threshold is not low. An unscored token ends a span, for
    nobody knows it to be low, and so does a gap in `order`: the end of a section, or rows that were filtered out.
    Needs: `logprob`, `section`, `position`; or any `order` of integers that count up by one. Source: the spans that
    FLARE asks about again, Jiang et al. 2023 (arXiv:2305.06983), measured. No scored token gives null.

    Raises:
        ValueError: `threshold` is not a probability above 0.

    Four tokens below a half, of which an unscored one parts two and one:

    >>> from math import log
    >>> p = [log(0.9), log(0.2), log(0.2), None, log(0.2)]
    >>> tokens = pl.DataFrame({"section": "content", "position": range(5), "logprob": p})
    >>> tokens.select(longest_low_confidence_span()).item()
    2
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} is not a probability above 0 and at most 1")
    logprob, place = as_column(column), _order(order)
    ordered = place.sort()
    low = (logprob < math.log(threshold)).fill_null(value=False).sort_by(place)
    row = pl.int_range(pl.len(), dtype=pl.Int64)
    gap = (ordered.diff() != 1).fill_null(value=False)
    # The last row that is outside of the span: one that is not low, or the one before a gap.
    outside = pl.when(~low).then(row).when(gap).then(row - 1).otherwise(-1)
    longest = (row - outside.cum_max()).max().cast(pl.UInt32)
    return pl.when(logprob.count() > 0).then(longest).alias("longest_low_confidence_span")


def sliding_confidence(
    column: Column = "logprob", *, window: int, statistic: Statistic = "lowest", order: Column | None = None
) -> pl.Expr:
    """The confidence, exp(mean l), of windows of `window` scored tokens in a row.

    `lowest`: of the least sure window; `bottom`: the mean of the least sure tenth of windows (at least one); `mean`:
    the mean of all; `tail`: of the last window alone, where an answer ends. An answer shorter than the window is one
    window. Range [0, 1], up is better. Needs: `logprob`, `section`, `position`. Source: DeepConf's group confidence,
    Fu et al. 2025 (arXiv:2508.15260), over the chosen tokens; `group_confidence` has it over the alternatives, as
    published. Nulls are left out, and the window reaches over them; no scored token gives null.

    Raises:
        ValueError: a window below 1, or an unknown statistic.

    1/2, 1/4 and 1 in order: the first two have a geometric mean of 0.353553 (2 ** -1.5), the last two of 1/2.

    >>> from math import log
    >>> tokens = pl.DataFrame({"section": "content", "position": [2, 0, 1], "logprob": [0.0, log(0.5), log(0.25)]})
    >>> lowest, tail = sliding_confidence(window=2), sliding_confidence(window=2, statistic="tail")
    >>> tokens.select(lowest.round(6), tail.alias("tail")).row(0)
    (0.353553, 0.5)
    """
    # a running mean of zeros may come out a hair above 0 after a large value has left it
    windows = _windows(as_column(column), window, order).clip(upper_bound=0.0).exp()
    return _statistic(windows, statistic).alias("sliding_confidence")


def group_confidence(
    column: Column = "token_confidence", *, window: int, statistic: Statistic = "lowest", order: Column | None = None
) -> pl.Expr:
    """The mean of a value per token over windows of `window` tokens in a row: DeepConf's group confidence.

    Over `token_confidence`, as published, in nats, [0, inf), up is surer; statistics, short answers and nulls as in
    `sliding_confidence`. Needs: a value per token with its `section` and `position`, as grouping alternatives by
    POSITION gives it. Source: Fu et al. 2025 (arXiv:2508.15260): `lowest` group, `bottom` 10 % group and `tail`
    confidence, there with windows of 1024 and 2048 tokens.

    Raises:
        ValueError: a window below 1, or an unknown statistic.

    Windows of two over 4, 2, 1, 3: 3, 1.5 and 2.

    >>> tokens = pl.DataFrame({"section": "content", "position": range(4), "token_confidence": [4.0, 2.0, 1.0, 3.0]})
    >>> tokens.select(group_confidence(window=2)).item()
    1.5
    >>> tokens.select(group_confidence(window=2, statistic="tail")).item()
    2.0
    """
    return _statistic(_windows(as_column(column), window, order), statistic).alias("group_confidence")


def _order(order: Column | None) -> pl.Expr:
    return written_order() if order is None else as_column(order)


def _windows(value: pl.Expr, window: int, order: Column | None) -> pl.Expr:
    """The means of all whole windows, in order; of everything where there are fewer values than a window has."""
    if window < 1:
        raise ValueError(f"window {window} is not a number of tokens: it must be at least 1")
    ordered = value.sort_by(_order(order)).drop_nulls()
    # as a signed number: counts are not, and T - window must not wrap around
    whole = (value.count().cast(pl.Int64) - window).clip(lower_bound=0) + 1
    return ordered.rolling_mean(window, min_samples=1).tail(whole)


def _statistic(windows: pl.Expr, statistic: Statistic) -> pl.Expr:
    match statistic:
        case "lowest":
            return windows.min()
        case "mean":
            return windows.mean()
        case "tail":
            return windows.last()
        case "bottom":
            lowest = (windows.len() // _BOTTOM_PARTS).clip(lower_bound=1)
            return windows.sort().head(lowest).mean()
        case _:
            raise ValueError(f"statistic {statistic!r} is none of {', '.join(get_args(Statistic))}")
