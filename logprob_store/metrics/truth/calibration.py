"""Calibration: errors and proper scores of a confidence, and the reliability table.

They say whether answers given with 0.8 are right eight times in ten. Whether a confidence tells right answers from
wrong ones is another question: see `auroc`.

Bins are [k / bins, (k + 1) / bins) and the last one is closed, so 0.0 falls in the first bin and 1.0 in the last.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.truth.calibration_intervals import CalibrationError
from logprob_store.metrics.truth.judged_metric import JudgedMetric
from logprob_store.metrics.truth.judged_pairs import CONFIDENCE, CORRECT, group_columns, judged_pairs, judged_rows
from logprob_store.metrics.truth.shares import share_bounds
from logprob_store.metrics.truth.value_checks import as_probability
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

Binning: TypeAlias = Literal["width", "mass"]


def ece(confidence: Column = "confidence", correct: Column = "correct", *, bins: int = 10) -> pl.Expr:
    """The expected calibration error: the mean gap between confidence and accuracy, over bins of equal width.

    Formula: sum over bins b of (n_b / n) |mean of y in b - mean of c in b|.
    Range: [0, 1], lower is better. Unit: none. With few rows per bin it is above 0 even for an honest confidence, about
    sqrt(bins / n) / 3: compare it only at the same n, show `calibration_floor` beside it, and give the interval of
    `bootstrap`, which allows for that.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: Naeini et al. 2015; Guo et al. 2017 (arXiv:1706.04599), whose half-open bins lose a confidence of exactly 0.

    In [0.9, 1.0] the mean confidence of two rows is 0.95 and half are right; in [0.2, 0.3) one row of 0.2 is wrong:
    (2/3) 0.45 + (1/3) 0.2 = 0.366667.

    >>> frame = pl.DataFrame({"confidence": [0.9, 1.0, 0.2], "correct": [True, False, False]})
    >>> round(frame.select(ece()).item(), 6)
    0.366667
    """
    return _mean_gap("ece", confidence, correct, bins, "width")


def ace(confidence: Column = "confidence", correct: Column = "correct", *, bins: int = 10) -> pl.Expr:
    """The adaptive calibration error: the mean gap between confidence and accuracy, over bins of about n / bins rows.

    Formula: that of `ece`. The bin of a row follows from the mean rank of its confidence, so equal confidences share a
    bin, whatever the order of rows; bins may then differ in size.
    Range: [0, 1], lower is better. Unit: none.
    Needs: the columns `confidence` and `correct`. It suits confidences from logprobs, of which bins of equal width hold
    nearly all in the one next to 1.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: Nguyen and O'Connor 2015 (arXiv:1508.05154); Nixon et al. 2019 (arXiv:1904.01685), here of the confidence in
    the answer given.

    Two bins of two rows: mean confidence 0.15 and none right, 0.85 and half right: (0.15 + 0.35) / 2 = 0.25.

    >>> frame = pl.DataFrame({"confidence": [0.1, 0.2, 0.8, 0.9], "correct": [0, 0, 0, 1]})
    >>> round(frame.select(ace(bins=2)).item(), 6)
    0.25
    """
    return _mean_gap("ace", confidence, correct, bins, "mass")


def mce(
    confidence: Column = "confidence", correct: Column = "correct", *, bins: int = 10, binning: Binning = "width"
) -> pl.Expr:
    """The maximum calibration error: the largest gap between confidence and accuracy of any bin that is not empty.

    Formula: max over bins b of |mean of y in b - mean of c in b|.
    Range: [0, 1], lower is better. Unit: none. A single row alone in its bin can decide it: look at the reliability
    table as well, or use `binning="mass"`, the bins of `ace`. With bins of equal width `bootstrap` gives no interval,
    as the largest gap may be of a bin that few rows or none are in.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: Naeini et al. 2015.

    The bins of the example of `ece` are off by 0.45 and 0.2:

    >>> frame = pl.DataFrame({"confidence": [0.9, 1.0, 0.2], "correct": [True, False, False]})
    >>> round(frame.select(mce()).item(), 6)
    0.45
    """
    gaps, counts = _gaps(confidence, correct, bins, binning)
    return CalibrationError.of(
        (gaps.abs() / counts).max().alias("mce"),
        confidence=confidence,
        correct=correct,
        bin_of=lambda c: _bin(c, bins, binning),
        worst=True,
        has_interval=binning == "mass",
    )


def brier(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The Brier score: the mean squared difference between confidence and truth.

    Formula: mean of (c - y)^2.
    Range: [0, 1], lower is better; a constant confidence equal to the accuracy a scores a (1 - a). Unit: none. It is a
    proper score: only the true probability has the best expected score, so it measures calibration and discrimination.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: Brier 1950, for one event; `brier_labels` is his form for several.

    (0.1^2 + 0.5^2) / 2 = 0.13:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.5], "correct": [True, False]})
    >>> round(frame.select(brier()).item(), 6)
    0.13
    """
    c, y = judged_pairs(confidence, correct)
    return JudgedMetric.of((c - y).pow(2).mean().alias("brier"), confidence, correct, brier)


