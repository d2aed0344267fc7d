"""Rows become prompts: the columns' meaning, what is wrong with a row, and what is wrong with all of them."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logprob_store.errors import PromptsError, TemplateError
from logprob_store.inputs import InputFile, find_inputs
from logprob_store.prompts import Columns, Prompt, PromptBatch, check_ids, kept_schema, read_prompts, rendered

if TYPE_CHECKING:
    from pathlib import Path

USER = {"role": "user", "content": "Hi"}
BAD_UTF8 = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe")]
)
"""The texts "a" and two bytes that are not UTF-8."""
PEAK = """
import re
def peak():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read()).group(1)) // 1024
"""
"""The most memory a process has had, in MiB. Not `ru_maxrss`: a child starts with its parent's."""


def put(base: Path, *tables: dict[str, Any]) -> list[InputFile]:
    """One file a table, in order."""
    base.mkdir(parents=True, exist_ok=True)
    for number, columns in enumerate(tables):
        pq.write_table(pa.table(columns), base / f"{number}.parquet")
    return find_inputs("*.parquet", base=base)


def read(inputs: list[InputFile], endpoint: str = "chat", **columns: Any) -> list[Prompt]:
    """All prompts."""
    batches = read_prompts(inputs, Columns(**columns), endpoint=endpoint)
    return [prompt for batch in batches for prompt in batch.prompts]


def one(base: Path, columns: dict[str, Any], endpoint: str = "chat", **says: Any) -> Prompt:
    """The only prompt of a file of one row."""
    (prompt,) = read(put(base, columns), endpoint, **says)
    return prompt


def problem(prompt: Prompt) -> tuple[str, str]:
    """The type and the text of what is wrong with a prompt that cannot be asked."""
    assert prompt.problem is not None
    assert (prompt.messages, prompt.params) == (None, {})
    return prompt.problem.error_type, str(prompt.problem)


# What is asked


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_prompt_column_is_a_user_message(tmp_path: Path, endpoint: str) -> None:
    """Without a system column there is one message."""
    assert one(tmp_path, {"t": ["Hi"]}, endpoint, prompt="t").messages == [USER]


def test_a_system_column_is_a_system_message_where_it_is_not_null(tmp_path: Path) -> None:
    """Beside `prompt`, `system` names a column; null means no system message."""
    prompts = read(put(tmp_path, {"t": ["Hi", "Hi"], "s": ["Be brief", None]}), prompt="t", system="s")

    assert [prompt.messages for prompt in prompts] == [
        [{"role": "system", "content": "Be brief"}, USER],
        [USER],
    ]


def test_a_template_and_its_system_template_are_filled(tmp_path: Path) -> None:
    """Beside `template`, `system` is itself a template."""
    prompt = one(tmp_path, {"a": ["x"], "b": [1]}, template="a={a}", system="b={b}")

    assert prompt.messages == [{"role": "system", "content": "b=1"}, {"role": "user", "content": "a=x"}]


@pytest.mark.parametrize("says", [{"prompt": "t"}, {"template": "{t}"}])
def test_completions_ask_plain_text(tmp_path: Path, says: dict[str, Any]) -> None:
    """The completions endpoint has no messages."""
    assert one(tmp_path, {"t": ["Hi"]}, "completions", **says).messages == "Hi"


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

    assert one(tmp_path, {"m": [sent]}, messages="m").messages == [
        {"role": "user", "parts": [{"type": "text", "text": "a"}, {"type": "image"}]},
        {"role": "tool", "content": "b", "tool_calls": [{"id": "1"}], "parts": []},
    ]


def test_messages_as_json_text_are_sent_as_they_are(tmp_path: Path) -> None:
    """Nulls that somebody wrote are kept."""
    sent = [{"role": "assistant", "content": None}, USER]

    assert one(tmp_path, {"m": [json.dumps(sent)]}, messages="m").messages == sent


