"""Kept columns of several runs: types that differ from night to night, and types that older versions wrote."""

from __future__ import annotations

import datetime as dt
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest

import logprob_store as ls
from logprob_store.schema import PROMPTS, arrow_schema
from logprob_store.store.opening import open_run
from logprob_store.store.prompts_table import common_type
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from pathlib import Path


def write_run(store: Path, run: str, *parts: dict[str, pa.Array]) -> None:
    """A run whose prompts have these kept columns, a part each, written as they are, as an older version did."""
    keep = list(parts[0])
    with open_run(store, run, job_name=run, job={"prompts.keep": keep}, inputs=[], samples=1) as writer:
        read = 0
        for kept in parts:
            rows = len(next(iter(kept.values())))
            texts = [str(number) for number in range(rows)]
            prompts = pa.table([texts, range(rows), texts], schema=arrow_schema(PROMPTS))
            for name, column in kept.items():
                prompts = prompts.append_column(name, column)
            read += rows
            writer.commit({"prompts": prompts}, prompts_read=read)


def kept(store: Path, **runs: pa.Array) -> dict[str, list[Any]]:
    """The kept columns of runs that kept `k`, the oldest run first."""
    for run, column in runs.items():
        write_run(store, run, {"k": column})
    return ls.open_store(store).prompts.drop("run", *PROMPTS.names()).collect().to_dict(as_series=False)


