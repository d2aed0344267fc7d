"""The messages and parameters of a row, from columns in any encoding, and the problem of a row that cannot be asked."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompts.parquet_files import bad_utf8, read_all, read_one, write_tables

from logprob_store.errors import PromptsError
from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns
from logprob_store.prompts.input_files import find_inputs
from logprob_store.prompts.prompt import Prompt, prompt_json

if TYPE_CHECKING:
    from pathlib import Path

USER = {"role": "user", "content": "Hi"}


def problem(prompt: Prompt) -> tuple[str, str]:
    """The error_type and the message of a prompt that cannot be asked."""
    assert prompt.problem is not None
    assert (prompt.messages, prompt.params) == (None, {})
    return prompt.problem.error_type, str(prompt.problem)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_prompt_column_is_a_user_message(tmp_path: Path, endpoint: str) -> None:
    """Without a system column there is one message."""
    assert read_one(tmp_path, {"t": ["Hi"]}, endpoint, prompt="t").messages == [USER]


def test_a_system_column_is_a_system_message_where_it_is_not_null(tmp_path: Path) -> None:
    """Beside `prompt`, `system` names a column; null means no system message."""
    prompts = read_all(write_tables(tmp_path, {"t": ["Hi", "Hi"], "s": ["Be brief", None]}), prompt="t", system="s")

    assert [prompt.messages for prompt in prompts] == [
        [{"role": "system", "content": "Be brief"}, USER],
        [USER],
    ]


def test_a_template_and_its_system_template_are_filled(tmp_path: Path) -> None:
    """Beside `template`, `system` is itself a template."""
    prompt = read_one(tmp_path, {"a": ["x"], "b": [1]}, template="a={a}", system="b={b}")

    assert prompt.messages == [{"role": "system", "content": "b=1"}, {"role": "user", "content": "a=x"}]


@pytest.mark.parametrize("columns", [{"prompt": "t"}, {"template": "{t}"}])
def test_completions_ask_plain_text(tmp_path: Path, columns: dict[str, Any]) -> None:
    """The completions endpoint has no messages."""
    assert read_one(tmp_path, {"t": ["Hi"]}, "completions", **columns).messages == "Hi"


@pytest.mark.parametrize(
    "columns", [{"messages": "m"}, {"prompt": "t", "system": "s"}, {"template": "t", "system": "s"}]
)
def test_completions_take_neither_messages_nor_system(tmp_path: Path, columns: dict[str, str]) -> None:
    """The error comes before the first row is read."""
    with pytest.raises(PromptsError, match="completions endpoint takes plain text"):
        read_prompts(write_tables(tmp_path, {"t": ["a"]}), Columns(**columns), endpoint="completions")


def test_messages_as_json_text_are_sent_as_they_are(tmp_path: Path) -> None:
    """Nulls in the JSON text are kept."""
    sent = [{"role": "assistant", "content": None}, USER]

    assert read_one(tmp_path, {"m": [json.dumps(sent)]}, messages="m").messages == sent


def test_responses_items_may_have_a_type_in_place_of_a_role(tmp_path: Path) -> None:
    """The output of a function has a type and no role: the responses endpoint takes it, chat does not."""
    items = json.dumps([{"type": "function_call_output", "call_id": "1", "output": "2"}])

    assert read_one(tmp_path, {"m": [items]}, "responses", messages="m").problem is None
    assert problem(read_one(tmp_path, {"m": [items]}, "chat", messages="m"))[0] == "bad_prompt"


def test_params_are_a_json_object(tmp_path: Path) -> None:
    """The model is a parameter like any other."""
    prompt = read_one(tmp_path, {"t": ["Hi"], "p": ['{"model": "m", "stop": null}']}, prompt="t", params="p")

    assert prompt.params == {"model": "m", "stop": None}


@pytest.mark.parametrize("name", ["messages", "prompt", "input", "stream"])
@pytest.mark.parametrize("as_text", [True, False])
def test_params_cannot_set_what_the_job_fills(tmp_path: Path, name: str, *, as_text: bool) -> None:
    """Such a row is not asked, and the problem names the parameter."""
    value = json.dumps({name: "x"}) if as_text else {name: "x"}

    kind, text = problem(read_one(tmp_path, {"t": ["Hi"], "p": [value]}, prompt="t", params="p"))

    assert kind == "bad_prompt"
    assert f"column 'p' sets {name}" in text


@pytest.mark.parametrize(
    ("columns", "column"), [({"prompt": "t"}, "t"), ({"template": "{u}{t}"}, "t"), ({"messages": "t"}, "t")]
)
def test_a_null_prompt_is_a_problem_that_says_where(tmp_path: Path, columns: dict[str, str], column: str) -> None:
    """File, row in the file and column are named; the other rows are asked."""
    good = json.dumps([USER])
    table = {"t": [good, None], "u": ["x", "y"]}
    prompts = read_all(write_tables(tmp_path, {"t": [good], "u": ["x"]}, table), **columns)

    kind, text = problem(prompts[2])

    assert [prompt.problem for prompt in prompts[:2]] == [None, None]
    assert kind == "null_prompt"
    assert text.startswith(f"1.parquet, row 1: column {column!r} is null")


def test_a_column_of_nulls_is_a_problem_of_every_row(tmp_path: Path) -> None:
    """Such a column has Arrow's null type."""
    assert problem(read_one(tmp_path, {"t": pa.nulls(1)}, prompt="t"))[0] == "null_prompt"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("{", "not JSON"),
        ('"Hi"', "expected a list"),
        ("{}", "expected a list"),
        ("[]", "at least one message"),
        ('["Hi"]', "message 0 is 'Hi'"),
        ('[{"role":"user"},{"content":"x"}]', "message 1 is"),
        ('[{"role":7}]', "message 0 is"),
        ('[{"role":"user","content":"\\ud800"}]', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[NaN]", "not JSON"),
        ([], "at least one message"),
        ([None], "message 0 is None"),
        ([{"role": None}], "message 0 is"),
    ],
)
def test_invalid_messages_are_a_problem(tmp_path: Path, value: Any, what: str) -> None:
    """The problem says what is wrong; no content of a row stops the job."""
    column = pa.array([value], pa.string() if isinstance(value, str) else pa.list_(pa.struct({"role": pa.string()})))

    kind, text = problem(read_one(tmp_path, {"m": column}, messages="m"))

    assert kind == "bad_prompt"
    assert what in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("value", "what"), [("{", "not JSON"), ("[1]", "expected a JSON object"), ("7", "JSON object")]
)
def test_invalid_params_are_a_problem(tmp_path: Path, value: str, what: str) -> None:
    """The prompt may be fine, but it is not sent without its parameters."""
    assert what in problem(read_one(tmp_path, {"t": ["Hi"], "p": [value]}, prompt="t", params="p"))[1]


