"""Is a confidence honest: does what is said with 0.8 come true eight times in ten?

Polars expressions over a confidence and whether it was right, for any `select` or `group_by`, and the reliability
table. Leaves out whether confidence tells right from wrong (`ranking`), what to do with it (`selective`), and mending
it (`logprob_store.analysis.calibrators`).

Bins are [k / bins, (k + 1) / bins), the last one closed, so 0.0 falls in the first and 1.0 in the last. What polars
evaluates must be the rows of one judgement each: the answers, not the tokens.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.truth.checks import as_probability
from logprob_store.metrics.truth.judged_pairs import CONFIDENCE, CORRECT, group_columns, judged_pairs, judged_rows
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

Binning: TypeAlias = Literal["width", "mass"]


def ece(confidence: Column = "confidence", correct: Column = "correct", *, bins: int = 10) -> pl.Expr:
    """The expected calibration error over bins of equal width: sum_b (n_b / n) |accuracy_b - mean confidence_b|.

    Range [0, 1], down is better. Bias: with few rows a bin it is above 0 even for an honest confidence (about
    sqrt(bins / n) / 3), so compare it only at one n, and give an interval. Needs: confidence, correct. Source: Naeini
    et al. 2015; Guo et al. 2017 (arXiv:1706.04599), whose half-open bins lose a confidence of exactly 0. Unjudged rows
    are left out; none judged gives null.

    In [0.9, 1.0] the mean confidence is 0.95 and half are right; in [0.2, 0.3) it is 0.2 and none are:
    (2/3) 0.45 + (1/3) 0.2 = 0.366667:

    >>> frame = pl.DataFrame({"confidence": [0.9, 1.0, 0.2], "correct": [True, False, False]})
    >>> round(frame.select(ece()).item(), 6)
    0.366667
    """
    gaps, counts = _gaps(confidence, correct, bins, "width")
    return (gaps.abs().sum() / _or_null(counts.sum())).alias("ece")


def ace(confidence: Column = "confidence", correct: Column = "correct", *, bins: int = 10) -> pl.Expr:
    """The adaptive calibration error: as `ece`, over bins of equal mass, each with about n / bins of the rows.

    A row's bin is that of its mean rank, so equal confidences stay together, whatever the order of rows; bins are then
    unlike in size, and weigh what they hold. Range [0, 1], down is better. Logprob confidences crowd near 1, where bins
    of equal width hold nearly all in one. Needs: confidence, correct. Source: Nguyen and O'Connor 2015
    (arXiv:1508.05154); Nixon et al. 2019 (arXiv:1904.01685), of the confidence in the answer given.
    Unjudged rows are left out; none judged gives null.

    Two bins of two: mean confidence 0.15 with none right, 0.85 with half right: (0.15 + 0.35) / 2:

    >>> frame = pl.DataFrame({"confidence": [0.1, 0.2, 0.8, 0.9], "correct": [0, 0, 0, 1]})
    >>> round(frame.select(ace(bins=2)).item(), 6)
    0.25
    """
    gaps, counts = _gaps(confidence, correct, bins, "mass")
    return (gaps.abs().sum() / _or_null(counts.sum())).alias("ace")


def mce(
    confidence: Column = "confidence", correct: Column = "correct", *, bins: int = 10, binning: Binning = "width"
) -> pl.Expr:
    """The maximum calibration error: the largest |accuracy_b - mean confidence_b| of a bin that is not empty.

    Range [0, 1], down is better; one row in a bin of its own can make it, so look at the reliability table beside it,
    or take `binning="mass"`. Needs: confidence, correct. Source: Naeini et al. 2015. Unjudged rows are left out; none
    judged gives null.

    Bins as in `ece`'s example, off by 0.45 and 0.2:

    >>> frame = pl.DataFrame({"confidence": [0.9, 1.0, 0.2], "correct": [True, False, False]})
    >>> round(frame.select(mce()).item(), 6)
    0.45
    """
    gaps, counts = _gaps(confidence, correct, bins, binning)
    return (gaps.abs() / counts).max().alias("mce")


def brier(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The Brier score of the confidence, the mean of (confidence - right)^2.

    Range [0, 1], down is better; always saying the share that is right, a, scores a (1 - a). A proper score: only the
    true probability does best, so it sees both honesty and discrimination. Needs: confidence, correct. Source: Brier
    1950, for one event; `brier_labels` is his form over several. Unjudged rows are left out; none judged gives null.

    (0.1^2 + 0.5^2) / 2:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.5], "correct": [True, False]})
    >>> round(frame.select(brier()).item(), 6)
    0.13
    """
    c, y = judged_pairs(confidence, correct)
    return (c - y).pow(2).mean().alias("brier")


