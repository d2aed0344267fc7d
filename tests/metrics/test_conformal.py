"""Conformal sets: by hand, coverage by simulation, too few rows, ties, labels that are missing."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logprob_store.metrics.truth.conformal import Conformal, conformal_threshold

ROW = ["id"]


def simulated(count: int, labels: int = 5, *, seed: int, sharper: float = 1.0) -> pl.DataFrame:
    """Rows of label probabilities with the truth drawn from them; `sharper` above 1 makes them overconfident."""
    generator = np.random.default_rng(seed)
    true = generator.dirichlet(np.full(labels, 0.6), size=count)
    shown = true**sharper / (true**sharper).sum(axis=1, keepdims=True)
    drawn = (true.cumsum(axis=1) < generator.uniform(size=(count, 1))).sum(axis=1).clip(0, labels - 1)
    return pl.DataFrame(
        {
            "id": np.repeat(np.arange(count), labels),
            "label": np.tile(np.arange(labels), count),
            "probability": shown.ravel(),
            "truth": np.repeat(drawn, labels),
        }
    )


def covered(table: pl.DataFrame) -> float:
    """The share of rows whose set holds the true label."""
    return table.group_by("id").agg(held=(pl.col("in_set") & (pl.col("label") == pl.col("truth"))).any())["held"].mean()  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("sharper", [1.0, 3.0], ids=["honest", "too sure"])
def test_coverage_is_what_was_asked_for(method: str, sharper: float) -> None:
    """Sets hold the true label in at least 1 - alpha of new rows, whether the probabilities are honest or not."""
    fitted = conformal_threshold(simulated(1000, seed=1, sharper=sharper), alpha=0.1, method=method, row=ROW)  # type: ignore[arg-type]
    new = fitted.sets(simulated(4000, seed=2, sharper=sharper), row=ROW).collect()

    # one draw of the threshold moves the coverage by about sqrt(0.1 x 0.9 / 1000) = 0.0095, of the new rows by 0.005
    assert covered(new) > 0.9 - 0.03
    if method == "lac":
        assert covered(new) < 0.9 + 0.03


def test_coverage_on_average() -> None:
    """Over many small calibrations the mean coverage is at least 1 - alpha, and near it: 16/20 for 19 rows."""
    held = []
    for seed in range(150):
        rows = simulated(69, seed=seed)
        fitted = conformal_threshold(rows.filter(pl.col("id") < 19), alpha=0.2, row=ROW)
        held.append(covered(fitted.sets(rows.filter(pl.col("id") >= 19), row=ROW).collect()))

    # the mean of 150 coverages, each with standard deviation near 0.1, is off by about 0.009
    assert sum(held) / len(held) == pytest.approx(0.8, abs=0.03)


def test_lac_by_hand() -> None:
    """Of scores 0.1, 0.2, 0.3 and 0.9, alpha 0.4 takes the ceil(5 x 0.6) = 3rd: labels of at least 0.7 are in."""
    known = pl.DataFrame({"id": range(4), "label": "a", "truth": "a", "probability": [0.1, 0.7, 0.8, 0.9]})
    fitted = conformal_threshold(known, alpha=0.4, row=ROW)
    new = pl.DataFrame({"id": [1, 1, 2, 2], "label": ["a", "b"] * 2, "probability": [0.75, 0.25, 0.6, 0.4]})
    sets = fitted.sets(new, row=ROW).collect()

    assert fitted.threshold == pytest.approx(0.3)
    assert sets["in_set"].to_list() == [True, False, False, False]
    assert sets["set_size"].to_list() == [1, 1, 0, 0]
    assert fitted.describe().startswith("sets hold the true label with a chance of at least 0.6, from 4 rows (LAC")


def test_aps_by_hand() -> None:
    """The score of a label is the mass of the labels at least as likely; equal probabilities join together."""
    known = pl.DataFrame(
        {"id": [1, 1, 1], "label": ["a", "b", "c"], "truth": ["b"] * 3, "probability": [0.5, 0.3, 0.2]}
    )
    fitted = conformal_threshold(known, alpha=0.5, method="aps", row=ROW)
    new = pl.DataFrame({"id": [1] * 3 + [2] * 3, "label": ["a", "b", "c"] * 2, "probability": [0.6, 0.2, 0.2] * 2})
    # both of the tied labels have the score 1.0, as neither is likelier: at 0.9 neither is in
    sets = Conformal("aps", 0.5, 1, 0.9).sets(new, row=ROW).collect()

    assert fitted.threshold == 0.8
    assert sets["in_set"].to_list() == [True, False, False] * 2
    assert Conformal("aps", 0.5, 1, 1.0).sets(new, row=ROW).collect()["in_set"].all()


def test_too_few_rows_give_all_labels() -> None:
    """Eight rows are too few for 90 %: every set holds all labels, and `describe` says so; nine are enough."""
    rows = simulated(9, seed=0)
    few = conformal_threshold(rows.filter(pl.col("id") < 8), alpha=0.1, row=ROW)
    enough = conformal_threshold(rows, alpha=0.1, row=ROW)

    assert few.trivial
    assert few.sets(rows, row=ROW).collect()["in_set"].all()
    assert few.describe() == "a chance of at least 0.9 takes sets of all labels: 8 rows are too few, 9 would do"
    assert not enough.trivial


def test_no_rows() -> None:
    """Without a row whose truth is known, every set holds all labels."""
    rows = simulated(3, seed=0).with_columns(truth=pl.lit(None, pl.Int64))

    assert conformal_threshold(rows, row=ROW) == Conformal("lac", 0.1, 0, math.inf)


def test_truth_that_is_not_listed() -> None:
    """A true label that is not listed scores infinity; with too many of them there is no guarantee."""
    rows = simulated(20, seed=0).with_columns(truth=pl.when(pl.col("id") < 3).then(99).otherwise("truth"))
    fitted = conformal_threshold(rows, alpha=0.1, row=ROW)

    assert fitted.trivial
    assert "nothing is promised: in more than 0.1 of 20 rows the true label was not listed" in fitted.describe()
    assert not conformal_threshold(rows, alpha=0.2, row=ROW).trivial


@settings(max_examples=40)
@given(st.integers(1, 60), st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7]), st.sampled_from(["lac", "aps"]))
def test_enough_of_the_known_rows_are_covered(count: int, alpha: float, method: str) -> None:
    """At least ceil((n + 1) (1 - alpha)) of the n fitted rows have the true label in their set."""
    rows = simulated(count, seed=count)
    fitted = conformal_threshold(rows, alpha=alpha, method=method, row=ROW)  # type: ignore[arg-type]
    share = covered(fitted.sets(rows, row=ROW).collect())

    assert share * count >= min(count, math.ceil((count + 1) * (1 - alpha) - 1e-9)) - 1e-9


def test_rows_in_another_order() -> None:
    """The order of rows changes neither the threshold nor the sets."""
    rows = simulated(50, seed=4)
    other = rows.sample(fraction=1, shuffle=True, seed=1)
    for method in ("lac", "aps"):
        one, two = (conformal_threshold(frame, method=method, row=ROW) for frame in (rows, other))  # type: ignore[arg-type]

        assert one == two
        assert one.sets(other, row=ROW).collect().sort("id", "label").equals(one.sets(rows, row=ROW).collect())


def test_lazy_rows_make_the_same_threshold() -> None:
    """What `store.labels()` gives, joined with the truth, is a LazyFrame."""
    rows = simulated(20, seed=2)

    assert conformal_threshold(rows.lazy(), row=ROW) == conformal_threshold(rows, row=ROW)


def test_wrong_input() -> None:
    """Duplicate labels, unknown methods, and an alpha or probability out of range are errors."""
    rows = simulated(10, seed=0)
    with pytest.raises(ValueError, match="a label stands twice in one row of id"):
        conformal_threshold(pl.concat([rows, rows]), row=ROW)
    with pytest.raises(ValueError, match="none of lac, aps"):
        conformal_threshold(rows, method="raps", row=ROW)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha 90"):
        conformal_threshold(rows, alpha=90, row=ROW)
    with pytest.raises(ValueError, match="is not a probability"):
        conformal_threshold(rows.with_columns(probability=2.0), row=ROW)
