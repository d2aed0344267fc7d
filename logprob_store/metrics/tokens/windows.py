"""Windows and runs of tokens: scores that depend on the order of the tokens.

Polars expressions over the `tokens` table, or over any column with one value per token. They sort the tokens
themselves, so that neither the order of rows nor the borders of parts matters. The order is the one in which a model
writes: the prompt, then the reasoning, then content, refusal and tool calls, each section by `position`. To keep
sections apart, group by `section` as well.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.arguments import Column, as_column, ln_threshold
from logprob_store.metrics.right_table import of_given_column, only_of_tokens
from logprob_store.schema import Section

Statistic: TypeAlias = Literal["lowest", "mean", "tail", "bottom"]

_BOTTOM_PARTS: Final = 10
_POSITIONS: Final = 2**32


def written_order() -> pl.Expr:
    """The place of a token in what the model wrote: an ascending integer, with the reasoning before the content.

    Formula: n 2**32 + position, where n numbers the sections: prompt 0, reasoning 1, content 2, refusal 4, tool 8.
    Between two sections the number jumps.
    Range: [0, 9 * 2**32). Unit: none. `text` and the metrics of windows sort by it; where a frame has no sections, give
    them an order of its own, such as `order="position"`.
    Needs: `section` and `position`.
    Nulls: a null section or position gives null.
    Source: the format of the store, docs/store.md, in which each section counts from 0.

    A token of the reasoning comes before one of the content:

    >>> tokens = pl.DataFrame({"section": ["content", "reasoning"], "position": [0, 7], "token": ["4", "So"]})
    >>> tokens.sort(written_order())["token"].to_list()
    ['So', '4']
    """
    # Twice the number of the enum: that leaves 1 free for the reasoning, right after the prompt.
    section = pl.col("section").cast(Section).to_physical().cast(pl.Int64) * 2
    place = pl.when(pl.col("section") == "reasoning").then(pl.lit(1, pl.Int64)).otherwise(section)
    return (place * _POSITIONS + pl.col("position").cast(pl.Int64)).alias("written_order")


def longest_low_confidence_span(
    column: Column = "logprob", *, threshold: float = 0.5, order: Column | None = None
) -> pl.Expr:
    """The length of the longest run of tokens that all have a low probability.

    Formula: the most consecutive tokens with p < threshold.
    Range: [0, T], lower is better. Unit: tokens. A gap in `order` ends a run: the end of a section, or rows that were
    filtered out.
    Needs: `logprob`, `section` and `position`; or `logprob` and any `order` of integers that count up by one.
    Nulls: an unscored token ends a run, because it is not known to be low; no scored token gives null.
    Source: the spans that FLARE generates again, Jiang et al. 2023 (arXiv:2305.06983), measured.

    Raises:
        ValueError: `threshold` is not a probability above 0.

    An unscored token divides three low tokens into a run of two and a run of one. A p equal to the threshold is not
    low.

    >>> from math import log
    >>> p = [log(0.9), log(0.2), log(0.2), None, log(0.2)]
    >>> tokens = pl.DataFrame({"section": "content", "position": range(5), "logprob": p})
    >>> tokens.select(longest_low_confidence_span()).item()
    2
    """
    logprob, place = as_column(column), _order(order)
    ordered = place.sort()
    low = (logprob < ln_threshold(threshold)).fill_null(value=False).sort_by(place)
    row = pl.int_range(pl.len(), dtype=pl.Int64)
    gap = (ordered.diff() != 1).fill_null(value=False)
    # The last row outside the run: a row that is not low, or the one before a gap.
    outside = pl.when(~low).then(row).when(gap).then(row - 1).otherwise(-1)
    longest = (row - outside.cum_max()).max().cast(pl.UInt32)
    known = logprob.count() > 0
    return only_of_tokens(pl.when(known).then(longest).alias("longest_low_confidence_span"), column)


def sliding_confidence(
    column: Column = "logprob", *, window: int, statistic: Statistic = "lowest", order: Column | None = None
) -> pl.Expr:
    """The confidence of windows of consecutive scored tokens, as one number.

    Formula: exp((1/window) sum l) of each window; `statistic` makes one number of them. An answer shorter than the
    window is one window.
    Range: [0, 1], higher is better. Unit: none. A long answer that is unsure for a while shows here; its mean hides it.
    Needs: `logprob`, `section` and `position`; or `logprob` and any `order`.
    Nulls: left out, so that a window reaches over them; no scored token gives null.
    Source: the group confidence of DeepConf, Fu et al. 2025 (arXiv:2508.15260), here of the chosen tokens;
    `group_confidence` is the published form, of the alternatives.

    Args:
        column: the logprobs.
        window: the tokens of a window.
        statistic: "lowest", the least sure window; "bottom", the mean of the least sure tenth of the windows, at least
            one; "mean", the mean of all windows; "tail", the last window, where an answer ends.
        order: the order of the tokens; `written_order` by default.

    Raises:
        ValueError: `window` is below 1, or `statistic` is unknown.

    1/2, 1/4 and 1 in order: the geometric mean of the first two is 0.353553 (2 ** -1.5), of the last two 1/2.

    >>> from math import log
    >>> tokens = pl.DataFrame({"section": "content", "position": [2, 0, 1], "logprob": [0.0, log(0.5), log(0.25)]})
    >>> lowest, tail = sliding_confidence(window=2), sliding_confidence(window=2, statistic="tail")
    >>> tokens.select(lowest.round(6), tail.alias("tail")).row(0)
    (0.353553, 0.5)
    """
    # The running mean of zeros may be slightly above 0 after a large value has left the window.
    windows = _windows(as_column(column), window, order).clip(upper_bound=0.0).exp()
    return only_of_tokens(_statistic(windows, statistic).alias("sliding_confidence"), column)


def group_confidence(
    column: Column = "token_confidence", *, window: int, statistic: Statistic = "lowest", order: Column | None = None
) -> pl.Expr:
    """The group confidence of DeepConf: the mean of a value per token over windows of consecutive tokens.

    Formula: the mean of the column over each window; `statistic` makes one number of them, as in `sliding_confidence`.
    Range: [0, inf), higher is surer. Unit: nats, for `token_confidence`; else that of the column.
    Needs: one value per token with its `section` and `position`, as grouping alternatives by `POSITION` gives them.
    Nulls: left out, so that a window reaches over them; no value gives null.
    Source: Fu et al. 2025 (arXiv:2508.15260): `lowest` is their lowest group confidence, `bottom` their bottom 10 %
    group confidence, `tail` their tail confidence, with windows of 1024 and 2048 tokens.

    Raises:
        ValueError: `window` is below 1, or `statistic` is unknown.

    The windows of two over 4, 2, 1, 3 have the means 3, 1.5 and 2:

    >>> tokens = pl.DataFrame({"section": "content", "position": range(4), "token_confidence": [4.0, 2.0, 1.0, 3.0]})
    >>> tokens.select(group_confidence(window=2)).item()
    1.5
    >>> tokens.select(group_confidence(window=2, statistic="tail")).item()
    2.0
    """
    return of_given_column(
        column,
        lambda value: _statistic(_windows(value, window, order), statistic),
        function="group_confidence",
        table="alternatives",
    )


def _order(order: Column | None) -> pl.Expr:
    return written_order() if order is None else as_column(order)


def _windows(value: pl.Expr, window: int, order: Column | None) -> pl.Expr:
    """The mean of each whole window, in order; of all values where there are fewer than a window has."""
    if window < 1:
        raise ValueError(f"window {window} is not a number of tokens: it must be at least 1")
    ordered = value.sort_by(_order(order)).drop_nulls()
    # Signed, because counts are unsigned and T - window must not wrap around.
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
