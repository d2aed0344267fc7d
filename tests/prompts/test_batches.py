"""Batches of prompts, and the kept columns of the same rows."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompts.parquet_files import bad_utf8, read_all, write_tables

from logprob_store.errors import PromptsError
from logprob_store.prompts.batches import PromptBatch, read_prompts
from logprob_store.prompts.columns import Columns, kept_schema
from logprob_store.prompts.ids import check_ids
from logprob_store.prompts.input_files import InputFile, find_inputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from logprob_store.prompts.prompt import Prompt


def batches(inputs: list[InputFile], **options: Any) -> list[PromptBatch]:
    """All batches of the prompt column t, with k kept."""
    return list(read_prompts(inputs, Columns(prompt="t", keep=("k",)), endpoint="completions", **options))


def kept(inputs: list[InputFile], *names: str, **options: Any) -> pa.Table:
    """The kept columns of all batches."""
    columns = Columns(prompt="t", keep=names, **options)
    tables = [batch.kept for batch in read_prompts(inputs, columns, endpoint="chat", batch_rows=2)]
    assert all(table.schema.equals(kept_schema(inputs, columns), check_metadata=True) for table in tables)
    return pa.concat_tables(tables)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    skip=st.integers(0, 20),
    limit=st.none() | st.integers(0, 20),
    batch_rows=st.integers(1, 5),
)
def test_reading_from_the_middle_gives_the_same_prompts(
    tmp_path_factory: pytest.TempPathFactory, *, rows: list[int], skip: int, limit: int | None, batch_rows: int
) -> None:
    """A resumed run reads the same prompts, ids and kept values as a run from the start."""
    tables = [
        {
            "t": pa.array([f"{number}-{row}" for row in range(many)], pa.string()),
            "k": pa.array(range(many), pa.int64()),
        }
        for number, many in enumerate(rows)
    ]
    inputs = write_tables(tmp_path_factory.mktemp("in"), *tables)

    def pairs(**options: Any) -> list[tuple[Prompt, int]]:
        found = batches(inputs, **options)
        assert all(len(batch.prompts) == batch.kept.num_rows <= options.get("batch_rows", 500) for batch in found)
        return [pair for batch in found for pair in zip(batch.prompts, batch.kept["k"].to_pylist(), strict=True)]

    assert pairs(skip=skip, limit=limit, batch_rows=batch_rows) == pairs()[:limit][skip:]


def test_reading_is_lazy_and_bounded(tmp_path: Path) -> None:
    """The first batch is there before the rest is read, and no batch is larger than the limit."""
    rows = 1200
    inputs = write_tables(tmp_path, {"t": ["x"] * rows, "k": range(rows)})

    stream = read_prompts(inputs, Columns(prompt="t"), endpoint="chat")
    first = next(stream)

    assert len(first.prompts) == 500
    assert [len(batch.prompts) for batch in stream] == [500, 200]


def test_an_empty_file_has_no_prompts(tmp_path: Path) -> None:
    """No rows are no error."""
    inputs = write_tables(tmp_path, {"t": pa.array([], pa.string()), "k": pa.array([], pa.int64())})

    assert batches(inputs) == []
    check_ids(inputs, Columns(id="t", prompt="t"))


@pytest.mark.slow
def test_memory_stays_bounded_for_one_row_group_of_much_text(
    tmp_path: Path, measured: Callable[[str], tuple[str, int]]
) -> None:
    """Reading 200 MB of text in one row group takes less than 120 MiB."""
    texts = pa.array([os.urandom(1000).hex() for _ in range(100_000)])
    pq.write_table(pa.table({"t": texts}), tmp_path / "a.parquet", row_group_size=100_000, use_dictionary=False)

    rows, mebibytes = measured(
        'print(sum(len(b.prompts) for b in read_prompts(inputs, Columns(prompt="t"), endpoint="chat")))'
    )

    assert rows == "100000"
    assert mebibytes < 120


@pytest.mark.parametrize("column", ["prompt", "kept"])
def test_long_texts_are_read_in_bounded_memory(
    tmp_path: Path, measured: Callable[[str], tuple[str, int]], column: str
) -> None:
    """Reading 300 texts of 1 MB, each in a row group, takes less than 60 MiB; 500 rows at once took 1.5 GB."""
    names = {"prompt": ("t", "k"), "kept": ("k", "t")}[column]
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(tmp_path / "a.parquet", schema, use_dictionary=False) as writer:
        for number in range(300):
            rows = pa.table([[f"{number:07}" * 150_000], ["x"]], schema=schema)
            writer.write_table(rows)

    rows, mebibytes = measured(
        'print(sum(len(b.prompts) for b in read_prompts(inputs, Columns(prompt="t", keep=("k",)), endpoint="chat")))'
    )

    assert rows == "300"
    assert mebibytes < 60


def test_kept_columns_keep_order_types_and_rows(tmp_path: Path) -> None:
    """The kept columns are those of the input, in the order of `keep`."""
    table = {
        "t": ["a", "b", None],
        "l": pa.array([[1], None, []], pa.list_(pa.int8())),
        "d": pa.array([dt.date(2026, 1, 2)] * 3),
        "b": pa.array([b"\xff", None, b""]),
    }

    assert kept(write_tables(tmp_path, table), "d", "b", "l") == pa.table(table).select(["d", "b", "l"])


def test_kept_enums_and_categories_keep_their_types(tmp_path: Path) -> None:
    """They survive being written to Parquet and read with polars."""
    frame = pl.DataFrame(
        {
            "t": ["a", "b", "c"],
            "e": pl.Series(["z", "x", "z"], dtype=pl.Enum(["x", "y", "z"])),
            "c": pl.Series(["u", None, "v"], dtype=pl.Categorical),
        }
    )
    frame.write_parquet(tmp_path / "0.parquet")

    pq.write_table(kept(find_inputs("*", base=tmp_path), "e", "c"), tmp_path / "kept")

    assert pl.read_parquet(tmp_path / "kept").equals(frame.select("e", "c"))
    assert pl.read_parquet_schema(tmp_path / "kept")["e"] == pl.Enum(["x", "y", "z"])


def test_partition_columns_can_be_kept_and_asked_about(tmp_path: Path) -> None:
    """A Hive folder is a column like any other."""
    write_tables(tmp_path / "country=fr/day=1", {"t": ["a"]})
    write_tables(tmp_path / "country=it/day=2", {"t": ["b", "c"]})
    inputs = find_inputs("country=*", base=tmp_path)

    assert kept(inputs, "country", "day").to_pydict() == {"country": ["fr", "it", "it"], "day": [1, 2, 2]}
    assert [prompt.messages for prompt in read_all(inputs, "completions", template="{day}{country}")] == [
        "1fr",
        "2it",
        "2it",
    ]


def test_nothing_kept_still_counts_the_rows(tmp_path: Path) -> None:
    """A kept table without columns still has as many rows as its batch has prompts."""
    (batch,) = read_prompts(write_tables(tmp_path, {"t": ["a", "b"]}), Columns(prompt="t"), endpoint="chat")

    assert (len(batch.prompts), batch.kept.num_rows, batch.kept.num_columns) == (2, 2, 0)


def test_kept_text_that_is_not_utf8_is_a_clear_error(tmp_path: Path) -> None:
    """Such text would make the whole prompts table of the store unreadable."""
    with pytest.raises(PromptsError, match=r"0\.parquet, rows 0 to 1: column 'k' cannot be kept: Invalid UTF8"):
        kept(write_tables(tmp_path, {"t": ["a", "b"], "k": bad_utf8()}), "k")
