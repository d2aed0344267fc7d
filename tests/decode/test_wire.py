"""The patch that corrects what rows and template do not hold, and the value rebuilt with it."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from builders import answer_with
from decode.decoding import rebuild

from logprob_store.decode.bulk.scanned_rows import logprob_columns
from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.rebuild import rebuild_logprobs
from logprob_store.decode.token_rows import FLAGS, split_logprob, wire_number
from logprob_store.decode.wire import apply_patch, differences, with_patch

HALF, OTHER_HALF = "\ud83d", "\ud83e"
NUMBERS = [-0.5, -0.0, 0.0, -9998.999, -9999.0, -1e30, 0.1, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize(
    ("original", "rebuilt", "patch"),
    [
        ([1, 2], [1, 2], []),
        ([0, 1.0], [0.0, 1], []),
        ([math.nan], [math.nan], []),
        ([-0.0], [0.0], [[[0], -0.0]]),
        ([True], [1], [[[0], True]]),
        ([{"a": True}], [{"a": 1}], [[[0, "a"], True]]),
        ([1], [1, 2], [[[], [1]]]),
        ({"a": None}, {}, [[["a"], None]]),
        ({}, {"a": None}, [[["a"]]]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [[["a", 0, "b"], 1]]),
        ({"b": 1, "a": 1}, {"a": 1, "b": 1}, []),
        (2**53 + 1, 2.0**53, [[[], 2**53 + 1]]),
    ],
)
def test_a_patch_has_the_differences_and_nothing_else(original: Any, rebuilt: Any, patch: list[Any]) -> None:
    """Floats differ by bits, True and 1 by type, null and absent by presence."""
    assert repr(differences(original, rebuilt)) == repr(patch)
    assert repr(apply_patch(rebuilt, patch)) == repr(original) or not patch


def test_the_order_of_keys_counts_where_it_is_the_rank() -> None:
    """A dict inside a list is replaced as a whole when its order differs."""
    patch = differences({"t": [{"b": 1, "a": 2}]}, {"t": [{"a": 2, "b": 1}]}, ordered=True)

    assert patch == [[["t", 0], {"b": 1, "a": 2}]]
    assert list(patch[0][1]) == ["b", "a"]


def test_without_differences_the_column_is_the_template() -> None:
    """Regular answers share one text."""
    assert with_patch({"shape": "x"}, {"a": 1.0}, {"a": 1}) == '{"shape":"x"}'
    assert with_patch({"shape": "x"}, {}, {"\ud83d": 1}) == '{"shape":"x","patch":[[["\\ud83d"],1]]}'


def test_both_ways_read_a_number_alike() -> None:
    """The rule for columns and the one for single values agree, and the number on the wire is rebuilt."""
    columns = [column.to_pylist() for column in logprob_columns(pa.array(NUMBERS))]

    assert repr(list(zip(*columns, strict=True))) == repr(list(map(split_logprob, NUMBERS)))
    assert {split_logprob(number)[1] for number in [None, *NUMBERS]} == {None, *FLAGS}
    assert repr([wire_number(*split_logprob(number)) for number in NUMBERS]) == repr(NUMBERS)


@pytest.mark.parametrize("offsets", [[0, True], [0, 1.0], [1, 1], [0, 1, 2], []])
def test_offsets_that_do_not_follow_are_kept_as_they_are(offsets: list[Any]) -> None:
    """True and 1.0 equal 1, and must not be rebuilt as 1."""
    value = {"tokens": ["a", "b"], "token_logprobs": [-1, -2], "text_offset": offsets}
    decoded = decode_answers([answer_with({"choices": [{"logprobs": value}]})])
    rebuilt = rebuild(decoded)

    assert repr(rebuilt[0]["text_offset"]) == repr(offsets)


def test_names_that_collapse_in_a_table_are_kept_in_the_patch() -> None:
    """Two lone surrogates are one U+FFFD in a table; the dict is rebuilt with both, in order."""
    value = {"tokens": ["a"], "top_logprobs": [{HALF: -2, OTHER_HALF: -1, "b": -3}]}
    decoded = decode_answers([answer_with({"choices": [{"logprobs": value}]})])
    rebuilt = rebuild(decoded)

    assert decoded.alternatives.column("token").to_pylist() == ["�", "�", "b"]
    assert repr(rebuilt[0]["top_logprobs"]) == repr([{HALF: -2, OTHER_HALF: -1, "b": -3}])


def test_rows_may_come_back_in_any_order() -> None:
    """A query may return rows in any order; their keys give the order."""
    tops = [{"token": text, "logprob": -1.0} for text in "abcdef"]
    listed = [{"token": text, "logprob": -1.0, "top_logprobs": tops} for text in "wxyz"]
    decoded = decode_answers(
        [answer_with({"choices": [{"logprobs": {"content": listed}}]}, prompt_index=n) for n in range(3)]
    )
    frames = [pl.DataFrame(table).reverse() for table in (decoded.completions, decoded.tokens, decoded.alternatives)]

    assert rebuild_logprobs(*frames) == {n * 10**8: {"content": listed} for n in range(3)}


def test_null_and_absent_are_told_apart_in_the_wire_column() -> None:
    """Both are None when rebuilt."""
    bodies: list[Any] = [{"choices": [{"logprobs": None}]}, {"choices": [{}]}]
    decoded = decode_answers([answer_with(body, prompt_index=n, logprobs=False) for n, body in enumerate(bodies)])
    rebuilt = rebuild(decoded)

    assert decoded.completions.column("wire").to_pylist() == ['{"shape":"null"}', '{"shape":"absent"}']
    assert rebuilt == {0: None, 10**8: None}