def brier_labels(
    probability: Column = "probability",
    *,
    label: Column = "label",
    truth: Column = "truth",
    row: Sequence[str] = KEYS,
) -> pl.Expr:
    """The Brier score over labels, the mean over rows of sum_y (p(y) - [y is true])^2.

    Range [0, 2], down is better; with two labels it is twice `brier`. A label that is not listed has p = 0, also where
    it is the true one. Needs: a frame with one row per (row, label), the label's probability, and the true label beside
    each. Source: Brier 1950. Where truth or probability is null, left out; none judged gives null.

    (0.7 - 1)^2 + 0.3^2, and a truth that was not listed, 0.6^2 + 0.4^2 + 1: (0.18 + 1.52) / 2:

    >>> frame = pl.DataFrame(
    ...     {
    ...         "id": [1, 1, 2, 2],
    ...         "label": ["a", "b", "a", "b"],
    ...         "probability": [0.7, 0.3, 0.6, 0.4],
    ...         "truth": ["a", "a", "c", "c"],
    ...     }
    ... )
    >>> round(frame.select(brier_labels(row=["id"])).item(), 6)
    0.85
    """
    known = as_column(truth).is_not_null() & as_column(probability).is_not_null()
    p = as_probability(probability)
    right = as_column(label) == as_column(truth)
    rows = pl.struct(row).filter(known).n_unique()
    # sum_y (p - [true])^2 = sum p^2 - 2 p(true) + 1, which also holds where the true label is not listed
    total = p.filter(known).pow(2).sum() - 2 * p.filter(known & right).sum()
    return pl.when(known.any()).then(total / rows + 1.0).alias("brier_labels")


def nll(confidence: Column = "confidence", correct: Column = "correct", *, clip: float = 2.0**-52) -> pl.Expr:
    """The negative log-likelihood (log loss), the mean of -ln c where right and -ln(1 - c) where wrong.

    Range [0, inf), nats, down is better. A proper score that punishes certainty without bound: a wrong answer with
    c = 1.0 alone makes it infinite, and logprob confidences do saturate at 1.0. So c is kept in [clip, 1 - clip], by
    default 2^-52 (36 nats) as scikit-learn does; `clip=0` gives the unbounded figure. Needs: confidence, correct.
    Source: Good 1952. Unjudged rows are left out; none judged gives null.

    Raises:
        ValueError: `clip` is not in [0, 1/2).

    Half for both outcomes is ln 2:

    >>> frame = pl.DataFrame({"confidence": [0.5, 0.5], "correct": [True, False]})
    >>> round(frame.select(nll()).item(), 6)
    0.693147
    """
    if not 0 <= clip < 0.5:  # noqa: PLR2004  beyond a half nothing would be left
        raise ValueError(f"clip {clip} is not in [0, 1/2)")
    c, y = judged_pairs(confidence, correct)
    kept = c.clip(clip, 1.0 - clip)
    # 0 ln 0 is 0 here. No when/then: polars 2.1 panics on one over filtered columns that come from a Python function.
    loglikelihood = (y * kept.log()).fill_nan(0.0) + ((1.0 - y) * (1.0 - kept).log()).fill_nan(0.0)
    return (0.0 - loglikelihood.mean()).alias("nll")


