"""Ranking and selective prediction: by hand, against scikit-learn and slow references, with ties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sklearn.metrics import average_precision_score, roc_auc_score

import logprob_store as ls
from logprob_store.metrics.truth.guarantee import guaranteed_threshold

# Few distinct values, so that ties are common.
CONFIDENCES = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1)
PAIRS = st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=50)
AREAS = [ls.auroc(), ls.auprc(), ls.auprc(positive=False).alias("auprc_wrong"), ls.aurc(), ls.excess_aurc(), ls.augrc()]
EVERY = [*AREAS, ls.coverage_at_risk(risk=0.3), ls.threshold_at_risk(risk=0.3)]
CALIBRATION = [ls.ece(), ls.ace(), ls.mce(), ls.brier(), ls.nll(), ls.accuracy(), ls.judged(), ls.unjudged()]


def frame_of(pairs: list[tuple[float | None, bool | None]]) -> pl.DataFrame:
    """The two columns that metrics read by default."""
    return pl.DataFrame(pairs, schema={"confidence": pl.Float64, "correct": pl.Boolean}, orient="row")


def graded(count: int, *, seed: int = 0) -> pl.DataFrame:
    """Answers with calibrated confidences rounded to 0.01, some without a confidence or a truth."""
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(size=count).round(2)
    frame = pl.DataFrame({"confidence": confidence, "correct": generator.uniform(size=count) < confidence})
    holes = [pl.Series(generator.uniform(size=count) < 0.1) for _ in range(2)]
    return frame.select(
        pl.when(~hole).then(column).alias(column) for column, hole in zip(frame.columns, holes, strict=True)
    )


def slow_curve(pairs: list[tuple[float, bool]]) -> list[tuple[float, int, int]]:
    """For each row: its confidence, the rows with at least that confidence, the errors among them."""
    return [(c, sum(o >= c for o, _ in pairs), sum(o >= c and not y for o, y in pairs)) for c, _ in pairs]


@settings(max_examples=60)
@given(PAIRS)
def test_roc_and_precision_against_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    """AUROC and average precision, for right and for wrong answers, are scikit-learn's."""
    confidence, right = np.array([c for c, _ in pairs]), np.array([y for _, y in pairs])
    auroc, auprc, of_wrong = frame_of(list(pairs)).select(AREAS[:3]).row(0)

    assert auroc == (pytest.approx(roc_auc_score(right, confidence)) if 0 < right.sum() < len(right) else None)
    assert auprc == (pytest.approx(average_precision_score(right, confidence)) if right.any() else None)
    assert of_wrong == (pytest.approx(average_precision_score(~right, -confidence)) if (~right).any() else None)


@settings(max_examples=60)
@given(PAIRS)
def test_risk_areas_against_their_definitions(pairs: list[tuple[float, bool]]) -> None:
    """AURC is the mean risk over thresholds, E-AURC its excess over the best order, AUGRC the area of the polygon."""
    count, right = len(pairs), sum(y for _, y in pairs)
    curve = slow_curve(pairs)
    aurc = math.fsum(errors / accepted for _, accepted, errors in curve) / count
    best = math.fsum(max(0, k - right) / k for k in range(1, count + 1)) / count
    corners = [(0, 0), *sorted({(accepted, errors) for _, accepted, errors in curve})]
    augrc = math.fsum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(corners)) / count**2
    actual = frame_of(list(pairs)).select(ls.aurc(), ls.excess_aurc(), ls.augrc()).row(0)

    assert actual == pytest.approx((aurc, aurc - best, augrc), abs=1e-12)


@settings(max_examples=60)
@given(PAIRS)
def test_bounds(pairs: list[tuple[float, bool]]) -> None:
    """AURC is between that of the best order and 1, E-AURC is not negative, AUGRC is within its bound."""
    wrong = 1 - sum(y for _, y in pairs) / len(pairs)
    aurc, excess, augrc = frame_of(list(pairs)).select(ls.aurc(), ls.excess_aurc(), ls.augrc()).row(0)

    assert 0 <= excess <= aurc + 1e-12
    assert aurc <= 1
    assert 0 <= augrc <= wrong * (1 - wrong / 2) + 1e-12


