"""Reading a store: the rows that manifests list, with this library and with plain pyarrow, DuckDB and polars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import fault_answers as faults
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from builders import answer_to, chat_request, decoded_tables, open_writer, write_run

from logprob_store.analysis.opened_store import open_store
from logprob_store.decode.decoder import decode_answers
from logprob_store.errors import RunNotFoundError, StoreNotFoundError
from logprob_store.schema import ALTERNATIVES, COMPLETIONS, TOKENS

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.decode.decoder import Decoded


def _decoded(*numbers: int) -> Decoded:
    requests = [
        chat_request(str(number), prompt_index=number, logprobs=True, top_logprobs=2, max_tokens=4)
        for number in numbers
    ]
    return decode_answers([answer_to(one, faults.answer_to("/v1/chat/completions", one.body)) for one in requests])


def _run(store: Path, run: str, *parts: list[int]) -> None:
    write_run(store, run, [(decoded_tables(_decoded(*numbers)), numbers) for numbers in parts])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two runs, one of two parts."""
    _run(tmp_path, "first", [0, 1], [2])
    _run(tmp_path, "second", [0])
    return tmp_path


def test_tables_have_the_contract_s_columns(store: Path) -> None:
    """The run's name, then the columns of the schema, in order and type."""
    opened = open_store(store)

    for table, schema in (("completions", COMPLETIONS), ("tokens", TOKENS), ("alternatives", ALTERNATIVES)):
        found = getattr(opened, table).collect_schema()
        assert found == pl.Schema({"run": pl.String(), **schema})


def test_answers_have_the_kept_columns_beside_them(tmp_path: Path) -> None:
    """Each choice has the kept columns of its prompt; one with the name of a column of completions is renamed."""
    found = _decoded(0, 2)
    prompts = pa.table(
        {"prompt_id": list("012"), "prompt_index": [0, 1, 2], "messages": list("abc"), "text": list("xyz")}
    )
    with open_writer(tmp_path, job={"prompts.keep": ["text"]}) as writer:
        writer.commit({"prompts": prompts, "completions": found.completions}, settled=[0, 2], prompts_read=3)
        writer.finish("finished")

    answers = open_store(tmp_path).answers.collect()

    assert answers.select("prompt_id", "messages", "text_of_prompt").rows() == [("0", "a", "x"), ("2", "c", "z")]
    assert answers["text"].to_list() == open_store(tmp_path).completions.collect()["text"].to_list()


def test_rows_come_in_order(store: Path) -> None:
    """Rows are by run in order of creation, then by completion, section, position and rank."""
    rows = open_store(store).alternatives.collect()

    assert rows["run"].unique(maintain_order=True).to_list() == ["first", "second"]
    keys = rows.with_columns(pl.col("section").to_physical(), order=pl.col("run") == "second")
    assert keys.equals(keys.sort("order", "completion_id", "section", "position", "rank"))
    assert rows.height == 4 * 4 * 2  # completions, tokens, alternatives


def test_other_engines_read_the_files(store: Path) -> None:
    """pyarrow, DuckDB and polars find the same rows by a glob, with the run from the folder's name."""
    expected = open_store(store).tokens.select("run", "completion_id", "token", "logprob").collect()
    columns = expected.columns
    glob = str(store / "tokens" / "**" / "*.parquet")

    by_polars = pl.scan_parquet(glob, hive_partitioning=True).select(columns).collect()
    by_duckdb = duckdb.sql(f"SELECT {', '.join(columns)} FROM read_parquet('{glob}', hive_partitioning = true)").pl()  # noqa: S608
    by_pyarrow = pl.DataFrame(
        ds.dataset(store / "tokens", partitioning="hive").to_table(columns=columns).cast(expected.to_arrow().schema)
    )

    for found in (by_polars, by_duckdb, by_pyarrow):
        order = ["run", "completion_id", "token", "logprob"]
        assert found.with_columns(pl.col("run").cast(pl.String)).sort(order).equals(expected.sort(order))


def test_one_file_needs_nothing_but_pyarrow(store: Path) -> None:
    """Enums come as dictionaries of text, bytes as binary."""
    table = pq.read_table(store / "tokens" / "run=first" / "part-00000.parquet", partitioning=None)

    assert table.column_names == list(TOKENS)
    assert set(table["section"].to_pylist()) == {"content"}
    assert all(bytes(row["bytes"]).decode() == row["token"] for row in table.to_pylist())


def test_only_what_the_manifest_lists_is_seen(store: Path) -> None:
    """Neither a part that a crash left unlisted nor another file is read."""
    before = open_store(store).tokens.collect()
    folder = store / "tokens" / "run=first"
    (folder / "part-00002.parquet").write_bytes((folder / "part-00000.parquet").read_bytes())
    (folder / ".part-00003.parquet.tmp").write_bytes(b"half")

    assert open_store(store).tokens.collect().equals(before)


