"""Calibration metrics: by hand, against scikit-learn and slow references, ends of bins, order, wrong input."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sklearn.metrics import brier_score_loss, log_loss

from logprob_store.metrics.truth.accuracy import accuracy, judged, unjudged
from logprob_store.metrics.truth.calibration import ace, brier, brier_labels, ece, mce, nll, reliability_table

# Few distinct values, so that ties, both ends and the bins' edges are common.
CONFIDENCES = st.sampled_from([0.0, 0.1, 0.25, 0.29, 0.3, 0.5, 0.7, 0.9, 0.999, 1.0]) | st.floats(0, 1)
PAIRS = st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=60)
EVERY = [ece(), ace(), mce(), mce(binning="mass").alias("mce_mass"), brier(), nll(), accuracy(), judged(), unjudged()]


def frame_of(pairs: list[tuple[float | None, bool | None]]) -> pl.DataFrame:
    """The two columns that metrics read by default."""
    return pl.DataFrame(pairs, schema={"confidence": pl.Float64, "correct": pl.Boolean}, orient="row")


def honest(count: int, *, seed: int = 0) -> pl.DataFrame:
    """Answers that are right exactly as often as their confidence says."""
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(size=count)
    return pl.DataFrame({"confidence": confidence, "correct": generator.uniform(size=count) < confidence})


def slow_errors(pairs: list[tuple[float, bool]], bins: int) -> tuple[float, float]:
    """ECE and MCE by their definitions: the bin of a confidence is the last one whose lower edge it reaches."""
    members: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, right in pairs:
        place = max(number for number in range(bins) if confidence >= number / bins)
        members[place].append((confidence, right))
    gaps = {
        place: abs(math.fsum(c for c, _ in rows) / len(rows) - sum(y for _, y in rows) / len(rows))
        for place, rows in members.items()
    }
    return sum(len(members[place]) / len(pairs) * gap for place, gap in gaps.items()), max(gaps.values())


@settings(max_examples=60)
@given(PAIRS, st.sampled_from([1, 2, 10, 15, 100]))
def test_ece_and_mce_against_their_definitions(pairs: list[tuple[float, bool]], bins: int) -> None:
    """Both agree with a loop over bins, also for confidences on an edge."""
    actual = frame_of(list(pairs)).select(ece(bins=bins), mce(bins=bins)).row(0)

    assert actual == pytest.approx(slow_errors(pairs, bins), abs=1e-12)


@settings(max_examples=60)
@given(PAIRS)
def test_brier_and_nll_against_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    """Brier score and log loss are scikit-learn's, saturated confidences included."""
    confidence, right = [c for c, _ in pairs], [y for _, y in pairs]
    expected = brier_score_loss(right, confidence, labels=[False, True]), log_loss(right, confidence, labels=[0, 1])

    assert frame_of(list(pairs)).select(brier(), nll()).row(0) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.slow
@settings(max_examples=60)
@given(PAIRS, st.randoms(use_true_random=False))
def test_order_changes_nothing(pairs: list[tuple[float, bool]], random: object) -> None:
    """Rows in another order give the same metrics and the same table, ties or not."""
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = frame_of(list(pairs)), frame_of(list(shuffled))

    assert other.select(EVERY).row(0) == pytest.approx(one.select(EVERY).row(0), abs=1e-12)
    for binning in ("width", "mass"):
        assert_frame_equal(
            reliability_table(one, binning=binning).collect(),
            reliability_table(other, binning=binning).collect(),
            abs_tol=1e-12,
        )


@settings(max_examples=60)
@given(st.lists(st.tuples(CONFIDENCES | st.none(), st.booleans() | st.none()), max_size=40), st.integers(1, 20))
def test_bins_are_exhaustive(pairs: list[tuple[float | None, bool | None]], bins: int) -> None:
    """Every row is in one bin or counted as unjudged, and the mean confidence of a bin lies between its edges."""
    for binning in ("width", "mass"):
        table = reliability_table(frame_of(pairs), bins=bins, binning=binning).collect()

        assert table["bin"].to_list() == list(range(bins))
        assert table["count"].sum() + table["unjudged"][0] == len(pairs)
        assert table["unjudged"][0] == sum(c is None or y is None for c, y in pairs)
        filled = table.filter(pl.col("count") > 0)
        inside = pl.col("mean_confidence").is_between(pl.col("lower") - 1e-12, pl.col("upper") + 1e-12)
        assert filled.select(inside.all()).item()
        inside = pl.col("accuracy").is_between("accuracy_low", "accuracy_high")
        assert filled.select(inside.all()).item()


