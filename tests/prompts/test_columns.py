"""Which columns a job reads, which types they may have, and the one schema of several files."""

from __future__ import annotations

import datetime as dt
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompts.parquet_files import scan_column, write_numbers, write_tables

from logprob_store.errors import PromptsError, TemplateError
from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns, kept_schema, unified_schema
from logprob_store.prompts.input_files import find_inputs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("columns", "what"),
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
def test_columns_that_contradict_are_refused_at_once(columns: dict[str, Any], what: str) -> None:
    """The error comes before any file is opened."""
    with pytest.raises(PromptsError, match=what):
        Columns(**columns)


@pytest.mark.parametrize("columns", [{"template": "{x!r}"}, {"template": "x", "system": "{"}])
def test_templates_are_parsed_at_once(columns: dict[str, str]) -> None:
    """The error comes before any file is opened."""
    with pytest.raises(TemplateError):
        Columns(**columns)


@pytest.mark.parametrize(
    ("columns", "what"),
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
    tmp_path: Path, columns: dict[str, Any], what: str
) -> None:
    """Missing columns and wrong types are named by both calls that precede any request."""
    table = {
        "n": [1],
        "t": ["a"],
        "bin": [b"a"],
        "f": [1.0],
        "l": [[1]],
        "s": [{"at": dt.date(2026, 1, 2)}],
        "country": ["fr"],
    }
    inputs = write_tables(tmp_path, table)

    with pytest.raises(PromptsError, match=what):
        kept_schema(inputs, Columns(**columns))
    with pytest.raises(PromptsError, match=what):
        read_prompts(inputs, Columns(**columns), endpoint="chat")


def test_a_files_own_field_numbers_are_not_kept(tmp_path: Path) -> None:
    """Spark and Iceberg number fields in metadata, and two files may number them differently."""
    field = pa.field("k", pa.int64(), metadata={"PARQUET:field_id": "7", "unit": "m"})
    pq.write_table(pa.table([["a"], [1]], schema=pa.schema([("t", pa.string()), field])), tmp_path / "a.parquet")

    (found,) = kept_schema(find_inputs("*", base=tmp_path), Columns(prompt="t", keep=("k",)))

    assert found.metadata == {b"unit": b"m"}


def test_a_type_that_arrow_does_not_read_is_named(tmp_path: Path) -> None:
    """Polars writes integers of 128 bits; the file is not damaged."""
    pl.DataFrame({"t": ["a"], "big": pl.Series([1], dtype=pl.Int128)}).write_parquet(tmp_path / "a.parquet")

    with pytest.raises(PromptsError, match=r"a\.parquet has a column of a type that cannot be read: Integers"):
        find_inputs("*", base=tmp_path)


def test_a_kept_column_that_the_store_cannot_hold_is_refused_before_the_first_row(tmp_path: Path) -> None:
    """The error names the column, its type and the file."""
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    inputs = write_tables(tmp_path, {"t": ["a"], "k": twice})

    with pytest.raises(PromptsError, match=r"'k' \(prompts.keep\) is struct<a: int64, a: int64> in .*0\.parquet"):
        kept_schema(inputs, Columns(prompt="t", keep=("k",)))


def test_ten_thousand_kept_columns_are_read_in_seconds(tmp_path: Path) -> None:
    """Time grows with the number of columns, not with its square: 10,000 took two and a half minutes."""
    names = [f"c{number}" for number in range(10_000)]
    inputs = write_tables(tmp_path, {name: [1] for name in names} | {"t": ["a"]})
    start = time.monotonic()

    (batch,) = read_prompts(inputs, Columns(prompt="t", keep=tuple(names)), endpoint="chat")

    assert batch.kept.column_names == names
    assert time.monotonic() - start < 20


def unified(base: Path, column: str = "x") -> pa.Field:
    """The unified field of a column of all files in a folder."""
    return unified_schema(find_inputs("*.parquet", base=base), {column: "prompts.prompt"}).field(column)