OFFSET = pa.array([0, 60_000_000], pa.int64()).cast(pa.timestamp("us", "+05:30"))
MOMENTS = [dt.datetime(1970, 1, 1, 0, minute, tzinfo=dt.UTC) for minute in (0, 1)]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.array([1], pa.int8()), pa.array([2**40]), [1, 2**40]),
        (pa.array([-1]), pa.array([2**63], pa.uint64()), [-1, 2**63]),
        (pa.array([1]), pa.array([0.5]), [1.0, 0.5]),
        (pa.array([1]), pa.array(["a"]), ["1", "a"]),
        (pa.array([True]), pa.array(["a"]), ["true", "a"]),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"]), ["a", "b"]),
        (pa.nulls(1), pa.array([[1]]), [None, [1]]),
        (pa.array([[1]]), pa.array([[0.5]]), [[1.0], [0.5]]),
        (pa.array([{"a": 1}]), pa.array([{"b": "x"}]), [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        (pa.array([Decimal("1.5")]), pa.array([Decimal("0.25")]), [Decimal("1.5"), Decimal("0.25")]),
        (pa.array([MOMENTS[0]], pa.timestamp("us", "Asia/Tokyo")), pa.array([MOMENTS[1]]), MOMENTS),
        (OFFSET[:1], pa.array([MOMENTS[1]]), MOMENTS),
        (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"])), pa.array(["a"]), ["{}", "a"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_types_that_differ_between_runs_have_a_common_one(
    tmp_path: Path, one: pa.Array, other: pa.Array, expected: list[Any]
) -> None:
    """One column holds the values of both runs."""
    assert kept(tmp_path, first=one, second=other) == {"k": expected}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.array([[1]]), pa.array(["a"]), {"k_as_list": [[1], None], "k": [None, "a"]}),
        (pa.array(["a"]), pa.array([[1]]), {"k_as_string": ["a", None], "k": [None, [1]]}),
        (pa.array([b"a"]), pa.array(["a"]), {"k_as_binary": [b"a", None], "k": [None, "a"]}),
        (pa.array([{"a": "x"}]), pa.array([{"a": 1}]), {"k_as_struct": [{"a": "x"}, None], "k": [None, {"a": 1}]}),
        (
            pa.array([MOMENTS[1].replace(tzinfo=None)]),
            pa.array([MOMENTS[0]]),
            {"k_as_datetime": [MOMENTS[1].replace(tzinfo=None), None], "k": [None, MOMENTS[0]]},
        ),
        (
            pa.array([Decimal("1e30")], pa.decimal128(38, 2)),
            pa.array([Decimal("1e-30")], pa.decimal128(38, 30)),
            {"k_as_decimal": [Decimal("1e30"), None], "k": [None, Decimal("1e-30")]},
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_types_without_a_common_one_stand_under_two_names(
    tmp_path: Path, one: pa.Array, other: pa.Array, expected: dict[str, list[Any]]
) -> None:
    """The newest run's type has the column's own name; nothing is rounded, cut off or guessed."""
    assert kept(tmp_path, first=one, second=other) == expected


def test_a_second_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    """A column that a run kept under that name stays what it is."""
    write_run(tmp_path, "first", {"k": pa.array([[1]]), "k_as_list": pa.array(["x"])})
    write_run(tmp_path, "second", {"k": pa.array(["a"])})

    found = ls.open_store(tmp_path).prompts.collect()

    assert found.select("k", "k_as_list", "k_as_list_2").rows() == [(None, "x", [1]), ("a", None, None)]


def test_a_common_type_does_not_depend_on_the_order() -> None:
    """Of any two types, the same one holds both or none does."""
    kinds = [
        pl.Int8(), pl.UInt64(), pl.Float32(), pl.Decimal(20, 2), pl.String(), pl.Categorical(), pl.Boolean(), pl.Null(),
        pl.Date(), pl.Time(), pl.Datetime("ns"), pl.Datetime("ms", "UTC"), pl.Duration("us"), pl.Binary(),
        pl.List(pl.Int8()), pl.Array(pl.Int8(), 2), pl.Struct({"a": pl.Int8()}), pl.Struct({"b": pl.Null()}),
    ]  # fmt: skip

    for one in kinds:
        for other in kinds:
            forth, back = common_type(one, other), common_type(other, one)
            if not isinstance(forth, pl.Struct):  # the order of fields is that of the first
                assert forth == back, (one, other)


def test_a_column_that_polars_cannot_read_is_read_as_a_run_stores_it_now(tmp_path: Path) -> None:
    """A store of an older version, with a timestamp of a fixed offset: the other runs and this one are there."""
    write_run(tmp_path, "old", {"k": OFFSET, "country": pa.array(["France", "Germany"])})
    write_run(tmp_path, "new", {"country": pa.array(["Italy"])})

    found = ls.open_store(tmp_path).prompts.select("run", "k", "country").collect()

    assert found.rows() == [
        ("old", MOMENTS[0], "France"),
        ("old", MOMENTS[1], "Germany"),
        ("new", None, "Italy"),
    ]


def test_a_run_begun_by_an_older_version_may_have_parts_of_both(tmp_path: Path) -> None:
    """Its later parts have the type that is stored now."""
    write_run(tmp_path, "r", {"k": OFFSET}, {"k": OFFSET.cast(pa.timestamp("us", "UTC"))})

    found = ls.open_store(tmp_path).prompts.filter(pl.col("prompt_index") == 1).select("k").collect()

    assert found["k"].to_list() == [MOMENTS[1], MOMENTS[1]]


def test_a_column_that_nothing_reads_is_left_out_with_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run's other columns and the other runs are there; `verify` names the column."""
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    write_run(tmp_path, "old", {"k": twice, "country": pa.array(["France"])})
    write_run(tmp_path, "new", {"k": pa.array(["x"]), "country": pa.array(["Italy"])})

    with caplog.at_level(logging.WARNING):
        found = ls.open_store(tmp_path).prompts.select("k", "country").collect()

    assert found.rows() == [(None, "France"), ("x", "Italy")]
    assert [record.getMessage() for record in caplog.records] == [
        "run old: the prompts' column 'k' cannot be read and is left out; `logprobs verify` says why"
    ]


def test_verify_names_columns_that_polars_cannot_read(tmp_path: Path) -> None:
    """Other programs read the files as they are, so such a store is not well."""
    write_run(tmp_path, "old", {"k": OFFSET})
    write_run(tmp_path, "new", {"k": pa.array(["x"])})

    (problem,) = verify_store(tmp_path)

    assert (problem.run, problem.part) == ("old", "part-00000")
    assert problem.what == "has columns that polars cannot read: 'k' (timestamp[us, tz=+05:30])"


def test_repair_takes_the_prompts_out_and_leaves_the_answers(tmp_path: Path) -> None:
    """Rows of prompts are written anew by the next run; answers may be in no cache and paid for."""
    from logprob_store.schema import FAILURES

    now = dt.datetime.now(dt.UTC)
    row = {"prompt_id": "0", "prompt_index": 0, "sample_index": 0, "error_type": "timeout", "attempts": 1}
    failures = pa.Table.from_pylist([row | {"first_at": now, "last_at": now}], schema=arrow_schema(FAILURES))
    with open_run(tmp_path, "r", job_name="r", job={"prompts.keep": ["k"]}, inputs=[], samples=1) as writer:
        prompts = pa.table([["0"], [0], ["x"]], schema=arrow_schema(PROMPTS)).append_column("k", OFFSET[:1])
        writer.commit({"prompts": prompts, "failures": failures}, settled=[0], prompts_read=1)

    repair_store(tmp_path, verify_store(tmp_path))

    store = ls.open_store(tmp_path)
    assert verify_store(tmp_path) == []
    assert (store.prompts.collect().height, store.failures.collect().height) == (0, 1)
    assert store.manifests[0].prompts_read == 0
