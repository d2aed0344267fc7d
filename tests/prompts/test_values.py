"""Values of columns as Python objects: what stands in the column is what is sent, and a bad value is its row's own."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompts.parquet_files import read_all, read_one, write_tables

from logprob_store.errors import PromptsError
from logprob_store.prompts.columns import Columns
from logprob_store.prompts.ids import check_ids
from logprob_store.prompts.values import column_values

if TYPE_CHECKING:
    from pathlib import Path


CALL = {"id": "call_1", "function": {"name": "f", "arguments": '{"city": "Oslo"}'}, "extra": None}


def json_texts(*values: Any) -> pa.Array:
    """A column of Arrow's JSON type."""
    texts = [None if value is None else json.dumps(value) for value in values]
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def struct(**columns: pa.Array) -> pa.Array:
    """A column of structs."""
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))


def in_list(column: pa.Array) -> pa.Array:
    """A column of one list, which holds all values."""
    return pa.ListArray.from_arrays(pa.array([0, len(column)], pa.int32()), column)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_of_32_bits_is_the_shortest_decimal_that_reads_back_as_it(value: float) -> None:
    """0.7 in a struct is 0.7, not 0.699999988079071, and nothing of the float is lost."""
    (row,) = column_values(struct(x=pa.array([value], pa.float32())), as_json=True)

    assert np.float32(row["x"]) == np.float32(value)
    # Nine significant digits tell any two floats of 32 bits apart.
    assert len(Decimal(repr(row["x"])).normalize().as_tuple().digits) <= 9


@pytest.mark.parametrize(
    ("column", "sent"),
    [
        (pa.array([0.7], pa.float32()), 0.7),
        (pa.array([0.7], pa.float16()), 0.7),
        (pa.array([0.7]), 0.7),
        (pa.array([Decimal("0.70")]), 0.7),
        (pa.array([Decimal("0.7")], pa.decimal256(70, 40)), 0.7),
        (pa.array([Decimal("12345678901234567890.00")], pa.decimal128(38, 2)), 12345678901234567890),
        (pa.array([[0.7, None]], pa.list_(pa.float32())), [0.7, None]),
        (pa.array([[0.7]], pa.list_(pa.float32(), 1)), [0.7]),
        (pa.array([{"y": 0.7, "z": None}], pa.struct([("y", pa.float32()), ("z", pa.int8())])), {"y": 0.7}),
        (json_texts(CALL), CALL),
        (in_list(json_texts(CALL, None)), [CALL, None]),
        (struct(deep=in_list(struct(j=json_texts([1, None])))), {"deep": [{"j": [1, None]}]}),
        (pa.array([uuid.UUID(int=1).bytes], pa.uuid()), str(uuid.UUID(int=1))),
        (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8())), True),
        (pa.ExtensionArray.from_storage(pa.opaque(pa.string(), "t", "v"), pa.array(["a"])), "a"),
        (pa.array(["a"]).dictionary_encode(), "a"),
        (pa.array(["0.7"]), "0.7"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_params_are_sent_as_they_stand_in_the_column(tmp_path: Path, column: pa.Array, sent: Any) -> None:
    """Whatever the type of a field in the struct of parameters."""
    prompt = read_one(tmp_path, {"t": ["Hi"], "p": struct(x=column)}, prompt="t", params="p")

    assert prompt.problem is None
    assert prompt.params == {"x": sent}
    assert type(prompt.params["x"]) is type(sent)


def test_tool_calls_of_json_type_are_objects(tmp_path: Path) -> None:
    """As Hugging Face writes conversations: a null within JSON text is kept, a null field of a struct is left out."""
    calls = pa.ListArray.from_arrays(pa.array([0, 0, 1], pa.int32()), json_texts(CALL), mask=pa.array([True, False]))
    messages = struct(role=pa.array(["user", "assistant"]), content=pa.array(["Weather?", None]), tool_calls=calls)

    assert read_one(tmp_path, {"m": in_list(messages)}, messages="m").messages == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [CALL]},
    ]