def brier_labels(
    probability: Column = "probability",
    *,
    label: Column = "label",
    truth: Column = "truth",
    row: Sequence[str] = KEYS,
) -> pl.Expr:
    """The Brier score over several labels: the mean over rows of the squared differences of all labels.

    Formula: mean over rows of the sum over labels of (p - t)^2, t = 1 for the true label and 0 for the others. A label
    that is not listed has p = 0, even where it is the true one.
    Range: [0, 2], lower is better; with two labels it is twice `brier`. Unit: none.
    Needs: one row per (row, label), with the probability of the label and the true label beside it.
    Nulls: rows with a null truth or a null probability are left out; none left gives null.
    Source: Brier 1950.

    Row 1: (0.7 - 1)^2 + 0.3^2 = 0.18. Row 2, whose true label is not listed: 0.6^2 + 0.4^2 + 1 = 1.52. Mean: 0.85.

    >>> rows = {"id": [1, 1, 2, 2], "label": ["a", "b", "a", "b"], "truth": ["a", "a", "c", "c"]}
    >>> frame = pl.DataFrame(rows | {"probability": [0.7, 0.3, 0.6, 0.4]})
    >>> round(frame.select(brier_labels(row=["id"])).item(), 6)
    0.85
    """
    known = as_column(truth).is_not_null() & as_column(probability).is_not_null()
    p = as_probability(probability)
    right = as_column(label) == as_column(truth)
    rows = pl.struct(row).filter(known).n_unique()
    # Sum of (p - t)^2 = sum of p^2 - 2 p(true) + 1, which also holds where the true label is not listed.
    total = p.filter(known).pow(2).sum() - 2 * p.filter(known & right).sum()
    return pl.when(known.any()).then(total / rows + 1.0).alias("brier_labels")