def test_text_that_is_not_utf8_is_a_problem_of_its_row(tmp_path: Path) -> None:
    """The row before it, in the same batch, is asked."""
    good, bad = read_all(write_tables(tmp_path, {"t": bad_utf8()}), "completions", prompt="t")

    assert good.messages == "a"
    assert "column 't' holds bytes that are not UTF-8" in problem(bad)[1]


def test_messages_that_are_not_utf8_are_a_problem_of_their_row(tmp_path: Path) -> None:
    """The same holds for text inside a list of structs."""
    structs = pa.StructArray.from_arrays([pa.array(["user"] * 2), bad_utf8()], names=["role", "content"])
    good, bad = read_all(write_tables(tmp_path, {"m": pa.ListArray.from_arrays([0, 1, 2], structs)}), messages="m")

    assert good.problem is None
    assert problem(bad)[0] == "bad_prompt"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_prompt_json_comes_back_from_json(text: str) -> None:
    """Text and messages both come back from JSON as they were."""
    assert json.loads(prompt_json(text)) == text
    assert json.loads(prompt_json([{"role": "user", "content": text}])) == [{"role": "user", "content": text}]


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
def test_every_encoding_of_text_is_text(tmp_path: Path, column: pa.Array) -> None:
    """Dictionary, view, large, Categorical and Enum columns work as prompt, id, system and field."""
    table = {"t": column}

    assert read_one(tmp_path, table, prompt="t", system="t", id="t").messages == [
        {"role": "system", "content": "Hi"},
        USER,
    ]
    assert read_one(tmp_path, table, template="{t}").messages == [USER]


def test_json_columns_of_duckdb_are_text(tmp_path: Path) -> None:
    """DuckDB writes columns of Arrow's JSON type, and 0.7 as a decimal."""
    duckdb.sql(
        f"""copy (select '[{json.dumps(USER)}]'::JSON m, {{temperature: 0.7, n: 2::decimal(3, 1)}} p)
            to '{tmp_path / "a.parquet"}' (format parquet)"""
    )

    (prompt,) = read_all(find_inputs("a.parquet", base=tmp_path), messages="m", params="p")

    assert (prompt.messages, prompt.params) == ([USER], {"temperature": 0.7, "n": 2})


def test_template_values_are_written_as_in_the_column(tmp_path: Path) -> None:
    """Types without an exact counterpart in Python are written as they stand in the file."""
    when = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
    table = {
        "f32": pa.array([0.1], pa.float32()),
        "f64": [0.1],
        "ns": pa.array([int(when.timestamp()) * 10**9 + 678_901_234], pa.timestamp("ns", "UTC")),
        "day": [dt.date(2026, 1, 2)],
        "dec": [Decimal("1.50")],
        "yes": [True],
    }

    assert read_one(tmp_path, table, "completions", template="{f32} {f64} {ns} {day} {dec} {yes}").messages == (
        "0.1 0.1 2026-01-02 03:04:05.678901+00:00 2026-01-02 1.50 true"
    )


def test_messages_as_structs_drop_null_fields_and_keep_lists(tmp_path: Path) -> None:
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

    assert read_one(tmp_path, {"m": [sent]}, messages="m").messages == [
        {"role": "user", "parts": [{"type": "text", "text": "a"}, {"type": "image"}]},
        {"role": "tool", "content": "b", "tool_calls": [{"id": "1"}], "parts": []},
    ]


def test_params_are_a_struct_without_its_nulls(tmp_path: Path) -> None:
    """A field that is null in a row is left out of its parameters."""
    rows = [
        {"temperature": 0.5, "stop": ["a"], "seed": None},
        None,
        {"temperature": None, "stop": None, "seed": 1},
    ]
    prompts = read_all(write_tables(tmp_path, {"t": ["Hi"] * 3, "p": rows}), prompt="t", params="p")

    assert [prompt.params for prompt in prompts] == [{"temperature": 0.5, "stop": ["a"]}, {}, {"seed": 1}]
