"""The schema that several files agree on, partition columns included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logprob_store.errors import PromptsError
from logprob_store.prompts.input_files import InputFile, find_inputs
from logprob_store.prompts.scanning import scan
from logprob_store.prompts.unifying import unified_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def unified(base: Path, column: str = "x") -> pa.Field:
    """The common field of a column of all files in a folder."""
    return unified_schema(find_inputs("*.parquet", base=base), {column: "prompts.prompt"}).field(column)


def test_widths_of_integers_promote(tmp_path: Path, put: Callable[..., list[InputFile]]) -> None:
    """int32 in one file and int64 in another are read as int64."""
    put(tmp_path, {"x": pa.array([1], pa.int32())}, {"x": pa.array([2], pa.int64())})

    assert unified(tmp_path).type == pa.int64()


def test_all_encodings_of_text_go_together(tmp_path: Path, put: Callable[..., list[InputFile]]) -> None:
    """Plain, large, view and dictionary text is one type to a reader."""
    kinds = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
    inputs = put(tmp_path, *({"x": pa.array([str(kind)]).cast(kind)} for kind in kinds))

    read = [row for rows in scan(inputs, unified_schema(inputs, {"x": "x"})) for row in rows.batch["x"].to_pylist()]

    assert unified(tmp_path).type == pa.large_string()
    assert read == [str(kind) for kind in kinds]


def test_enums_with_other_categories_become_text(tmp_path: Path) -> None:
    """Two Enums are one Arrow type; keeping the first one's categories would make the second unreadable."""
    for number, categories in enumerate((["a", "b"], ["c"])):
        series = pl.Series(categories, dtype=pl.Enum(categories))
        pl.DataFrame({"x": series}).write_parquet(tmp_path / f"{number}.parquet")

    assert unified(tmp_path).type == pa.large_string()


def test_types_that_contradict_name_both_files(tmp_path: Path, put: Callable[..., list[InputFile]]) -> None:
    """Text in one file and integers in another is an error with both files and both types."""
    put(tmp_path, {"x": ["1"]}, {"x": [1]})

    with pytest.raises(PromptsError, match=r"'x' is string in .*0\.parquet and int64 in .*1\.parquet"):
        unified(tmp_path)


def test_a_missing_column_is_named_with_its_use_and_the_closest_first(tmp_path: Path) -> None:
    """The error says which file, what for, and what was probably meant."""
    pq.write_table(pa.table({"id": [1], "title": ["a"], "text": ["b"]}), tmp_path / "a.parquet")

    with pytest.raises(PromptsError, match=r"a\.parquet has no column 'txt' \(prompts\.prompt\); it has: 'text'"):
        unified(tmp_path, "txt")


def test_a_column_that_one_file_lacks_names_that_file(
    tmp_path: Path, put: Callable[..., list[InputFile]], write: Callable[..., Path]
) -> None:
    """Every file must have every used column."""
    put(tmp_path, {"x": [1]})
    write(tmp_path / "1.parquet")

    with pytest.raises(PromptsError, match=r"1\.parquet has no column 'x'"):
        unified(tmp_path)


def test_a_column_that_a_file_has_twice_is_an_error(tmp_path: Path) -> None:
    """Which of the two was meant is not guessed."""
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
def test_partition_columns_are_read_from_the_folders(
    tmp_path: Path, values: list[str], read: list[object], write: Callable[..., Path]
) -> None:
    """Plain integers are integers, all else is text, with percent escapes and Hive's null understood."""
    for number, value in enumerate(values):
        write(tmp_path / f"{number}/key={value}/a.parquet", 2)
    inputs = find_inputs("**/*.parquet", base=tmp_path)

    found = [
        row for rows in scan(inputs, unified_schema(inputs, {"key": "id"})) for row in rows.batch["key"].to_pylist()
    ]

    assert found == [value for value in read for _ in range(2)]


def test_a_files_own_column_wins_over_the_folder(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Data in the file is data; the folder is only a name."""
    write(tmp_path / "n=7/a.parquet", 1)
    inputs = find_inputs("**/*.parquet", base=tmp_path)

    assert [rows.batch["n"].to_pylist() for rows in scan(inputs, unified_schema(inputs, {"n": "n"}))] == [[0]]
