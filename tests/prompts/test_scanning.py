"""The rows of all files: slices, files that are not read, damage, and the number of calls that each row makes."""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prompts.parquet_files import scan_column, write_numbers, write_tables

from logprob_store.errors import PromptsError
from logprob_store.prompts.columns import Columns, unified_schema
from logprob_store.prompts.input_files import find_inputs
from logprob_store.prompts.scanning import candidate_counts, scan_rows

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = Columns(prompt="q", continuations="c")


def scanned(base: Path, batch_rows: int = 1000, *, skip: int = 0, limit: int | None = None) -> list[list[int]]:
    """The values of `n`, a list a batch; checks the index of each batch."""
    inputs = find_inputs("*.parquet", base=base)
    batches = []
    for rows in scan_rows(inputs, unified_schema(inputs, {"n": "n"}), skip=skip, limit=limit, batch_rows=batch_rows):
        values = rows.record_batch.column("n").to_pylist()
        # The tests write `n` as the index over all files.
        assert values == list(range(rows.first_index, rows.first_index + len(values)))
        batches.append(values)
    return batches


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), min_size=1, max_size=4),
    skip=st.integers(0, 40),
    limit=st.none() | st.integers(0, 40),
    batch_rows=st.integers(1, 7),
)
def test_skip_and_limit_are_slicing(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    files: list[tuple[int, int]],
    skip: int,
    limit: int | None,
    batch_rows: int,
) -> None:
    """With any files and row groups, empty ones too, the rows are a slice of all rows."""
    base = tmp_path_factory.mktemp("in")
    total = 0
    for number, (rows, row_group_size) in enumerate(files):
        write_numbers(base / f"{number}.parquet", rows, row_group_size=row_group_size, first=total)
        total += rows

    batches = scanned(base, batch_rows, skip=skip, limit=limit)

    assert [n for batch in batches for n in batch] == list(range(total))[:limit][skip:]
    assert all(0 < len(batch) <= batch_rows for batch in batches)


def test_files_and_row_groups_that_are_skipped_are_not_read(tmp_path: Path) -> None:
    """Damage in rows before `skip` and after `limit` raises no error, because those pages are not read."""
    for number in range(3):
        write_numbers(tmp_path / f"{number}.parquet", 10, row_group_size=5, first=number * 10)
    inputs = find_inputs("*.parquet", base=tmp_path)
    for number, group in ((0, 0), (1, 0), (2, 1)):
        damage(tmp_path / f"{number}.parquet", group)

    assert list(chain(*scan_column(inputs, "n", skip=15, limit=25))) == list(range(15, 25))
    with pytest.raises(PromptsError, match=r"1\.parquet cannot be read, it may be damaged"):
        list(scan_column(inputs, "n", skip=10))


def damage(path: Path, group: int) -> None:
    """Overwrite the pages of a row group with zeros, as a bad disk does; size, footer and times stay."""
    before = path.stat()
    column = pq.read_metadata(path).row_group(group).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("rows", [3, 4])
def test_a_file_that_changed_since_it_was_found_is_an_error(tmp_path: Path, rows: int) -> None:
    """A row's index identifies its prompt, so a file with other rows is refused, even if it has as many."""
    write_numbers(tmp_path / "a.parquet", 3)
    inputs = find_inputs("*.parquet", base=tmp_path)
    schema = unified_schema(inputs, {"n": "n"})
    pq.write_table(pa.table({"n": range(rows), "more": range(rows)}), tmp_path / "a.parquet")

    with pytest.raises(PromptsError, match=r"a\.parquet changed"):
        list(scan_rows(inputs, schema))