@pytest.mark.parametrize("run", ["2026-01-01", "123", "1e5", "true", "null", "demo-2026-11-22", "-", "1.0"])
def test_run_names_stay_text(tmp_path: Path, run: str) -> None:
    """Run names that look like dates, numbers or null are text."""
    _run(tmp_path, run, [0])

    opened = open_store(tmp_path)

    for table in (opened.tokens, opened.completions, opened.alternatives, opened.runs):
        assert table.collect()["run"].unique().to_list() == [run]


def test_a_store_below_a_folder_that_looks_like_a_partition(tmp_path: Path) -> None:
    """`date=2026-01-01/store` adds no column, and run and filters work."""
    path = tmp_path / "date=2026-01-01" / "run=9" / "store"
    _run(path, "a", [0])
    _run(path, "b", [1])

    tokens = open_store(path).tokens

    assert "date" not in tokens.collect_schema()
    assert tokens.filter(pl.col("run") == "b").collect()["run"].unique().to_list() == ["b"]
    assert set(tokens.collect()["run"]) == {"a", "b"}


def test_narrowing_to_runs(store: Path) -> None:
    """Only some runs are opened; an unknown one is an error that lists the known."""
    assert open_store(store, runs=["second"]).completions.collect().height == 1
    assert open_store(store).only("first").run_names == ["first"]
    with pytest.raises(RunNotFoundError, match=r"no run 'third'.*first, second"):
        open_store(store, runs=["third"])


def test_an_empty_run_has_empty_tables(tmp_path: Path) -> None:
    """A run without a part yet can be read."""
    _run(tmp_path, "r")

    opened = open_store(tmp_path)

    for table in ("prompts", "completions", "tokens", "alternatives", "failures"):
        assert getattr(opened, table).collect().height == 0
    assert opened.runs.collect().height == 1


@pytest.mark.parametrize("place", ["missing", ""])
def test_no_store(tmp_path: Path, place: str) -> None:
    """A folder without a store is an error that says how to make one."""
    with pytest.raises(StoreNotFoundError, match="logprobs run"):
        open_store(tmp_path / place)


def test_files_are_listed_for_other_tools(store: Path) -> None:
    """Files of all runs are listed in order."""
    found = [str(path.relative_to(store)) for path in open_store(store).files("tokens")]

    assert found == [
        "tokens/run=first/part-00000.parquet",
        "tokens/run=first/part-00001.parquet",
        "tokens/run=second/part-00000.parquet",
    ]


def test_scores_read_a_run_in_batches(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are the same, however many parts are read at a time."""
    whole = open_store(store).scores().sort("run", "completion_id").collect()
    monkeypatch.setattr("logprob_store.analysis.opened_store._LARGE_PART", 1)

    assert open_store(store).scores().sort("run", "completion_id").collect().equals(whole)
    assert len(list(open_store(store)._part_batches())) == 3


def test_scores_of_tokens_leave_the_alternatives_alone(store: Path) -> None:
    """Scores of tokens need no file of alternatives, whether they are named or selected."""
    for file in open_store(store).files("alternatives"):
        file.unlink()

    named = open_store(store).scores(metrics=["perplexity", "min_k_probability"]).collect()
    selected = open_store(store).scores().select("completion_id", "perplexity").collect()
    assert named.height == selected.height == 4


@pytest.mark.parametrize(
    "condition",
    [
        pl.col("run") == "second",
        pl.col("run").is_in(["second"]) & (pl.col("perplexity") > 0) & (pl.col("scored_tokens") > 0),
        (pl.col("perplexity") > 0) & ((pl.col("run") != "first") & (pl.col("prompt_id") == "0")),
    ],
)
def test_scores_of_one_run_leave_the_others_alone(store: Path, condition: pl.Expr) -> None:
    """A run that is filtered out is not read: its files may be gone."""
    for file in open_store(store, runs=["first"]).files("tokens"):
        file.unlink()

    assert open_store(store).scores().filter(condition).select("run", "perplexity").collect()["run"].to_list() == [
        "second"
    ]
    with pytest.raises(FileNotFoundError):
        open_store(store).scores().filter(pl.col("perplexity") > 0).select("run").collect()


def test_a_missing_run_counts_the_runs_that_are_not_named() -> None:
    """Of ten the last eight are named."""
    said = str(RunNotFoundError("x", [f"n{night}" for night in range(10)]))

    assert said == "no run 'x' in this store; it has: n2, n3, n4, n5, n6, n7, n8, n9, and 2 more"