def test_both_ends_fall_in_a_bin() -> None:
    """0.0 is in the first bin and 1.0 in the last, where half-open bins would lose one of them."""
    table = reliability_table(frame_of([(0.0, True), (1.0, False)])).collect()

    assert table["count"].to_list() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    # each is off by 1
    assert frame_of([(0.0, True), (1.0, False)]).select(ece(), mce(), ace()).row(0) == (1.0, 1.0, 1.0)


def test_edges_belong_to_the_bin_above() -> None:
    """29/100 x 100 is 28.999999999999996, and yet 0.29 is in [0.29, 0.30)."""
    table = reliability_table(frame_of([(0.29, True), (0.58, True)]), bins=100).collect()

    assert table.filter(pl.col("count") > 0)["lower"].to_list() == [0.29, 0.58]


def test_equal_mass() -> None:
    """Twelve distinct confidences make three bins of four; equal confidences share a bin."""
    distinct = frame_of([(number / 20, True) for number in range(12)])
    tied = frame_of([(0.5, True), (0.5, False), (0.5, True), (0.9, True)])

    assert reliability_table(distinct, bins=3, binning="mass").collect()["count"].to_list() == [4, 4, 4]
    assert reliability_table(tied, bins=2, binning="mass").collect()["count"].to_list() == [3, 1]
    # (|1.5 - 2| + |0.9 - 1|) / 4
    assert tied.select(ace(bins=2)).item() == pytest.approx(0.15)


def test_honest_confidence_is_nearly_calibrated() -> None:
    """Of 20,000 honest answers every error is near 0, and the true accuracy is in its interval."""
    frame = honest(20_000)
    table = reliability_table(frame, level=0.999).collect()
    middle = pl.col("mean_confidence")

    # a bin of 2,000 is off by about 0.01 at random
    assert frame.select(ece(), ace()).row(0) < (0.02, 0.02)
    assert frame.select(mce()).item() < 0.04
    assert table.select((middle >= pl.col("accuracy_low")).all() & (middle <= pl.col("accuracy_high")).all()).item()


def test_the_accuracy_of_a_bin_has_the_exact_interval() -> None:
    """One right answer of one: the interval is [0.025, 1]."""
    table = reliability_table(frame_of([(0.95, True)])).collect()
    row = table.row(9, named=True)

    assert row["accuracy_low"] == pytest.approx(0.025)
    assert row["accuracy_high"] == 1.0


def test_nll_without_clipping() -> None:
    """A wrong answer of confidence 1 makes the unbounded figure infinite, and the clipped one 52 ln 2."""
    frame = frame_of([(1.0, False)])

    assert frame.select(nll(clip=0)).item() == math.inf
    assert frame.select(nll()).item() == pytest.approx(52 * math.log(2))
    assert frame_of([(1.0, True), (0.0, False)]).select(nll(clip=0)).item() == 0.0


def test_brier_of_labels() -> None:
    """Two labels make it twice the binary score; the worst is 2, also when the true label was not listed."""
    frame = honest(50)
    c, right = pl.col("confidence"), pl.col("correct")
    rows = frame.with_row_index("id").with_columns(truth=pl.when(right).then(pl.lit("yes")).otherwise(pl.lit("no")))
    labels = pl.concat(
        [
            rows.select("id", "truth", label=pl.lit("yes"), probability=c),
            rows.select("id", "truth", label=pl.lit("no"), probability=1 - c),
        ]
    )
    wrong = pl.DataFrame({"id": [1, 1], "label": ["a", "b"], "probability": [1.0, 0.0], "truth": ["c", "c"]})

    assert labels.select(brier_labels(row=["id"])).item() == pytest.approx(2 * frame.select(brier()).item())
    assert wrong.select(brier_labels(row=["id"])).item() == 2.0
    assert wrong.clear().select(brier_labels(row=["id"])).item() is None


def test_nothing_judged_is_null() -> None:
    """Without a judged row every metric is null, never 0 and never NaN, and the rows are counted."""
    for rows, count in (([], 0), ([(None, True), (0.5, None)], 2)):
        actual = frame_of(rows).select(EVERY).row(0)

        assert actual == (None, None, None, None, None, None, None, 0, count)


