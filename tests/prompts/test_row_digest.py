"""The digest of the rows of a prompts file, whatever its bytes are."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.prompts.columns import Columns
from logprob_store.prompts.input_files import find_inputs
from logprob_store.prompts.row_digest import RowDigests, _RowDigest

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.prompts.input_files import InputFile

KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.binary(),
    pa.list_(pa.string()),
    pa.large_list(pa.int64()),
    pa.list_(pa.int16(), 2),
    pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())}),
    pa.map_(pa.string(), pa.int64()),
    pa.bool_(),
    pa.int8(),
    pa.float64(),
    pa.decimal128(10, 2),
    pa.timestamp("us", "UTC"),
    pa.null(),
    pa.json_(),
]
VALUES: dict[str, list[Any]] = {
    "text": ["", "a", "ab", None, "é\0b", "a"],
    "bytes": [b"", b"\xff", None, b"ab", b"a", b"a"],
    "texts": [[], ["a", ""], None, ["", "a"], [None], ["aa"]],
    "integers": [[], [1], None, [1, 2], [None], [2]],
    "pairs": [[1, 2], [2, 1], None, [0, None], [0, 0], [1, 2]],
    "structs": [{"a": 1, "b": []}, {"a": None, "b": ["x"]}, None, {"a": 1, "b": None}, {"a": 2, "b": [""]}, None],
    "maps": [[], [("a", 1)], None, [("a", None)], [("b", 1), ("a", 2)], []],
    "truths": [True, False, None, True, True, None],
    "numbers": [0, 1, None, -1, 2, 0],
    "decimals": [Decimal("1.50"), Decimal(0), None, Decimal("-1.5"), None, Decimal(2)],
    "times": [datetime(2026, 1, day, tzinfo=UTC) if day != 3 else None for day in range(1, 7)],
    "nulls": [None] * 6,
}


def column(kind: pa.DataType) -> pa.Array:
    """Six values of a type, with nulls and empty ones among them."""
    for values in VALUES.values():
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, TypeError, ValueError):
            continue
    raise AssertionError(kind)


def digest(*pieces: pa.Array) -> str:
    """The digest of a column that comes in pieces."""
    taken = _RowDigest()
    for piece in pieces:
        taken.add("c", piece)
    return taken.hexdigest()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_pieces_do_not_matter(kind: pa.DataType) -> None:
    """However a column is cut, and also where a piece is a slice of more."""
    whole = column(kind)

    assert {digest(whole.slice(0, cut), whole.slice(cut)) for cut in range(7)} == {digest(whole)}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != pa.null()], ids=str)
def test_each_value_matters(kind: pa.DataType) -> None:
    """A digest of other values, of the same in another order, or of fewer, is another."""
    whole = column(kind)
    values = whole.to_pylist()
    orders = [[1, 0, 2, 3, 4, 5], [0, 1, 2, 3, 4, 4]]
    others = [whole.slice(0, 5), whole.slice(1), *(pa.array([values[n] for n in order], kind) for order in orders)]

    assert digest(whole) not in {digest(other) for other in others if not other.equals(whole)}


@given(st.lists(st.none() | st.text(max_size=3)), st.lists(st.none() | st.text(max_size=3)))
def test_equal_digests_are_of_equal_texts(one: list[str | None], other: list[str | None]) -> None:
    """Neither nulls, empty texts nor the places of the cuts between texts are confused."""
    digests = [digest(pa.array(values, pa.string())) for values in (one, other)]

    assert (digests[0] == digests[1]) == (one == other)


def test_texts_are_alike_in_all_encodings() -> None:
    """What pandas writes as a dictionary, polars writes as large strings."""
    texts = pa.array(VALUES["text"])
    kinds = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]

    assert len({digest(texts.cast(kind)) for kind in kinds}) == 1


def written(folder: Path, table: dict[str, Any], **options: Any) -> InputFile:
    """A file of prompts, written as pyarrow is told to."""
    pq.write_table(pa.table(table), folder / "a.parquet", **options)
    (found,) = find_inputs("a.parquet", base=folder)
    return found


def test_the_first_rows_of_a_longer_file(tmp_path: Path) -> None:
    """The first rows have the digest that they had, with other row groups, compression and columns around them."""
    columns = Columns(id="id", prompt="text")
    before = written(tmp_path, {"id": [1, 2], "text": ["a", "b"]})
    (was,) = RowDigests([before], columns).digests_after("a.parquet", [2])
    options = {"row_group_size": 1, "compression": "gzip", "use_dictionary": False}
    after = written(tmp_path, {"other": [0, 0, 0], "text": ["a", "b", "c"], "id": [1, 2, 3]}, **options)

    first, whole = RowDigests([after], columns).digests_after("a.parquet", [2, 3])

    assert first == was
    assert whole != was
    assert RowDigests([after], columns).digests_after("a.parquet", [3]) == [whole]


def test_types_are_those_that_matter(tmp_path: Path) -> None:
    """Texts are alike in all encodings where they are sent; a kept column has the type that the store has."""
    table = {"text": pa.array(["a"]).dictionary_encode(), "n": [1]}
    rows = RowDigests([written(tmp_path, table)], Columns(prompt="text", keep=("n",)))

    assert rows.types() == {"text": "text", "n": "int64"}