def reliability_table(
    frame: pl.DataFrame | pl.LazyFrame,
    confidence: Column = "confidence",
    correct: Column = "correct",
    *,
    bins: int = 10,
    binning: Binning = "width",
    by: str | Sequence[str] | None = None,
    level: float = 0.95,
) -> pl.LazyFrame:
    """The reliability diagram as a table: one row per bin, and per group of `by`; empty bins are there, with count 0.

    Columns: those of `by`; bin (from 0); lower and upper, the bin's edges (`width`) or its smallest and largest
    confidence (`mass`); count; mean_confidence; accuracy; accuracy_low and accuracy_high, Wilson's interval of the
    accuracy (Wilson 1927), which holds at 0 and at 1 too; gap = mean_confidence - accuracy, above 0 where the
    confidence is too high; unjudged, how many rows of the group are in no bin. The counts and `unjudged` add up to the
    rows. Needs: confidence, correct. Source: the reliability diagram, DeGroot and Fienberg 1983, as numbers.

    Raises:
        ValueError: bins below 1, an unknown binning, a level not in (0, 1).

    >>> frame = pl.DataFrame({"confidence": [0.9, 1.0, 0.2, None], "correct": [True, False, False, True]})
    >>> table = reliability_table(frame, bins=2).collect()
    >>> table.select("bin", "lower", "upper", "count", pl.col("mean_confidence", "gap").round(6), "unjudged").rows()
    [(0, 0.0, 0.5, 1, 0.2, 0.2, 1), (1, 0.5, 1.0, 2, 0.95, 0.45, 1)]
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1; 0.95 is usual")
    groups = group_columns(by)
    rows, unjudged = judged_rows(frame, confidence, correct, groups)
    bin_of_row = _bin(pl.col(CONFIDENCE), bins, binning)
    filled = (
        rows.with_columns(bin=bin_of_row.over(groups) if groups and binning == "mass" else bin_of_row)
        .group_by(*groups, "bin")
        .agg(
            count=pl.len().cast(pl.Int64),
            mean_confidence=pl.col(CONFIDENCE).mean(),
            accuracy=pl.col(CORRECT).mean(),
            lowest=pl.col(CONFIDENCE).min(),
            highest=pl.col(CONFIDENCE).max(),
        )
    )
    edges = _bin_edges(bins)
    if binning == "mass":
        edges, filled = edges.select("bin"), filled.rename({"lowest": "lower", "highest": "upper"})
    table = unjudged.join(edges, how="cross").join(filled, on=[*groups, "bin"], how="left", nulls_equal=True)
    low, high = _wilson(pl.col("accuracy"), pl.col("count"), NormalDist().inv_cdf((1 + level) / 2))
    return table.sort(*groups, "bin", nulls_last=True).select(
        *groups,
        *("bin", "lower", "upper"),
        pl.col("count").fill_null(0),
        *("mean_confidence", "accuracy"),
        low.alias("accuracy_low"),
        high.alias("accuracy_high"),
        (pl.col("mean_confidence") - pl.col("accuracy")).alias("gap"),
        "unjudged",
    )


def _bin_edges(bins: int) -> pl.LazyFrame:
    """One row per bin of equal width: bin, lower, upper."""
    return pl.LazyFrame(
        {
            "bin": range(bins),
            "lower": [number / bins for number in range(bins)],
            "upper": [(number + 1) / bins for number in range(bins)],
        },
        schema={"bin": pl.Int32, "lower": pl.Float64, "upper": pl.Float64},
    )


def _gaps(confidence: Column, correct: Column, bins: int, binning: Binning) -> tuple[pl.Expr, pl.Expr]:
    """For each bin that holds any: the sum of confidence minus truth, and the number of rows."""
    c, y = judged_pairs(confidence, correct)
    # In the order of confidence, a bin's sum is the difference of two running sums, however many bins there are.
    counts = _bin(c.sort(), bins, binning).rle().struct.field("len").cast(pl.Int64)
    sums = (c - y).sort_by(c).cum_sum().gather(counts.cum_sum() - 1)
    return sums - sums.shift(1, fill_value=0.0), counts


def _or_null(count: pl.Expr) -> pl.Expr:
    """The count, null where it is 0: something to divide by."""
    return pl.when(count > 0).then(count)


def _bin(c: pl.Expr, bins: int, binning: Binning) -> pl.Expr:
    """The bin of each confidence, from 0."""
    if bins < 1:
        raise ValueError(f"bins {bins}: at least one is needed")
    match binning:
        case "width":
            # Looked up, for arithmetic rounds: 0.29 x 100 is below 29, and 3 times polars' 1 / 10 above 0.3.
            edges = pl.lit(pl.Series([number / bins for number in range(1, bins)], dtype=pl.Float64))
            return edges.search_sorted(c, side="right").cast(pl.Int32)
        case "mass":
            return ((c.rank("average") - 0.5) * bins / c.len()).floor().clip(0, bins - 1).cast(pl.Int32)
        case _:
            raise ValueError(f"binning {binning!r} is none of {', '.join(get_args(Binning))}")


def _wilson(share: pl.Expr, count: pl.Expr, z: float) -> tuple[pl.Expr, pl.Expr]:
    """Wilson's score interval of a share."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = (share * (1 - share) / count + z * z / (4 * count * count)).sqrt() * z / (1 + z * z / count)
    return (middle - half).clip(0.0, 1.0), (middle + half).clip(0.0, 1.0)