def test_responses_items_may_have_a_type_in_place_of_a_role(tmp_path: Path) -> None:
    """A function's output has no role on the responses endpoint, and is no message on chat."""
    items = json.dumps([{"type": "function_call_output", "call_id": "1", "output": "2"}])

    assert one(tmp_path, {"m": [items]}, "responses", messages="m").problem is None
    assert problem(one(tmp_path, {"m": [items]}, "chat", messages="m"))[0] == "bad_prompt"


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

    assert one(tmp_path, table, prompt="t", system="t", id="t").messages == [
        {"role": "system", "content": "Hi"},
        USER,
    ]
    assert one(tmp_path, table, template="{t}").messages == [USER]


def test_json_columns_of_duckdb_are_text(tmp_path: Path) -> None:
    """DuckDB marks JSON columns as such, and writes 0.7 as a decimal."""
    duckdb.sql(
        f"""copy (select '[{json.dumps(USER)}]'::JSON m, {{temperature: 0.7, n: 2::decimal(3, 1)}} p)
            to '{tmp_path / "a.parquet"}' (format parquet)"""
    )

    (prompt,) = read(find_inputs("a.parquet", base=tmp_path), messages="m", params="p")

    assert (prompt.messages, prompt.params) == ([USER], {"temperature": 0.7, "n": 2})


def test_template_values_are_written_as_they_stand_in_the_column(tmp_path: Path) -> None:
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


# Ids and indexes


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([12]), "12"),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
        (pa.array(["../../x"]), "../../x"),
        (pa.array([dt.date(2026, 1, 2)]), "2026-01-02"),
        (pa.array([Decimal("1.50")]), "1.50"),
        (pa.array([uuid.UUID(int=1).bytes], pa.uuid()), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_ids_of_any_plain_type_become_text(tmp_path: Path, column: pa.Array, text: str) -> None:
    """An id is data; what looks like a path is text too."""
    inputs = put(tmp_path, {"id": column, "t": ["Hi"]})

    assert [prompt.id for prompt in read(inputs, id="id", prompt="t")] == [text]
    check_ids(inputs, Columns(id="id", prompt="t"))


def test_without_an_id_column_the_id_is_the_row_index_over_all_files(tmp_path: Path) -> None:
    """Indexes go on from file to file."""
    prompts = read(
        put(tmp_path, {"t": ["a", "b"]}, {"t": []} | {"t": pa.array([], pa.string())}, {"t": ["c"]}),
        prompt="t",
    )

    assert [(prompt.index, prompt.id) for prompt in prompts] == [(0, "0"), (1, "1"), (2, "2")]


# Parameters


def test_params_are_a_struct_without_its_nulls(tmp_path: Path) -> None:
    """A field that is null in this row is not overridden."""
    rows = [
        {"temperature": 0.5, "stop": ["a"], "seed": None},
        None,
        {"temperature": None, "stop": None, "seed": 1},
    ]
    prompts = read(put(tmp_path, {"t": ["Hi"] * 3, "p": rows}), prompt="t", params="p")

    assert [prompt.params for prompt in prompts] == [{"temperature": 0.5, "stop": ["a"]}, {}, {"seed": 1}]


def test_params_are_a_json_object(tmp_path: Path) -> None:
    """The model is a parameter like others."""
    prompt = one(tmp_path, {"t": ["Hi"], "p": ['{"model": "m", "stop": null}']}, prompt="t", params="p")

    assert prompt.params == {"model": "m", "stop": None}


@pytest.mark.parametrize("name", ["messages", "prompt", "input", "stream"])
@pytest.mark.parametrize("as_text", [True, False])
def test_params_cannot_set_what_the_job_fills(tmp_path: Path, name: str, *, as_text: bool) -> None:
    """Such a row is not asked, and the problem names the parameter."""
    value = json.dumps({name: "x"}) if as_text else {name: "x"}

    kind, text = problem(one(tmp_path, {"t": ["Hi"], "p": [value]}, prompt="t", params="p"))

    assert kind == "bad_prompt"
    assert f"column 'p' sets {name}" in text


# Rows that cannot be asked


@pytest.mark.parametrize(
    ("says", "column"), [({"prompt": "t"}, "t"), ({"template": "{u}{t}"}, "t"), ({"messages": "t"}, "t")]
)
def test_a_null_prompt_is_a_problem_that_says_where(tmp_path: Path, says: dict[str, str], column: str) -> None:
    """File, row in the file and column are named; the other rows are asked."""
    good = json.dumps([USER])
    table = {"t": [good, None], "u": ["x", "y"]}
    prompts = read(put(tmp_path, {"t": [good], "u": ["x"]}, table), **says)

    kind, text = problem(prompts[2])

    assert [prompt.problem for prompt in prompts[:2]] == [None, None]
    assert kind == "null_prompt"
    assert text.startswith(f"1.parquet, row 1: column {column!r} is null")


def test_a_column_that_is_null_throughout_is_a_problem_of_every_row(tmp_path: Path) -> None:
    """Arrow gives such a column a type of its own."""
    assert problem(one(tmp_path, {"t": pa.nulls(1)}, prompt="t"))[0] == "null_prompt"


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
def test_messages_that_are_none_are_a_problem(tmp_path: Path, value: Any, what: str) -> None:
    """What is wrong is named; nothing a row holds stops the job."""
    column = pa.array([value], pa.string() if isinstance(value, str) else pa.list_(pa.struct({"role": pa.string()})))

    kind, text = problem(one(tmp_path, {"m": column}, messages="m"))

    assert kind == "bad_prompt"
    assert what in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("value", "what"), [("{", "not JSON"), ("[1]", "expected a JSON object"), ("7", "JSON object")]
)
def test_params_that_are_no_object_are_a_problem(tmp_path: Path, value: str, what: str) -> None:
    """The prompt may be fine, but it is not asked without its parameters."""
    assert what in problem(one(tmp_path, {"t": ["Hi"], "p": [value]}, prompt="t", params="p"))[1]


