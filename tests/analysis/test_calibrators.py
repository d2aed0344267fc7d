"""Calibrators: their maps, cross-fitted figures, files, and the runs they are meant for."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from builders import run_demo
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

import logprob_store as ls
from logprob_store.analysis.calibrators.apply import differences
from logprob_store.analysis.calibrators.calibrator import FittedOn
from logprob_store.analysis.calibrators.fit import _isotonic
from logprob_store.analysis.calibrators.storage import calibrator_names
from logprob_store.errors import InputError, StoreError

REPO = Path(__file__).resolve().parents[2]
METHODS = ["isotonic", "platt", "temperature"]
ANY_ROWS = FittedOn(20, 10, 0, "confidence", "correct", [], "", None, [], None, "")
GRID = pl.DataFrame({"confidence": [number / 200 for number in range(201)]})


def overconfident(count: int, *, temperature: float = 3.0, seed: int = 0) -> pl.DataFrame:
    """Overconfident answers: the logit of the confidence is that of the chance of being right, times `temperature`."""
    generator = np.random.default_rng(seed)
    chance = generator.uniform(0.02, 0.98, size=count)
    said = 1 / (1 + (1 / chance - 1) ** temperature)
    return pl.DataFrame({"confidence": said, "correct": generator.uniform(size=count) < chance})


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> ls.Store:
    """The store of the demo, with its one run."""
    path = tmp_path_factory.mktemp("demo") / "store"
    run_demo(path)
    return ls.open_store(path)


def judged(store: ls.Store) -> pl.DataFrame:
    """The answers and whether they are right."""
    truth = store.prompts.select("run", "prompt_index", "capital")
    right = pl.col("text").str.strip_chars() == pl.col("capital")
    return store.scores().join(truth, on=["run", "prompt_index"]).with_columns(correct=right).collect()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60))
def test_isotonic_is_scikit_learns(pairs: list[tuple[float, bool]]) -> None:
    """The expression gives what scikit-learn's estimator predicts, at, between and outside the rows; it never falls."""
    c, y = np.array([c for c, _ in pairs]), np.array([float(y) for _, y in pairs])
    # scikit-learn's own slopes overflow between subnormal neighbours
    c = c.round(12)
    fitted = ls.Calibrator("isotonic", _isotonic(c, y), {}, {}, 5, 0, ANY_ROWS)
    asked = np.concatenate([c, np.linspace(0, 1, 41)])
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(c, y).predict(asked)
    ours = pl.DataFrame({"confidence": asked}).select(fitted.expr())["calibrated"]

    assert ours.to_list() == pytest.approx(theirs.tolist(), abs=1e-9)
    rising = ours.to_numpy()[np.argsort(asked, kind="stable")]
    assert (np.diff(rising) >= -1e-12).all()