def test_widths_of_integers_promote(tmp_path: Path) -> None:
    """int32 in one file and int64 in another are read as int64."""
    write_tables(tmp_path, {"x": pa.array([1], pa.int32())}, {"x": pa.array([2], pa.int64())})

    assert unified(tmp_path).type == pa.int64()


def test_all_encodings_of_text_unify(tmp_path: Path) -> None:
    """Plain, large, view and dictionary text are read as one type."""
    kinds = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
    inputs = write_tables(tmp_path, *({"x": pa.array([str(kind)]).cast(kind)} for kind in kinds))

    assert unified(tmp_path).type == pa.large_string()
    assert list(chain(*scan_column(inputs, "x"))) == [str(kind) for kind in kinds]


def test_enums_with_other_categories_become_text(tmp_path: Path) -> None:
    """Two Enums have one Arrow type; with the categories of the first, the second could not be read."""
    for number, categories in enumerate((["a", "b"], ["c"])):
        series = pl.Series(categories, dtype=pl.Enum(categories))
        pl.DataFrame({"x": series}).write_parquet(tmp_path / f"{number}.parquet")

    assert unified(tmp_path).type == pa.large_string()


def test_types_that_contradict_name_both_files(tmp_path: Path) -> None:
    """Text in one file and integers in another is an error with both files and both types."""
    write_tables(tmp_path, {"x": ["1"]}, {"x": [1]})

    with pytest.raises(PromptsError, match=r"'x' is string in .*0\.parquet and int64 in .*1\.parquet"):
        unified(tmp_path)


def test_a_missing_column_is_named_with_its_use_and_the_closest_first(tmp_path: Path) -> None:
    """The error names the file, the use, and first the column that was probably meant."""
    pq.write_table(pa.table({"id": [1], "title": ["a"], "text": ["b"]}), tmp_path / "a.parquet")

    with pytest.raises(PromptsError, match=r"a\.parquet has no column 'txt' \(prompts\.prompt\); it has: 'text'"):
        unified(tmp_path, "txt")


def test_a_column_that_one_file_lacks_names_that_file(tmp_path: Path) -> None:
    """Every file must have every used column."""
    write_tables(tmp_path, {"x": [1]})
    write_numbers(tmp_path / "1.parquet")

    with pytest.raises(PromptsError, match=r"1\.parquet has no column 'x'"):
        unified(tmp_path)


def test_a_column_that_a_file_has_twice_is_an_error(tmp_path: Path) -> None:
    """The error does not guess which of the two was meant."""
    pq.write_table(pa.table([[1], [2]], names=["x", "x"]), tmp_path / "a.parquet")

    with pytest.raises(PromptsError, match=r"'x' .* more than once"):
        unified(tmp_path)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["1", "-20"], [1, -20]),
        (["1", "007"], ["1", "007"]),
        (["1", "__HIVE_DEFAULT_PARTITION__"], [1, None]),
        (["C%C3%B4te", "a b"], ["Côte", "a b"]),
    ],
)
def test_partition_columns_are_read_from_the_folders(tmp_path: Path, values: list[str], read: list[object]) -> None:
    """Plain integers are integers, everything else is text; percent escapes and Hive's null are decoded."""
    for number, value in enumerate(values):
        write_numbers(tmp_path / f"{number}/key={value}/a.parquet", 2)
    inputs = find_inputs("**/*.parquet", base=tmp_path)

    assert list(chain(*scan_column(inputs, "key"))) == [value for value in read for _ in range(2)]


def test_a_files_own_column_wins_over_the_folder(tmp_path: Path) -> None:
    """A column in the file takes precedence over a partition folder of that name."""
    write_numbers(tmp_path / "n=7/a.parquet", 1)
    inputs = find_inputs("**/*.parquet", base=tmp_path)

    assert list(scan_column(inputs, "n")) == [[0]]