def test_text_that_is_not_utf8_is_a_problem_of_its_row(tmp_path: Path) -> None:
    """The row before it, in the same batch, is asked."""
    good, bad = read(put(tmp_path, {"t": BAD_UTF8}), "completions", prompt="t")

    assert good.messages == "a"
    assert "column 't' holds bytes that are not UTF-8" in problem(bad)[1]


def test_messages_that_are_not_utf8_are_a_problem_of_their_row(tmp_path: Path) -> None:
    """The same inside a list of structs."""
    structs = pa.StructArray.from_arrays([pa.array(["user"] * 2), BAD_UTF8], names=["role", "content"])
    good, bad = read(put(tmp_path, {"m": pa.ListArray.from_arrays([0, 1, 2], structs)}), messages="m")

    assert good.problem is None
    assert problem(bad)[0] == "bad_prompt"


# Wrong for the whole job


@pytest.mark.parametrize(
    ("says", "what"),
    [
        ({}, "none of prompt, messages, template"),
        ({"prompt": "a", "messages": "b"}, "prompt and messages"),
        ({"prompt": "a", "template": "b"}, "prompt and template"),
        ({"messages": "a", "system": "b"}, "system beside messages"),
        ({"prompt": "a", "keep": ("x", "x")}, "keep names a column twice"),
        *(
            ({"prompt": "a", "keep": (name,)}, f"keep names '{name}'")
            for name in ("prompt_id", "prompt_index", "messages", "run")
        ),
    ],
)
def test_columns_that_contradict_are_refused_when_said(says: dict[str, Any], what: str) -> None:
    """Before any file is opened."""
    with pytest.raises(PromptsError, match=what):
        Columns(**says)


@pytest.mark.parametrize("says", [{"template": "{x!r}"}, {"template": "x", "system": "{"}])
def test_templates_are_parsed_when_said(says: dict[str, str]) -> None:
    """Before any file is opened."""
    with pytest.raises(TemplateError):
        Columns(**says)


@pytest.mark.parametrize("says", [{"messages": "m"}, {"prompt": "t", "system": "s"}, {"template": "t", "system": "s"}])
def test_completions_take_neither_messages_nor_system(tmp_path: Path, says: dict[str, str]) -> None:
    """Said up front, not at the first row."""
    with pytest.raises(PromptsError, match="completions endpoint takes plain text"):
        read_prompts(put(tmp_path, {"t": ["a"]}), Columns(**says), endpoint="completions")


