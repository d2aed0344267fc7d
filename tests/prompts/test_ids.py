"""Ids as text, and the ids that are refused: null, repeated, not UTF-8."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompts.parquet_files import bad_utf8, read_all, write_tables

from logprob_store.errors import PromptsError
from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns
from logprob_store.prompts.ids import check_ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
def test_ids_of_any_scalar_type_become_text(tmp_path: Path, column: pa.Array, text: str) -> None:
    """An id is data: one that looks like a path is plain text too."""
    inputs = write_tables(tmp_path, {"id": column, "t": ["Hi"]})

    assert [prompt.id for prompt in read_all(inputs, id="id", prompt="t")] == [text]
    check_ids(inputs, Columns(id="id", prompt="t"))


def test_without_an_id_column_the_id_is_the_row_index_over_all_files(tmp_path: Path) -> None:
    """The index counts on from file to file."""
    prompts = read_all(
        write_tables(tmp_path, {"t": ["a", "b"]}, {"t": []} | {"t": pa.array([], pa.string())}, {"t": ["c"]}),
        prompt="t",
    )

    assert [(prompt.index, prompt.id) for prompt in prompts] == [(0, "0"), (1, "1"), (2, "2")]


def test_ids_that_are_unique_pass(tmp_path: Path) -> None:
    """Unique ids raise nothing, and neither does a job without an id column."""
    inputs = write_tables(tmp_path, {"id": ["a", "b"], "t": ["x", "x"]}, {"id": ["c"], "t": ["x"]})

    check_ids(inputs, Columns(id="id", prompt="t"))
    check_ids(inputs, Columns(prompt="t"))


def test_repeated_ids_are_named_with_their_rows(tmp_path: Path) -> None:
    """The error names at most five of them, over all files, and their number."""
    inputs = write_tables(tmp_path, {"id": list("abcdefgx")}, {"id": list("yabcdefg")})

    with pytest.raises(PromptsError, match=r"7 ids .*'a' in rows 0, 9; .*'e' in rows 4, 13; \.\.\.\. An") as caught:
        check_ids(inputs, Columns(id="id", prompt="id"))

    assert "'f'" not in str(caught.value)


def test_one_id_in_many_rows_names_the_first_rows(tmp_path: Path) -> None:
    """Of a constant column the error names the first five rows."""
    inputs = write_tables(tmp_path, {"id": [7] * 50})

    with pytest.raises(PromptsError, match=r"1 ids .*'7' in rows 0, 1, 2, 3, 4, \.\.\."):
        check_ids(inputs, Columns(id="id", template="x"))


def test_ids_that_share_only_a_hash_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids with equal hashes are compared by a second hash before the error is raised."""
    real = pl.Series.hash
    monkeypatch.setattr(
        pl.Series, "hash", lambda ids, seed=0: real(ids, seed) if seed else pl.Series([1] * len(ids), dtype=pl.UInt64)
    )
    inputs = write_tables(tmp_path, {"id": ["a", "b", "c"]})

    check_ids(inputs, Columns(id="id", prompt="id"))


def test_null_ids_are_named_by_row(tmp_path: Path) -> None:
    """`check_ids` finds them, and so does reading without that check."""
    inputs = write_tables(tmp_path, {"id": ["a"]}, {"id": [None] * 7})
    columns = Columns(id="id", prompt="id")

    with pytest.raises(PromptsError, match=r"'id' is null in 7 rows \(row indexes 1, 2, 3, 4, 5, \.\.\.\)"):
        check_ids(inputs, columns)
    with pytest.raises(PromptsError, match=r"'id' is null in 7 rows \(row indexes 1, 2"):
        list(read_prompts(inputs, columns, endpoint="chat"))


def test_ids_that_are_not_utf8_are_a_clear_error(tmp_path: Path) -> None:
    """The error names the file, the rows and the column."""
    inputs = write_tables(tmp_path, {"id": bad_utf8()})

    with pytest.raises(PromptsError, match=r"0\.parquet, rows 0 to 1: id column 'id' holds bytes that are not UTF-8"):
        check_ids(inputs, Columns(id="id", template="x"))


@pytest.mark.slow
def test_a_million_ids_are_checked_in_little_memory(tmp_path: Path, measured: Callable[[str], tuple[str, int]]) -> None:
    """It takes less than 300 MiB even in the worst case, where every id occurs twice."""
    ids = [f"{number:032x}" for number in range(500_000)]
    pq.write_table(pa.table({"id": ids + ids}), tmp_path / "a.parquet")

    named, mebibytes = measured(
        """
try:
    check_ids(inputs, Columns(id="id", template="x"))
except PromptsError as error:
    print("500000 ids" in str(error))
"""
    )

    assert named == "True"
    assert mebibytes < 300
