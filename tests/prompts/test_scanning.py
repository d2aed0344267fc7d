"""The scan over the rows of all files: slicing, what is left unread, what is damaged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logprob_store.errors import PromptsError
from logprob_store.prompts.input_files import InputFile, find_inputs
from logprob_store.prompts.scanning import scan
from logprob_store.prompts.unifying import unified_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def scanned(base: Path, batch_rows: int = 1000, *, skip: int = 0, limit: int | None = None) -> list[list[int]]:
    """The values of `n`, a list a batch; checks that each batch knows where it is."""
    inputs = find_inputs("*.parquet", base=base)
    batches = []
    for rows in scan(inputs, unified_schema(inputs, {"n": "n"}), skip=skip, limit=limit, batch_rows=batch_rows):
        values = rows.batch.column("n").to_pylist()
        # The tests write `n` as the index over all files.
        assert values == list(range(rows.index, rows.index + len(values)))
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
    write: Callable[..., Path],
    *,
    files: list[tuple[int, int]],
    skip: int,
    limit: int | None,
    batch_rows: int,
) -> None:
    """Across files, empty files and row groups, the rows are those of a slice of all rows."""
    base = tmp_path_factory.mktemp("in")
    total = 0
    for number, (rows, row_group_size) in enumerate(files):
        write(base / f"{number}.parquet", rows, row_group_size=row_group_size, first=total)
        total += rows

    batches = scanned(base, batch_rows, skip=skip, limit=limit)

    assert [n for batch in batches for n in batch] == list(range(total))[:limit][skip:]
    assert all(0 < len(batch) <= batch_rows for batch in batches)


def test_files_and_row_groups_that_are_skipped_are_not_read(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Damage in rows before `skip` and after `limit` goes unnoticed: those pages are never touched."""
    for number in range(3):
        write(tmp_path / f"{number}.parquet", 10, row_group_size=5, first=number * 10)
    inputs = find_inputs("*.parquet", base=tmp_path)
    schema = unified_schema(inputs, {"n": "n"})
    for number, group in ((0, 0), (1, 0), (2, 1)):
        damage(tmp_path / f"{number}.parquet", group)

    rows = [n for part in scan(inputs, schema, skip=15, limit=25) for n in part.batch.column("n").to_pylist()]

    assert rows == list(range(15, 25))
    with pytest.raises(PromptsError, match=r"1\.parquet cannot be read, it may be damaged"):
        list(scan(inputs, schema, skip=10))


def damage(path: Path, group: int) -> None:
    """Zero the pages of a row group, as a bad disk does; the size, the footer and the times stay."""
    before = path.stat()
    column = pq.read_metadata(path).row_group(group).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("rows", [3, 4])
def test_a_file_that_changed_since_it_was_found_is_an_error(
    tmp_path: Path, rows: int, write: Callable[..., Path]
) -> None:
    """Row indexes are identities: a file of other rows, as many or not, must not take their place."""
    write(tmp_path / "a.parquet", 3)
    inputs = find_inputs("*.parquet", base=tmp_path)
    schema = unified_schema(inputs, {"n": "n"})
    pq.write_table(pa.table({"n": range(rows), "more": range(rows)}), tmp_path / "a.parquet")

    with pytest.raises(PromptsError, match=r"a\.parquet changed"):
        list(scan(inputs, schema))


@pytest.mark.parametrize("how", ["cut off", "written over", "written over by as much"])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, write: Callable[..., Path], how: str) -> None:
    """Arrow reads on in what is left of a file that was cut off, and says nothing: rows would be missing unnoticed."""
    path = write(tmp_path / "a.parquet", 2000, row_group_size=10)
    inputs = find_inputs("*.parquet", base=tmp_path)
    rows = scan(inputs, unified_schema(inputs, {"n": "n"}), batch_rows=10)
    next(rows)
    content = path.read_bytes()
    if how == "cut off":
        os.truncate(path, len(content) // 2)
    elif how == "written over":
        path.write_bytes(content[:-100] * 2)
    else:
        path.write_bytes(content.replace(bytes([1]), bytes([2])))

    with pytest.raises(PromptsError, match=r"a\.parquet (changed while it was read|cannot be read)"):
        list(rows)


def test_a_file_that_is_replaced_is_read_to_its_end(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Who has a file open reads on in what it was when another gets its name."""
    write(tmp_path / "a.parquet", 2000, row_group_size=10)
    inputs = find_inputs("*.parquet", base=tmp_path)
    rows = scan(inputs, unified_schema(inputs, {"n": "n"}), batch_rows=10)
    first = next(rows)
    write(tmp_path / "new.parquet", 3).replace(tmp_path / "a.parquet")

    assert [n for part in (first, *rows) for n in part.batch.column("n").to_pylist()] == list(range(2000))


def test_a_value_that_does_not_fit_the_common_type_is_named(
    tmp_path: Path, put: Callable[..., list[InputFile]]
) -> None:
    """uint64 and int64 promote to int64; a value beyond it is an error with file, column and rows."""
    inputs = put(tmp_path, {"x": pa.array([1], pa.int64())}, {"x": pa.array([1, 2**63], pa.uint64())})

    with pytest.raises(PromptsError, match=r"1\.parquet, column 'x', rows 0 to 1"):
        list(scan(inputs, unified_schema(inputs, {"x": "x"})))


def test_reading_without_rows_yields_nothing(tmp_path: Path, write: Callable[..., Path]) -> None:
    """An empty Parquet file is no error."""
    write(tmp_path / "a.parquet", 0)

    assert scanned(tmp_path) == []