@pytest.mark.parametrize(
    ("says", "what"),
    [
        ({"prompt": "n"}, r"'n' \(prompts.prompt\) is int64 .*expected text"),
        ({"prompt": "t", "system": "n"}, r"'n' \(prompts.system\) is int64"),
        ({"prompt": "bin"}, r"'bin' \(prompts.prompt\) is binary"),
        ({"prompt": "t", "id": "f"}, r"'f' \(prompts.id\) is double .*expected text, an integer"),
        ({"prompt": "t", "id": "l"}, r"'l' \(prompts.id\) is list"),
        ({"messages": "n"}, r"'n' \(prompts.messages\) is int64 .*expected a list of structs"),
        ({"messages": "l"}, r"'l' \(prompts.messages\) is list<element: int64>"),
        ({"prompt": "t", "params": "n"}, r"'n' \(prompts.params\) is int64 .*expected a struct"),
        ({"prompt": "t", "params": "s"}, r"'s' \(prompts.params\) is struct<at: date32"),
        ({"template": "{l}"}, r"'l' \(prompts.template\) is list"),
        ({"template": "{cuntry}"}, r"no column 'cuntry' \(prompts.template\); it has: 'country'"),
        ({"template": "x", "system": "{nn}"}, r"no column 'nn' \(prompts.template\); it has: 'n'"),
        ({"prompt": "t", "keep": ("x",)}, r"no column 'x' \(prompts.keep\)"),
        ({"prompt": "t", "id": "x"}, r"no column 'x' \(prompts.id\)"),
    ],
)
def test_a_column_that_cannot_have_its_role_is_an_error_before_the_first_row(
    tmp_path: Path, says: dict[str, Any], what: str
) -> None:
    """Missing columns and wrong types are named by both calls that come before any request."""
    table = {
        "n": [1],
        "t": ["a"],
        "bin": [b"a"],
        "f": [1.0],
        "l": [[1]],
        "s": [{"at": dt.date(2026, 1, 2)}],
        "country": ["fr"],
    }
    inputs = put(tmp_path, table)

    with pytest.raises(PromptsError, match=what):
        kept_schema(inputs, Columns(**says))
    with pytest.raises(PromptsError, match=what):
        read_prompts(inputs, Columns(**says), endpoint="chat")


# Kept columns


def kept(inputs: list[InputFile], *names: str, **says: Any) -> pa.Table:
    """The kept columns of all batches."""
    columns = Columns(prompt="t", keep=names, **says)
    tables = [batch.kept for batch in read_prompts(inputs, columns, endpoint="chat", batch_rows=2)]
    assert all(table.schema.equals(kept_schema(inputs, columns), check_metadata=True) for table in tables)
    return pa.concat_tables(tables)


def test_kept_columns_keep_order_types_and_rows(tmp_path: Path) -> None:
    """What is kept is the input's column, in the order asked for."""
    table = {
        "t": ["a", "b", None],
        "l": pa.array([[1], None, []], pa.list_(pa.int8())),
        "d": pa.array([dt.date(2026, 1, 2)] * 3),
        "b": pa.array([b"\xff", None, b""]),
    }

    assert kept(put(tmp_path, table), "d", "b", "l") == pa.table(table).select(["d", "b", "l"])


def test_kept_enums_and_categories_come_back_as_such(tmp_path: Path) -> None:
    """Written to Parquet and read with polars, they are what they were."""
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
    """A hive folder is a column like others."""
    put(tmp_path / "country=fr/day=1", {"t": ["a"]})
    put(tmp_path / "country=it/day=2", {"t": ["b", "c"]})
    inputs = find_inputs("country=*", base=tmp_path)

    assert kept(inputs, "country", "day").to_pydict() == {"country": ["fr", "it", "it"], "day": [1, 2, 2]}
    assert [prompt.messages for prompt in read(inputs, "completions", template="{day}{country}")] == [
        "1fr",
        "2it",
        "2it",
    ]


def test_nothing_kept_still_counts_the_rows(tmp_path: Path) -> None:
    """Batches line up with their kept tables even without columns."""
    (batch,) = read_prompts(put(tmp_path, {"t": ["a", "b"]}), Columns(prompt="t"), endpoint="chat")

    assert (len(batch.prompts), batch.kept.num_rows, batch.kept.num_columns) == (2, 2, 0)


