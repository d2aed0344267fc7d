"""Intervals and floors of calibration errors: that they hold, by simulation, and where there is none."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import logprob_store as ls
from logprob_store.metrics.truth.calibration_intervals import calibration_floor


def draw(rows: int, generator: np.random.Generator, *, exponent: float = 1.3) -> pl.DataFrame:
    """Answers with confidences about 0.77 that are right with the chance c ** exponent."""
    confidence = generator.beta(5, 1.5, rows)
    return pl.DataFrame({"confidence": confidence, "correct": generator.random(rows) < confidence**exponent})


def true_gap(bins: pl.Series, gaps: pl.Series) -> float:
    """The mean over bins of the absolute gap."""
    frame = pl.DataFrame({"bin": bins, "gap": gaps})
    return float(frame.group_by("bin").agg(pl.col("gap").sum().abs())["gap"].sum()) / len(gaps)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [20, 50, 100])
@pytest.mark.parametrize("metric", ["ece", "ace"])
def test_interval_holds_the_truth(rows: int, metric: str) -> None:
    """Of 100 intervals at 95 %, at least 88 hold the true error: three standard errors below 95."""
    generator = np.random.default_rng(rows)
    c = pl.Series(generator.beta(5, 1.5, 1_000_000))
    bins = (c * 10).floor() if metric == "ece" else ((c.rank() - 0.5) * 10 / len(c)).floor()
    true = true_gap(bins, c - c**1.3)
    held = 0
    for seed in range(100):
        expr = ls.ece() if metric == "ece" else ls.ace()
        _, _, low, high, _ = ls.bootstrap(draw(rows, generator), expr, resamples=200, seed=seed).row(0)
        held += low <= true <= high

    assert held >= 88


def test_an_honest_confidence_is_within() -> None:
    """The interval of an honest confidence begins at 0 in nearly all cases, although its ECE is above 0."""
    generator = np.random.default_rng(0)
    rows = [ls.bootstrap(draw(100, generator, exponent=1.0), ls.ece(), resamples=200).row(0) for _ in range(60)]

    assert all(estimate > 0 for _, estimate, *_ in rows)
    assert sum(low == 0 for _, _, low, *_ in rows) >= 54


def test_another_name_keeps_the_interval() -> None:
    """An alias changes the name and nothing else."""
    frame = draw(100, np.random.default_rng(0))
    one, other = ls.bootstrap(frame, [ls.ece(), ls.ece().alias("mine")], resamples=200).rows()

    assert other == ("mine", *one[1:])


def test_a_difference_is_resampled() -> None:
    """The difference of two errors is paired, and no calibration error itself."""
    frame = draw(60, np.random.default_rng(0))

    assert ls.bootstrap(frame, (ls.ece() - ls.ace()).alias("d"), resamples=20).row(0)[4] == 20


def test_too_few_rows_have_no_interval() -> None:
    """Below 20 rows there is an estimate alone, and so over copies of 15 prompts."""
    frame = draw(15, np.random.default_rng(0)).with_row_index("id")

    assert ls.bootstrap(frame, ls.ece()).row(0)[2:] == (None, None, 0)
    assert ls.bootstrap(pl.concat([frame] * 3), ls.ece(), groups="id").row(0)[2:] == (None, None, 0)


def test_copies_of_rows_say_no_more() -> None:
    """With groups, the interval is about as wide as without the copies."""
    frame = draw(200, np.random.default_rng(1)).with_row_index("id")
    once = ls.bootstrap(frame, ls.ece(), seed=1).row(0)
    copied = ls.bootstrap(pl.concat([frame] * 4), ls.ece(), groups="id", seed=1).row(0)

    assert copied[2:4] == pytest.approx(once[2:4], abs=0.02)


def test_the_worst_gap_has_an_interval_over_bins_of_equal_mass_only() -> None:
    """Of bins of equal width, one without rows may have the largest gap."""
    frame = draw(200, np.random.default_rng(0))
    width, mass = ls.bootstrap(frame, [ls.mce(), ls.mce(binning="mass").alias("by mass")]).rows()

    assert width[2:4] == (None, None)
    assert mass[2] < mass[3]


def test_nothing_judged() -> None:
    """Without a judged row there is neither an error nor an interval nor a floor."""
    frame = pl.DataFrame({"confidence": [None, 0.5], "correct": [True, None]})

    assert ls.bootstrap(frame, ls.ece()).row(0) == ("ece", None, None, None, 0)
    assert calibration_floor(frame, ls.ece()) is None


def test_floor_by_hand() -> None:
    """Two rows of 1/2 in one bin are off by 1/2 when both or neither are right, else by nothing: 1/4 on average."""
    frame = pl.DataFrame({"confidence": [0.5, 0.5], "correct": [True, True]})

    assert calibration_floor(frame, ls.ece(), draws=20_000) == pytest.approx(0.25, abs=0.01)
    assert calibration_floor(frame, ls.mce(), draws=20_000) == pytest.approx(0.25, abs=0.01)


def test_floor_of_certainty() -> None:
    """A confidence of 1 that is honest is always right, so its floor is 0."""
    assert calibration_floor(pl.DataFrame({"confidence": [1.0], "correct": [False]}), ls.ace()) == 0.0


def test_only_calibration_errors_have_a_floor() -> None:
    """Another metric is an error that says which there are."""
    with pytest.raises(TypeError, match=r"brier has no floor; give ece\(\), ace\(\) or mce\(\)"):
        calibration_floor(pl.DataFrame({"confidence": [0.5], "correct": [True]}), ls.brier())
