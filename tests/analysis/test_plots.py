"""`store.plot`: charts of a store for a notebook, which compose and name what is wrong."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import pytest
from builders import run_demo

import logprob_store as ls
from logprob_store.job import override

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> ls.Store:
    """The demo's store."""
    path = tmp_path_factory.mktemp("demo") / "store"
    run_demo(path)
    return ls.open_store(path)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> ls.Store:
    """Two runs of the demo over fifty prompts."""
    path = tmp_path_factory.mktemp("nights") / "store"
    job = override(ls.load_job(REPO / "jobs" / "demo.toml"), store=path)
    for night in ("tuesday", "monday"):
        ls.run_job(job, run=night, limit=50)
    return ls.open_store(path)


def rows_of(chart: Any) -> list[dict[str, Any]]:
    """The rows behind a chart, or behind its first layer."""
    spec = chart.to_dict()
    return spec["datasets"][spec.get("layer", [spec])[0].get("data", spec.get("data"))["name"]]


def title_of(chart: Any) -> Any:
    """The first line above a chart."""
    return chart.to_dict()["title"]["text"]


def test_charts_compose(demo: ls.Store) -> None:
    """As Altair's own do: side by side and one above the other."""
    plot = demo.plot

    assert isinstance((plot.histogram() | plot.scatter("confidence", "perplexity")) & plot.failures(), alt.VConcatChart)


def test_a_histogram_has_all_answers(demo: ls.Store) -> None:
    """Of a named score, an expression over tokens, or a column of completions."""
    for score in ("confidence", ls.sliding_confidence(window=2).alias("s"), "token_count"):
        assert sum(row["count"] for row in rows_of(demo.plot.histogram(score))) == 243


def test_reliability_is_that_of_the_metric(demo: ls.Store) -> None:
    """The same points as `reliability_table` over the answers beside the kept column."""
    right = pl.col("text").str.strip_chars().str.to_lowercase() == pl.col("capital").str.to_lowercase()
    judged = demo.with_prompts(demo.scores(), ["capital"]).with_columns(correct=right)
    table = ls.reliability_table(judged).filter(pl.col("count") > 0).collect()
    layers = demo.plot.reliability(expected="capital").to_dict()
    points = layers["datasets"][layers["layer"][2].get("data", layers.get("data"))["name"]]

    assert [row["accuracy"] for row in points] == pytest.approx(table["accuracy"].to_list())
    assert sum(row["count"] for row in points) == 243


def test_truth_is_in_a_file_too(demo: ls.Store, tmp_path: Path) -> None:
    """As for `logprobs calibrate --truth`."""
    path = tmp_path / "truth.parquet"
    demo.prompts.select("prompt_id", good=pl.lit(value=True)).head(10).collect().write_parquet(path)

    assert title_of(demo.plot.risk_coverage(truth=path, column="good")) == "10 answers judged, 0.0% wrong"


def test_labels_are_judged_by_their_probability(demo: ls.Store) -> None:
    """Where labels are named, their probability is the confidence."""
    chart = demo.plot.reliability(expected="capital", labels=["Paris", "Rome"])

    assert chart.to_dict()["layer"][0]["encoding"]["x"]["title"] == "label_probability"


def test_a_trend_has_the_runs_in_the_order_of_the_store(nights: ls.Store) -> None:
    """Tuesday was run first here."""
    assert [row["night"] for row in rows_of(nights.plot.trend())] == ["tuesday", "monday"]


def test_two_runs_are_chosen_as_for_compare(nights: ls.Store) -> None:
    """Without names, the newest against the one before."""
    assert title_of(nights.plot.compare()) == ["bars: tuesday, 50 answers", "line: monday, 50 answers"]


def test_runs_of_one_name_in_two_stores_are_told_apart(nights: ls.Store, tmp_path: Path) -> None:
    """By which store each is in; paths would be too long for a title."""
    shutil.copytree(nights.path, tmp_path / "copy")
    chart = nights.plot.compare("monday", "monday", other=ls.open_store(tmp_path / "copy"))

    assert [row["share_a"] == row["share_b"] > 0 for row in rows_of(chart)] == [True] * len(rows_of(chart))
    assert title_of(chart) == ["bars: monday of this store, 50 answers", "line: monday of the other, 50 answers"]


def test_a_run_is_not_compared_with_itself(nights: ls.Store) -> None:
    """As for `store.compare`."""
    with pytest.raises(ls.InputError, match="cannot be compared with itself"):
        nights.plot.compare("monday", "monday")


def test_labels_and_fields_are_counted(demo: ls.Store) -> None:
    """Some of the demo's answers are Paris, and one begins with a number, which is JSON."""
    assert title_of(demo.plot.labels(["Paris", "Rome"])) == "243 answers, 2 labels"
    assert title_of(demo.plot.fields()) == "1 field"


def test_the_tokens_of_an_answer_are_bars(demo: ls.Store) -> None:
    """One per token, by its completion_id."""
    longest = demo.completions.sort("token_count", "completion_id").collect().row(-1, named=True)

    assert len(rows_of(demo.plot.tokens(longest["completion_id"]))) == longest["token_count"]


def test_an_answer_of_several_runs_wants_its_run(nights: ls.Store) -> None:
    """Both nights have a completion 0."""
    with pytest.raises(ls.InputError, match="completion 0 is in 2 runs: name one, such as run='tuesday'"):
        nights.plot.tokens(0)

    assert nights.plot.tokens(0, run="monday")
    with pytest.raises(ls.InputError, match="no completion 7 in"):
        nights.plot.tokens(7)


def test_a_score_that_is_none_is_named(demo: ls.Store) -> None:
    """With the nearest names, before anything is read."""
    with pytest.raises(ls.InputError, match="there is no metric 'confidenze'; did you mean confidence"):
        demo.plot.histogram("confidenze")


def test_one_source_of_truth_is_wanted(demo: ls.Store) -> None:
    """Neither or both is an error in the words of Python."""
    with pytest.raises(ls.InputError, match="say what is right: expected, a column kept with the prompts, or truth"):
        demo.plot.reliability()


@pytest.mark.parametrize("bins", [0, 61])
def test_bins_are_few(demo: ls.Store, bins: int) -> None:
    """More than sixty would be narrower than their outlines."""
    with pytest.raises(ls.InputError, match=f"bins {bins} is not from 1 to 60"):
        demo.plot.histogram(bins=bins)


def test_without_altair_the_extra_is_named(demo: ls.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at `store.plot` is no error, and drawing says what to install."""
    monkeypatch.setitem(sys.modules, "altair", None)

    assert repr(demo.plot).startswith("<store.plot: .histogram(...), .missing_mass(...)")
    with pytest.raises(ImportError, match=r"pip install 'logprob-store\[view\]'"):
        demo.plot.histogram()


def test_typed_questions_are_drawn(tmp_path: Path) -> None:
    """The options of a question, and whether their probability is honest."""
    job = ls.load_job(REPO / "jobs" / "cookbook" / "decisions.toml")
    ls.run_job(override(job, store=tmp_path / "store", transport="replay"), run="asked")
    plot = ls.open_store(tmp_path / "store").plot

    assert title_of(plot.labels(question="category")) == "64 answers, 4 labels"
    assert title_of(plot.reliability(question="category", expected="category")) == "64 answers judged"
    with pytest.raises(ls.InputError, match="question 'mood' was not asked; the runs asked: "):
        plot.labels(question="mood")
