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

from logprob_store.errors import PromptsError
from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns
from logprob_store.prompts.ids import check_ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.prompt import Prompt


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
def test_ids_of_any_plain_type_become_text(
    tmp_path: Path, column: pa.Array, text: str, put: Callable[..., list[InputFile]], read: Callable[..., list[Prompt]]
) -> None:
    """An id is data; what looks like a path is text too."""
    inputs = put(tmp_path, {"id": column, "t": ["Hi"]})

    assert [prompt.id for prompt in read(inputs, id="id", prompt="t")] == [text]
    check_ids(inputs, Columns(id="id", prompt="t"))


def test_without_an_id_column_the_id_is_the_row_index_over_all_files(
    tmp_path: Path, put: Callable[..., list[InputFile]], read: Callable[..., list[Prompt]]
) -> None:
    """Indexes go on from file to file."""
    prompts = read(
        put(tmp_path, {"t": ["a", "b"]}, {"t": []} | {"t": pa.array([], pa.string())}, {"t": ["c"]}),
        prompt="t",
    )

    assert [(prompt.index, prompt.id) for prompt in prompts] == [(0, "0"), (1, "1"), (2, "2")]


def test_ids_that_are_unique_pass(tmp_path: Path, put: Callable[..., list[InputFile]]) -> None:
    """Nothing to say; and without an id column nothing to look at."""
    inputs = put(tmp_path, {"id": ["a", "b"], "t": ["x", "x"]}, {"id": ["c"], "t": ["x"]})

    check_ids(inputs, Columns(id="id", prompt="t"))
    check_ids(inputs, Columns(prompt="t"))


def test_repeated_ids_are_named_with_their_rows(tmp_path: Path, put: Callable[..., list[InputFile]]) -> None:
    """Across files, at most five of them, and how many there are in all."""
    inputs = put(tmp_path, {"id": list("abcdefgx")}, {"id": list("yabcdefg")})

    with pytest.raises(PromptsError, match=r"7 ids .*'a' in rows 0, 9; .*'e' in rows 4, 13; \.\.\.\. An") as caught:
        check_ids(inputs, Columns(id="id", prompt="id"))

    assert "'f'" not in str(caught.value)


def test_one_id_in_many_rows_names_the_first_rows(tmp_path: Path, put: Callable[..., list[InputFile]]) -> None:
    """A constant column is no id."""
    inputs = put(tmp_path, {"id": [7] * 50})

    with pytest.raises(PromptsError, match=r"1 ids .*'7' in rows 0, 1, 2, 3, 4, \.\.\."):
        check_ids(inputs, Columns(id="id", template="x"))


def test_ids_that_share_only_a_hash_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., list[InputFile]]
) -> None:
    """Rows whose hashes meet are compared once more before anyone is blamed."""
    real = pl.Series.hash
    monkeypatch.setattr(
        pl.Series, "hash", lambda ids, seed=0: real(ids, seed) if seed else pl.Series([1] * len(ids), dtype=pl.UInt64)
    )
    inputs = put(tmp_path, {"id": ["a", "b", "c"]})

    check_ids(inputs, Columns(id="id", prompt="id"))


def test_null_ids_are_named_by_row(tmp_path: Path, put: Callable[..., list[InputFile]]) -> None:
    """Up front, and again when reading, for who did not check."""
    inputs = put(tmp_path, {"id": ["a"]}, {"id": [None] * 7})
    columns = Columns(id="id", prompt="id")

    with pytest.raises(PromptsError, match=r"'id' is null in 7 rows \(row indexes 1, 2, 3, 4, 5, \.\.\.\)"):
        check_ids(inputs, columns)
    with pytest.raises(PromptsError, match=r"'id' is null in 7 rows \(row indexes 1, 2"):
        list(read_prompts(inputs, columns, endpoint="chat"))


def test_ids_that_are_not_utf8_are_a_clear_error(
    tmp_path: Path, put: Callable[..., list[InputFile]], bad_utf8: pa.Array
) -> None:
    """An id that cannot be written cannot name a prompt."""
    inputs = put(tmp_path, {"id": bad_utf8})

    with pytest.raises(PromptsError, match=r"0\.parquet, rows 0 to 1: id column 'id' holds bytes that are not UTF-8"):
        check_ids(inputs, Columns(id="id", template="x"))


@pytest.mark.slow
def test_a_million_ids_are_checked_in_little_memory(tmp_path: Path, measured: Callable[[str], tuple[str, int]]) -> None:
    """Even when every one of them occurs twice, which is the worst case."""
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