def test_a_files_own_field_numbers_are_not_kept(tmp_path: Path) -> None:
    """Spark and Iceberg number fields in metadata; two numberings in one table would contradict."""
    field = pa.field("k", pa.int64(), metadata={"PARQUET:field_id": "7", "unit": "m"})
    pq.write_table(pa.table([["a"], [1]], schema=pa.schema([("t", pa.string()), field])), tmp_path / "a.parquet")

    (found,) = kept_schema(find_inputs("*", base=tmp_path), Columns(prompt="t", keep=("k",)))

    assert found.metadata == {b"unit": b"m"}


def test_kept_text_that_is_not_utf8_is_a_clear_error(tmp_path: Path) -> None:
    """It would make the store's whole prompts table unreadable."""
    with pytest.raises(PromptsError, match=r"0\.parquet, rows 0 to 1: column 'k' cannot be kept: Invalid UTF8"):
        kept(put(tmp_path, {"t": ["a", "b"], "k": BAD_UTF8}), "k")


# Batches


def batches(inputs: list[InputFile], **says: Any) -> list[PromptBatch]:
    """All batches of the prompt column t, with k kept."""
    return list(read_prompts(inputs, Columns(prompt="t", keep=("k",)), endpoint="completions", **says))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    skip=st.integers(0, 20),
    limit=st.none() | st.integers(0, 20),
    batch_rows=st.integers(1, 5),
)
def test_reading_from_the_middle_gives_the_same_prompts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], skip: int, limit: int | None, batch_rows: int
) -> None:
    """A resumed run sees the prompts, ids and kept values that it would have seen."""
    tables = [
        {
            "t": pa.array([f"{number}-{row}" for row in range(many)], pa.string()),
            "k": pa.array(range(many), pa.int64()),
        }
        for number, many in enumerate(rows)
    ]
    inputs = put(tmp_path_factory.mktemp("in"), *tables)

    def pairs(**says: Any) -> list[tuple[Prompt, int]]:
        found = batches(inputs, **says)
        assert all(len(batch.prompts) == batch.kept.num_rows <= says.get("batch_rows", 1000) for batch in found)
        return [pair for batch in found for pair in zip(batch.prompts, batch.kept["k"].to_pylist(), strict=True)]

    assert pairs(skip=skip, limit=limit, batch_rows=batch_rows) == pairs()[:limit][skip:]


def test_reading_is_lazy_and_bounded(tmp_path: Path) -> None:
    """The first batch comes without the rest being read, and no batch is larger than asked."""
    rows = 2500
    inputs = put(tmp_path, {"t": ["x"] * rows, "k": range(rows)})

    stream = read_prompts(inputs, Columns(prompt="t"), endpoint="chat")
    first = next(stream)

    assert len(first.prompts) == 1000
    assert [len(batch.prompts) for batch in stream] == [1000, 500]


