"""What stands in a column is what is asked, whoever wrote it and in whichever encoding."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from logprob_store.prompts.input_files import InputFile, find_inputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from logprob_store.prompts.prompt import Prompt

USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["Hi"]).dictionary_encode(),
        pa.array(["Hi"], pa.string_view()),
        pa.array(["Hi"], pa.large_string()),
        pl.Series(["Hi"], dtype=pl.Categorical).to_arrow(),
        pl.Series(["Hi"], dtype=pl.Enum(["Hi", "Ho"])).to_arrow(),
    ],
)
def test_every_encoding_of_text_is_text(tmp_path: Path, column: pa.Array, one: Callable[..., Prompt]) -> None:
    """Dictionary, view, large, Categorical and Enum columns work as prompt, id, system and field."""
    table = {"t": column}

    assert one(tmp_path, table, prompt="t", system="t", id="t").messages == [
        {"role": "system", "content": "Hi"},
        USER,
    ]
    assert one(tmp_path, table, template="{t}").messages == [USER]


def test_json_columns_of_duckdb_are_text(tmp_path: Path, read: Callable[..., list[Prompt]]) -> None:
    """DuckDB marks JSON columns as such, and writes 0.7 as a decimal."""
    duckdb.sql(
        f"""copy (select '[{json.dumps(USER)}]'::JSON m, {{temperature: 0.7, n: 2::decimal(3, 1)}} p)
            to '{tmp_path / "a.parquet"}' (format parquet)"""
    )

    (prompt,) = read(find_inputs("a.parquet", base=tmp_path), messages="m", params="p")

    assert (prompt.messages, prompt.params) == ([USER], {"temperature": 0.7, "n": 2})


def test_template_values_are_written_as_they_stand_in_the_column(tmp_path: Path, one: Callable[..., Prompt]) -> None:
    """Types that Python has no exact counterpart for are written as their writer meant them."""
    when = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
    table = {
        "f32": pa.array([0.1], pa.float32()),
        "f64": [0.1],
        "ns": pa.array([int(when.timestamp()) * 10**9 + 678_901_234], pa.timestamp("ns", "UTC")),
        "day": [dt.date(2026, 1, 2)],
        "dec": [Decimal("1.50")],
        "yes": [True],
    }

    assert one(tmp_path, table, "completions", template="{f32} {f64} {ns} {day} {dec} {yes}").messages == (
        "0.1 0.1 2026-01-02 03:04:05.678901+00:00 2026-01-02 1.50 true"
    )


def test_messages_as_structs_drop_null_fields_and_keep_lists(tmp_path: Path, one: Callable[..., Prompt]) -> None:
    """A struct has every field in every row; a null one is not sent."""
    sent = [
        USER
        | {
            "tool_calls": None,
            "content": None,
            "parts": [{"type": "text", "text": "a"}, {"type": "image", "text": None}],
        },
        {"role": "tool", "content": "b", "tool_calls": [{"id": "1"}], "parts": []},
    ]

    assert one(tmp_path, {"m": [sent]}, messages="m").messages == [
        {"role": "user", "parts": [{"type": "text", "text": "a"}, {"type": "image"}]},
        {"role": "tool", "content": "b", "tool_calls": [{"id": "1"}], "parts": []},
    ]


def test_params_are_a_struct_without_its_nulls(
    tmp_path: Path, put: Callable[..., list[InputFile]], read: Callable[..., list[Prompt]]
) -> None:
    """A field that is null in this row is not overridden."""
    rows = [
        {"temperature": 0.5, "stop": ["a"], "seed": None},
        None,
        {"temperature": None, "stop": None, "seed": 1},
    ]
    prompts = read(put(tmp_path, {"t": ["Hi"] * 3, "p": rows}), prompt="t", params="p")

    assert [prompt.params for prompt in prompts] == [{"temperature": 0.5, "stop": ["a"]}, {}, {"seed": 1}]