def test_temperature_is_found() -> None:
    """Confidences whose logits were tripled are divided by 3 again, and Platt's line has slope 1/3 through 0."""
    frame = overconfident(20_000)
    temperature = ls.calibrate(frame, method="temperature").parameters
    platt = ls.calibrate(frame, method="platt").parameters

    assert temperature["temperature"] == pytest.approx(3.0, rel=0.05)
    assert platt["slope"] == pytest.approx(1 / 3, rel=0.05)
    assert platt["intercept"] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_overconfidence_is_corrected(method: Any) -> None:
    """Each method calibrates overconfident answers on new rows, as well as its own figures say."""
    fitted = ls.calibrate(overconfident(4000), method=method)
    new = overconfident(20_000, seed=9).with_columns(fitted.expr())
    after = new.select(ls.ece("calibrated"), ls.brier("calibrated"), ls.nll("calibrated")).row(0, named=True)

    # a temperature of 3 puts the confidence off by 0.13 on average
    assert fitted.before["ece"] > 0.1
    assert after["ece"] < 0.025
    assert fitted.after["ece"] < 0.04
    assert after["brier"] == pytest.approx(fitted.after["brier"], abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_never_falls_and_stays_a_probability(method: Any) -> None:
    """The map never falls, and maps every confidence in [0, 1] to a probability."""
    mapped = GRID.select(ls.calibrate(overconfident(300), method=method).expr())["calibrated"]

    assert mapped.is_between(0, 1).all()
    assert (mapped.diff().drop_nulls() >= -1e-12).all()


def test_figures_are_cross_fitted() -> None:
    """Isotonic regression of noise looks better on its own rows than the cross-fitted figures say."""
    generator = np.random.default_rng(0)
    noise = pl.DataFrame({"confidence": generator.uniform(size=200), "correct": generator.uniform(size=200) < 0.5})
    fitted = ls.calibrate(noise)
    own = noise.with_columns(fitted.expr()).select(ls.brier("calibrated"), ls.ece("calibrated")).row(0)

    assert own[0] < fitted.after["brier"]
    # knowing nothing scores 1/4; it is better on its own rows, and no better on others
    assert own[0] < 0.25 <= fitted.after["brier"] + 0.005
    assert own[1] < 1e-9 < fitted.after["ece"]


def test_misleading_confidence_is_described() -> None:
    """Where surer answers are less often right, Platt's line falls, and the description says so."""
    misled = overconfident(300).with_columns(correct=~pl.col("correct"))

    assert "slope is negative" in ls.calibrate(misled, method="platt").describe()
    assert "slope is negative" not in ls.calibrate(overconfident(300), method="platt").describe()


def test_groups_stay_together() -> None:
    """Copies of a row in several folds leak into the figures; with groups they stay in one fold."""
    generator = np.random.default_rng(1)
    rows = pl.DataFrame({"confidence": generator.uniform(size=60), "correct": generator.uniform(size=60) < 0.5})
    copied = pl.concat([rows.with_row_index("prompt_id")] * 10)
    naive, grouped = ls.calibrate(copied), ls.calibrate(copied, groups="prompt_id")

    assert grouped.after["brier"] > 0.24
    assert naive.after["brier"] < grouped.after["brier"] - 0.02


@pytest.mark.parametrize("method", METHODS)
def test_order_and_unjudged_rows_change_nothing(method: Any) -> None:
    """The order of rows, and unjudged rows, do not change the calibrator."""
    frame = overconfident(200).with_row_index("id")
    holes = pl.DataFrame({"id": [1, 2], "confidence": [None, 0.5], "correct": [True, None]}, schema=frame.schema)
    other = pl.concat([frame.sample(fraction=1, shuffle=True, seed=3), holes])
    one, two = ls.calibrate(frame, method=method, groups="id"), ls.calibrate(other, method=method, groups="id")

    assert two.fitted_on.unjudged == 2
    assert two.parameters == one.parameters
    assert two.after == one.after
    assert two.fitted_on.digest == one.fitted_on.digest
    assert ls.calibrate(frame.head(199), method=method).fitted_on.digest != one.fitted_on.digest


def test_lazy_rows_make_the_same_calibrator() -> None:
    """What `store.scores()` gives, joined with the truth, is a LazyFrame."""
    rows = overconfident(100)

    assert ls.calibrate(rows.lazy(), method="platt") == ls.calibrate(rows, method="platt")


def test_expression_goes_anywhere() -> None:
    """Lazy, streaming, in a filter, over another column and an expression: the same numbers; null stays null."""
    fitted = ls.calibrate(overconfident(500))
    frame = overconfident(50, seed=5).with_columns(other=pl.col("confidence").log())
    expected = frame.select(fitted.expr())["calibrated"]
    lazy = frame.lazy().with_columns(fitted.expr()).collect(engine="streaming")["calibrated"]

    assert lazy.to_list() == expected.to_list()
    assert frame.select(fitted.expr(pl.col("other").exp()))["calibrated"].to_list() == pytest.approx(expected.to_list())
    assert frame.filter(fitted.expr() > 0.5).height == (expected > 0.5).sum()
    assert pl.DataFrame({"confidence": [None]}).select(fitted.expr()).item() is None
    with pytest.raises(ValueError, match="is not a probability"):
        pl.DataFrame({"confidence": [-0.5]}).select(fitted.expr())


@pytest.mark.parametrize(
    ("frame", "arguments", "message"),
    [
        (overconfident(19), {}, "19 rows with a confidence and a truth"),
        (overconfident(50).with_columns(correct=pl.lit(value=True)), {}, "50 right and 0 wrong"),
        (overconfident(50), {"folds": 1}, "folds 1"),
        (overconfident(50), {"method": "beta"}, "'beta' is none of isotonic, platt, temperature"),
        (overconfident(50).with_columns(g=1), {"groups": "g"}, "1 groups are fewer than 5 folds"),
    ],
    ids=["rows", "classes", "folds", "method", "groups"],
)
def test_too_little_to_fit(frame: pl.DataFrame, arguments: dict[str, Any], message: str) -> None:
    """Too few rows, or invalid options, are errors that say what is needed."""
    with pytest.raises(InputError, match=message):
        ls.calibrate(frame, **arguments)


def test_wrong_confidence() -> None:
    """A confidence outside [0, 1] is an error that names the row."""
    with pytest.raises(ValueError, match=r"2\.0 at row 0"):
        ls.calibrate(overconfident(50).with_columns(confidence=2.0))


def test_fitting_wants_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn the error names the extra; applying does not need it."""
    fitted = ls.calibrate(overconfident(100))
    for name in ("sklearn", "sklearn.isotonic"):
        monkeypatch.setitem(sys.modules, name, None)

    assert GRID.select(fitted.expr()).height == 201
    with pytest.raises(ImportError, match=r"pip install 'logprob-store\[analysis\]'"):
        ls.calibrate(overconfident(100))


@pytest.mark.parametrize("method", METHODS)
def test_file_gives_the_same_back(method: Any, tmp_path: Path) -> None:
    """What is loaded is what was saved, to the last bit, and the file is JSON."""
    fitted = ls.calibrate(overconfident(100), method=method, fitted_at=datetime(2026, 11, 22, tzinfo=UTC))
    path = ls.save_calibrator(fitted, tmp_path, "nightly-1.0")

    assert path == tmp_path / "calibration" / "nightly-1.0.json"
    assert ls.load_calibrator(tmp_path, "nightly-1.0") == fitted
    assert calibrator_names(tmp_path) == ["nightly-1.0"]
    assert '"calibrator_version": 1' in path.read_text()


def test_unknown_and_invalid_names(tmp_path: Path) -> None:
    """An unknown name lists the names that exist; a name that is a path is refused."""
    ls.save_calibrator(ls.calibrate(overconfident(100)), tmp_path, "one")
    with pytest.raises(InputError, match=r"no calibrator 'two' in .*; there are: one"):
        ls.load_calibrator(tmp_path, "two")
    for name in ("../one", "", ".one", "a/b"):
        with pytest.raises(InputError, match="use letters, digits"):
            ls.load_calibrator(tmp_path, name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"calibrator_version": 1', '"calibrator_version": 2', "version 2"),
        ('"method": "platt"', '"method": "pickle"', "is damaged"),
        ('"slope": ', '"slant": ', "is damaged"),
        ('"slope": ', '"slope": "x", "y": ', "is damaged"),
        ("{", "", "is damaged"),
    ],
)
def test_damaged_files(old: str, new: str, message: str, tmp_path: Path) -> None:
    """A damaged file, or one of another version, is an error that names the file."""
    path = ls.save_calibrator(ls.calibrate(overconfident(100), method="platt"), tmp_path, "one")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(StoreError, match=message) as caught:
        ls.load_calibrator(tmp_path, "one")
    assert str(path) in str(caught.value)


def test_knots_that_do_not_rise(tmp_path: Path) -> None:
    """An isotonic calibrator whose knots were tampered with is refused."""
    fitted = ls.calibrate(overconfident(100))
    fitted.parameters["x"] = [0.5, 0.4]
    fitted.parameters["y"] = [0.1, 0.9]
    ls.save_calibrator(fitted, tmp_path, "one")
    with pytest.raises(StoreError, match="knots do not rise"):
        ls.load_calibrator(tmp_path, "one")


def test_a_calibrator_describes_its_rows(demo: ls.Store) -> None:
    """It records the store, run, model, rows, right answers, and the time it was given."""
    rows = judged(demo)
    fitted = ls.calibrate(
        rows, method="platt", groups="prompt_id", store=demo, fitted_at=datetime(2026, 11, 22, 7, tzinfo=UTC)
    )
    source = fitted.fitted_on

    assert (source.rows, source.unjudged, source.right) == (243, 0, rows["correct"].sum())
    assert source.store == str(demo.path)
    assert [(run.run, run.job_name, run.models) for run in source.runs] == [("demo", "demo", ["gemma-3-270m"])]
    assert source.runs[0].settings["model.params.temperature"] == 0
    assert fitted.describe().startswith("platt of confidence, fitted at 2026-11-22 07:00 on 243 rows of ")
    assert "cross-fitted in 5 folds: ece 0." in fitted.describe()


def test_scores_are_marked(demo: ls.Store) -> None:
    """Scores have the calibrated column, and rows of a run unlike the fitted ones are marked."""
    fitted = ls.calibrate(judged(demo), method="platt", store=demo)
    table = ls.calibrated_scores(demo, fitted).collect()
    settings_of = fitted.fitted_on.runs[0].settings
    settings_of["model.name"], settings_of["model.params.temperature"] = "gemma-3-1b", 1

    assert table["calibration_fits"].all()
    assert table["calibrated"].is_between(0, 1).all()
    assert differences(fitted, demo) == {
        "demo": [
            "model.name: 'gemma-3-270m', fitted on 'gemma-3-1b'",
            "model.params.temperature: 0, fitted on 1",
        ]
    }
    assert not ls.calibrated_scores(demo, fitted).collect()["calibration_fits"].any()


def test_fitted_on_a_frame_does_not_say(demo: ls.Store) -> None:
    """A calibrator fitted without a store marks rows with null."""
    fitted = ls.calibrate(judged(demo))

    assert differences(fitted, demo) == {}
    assert ls.calibrated_scores(demo, fitted).collect()["calibration_fits"].is_null().all()


def test_saturated_confidences() -> None:
    """Confidences of exactly 0 and 1 are fitted and mapped, by every method, to finite probabilities."""
    frame = pl.DataFrame({"confidence": [0.0] * 20 + [1.0] * 80, "correct": [False] * 18 + [True] * 76 + [False] * 6})
    for method in METHODS:
        fitted = ls.calibrate(frame, method=method)  # type: ignore[arg-type]
        low, high = pl.DataFrame({"confidence": [0.0, 1.0]}).select(fitted.expr())["calibrated"]

        assert math.isfinite(low)
        assert 0 <= low < high <= 1