def test_unjudged_rows_change_nothing() -> None:
    """A row without a confidence or without a truth leaves each metric as it was."""
    frame = honest(100)
    more = pl.concat([frame, frame_of([(None, True), (0.9, None)])])

    assert more.select(EVERY[:-1]).row(0) == pytest.approx(frame.select(EVERY[:-1]).row(0), abs=1e-12)


def test_group_by_and_over_and_streaming() -> None:
    """Metrics by group are those of each group alone, in every engine."""
    frame = pl.concat([honest(300, seed=seed).with_columns(run=pl.lit(f"run {seed}")) for seed in range(3)])
    expected = [frame.filter(pl.col("run") == f"run {seed}").select(EVERY).row(0) for seed in range(3)]
    grouped = frame.group_by("run").agg(EVERY).sort("run")
    streamed = frame.lazy().group_by("run").agg(EVERY).sort("run").collect(engine="streaming")
    over = frame.select("run", *(metric.over("run") for metric in EVERY)).unique().sort("run")

    for table in (grouped, streamed, over):
        for row, values in zip(table.drop("run").rows(), expected, strict=True):
            assert row == pytest.approx(values, abs=1e-12)


def test_table_by_group() -> None:
    """With `by`, each group has the table that it has alone."""
    frame = pl.concat([honest(100, seed=seed).with_columns(run=pl.lit(f"run {seed}")) for seed in range(3)])
    for binning in ("width", "mass"):
        together = reliability_table(frame, by="run", binning=binning).collect()
        for seed in range(3):
            alone = reliability_table(frame.filter(pl.col("run") == f"run {seed}"), binning=binning).collect()
            assert_frame_equal(together.filter(pl.col("run") == f"run {seed}").drop("run"), alone)


@pytest.mark.parametrize("bad", [1.0000001, -0.1, math.nan, math.inf])
def test_what_is_no_probability_is_an_error(bad: float) -> None:
    """A value outside [0, 1], or NaN, is an error that names the first such row."""
    frame = frame_of([(0.5, True), (None, True), (bad, None), (7.0, False)])
    for metric in (ece(), ace(), mce(), brier(), nll()):
        with pytest.raises(ValueError, match=r"confidence: .* at row 2 is not a probability in \[0, 1\]"):
            frame.select(metric)
    with pytest.raises(ValueError, match="at row 2"):
        reliability_table(frame).collect()


def test_logprobs_given_as_confidence_are_an_error() -> None:
    """A logprob is outside [0, 1], and the message says what to do."""
    with pytest.raises(ValueError, match=r"-0\.1 at row 0 .* take exp\(\) of a logprob"):
        pl.DataFrame({"logprob": [-0.1], "correct": [True]}).select(ece("logprob"))


def test_truth_may_be_numbers() -> None:
    """0 and 1, as integers or floats, are wrong and right; another number, or text, is an error."""
    frame = pl.DataFrame({"confidence": [0.25, 0.75], "correct": [0, 1]})

    assert frame.select(brier()).item() == 0.0625
    assert frame.cast({"correct": pl.Float32}).select(brier()).item() == 0.0625
    with pytest.raises(ValueError, match=r"correct: 2\.0 at row 1 is not true or false"):
        pl.DataFrame({"confidence": [0.5, 0.5], "correct": [1, 2]}).select(brier())
    with pytest.raises(ValueError, match="correct: a column of String is not true or false"):
        pl.DataFrame({"confidence": [0.5], "correct": ["yes"]}).select(brier())


def test_wrong_options() -> None:
    """Invalid options are errors before anything is evaluated."""
    with pytest.raises(ValueError, match="bins 0"):
        ece(bins=0)
    with pytest.raises(ValueError, match="none of width, mass"):
        mce(binning="equal")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="clip"):
        nll(clip=0.5)
    with pytest.raises(ValueError, match="level"):
        reliability_table(honest(1), level=95)


def test_confidence_expression_goes_in() -> None:
    """The confidence may be any expression, such as the exponential of a logprob."""
    frame = pl.DataFrame({"logprob": [math.log(0.9), math.log(0.5)], "correct": [True, False]})

    assert frame.select(brier(pl.col("logprob").exp())).item() == pytest.approx(0.13)