def nll(confidence: Column = "confidence", correct: Column = "correct", *, clip: float = 2.0**-52) -> pl.Expr:
    """The negative log-likelihood of the truth, also called log loss.

    Formula: mean of -ln c where right and -ln(1 - c) where wrong, with c kept in [clip, 1 - clip].
    Range: [0, -ln clip], lower is better. Unit: nats. It is a proper score that punishes a wrong answer with c = 1.0
    without bound, and confidences from logprobs do reach 1.0. The default clip, 2^-52, is that of scikit-learn and
    gives the range [0, 36.04]; `clip=0` gives the unbounded score.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: Good 1952.

    Raises:
        ValueError: `clip` is not in [0, 1/2).

    A confidence of 1/2 costs ln 2 whether right or wrong:

    >>> frame = pl.DataFrame({"confidence": [0.5, 0.5], "correct": [True, False]})
    >>> round(frame.select(nll()).item(), 6)
    0.693147
    """
    if not 0 <= clip < 0.5:  # noqa: PLR2004  from 1/2 on the interval is empty
        raise ValueError(f"clip {clip} is not in [0, 1/2)")
    c, y = judged_pairs(confidence, correct)
    kept = c.clip(clip, 1.0 - clip)
    # 0 ln 0 is 0 here. No when/then: polars 2.1 panics on one over filtered columns that come from a Python function.
    loglikelihood = (y * kept.log()).fill_nan(0.0) + ((1.0 - y) * (1.0 - kept).log()).fill_nan(0.0)
    mean = (0.0 - loglikelihood.mean()).alias("nll")
    return JudgedMetric.of(mean, confidence, correct, partial(nll, clip=clip))


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
    """The reliability diagram as a table: one row per bin, and per group of `by`.

    Columns:

    - those of `by`
    - `bin`: from 0; an empty bin has a row with count 0
    - `lower`, `upper`: the edges of the bin ("width"), or its smallest and largest confidence ("mass")
    - `count`: the judged rows in the bin
    - `mean_confidence`, `accuracy`
    - `accuracy_low`, `accuracy_high`: the exact 95 % interval of the accuracy, that of `share_interval`, of independent
      rows
    - `gap`: mean_confidence - accuracy, above 0 where the confidence is too high
    - `unjudged`: the rows of the group that are in no bin

    Range: [0, 1]; of `gap` [-1, 1], 0 is best. Unit: none; of the counts, rows.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are counted in `unjudged`; an empty bin has nulls beside its count.
    Source: DeGroot and Fienberg 1983, the reliability diagram; Clopper and Pearson 1934, the interval.

    Raises:
        ValueError: `bins` is below 1, `binning` is unknown, or `level` is not in (0, 1).

    With two bins, the upper one has mean confidence 0.95 and accuracy 0.5; one row has no confidence:

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
            right=pl.col(CORRECT).sum(),
            lowest=pl.col(CONFIDENCE).min(),
            highest=pl.col(CONFIDENCE).max(),
        )
    )
    edges = _bin_edges(bins)
    if binning == "mass":
        edges, filled = edges.select("bin"), filled.rename({"lowest": "lower", "highest": "upper"})
    table = unjudged.join(edges, how="cross").join(filled, on=[*groups, "bin"], how="left", nulls_equal=True)
    low, high = share_bounds(pl.col("right"), pl.col("count"), level=level)
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


def _mean_gap(name: str, confidence: Column, correct: Column, bins: int, binning: Binning) -> pl.Expr:
    """The mean of the absolute gaps, each bin weighted by its rows."""
    gaps, counts = _gaps(confidence, correct, bins, binning)
    mean = (gaps.abs().sum() / _or_null(counts.sum())).alias(name)
    return CalibrationError.of(mean, confidence=confidence, correct=correct, bin_of=lambda c: _bin(c, bins, binning))


def _gaps(confidence: Column, correct: Column, bins: int, binning: Binning) -> tuple[pl.Expr, pl.Expr]:
    """For each bin that is not empty: the sum of confidence minus truth, and the number of rows."""
    c, y = judged_pairs(confidence, correct)
    # Ordered by confidence, a bin's sum is the difference of two running sums: many bins cost no more than few.
    counts = _bin(c.sort(), bins, binning).rle().struct.field("len").cast(pl.Int64)
    sums = (c - y).sort_by(c).cum_sum().gather(counts.cum_sum() - 1)
    return sums - sums.shift(1, fill_value=0.0), counts


def _or_null(count: pl.Expr) -> pl.Expr:
    """The count, null where it is 0, as a divisor."""
    return pl.when(count > 0).then(count)


def _bin(c: pl.Expr, bins: int, binning: Binning) -> pl.Expr:
    """The bin of each confidence, from 0."""
    if bins < 1:
        raise ValueError(f"bins {bins}: at least one is needed")
    match binning:
        case "width":
            # Searched, because arithmetic rounds: 0.29 * 100 is below 29, and 3 times polars' 1 / 10 is above 0.3.
            edges = pl.lit(pl.Series([number / bins for number in range(1, bins)], dtype=pl.Float64))
            return edges.search_sorted(c, side="right").cast(pl.Int32)
        case "mass":
            return ((c.rank("average") - 0.5) * bins / c.len()).floor().clip(0, bins - 1).cast(pl.Int32)
        case _:
            raise ValueError(f"binning {binning!r} is none of {', '.join(get_args(Binning))}")