@settings(max_examples=60)
@given(PAIRS)
def test_augrc_by_the_formula_of_the_paper(pairs: list[tuple[float, bool]]) -> None:
    """AUGRC = (1 - AUROC) a (1 - a) + (1 - a)^2 / 2, with a the accuracy."""
    auroc, augrc, a = frame_of(list(pairs)).select(ls.auroc(), ls.augrc(), ls.accuracy()).row(0)
    missed = 0.0 if auroc is None else (1 - auroc) * a * (1 - a)

    assert augrc == pytest.approx(missed + (1 - a) ** 2 / 2, abs=1e-12)


@settings(max_examples=60)
@given(PAIRS, st.randoms(use_true_random=False))
def test_order_changes_nothing(pairs: list[tuple[float, bool]], random: object) -> None:
    """Rows in another order give the same areas, thresholds and curve, ties or not."""
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = frame_of(list(pairs)), frame_of(list(shuffled))

    assert other.select(EVERY).row(0) == pytest.approx(one.select(EVERY).row(0), abs=1e-12)
    assert_frame_equal(ls.risk_coverage_curve(one).collect(), ls.risk_coverage_curve(other).collect())


@settings(max_examples=60)
@given(PAIRS, st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
def test_coverage_at_risk_is_read_off_the_curve(pairs: list[tuple[float, bool]], risk: float) -> None:
    """The largest coverage whose risk is at most the target, and the threshold that goes with it."""
    within = [(accepted, c) for c, accepted, errors in slow_curve(pairs) if errors / accepted <= risk]
    frame = frame_of(list(pairs))
    actual = frame.select(ls.coverage_at_risk(risk=risk), ls.threshold_at_risk(risk=risk)).row(0)

    assert actual == ((max(within)[0] / len(pairs), min(c for _, c in within)) if within else (0.0, None))


def test_curve_by_hand() -> None:
    """Tied rows are one point; the curve ends at full coverage with the error rate as its risk."""
    curve = ls.risk_coverage_curve(frame_of([(0.9, True), (0.5, False), (0.5, True), (0.1, False), (None, True)]))

    assert curve.collect().rows() == [
        (0.9, 1, 0, 0.25, 0.0, 0.0),
        (0.5, 3, 1, 0.75, 1 / 3, 0.25),
        (0.1, 4, 2, 1.0, 0.5, 0.5),
    ]


def test_thresholds_by_hand() -> None:
    """A confidence equal to the threshold is accepted; nothing accepted has no accuracy; all rows are counted."""
    frame = frame_of([(0.9, True), (0.5, False), (0.5, True), (0.1, False), (None, True), (0.4, None)])
    table = ls.accuracy_by_threshold(frame, thresholds=[0.95, 0.5]).collect()

    assert [row[:7] for row in table.rows()] == [(0.5, 3, 1, 0.75, 2 / 3, 0.0, 2), (0.95, 0, 4, 0.0, None, 0.5, 2)]


def test_shares_of_thresholds_have_intervals() -> None:
    """None of 4 accepted has the upper end 1 - 0.025^(1/4) = 0.602365; nothing accepted has no accuracy."""
    frame = frame_of([(0.5, True)] * 4)
    whole, none = ls.accuracy_by_threshold(frame, thresholds=[0.5, 0.9]).collect().to_dicts()

    assert (none["coverage_low"], none["coverage_high"]) == (0.0, pytest.approx(0.602365, abs=1e-6))
    assert (none["accuracy_accepted_low"], none["accuracy_accepted_high"]) == (None, None)
    assert (whole["accuracy_accepted_low"], whole["accuracy_accepted_high"]) == (pytest.approx(0.397635, abs=1e-6), 1.0)


def test_nothing_judged() -> None:
    """Without a judged row the metrics are null, the curve is empty, and the table of thresholds counts 0."""
    for frame in (frame_of([]), frame_of([(None, True), (0.5, None)])):
        assert frame.select(EVERY).row(0) == (None,) * len(EVERY)
        assert ls.risk_coverage_curve(frame).collect().height == 0
        table = ls.accuracy_by_threshold(frame, thresholds=[0.5]).collect()
        assert table.rows() == [(0.5, 0, 0, None, None, None, frame.height, None, None, None, None)]


def test_all_right_and_all_wrong() -> None:
    """All right: no risk anywhere. All wrong: risk 1, which no order could have avoided."""
    right, wrong = frame_of([(0.5, True), (0.7, True)]), frame_of([(0.5, False), (0.7, False)])

    assert right.select(EVERY).row(0) == (None, 1.0, None, 0.0, 0.0, 0.0, 1.0, 0.5)
    assert wrong.select(EVERY).row(0) == (None, None, 1.0, 1.0, 0.0, 0.5, 0.0, None)


def test_tables_by_group() -> None:
    """With `by`, each group has the rows that it has alone, also a group without a judged row."""
    frames = [graded(60, seed=seed).with_columns(run=pl.lit(f"run {seed}")) for seed in range(2)]
    frames.append(frame_of([(None, True)]).with_columns(run=pl.lit("run 2")))
    frame = pl.concat(frames)
    for table in (ls.accuracy_by_threshold, ls.risk_coverage_curve, ls.reliability_table):
        together = table(frame, by="run").collect()
        for number, alone in enumerate(frames):
            assert_frame_equal(together.filter(pl.col("run") == f"run {number}").drop("run"), table(alone).collect())


def test_together_and_in_groups_as_alone() -> None:
    """Metrics in one query have the values of each alone, for every pair, in both engines, by group or not."""
    frame = graded(300).with_columns(group=pl.Series([0, 1, 2] * 100))
    every = [*EVERY, *CALIBRATION]
    alone = {metric.meta.output_name(): frame.select(metric).item() for metric in every}
    apart = {
        metric.meta.output_name(): [
            frame.filter(pl.col("group") == number).select(metric).item() for number in range(3)
        ]
        for metric in every
    }
    for pair in [*itertools.pairwise(every), every]:
        for engine in ("in-memory", "streaming"):
            together = frame.lazy().select(pair).collect(engine=engine).to_dicts()[0]
            grouped = frame.lazy().group_by("group").agg(pair).sort("group").collect(engine=engine)

            assert together == pytest.approx({name: alone[name] for name in together}, abs=1e-12)
            for name in together:
                assert grouped[name].to_list() == pytest.approx(apart[name], abs=1e-12)


def test_wrong_input_is_an_error() -> None:
    """Invalid confidences, error rates and thresholds are errors."""
    frame = frame_of([(0.5, True), (1.5, False)])
    for metric in EVERY:
        with pytest.raises(ValueError, match=r"1\.5 at row 1 is not a probability"):
            frame.select(metric)
    for table in (ls.accuracy_by_threshold, ls.risk_coverage_curve):
        with pytest.raises(ValueError, match=r"1\.5 at row 1 is not a probability"):
            table(frame).collect()
    with pytest.raises(ValueError, match=r"risk 5 is not an error rate"):
        ls.coverage_at_risk(risk=5)
    with pytest.raises(ValueError, match="at least one, each in"):
        ls.accuracy_by_threshold(frame, thresholds=[50])


def test_guarantee_by_hand() -> None:
    """With one threshold and no error among n, the bound is 1 - failure^(1/n); all wrong has none."""
    frame = frame_of([(0.9, True)] * 30 + [(0.2, False)] * 10)
    found = guaranteed_threshold(frame, risk=0.1, thresholds=[0.5])

    assert found == (0.5, pytest.approx(1 - 0.05 ** (1 / 30)), 0.75, 30, 0, 40)
    assert guaranteed_threshold(frame, risk=0.09, thresholds=[0.5]).threshold is None
    assert guaranteed_threshold(frame_of([(0.9, False)]), risk=0.5).threshold is None
    assert guaranteed_threshold(frame_of([]), risk=0.5).threshold is None


@pytest.mark.slow
def test_guarantee_holds() -> None:
    """Over 300 draws, the true risk at the chosen threshold exceeds the target at most as often as `failure` allows."""
    generator = np.random.default_rng(0)
    failures = chosen = 0
    for _ in range(300):
        confidence = generator.uniform(size=200)
        frame = pl.DataFrame({"confidence": confidence, "correct": generator.uniform(size=200) < confidence})
        threshold = guaranteed_threshold(frame, risk=0.25, failure=0.2, thresholds=[0.3, 0.4, 0.5, 0.6, 0.7]).threshold
        if threshold is not None:
            chosen += 1
            # of confidences uniform above t, honest, the true risk is (1 - t) / 2
            failures += (1 - threshold) / 2 > 0.25 + 1e-12

    assert chosen > 100
    assert failures / 300 <= 0.2


def test_lazy_rows_have_the_same_guarantee() -> None:
    """What `store.scores()` gives, joined with the truth, is a LazyFrame."""
    rows = frame_of([(0.9, True)] * 30 + [(0.4, False)] * 5)

    assert guaranteed_threshold(rows.lazy(), risk=0.2) == guaranteed_threshold(rows, risk=0.2)


def test_fixed_sequence_by_hand() -> None:
    """With the whole failure at each step, it goes down to the last threshold before one that fails."""
    frame = frame_of([(0.9, True)] * 30 + [(0.6, True)] * 10 + [(0.3, False)] * 30 + [(0.1, True)] * 900)
    found = guaranteed_threshold(frame, risk=0.1, thresholds=[0.0, 0.2, 0.5, 0.8], procedure="fixed_sequence")

    # none wrong of 40: 1 - 0.05^(1/40); at 0.2, 30 of 70 are wrong, so 0.0, which would pass, is not reached
    assert found == (0.5, pytest.approx(1 - 0.05 ** (1 / 40)), 40 / 970, 40, 0, 970)


def test_fixed_sequence_passes_over_thresholds_that_accept_too_few() -> None:
    """A risk of 10 % takes ln 0.05 / ln 0.9 = 28.4 rows to show; a threshold with fewer does not end the search."""
    frame = frame_of([(0.995, False)] + [(0.9, True)] * 60)
    found = guaranteed_threshold(frame, risk=0.1, thresholds=[0.5, 0.99], procedure="fixed_sequence")

    assert (found.threshold, found.errors) == (0.5, 1)


def test_fixed_sequence_finds_what_bonferroni_does_not() -> None:
    """Thirty rows without an error are enough for one threshold at 5 %, and too few when 14 share it."""
    frame = frame_of([(0.995, True)] * 30)

    assert guaranteed_threshold(frame, risk=0.1).threshold is None
    assert guaranteed_threshold(frame, risk=0.1, procedure="fixed_sequence").threshold == 0.0


@pytest.mark.slow
def test_fixed_sequence_keeps_its_failure() -> None:
    """Over 300 draws of honest confidences, the true risk exceeds the target at most as often as `failure` allows."""
    generator = np.random.default_rng(1)
    failures = chosen = 0
    for _ in range(300):
        confidence = generator.uniform(size=200)
        frame = pl.DataFrame({"confidence": confidence, "correct": generator.uniform(size=200) < confidence})
        threshold = guaranteed_threshold(frame, risk=0.25, failure=0.2, procedure="fixed_sequence").threshold
        if threshold is not None:
            chosen += 1
            failures += (1 - threshold) / 2 > 0.25 + 1e-12  # the true risk above t, as above

    assert chosen > 200
    assert failures / 300 <= 0.2


def test_unknown_procedure() -> None:
    """A procedure that is misspelt is an error that names the two."""
    with pytest.raises(ValueError, match="'fixed' is none of bonferroni, fixed_sequence"):
        guaranteed_threshold(frame_of([(0.9, True)]), risk=0.5, procedure="fixed")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments", [{"risk": 0}, {"risk": 0.1, "failure": 1}, {"risk": 0.1, "thresholds": []}], ids=str
)
def test_guarantee_wants_probabilities(arguments: dict[str, object]) -> None:
    """Targets, chances and thresholds out of range are errors."""
    with pytest.raises(ValueError, match=r"not between 0 and 1|at least one"):
        guaranteed_threshold(frame_of([(0.9, True)]), **arguments)  # type: ignore[arg-type]