@pytest.mark.parametrize("how", ["cut off", "written over", "written over by as much"])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, how: str) -> None:
    """Arrow reads what is left of a truncated file and raises nothing: rows would be missing without notice."""
    path = write_numbers(tmp_path / "a.parquet", 2000, row_group_size=10)
    inputs = find_inputs("*.parquet", base=tmp_path)
    batches = scan_column(inputs, "n", batch_rows=10)
    next(batches)
    content = path.read_bytes()
    if how == "cut off":
        os.truncate(path, len(content) // 2)
    elif how == "written over":
        path.write_bytes(content[:-100] * 2)
    else:
        path.write_bytes(content.replace(bytes([1]), bytes([2])))

    with pytest.raises(PromptsError, match=r"a\.parquet (changed while it was read|cannot be read)"):
        list(batches)


def test_a_file_that_is_replaced_is_read_to_its_end(tmp_path: Path) -> None:
    """Renaming another file to the name leaves the open file as it was."""
    write_numbers(tmp_path / "a.parquet", 2000, row_group_size=10)
    inputs = find_inputs("*.parquet", base=tmp_path)
    batches = scan_column(inputs, "n", batch_rows=10)
    first = next(batches)
    write_numbers(tmp_path / "new.parquet", 3).replace(tmp_path / "a.parquet")

    assert list(chain(first, *batches)) == list(range(2000))


def test_a_value_that_does_not_fit_the_unified_type_is_named(tmp_path: Path) -> None:
    """uint64 and int64 promote to int64; a value beyond it is an error with file, column and rows."""
    inputs = write_tables(tmp_path, {"x": pa.array([1], pa.int64())}, {"x": pa.array([1, 2**63], pa.uint64())})

    with pytest.raises(PromptsError, match=r"1\.parquet, column 'x', rows 0 to 1"):
        list(scan_column(inputs, "x"))


def test_reading_without_rows_yields_nothing(tmp_path: Path) -> None:
    """An empty Parquet file is no error."""
    write_numbers(tmp_path / "a.parquet", 0)

    assert scanned(tmp_path) == []


def test_lists_are_counted_over_all_files(tmp_path: Path) -> None:
    """The counts are in the order of rows; a null or empty list counts as 1, the failure that it becomes."""
    first = {"q": ["?"] * 2, "c": [["a", "b"], []]}
    second = {"q": ["?"] * 2, "c": [None, ["a", "b", "c"]]}
    inputs = write_tables(tmp_path, first, second)
    counts = candidate_counts(inputs, COLUMNS)

    assert counts is not None
    assert counts.to_list() == [2, 1, 1, 3]


def test_text_needs_no_pass(tmp_path: Path) -> None:
    """One text a row is one call a row, and without the column there is nothing to count."""
    inputs = write_tables(tmp_path, {"q": ["?"], "c": ["a"]})

    assert candidate_counts(inputs, COLUMNS) is None
    assert candidate_counts(inputs, Columns(prompt="q")) is None


def test_other_layouts_of_lists(tmp_path: Path) -> None:
    """Large lists, lists of a fixed size, and lists of categories are lists of texts."""
    values = [["a", "b"], ["c", "d"]]
    for number, kind in enumerate(
        (pa.large_list(pa.large_string()), pa.list_(pa.string(), 2), pa.list_(pa.dictionary(pa.int32(), pa.string())))
    ):
        inputs = write_tables(tmp_path / str(number), {"q": ["?"] * 2, "c": pa.array(values, kind)})
        counts = candidate_counts(inputs, COLUMNS)

        assert counts is not None
        assert counts.to_list() == [2, 2]


TEXT = "x" * 100_000


def sizes_of_batches(base: Path, texts: list[str], **how: Any) -> list[int]:
    """The rows of each batch of a file with one column of texts; checks that all rows come, in order."""
    kind = how.pop("kind", pa.string())
    pq.write_table(pa.table({"t": pa.array(texts, pa.string()).cast(kind)}), base / "a.parquet", **how)
    batches = list(scan_column(find_inputs("*.parquet", base=base), "t", batch_rows=500))
    assert list(chain.from_iterable(batches)) == texts
    return [len(batch) for batch in batches]


@pytest.mark.parametrize(
    "how",
    [{}, {"use_dictionary": False}, {"row_group_size": 7}, {"kind": pa.large_string()}, {"kind": pa.string_view()}],
    ids=["dictionary", "plain", "small groups", "large", "view"],
)
def test_a_batch_is_bounded_by_bytes(tmp_path: Path, how: dict[str, Any]) -> None:
    """Of texts of 100 KB it has ten at most, in one row group or in many."""
    assert max(sizes_of_batches(tmp_path, [f"{TEXT}{number}" for number in range(60)], **how)) <= 10


def test_texts_that_repeat_count_each_time(tmp_path: Path) -> None:
    """In the file they are few bytes, and in a batch they are whole."""
    assert max(sizes_of_batches(tmp_path, [TEXT] * 600)) <= 10


def test_a_text_larger_than_a_batch_is_a_batch(tmp_path: Path) -> None:
    """Its neighbours are in others."""
    assert sizes_of_batches(tmp_path, ["a"] * 200 + [TEXT * 30] + ["b"] * 99) == [200, 1, 99]


def test_small_texts_are_read_by_rows(tmp_path: Path) -> None:
    """A batch has as many as it may."""
    assert sizes_of_batches(tmp_path, ["a"] * 1200) == [500, 500, 200]


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string())])
def test_dictionaries_larger_than_a_batch_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    """Each batch has the whole dictionary, however few rows it has."""
    assert sum(sizes_of_batches(tmp_path, [f"{TEXT}{number % 20}" for number in range(700)], kind=kind)) == 700
