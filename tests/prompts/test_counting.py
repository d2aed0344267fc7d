"""How many continuations each row has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from logprob_store.prompts.columns import Columns
from logprob_store.prompts.counting import candidate_counts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLUMNS = Columns(prompt="q", continuations="c")


def test_lists_are_counted_over_all_files(put: Callable[..., Any], tmp_path: Path) -> None:
    """In the order of rows; a null or empty list is the one failure that it will be."""
    inputs = put(tmp_path, {"q": ["?"] * 2, "c": [["a", "b"], []]}, {"q": ["?"] * 2, "c": [None, ["a", "b", "c"]]})
    counts = candidate_counts(inputs, COLUMNS)

    assert counts is not None
    assert counts.to_list() == [2, 1, 1, 3]


def test_text_needs_no_pass(put: Callable[..., Any], tmp_path: Path) -> None:
    """One text a row is one call a row, and without the column there is nothing to count."""
    inputs = put(tmp_path, {"q": ["?"], "c": ["a"]})

    assert candidate_counts(inputs, COLUMNS) is None
    assert candidate_counts(inputs, Columns(prompt="q")) is None


def test_other_layouts_of_lists(put: Callable[..., Any], tmp_path: Path) -> None:
    """Large lists, lists of a fixed size, and lists of categories are lists of texts."""
    values = [["a", "b"], ["c", "d"]]
    for number, kind in enumerate(
        (pa.large_list(pa.large_string()), pa.list_(pa.string(), 2), pa.list_(pa.dictionary(pa.int32(), pa.string())))
    ):
        inputs = put(tmp_path / str(number), {"q": ["?"] * 2, "c": pa.array(values, kind)})
        counts = candidate_counts(inputs, COLUMNS)

        assert counts is not None
        assert counts.to_list() == [2, 2]