def test_an_empty_file_has_no_prompts(tmp_path: Path) -> None:
    """No rows are no error."""
    inputs = put(tmp_path, {"t": pa.array([], pa.string()), "k": pa.array([], pa.int64())})

    assert batches(inputs) == []
    check_ids(inputs, Columns(id="t", prompt="t"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_bounded_for_one_row_group_of_much_text(tmp_path: Path) -> None:
    """200 MB of text in one row group are read in well under that."""
    texts = pa.array([os.urandom(1000).hex() for _ in range(100_000)])
    pq.write_table(pa.table({"t": texts}), tmp_path / "a.parquet", row_group_size=100_000, use_dictionary=False)
    code = (
        PEAK
        + """
import sys
from pathlib import Path
from logprob_store.inputs import find_inputs
from logprob_store.prompts import Columns, read_prompts
inputs = find_inputs("a.parquet", base=Path(sys.argv[1]))
before = peak()
rows = sum(len(b.prompts) for b in read_prompts(inputs, Columns(prompt="t"), endpoint="chat"))
print(rows, peak() - before)
"""
    )
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    rows, mebibytes = map(int, out.stdout.split())

    assert rows == 100_000
    assert mebibytes < 120


# Ids that are not unique


def test_ids_that_are_unique_pass(tmp_path: Path) -> None:
    """Nothing to say; and without an id column nothing to look at."""
    inputs = put(tmp_path, {"id": ["a", "b"], "t": ["x", "x"]}, {"id": ["c"], "t": ["x"]})

    check_ids(inputs, Columns(id="id", prompt="t"))
    check_ids(inputs, Columns(prompt="t"))


def test_repeated_ids_are_named_with_their_rows(tmp_path: Path) -> None:
    """Across files, at most five of them, and how many there are in all."""
    inputs = put(tmp_path, {"id": list("abcdefgx")}, {"id": list("yabcdefg")})

    with pytest.raises(PromptsError, match=r"7 ids .*'a' in rows 0, 9; .*'e' in rows 4, 13; \.\.\.\. An") as caught:
        check_ids(inputs, Columns(id="id", prompt="id"))

    assert "'f'" not in str(caught.value)


def test_one_id_in_many_rows_names_the_first_rows(tmp_path: Path) -> None:
    """A constant column is no id."""
    inputs = put(tmp_path, {"id": [7] * 50})

    with pytest.raises(PromptsError, match=r"1 ids .*'7' in rows 0, 1, 2, 3, 4, \.\.\."):
        check_ids(inputs, Columns(id="id", template="x"))


def test_ids_that_share_only_a_hash_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose hashes meet are compared once more before anyone is blamed."""
    real = pl.Series.hash
    monkeypatch.setattr(
        pl.Series, "hash", lambda ids, seed=0: real(ids, seed) if seed else pl.Series([1] * len(ids), dtype=pl.UInt64)
    )
    inputs = put(tmp_path, {"id": ["a", "b", "c"]})

    check_ids(inputs, Columns(id="id", prompt="id"))


def test_null_ids_are_named_by_row(tmp_path: Path) -> None:
    """Up front, and again when reading, for who did not check."""
    inputs = put(tmp_path, {"id": ["a"]}, {"id": [None] * 7})
    columns = Columns(id="id", prompt="id")

    with pytest.raises(PromptsError, match=r"'id' is null in 7 rows \(row indexes 1, 2, 3, 4, 5, \.\.\.\)"):
        check_ids(inputs, columns)
    with pytest.raises(PromptsError, match=r"'id' is null in 7 rows \(row indexes 1, 2"):
        list(read_prompts(inputs, columns, endpoint="chat"))


def test_ids_that_are_not_utf8_are_a_clear_error(tmp_path: Path) -> None:
    """An id that cannot be written cannot name a prompt."""
    inputs = put(tmp_path, {"id": BAD_UTF8})

    with pytest.raises(PromptsError, match=r"0\.parquet, rows 0 to 1: id column 'id' holds bytes that are not UTF-8"):
        check_ids(inputs, Columns(id="id", template="x"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_ids_are_checked_in_little_memory(tmp_path: Path) -> None:
    """Even when every one of them occurs twice, which is the worst case."""
    ids = [f"{number:032x}" for number in range(500_000)]
    pq.write_table(pa.table({"id": ids + ids}), tmp_path / "a.parquet")
    code = (
        PEAK
        + """
import sys
from pathlib import Path
from logprob_store.errors import PromptsError
from logprob_store.inputs import find_inputs
from logprob_store.prompts import Columns, check_ids
inputs = find_inputs("a.parquet", base=Path(sys.argv[1]))
before = peak()
try:
    check_ids(inputs, Columns(id="id", template="x"))
except PromptsError as error:
    print("500000 ids" in str(error), peak() - before)
"""
    )
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    named, mebibytes = out.stdout.split()

    assert named == "True"
    assert int(mebibytes) < 300


# What is stored


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_rendered_is_json_of_what_was_asked(text: str) -> None:
    """Text and messages both come back from JSON as they were."""
    assert json.loads(rendered(text)) == text
    assert json.loads(rendered([{"role": "user", "content": text}])) == [{"role": "user", "content": text}]
