"""`logprobs sql`, `samples` and `choices`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import run_demo, write_job, write_prompts

import logprob_store as ls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's store."""
    store = tmp_path_factory.mktemp("demo") / "store"
    run_demo(store)
    return store


def test_sql_asks_tables_and_scores(demo: Path, logprobs: Any) -> None:
    """Joined, as a table and as JSON."""
    query = "select c.prompt_id, count(*) as n from tokens t join completions c using (run, completion_id) group by 1"

    rows = json.loads(logprobs("sql", demo, f"{query} order by n desc, 1", "--json", "-n", 2).out)
    shown = logprobs("sql", demo, "select prompt_id, confidence from scores order by confidence", "-n", 1)

    counted = ls.open_store(demo).tokens.group_by("completion_id").len()
    assert [row["n"] for row in rows] == sorted(counted.collect()["len"], reverse=True)[:2]
    assert "the first 1 of 243 rows" in shown.out


def test_sql_without_a_query_says_what_the_columns_mean(demo: Path, logprobs: Any) -> None:
    """As text, and for machines one row per column."""
    rows = json.loads(logprobs("sql", demo, "--json").out)

    assert {"table": "completions", "column": "latency_s", "type": "Float64", "unit": "seconds"}.items() <= next(
        row for row in rows if row["column"] == "latency_s"
    ).items()
    assert "  latency_s (Float64, seconds): how long the call took that succeeded\n" in logprobs("sql", demo).out


def test_sql_writes_to_a_file_only(demo: Path, logprobs: Any, tmp_path: Path) -> None:
    """All rows; the store is as it was."""
    assert logprobs("sql", demo, "select * from completions", "-o", tmp_path / "c.parquet").code == 0
    assert pl.read_parquet(tmp_path / "c.parquet").height == 243
    assert logprobs("sql", demo, "drop table completions").code == 2
    assert logprobs("verify", demo).code == 0
    assert ls.open_store(demo).completions.collect().height == 243


@pytest.mark.parametrize(
    "query",
    [
        "select nothing from scores",
        "select * from nowhere",
        "selec",
        "",
        "create table x as select 1",
        "insert into scores values (1)",
    ],
)
def test_sql_that_is_wrong_is_an_error(demo: Path, logprobs: Any, query: str) -> None:
    """With the tables that there are, and without a plan or traceback."""
    done = logprobs("sql", demo, query)

    assert done.code == 2
    assert "the tables are alternatives, answers, completions" in done.err
    assert "plan" not in done.err


def test_samples_that_vary_most_come_first(tmp_path: Path, logprobs: Any, fault_server: Any) -> None:
    """As `ls.sample_scores` says."""
    write_prompts(tmp_path, {"text": ["a", "b", "c"]})
    ls.run_job(write_job(tmp_path, fault_server.url, model={"samples": 4}), run="r")

    rows = json.loads(logprobs("samples", tmp_path / "store", "--json").out)

    expected = ls.open_store(tmp_path / "store").sample_scores().collect()
    assert sorted(row["agreement"] for row in rows) == sorted(expected["agreement"])
    assert [row["agreement"] for row in rows] == sorted(row["agreement"] for row in rows)
    assert "agreement" in logprobs("samples", tmp_path / "store").out


def test_samples_and_choices_say_what_they_need(demo: Path, logprobs: Any) -> None:
    """A store of single answers has neither."""
    samples, choices = logprobs("samples", demo), logprobs("choices", demo)

    assert (samples.code, choices.code) == (2, 2)
    assert "each prompt has one answer: set model.samples" in samples.err
    assert "no candidates to choose from" in choices.err


def test_scores_are_written_with_the_kept_columns(demo: Path, logprobs: Any, tmp_path: Path) -> None:
    """As somebody needs who goes on in a spreadsheet."""
    assert logprobs("scores", demo, "-o", tmp_path / "s.csv").code == 0

    rows = pl.read_csv(tmp_path / "s.csv")
    assert rows.height == 243
    assert set(rows.filter(prompt_id="FR")["capital"]) == {"Paris"}


def test_equal_scores_have_one_order(demo: Path, logprobs: Any) -> None:
    """By the number of the completion, so that the output of two nights can be compared."""
    rows = json.loads(logprobs("scores", demo, "--sort", "token_count", "--json", "-n", 243).out)

    assert rows == sorted(rows, key=lambda row: (row["token_count"], row["completion_id"]))