def test_whole_messages_may_be_of_json_type(tmp_path: Path) -> None:
    """A list of JSON values is a conversation, where each is an object with a role."""
    message = {"role": "user", "content": "Hi", "name": None}

    assert read_one(tmp_path, {"m": in_list(json_texts(message))}, messages="m").messages == [message]


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (
            pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{", "1"])),
            "column 'p' holds JSON text which",
        ),
        (
            pa.array([Decimal("0.12345678901234567890"), Decimal(1)]),
            "column 'p' holds the decimal 0.123456789012345",
        ),
    ],
    ids=["json", "decimal"],
)
def test_a_field_that_json_cannot_say_is_a_problem_of_its_row(
    tmp_path: Path,
    column: pa.Array,
    what: str,
) -> None:
    """A decimal is not rounded, and the other rows are asked."""
    bad, good = read_all(write_tables(tmp_path, {"t": ["a", "b"], "p": struct(x=column)}), prompt="t", params="p")

    assert (good.problem, good.params) == (None, {"x": 1})
    assert bad.problem is not None
    assert (bad.problem.error_type, what in str(bad.problem)) == ("bad_prompt", True)


def stamps(zone: str | None, *seconds: int) -> pa.Array:
    """Moments by their seconds since 1970, in a zone."""
    counts = pa.array(seconds, pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp("us"))
    return counts.cast(pa.int64()).cast(pa.timestamp("us", zone))


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array([2**31 - 1, 0], pa.int32()).cast(pa.date32()), "days=2147483647"),
        (pa.array([-(2**31), 0], pa.int32()).cast(pa.date32()), "days=-2147483648"),
        (stamps("Europe/Berlin", 253402300799, 0), "date value out of range"),
        (stamps("America/New_York", -62135596800, 0), "date value out of range"),
        (stamps(None, 9223372036854, 0), "date value out of range"),
        (pa.array([90_000_000_000, 0], pa.int64()).cast(pa.time64("us")), "a time that no day has"),
        (pa.array([-1, 0], pa.int64()).cast(pa.time64("ns")), "a time that no day has"),
        (pa.array([90_000, 0], pa.int32()).cast(pa.time32("s")), "a time that no day has"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_time_that_python_does_not_have_is_a_problem_of_its_row(
    tmp_path: Path,
    column: pa.Array,
    what: str,
) -> None:
    """`infinity` of a database, 9999-12-31 seen from Berlin, hour 25: the next row is asked."""
    bad, good = read_all(write_tables(tmp_path, {"until": column}), template="Until {until}?")

    assert good.problem is None
    assert bad.problem is not None
    assert bad.problem.error_type == "bad_prompt"
    assert "0.parquet, row 0: column 'until' holds" in str(bad.problem)
    assert what in str(bad.problem)


@pytest.mark.parametrize("zone", ["Mars/Phobos", "Z", "GMT+2"])
def test_a_time_in_an_unknown_zone_is_a_problem_of_its_row(tmp_path: Path, zone: str) -> None:
    """A row without such a time is asked."""
    inputs = write_tables(tmp_path, {"at": stamps(zone, 0), "n": [1]})

    (prompt,) = read_all(inputs, template="{at}")

    assert prompt.problem is not None
    assert f"column 'at' holds times in the zone {zone!r}, which is not known here" in str(prompt.problem)
    assert read_all(inputs, template="{n}")[0].problem is None


def test_times_are_text_as_before(tmp_path: Path) -> None:
    """A zone of the IANA database, a fixed offset, and no zone."""
    table = {
        "a": stamps("Europe/Berlin", 0),
        "b": stamps("+05:30", 0),
        "c": stamps(None, 0),
        "d": pa.array([dt.time(23, 59, 59)], pa.time32("s")),
    }

    assert read_one(tmp_path, table, "completions", template="{a}|{b}|{c}|{d}").messages == (
        "1970-01-01 01:00:00+01:00|1970-01-01 05:30:00+05:30|1970-01-01 00:00:00|23:59:59"
    )


def test_ids_in_an_unknown_zone_are_a_clear_error(tmp_path: Path) -> None:
    """An id without a text cannot name a prompt."""
    inputs = write_tables(tmp_path, {"at": stamps("Mars/Phobos", 0)})

    with pytest.raises(PromptsError, match=r"id column 'at' \(timestamp\[us, tz=Mars/Phobos\]\) has no text"):
        check_ids(inputs, Columns(id="at", template="x"))


def test_a_struct_with_two_fields_of_one_name_is_a_problem_of_its_row(tmp_path: Path) -> None:
    """Neither of the two is sent."""
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["seed", "seed"])

    problem = read_one(tmp_path, {"t": ["Hi"], "p": twice}, prompt="t", params="p").problem

    assert problem is not None
    assert problem.error_type == "bad_prompt"
