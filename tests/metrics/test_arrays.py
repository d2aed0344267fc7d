"""Scores over arrays of ordered tokens, held to the polars expressions of the same names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from logprob_store.metrics.engine.arrays import ByCompletion, OrderedTokens, array_scores
from logprob_store.metrics.engine.catalogue import ARRAYS, SCORES, TOTALS

EXPRESSIONS = {name: total.expression for name, total in TOTALS.items()} | {
    score.name: score.from_tokens for score in SCORES.values() if score.from_tokens is not None
}

logprobs = st.one_of(st.none(), st.floats(-40, 0), st.sampled_from([0.0, math.log(0.5), -1.0, -1.0]))
few = st.lists(logprobs, min_size=1, max_size=12)
# longer than a window: 32
many = st.lists(logprobs, min_size=30, max_size=70)
answers = st.lists(st.one_of(few, many), max_size=6)


def ordered(rows: list[list[float | None]], gaps: list[int]) -> tuple[OrderedTokens, pl.DataFrame]:
    """The tokens of answers as arrays, and as a table; a place that is in `gaps` is left free."""
    listed = [
        (number * 3, t + sum(gap <= t for gap in gaps), logprob)
        for number, row in enumerate(rows)
        for t, logprob in enumerate(row)
    ]
    schema = {"completion_id": pl.Int64, "position": pl.Int32, "logprob": pl.Float64}
    frame = pl.DataFrame(listed, schema=schema, orient="row").with_columns(section=pl.lit("content"))
    scored = frame["logprob"].is_not_null()
    arrays = OrderedTokens(
        frame["completion_id"].to_numpy(),
        # what stands where nothing is scored must not matter
        frame["logprob"].fill_null(-99.0).to_numpy(),
        None if scored.all() else scored.to_numpy(),
        frame["position"].to_numpy(),
    )
    return arrays, frame


@given(answers, st.lists(st.integers(0, 40), max_size=2))
def test_each_is_the_expression_of_its_name(rows: list[list[float | None]], gaps: list[int]) -> None:
    """All names, on answers with and without unscored tokens and gaps, and on none."""
    arrays, frame = ordered(rows, gaps)
    expected = frame.group_by("completion_id", maintain_order=True).agg(**EXPRESSIONS)
    # the sum of nothing is 0 in polars, and what is made of it looks at scored_tokens first
    none = pl.col("scored_tokens") == 0
    expected = expected.with_columns(pl.when(~none).then(pl.col(name)).alias(name) for name in ("_sum", "_low"))

    found = array_scores(arrays, ARRAYS)

    assert found is not None
    assert_frame_equal(found, expected, check_dtypes=bool(rows), rel_tol=1e-12, abs_tol=1e-12)


@given(answers, st.integers(1, 99))
def test_how_many_windows_are_summed_at_a_time_changes_nothing(rows: list[list[float | None]], at_once: int) -> None:
    """The lowest and the last window are those of all at once."""
    arrays, _ = ordered(rows, [])
    whole, parts = ByCompletion(arrays), ByCompletion(arrays, tokens_at_once=at_once)

    for one, other in zip(parts.windows, whole.windows, strict=True):
        assert one.tolist() == other.tolist()


def test_all_expressions_over_tokens_have_a_function_over_arrays() -> None:
    """No total and no score of tokens is without one."""
    assert ARRAYS.keys() == EXPRESSIONS.keys()


@given(answers, st.lists(st.sampled_from(["content", "tool"]), min_size=1, max_size=9))
def test_the_mean_of_the_content_leaves_other_sections_out(rows: list[list[float | None]], sections: list[str]) -> None:
    """Sections alternate between the tokens; what is not content is not in the mean, and none of it gives null."""
    arrays, frame = ordered(rows, [])
    frame = frame.with_columns(
        section=pl.Series([sections[i % len(sections)] for i in range(frame.height)], dtype=pl.String)
    )
    content = (frame["section"] == "content").to_numpy()
    found = array_scores(arrays._replace(content=content), {"_content_mean": ARRAYS["_content_mean"]})
    expected = frame.group_by("completion_id", maintain_order=True).agg(_content_mean=EXPRESSIONS["_content_mean"])

    assert found is not None
    assert_frame_equal(found, expected, check_dtypes=bool(rows), rel_tol=1e-12, abs_tol=1e-12)


def test_windows_reach_the_last_token() -> None:
    """33 tokens have two windows of 32: the first without the last token, of p = e**-32, the second with it."""
    arrays, _ = ordered([[0.0] * 32 + [-32.0]], [])
    found = array_scores(arrays, {name: ARRAYS[name] for name in ("sliding_confidence", "tail_confidence")})

    assert found is not None
    # -32 / 32 = -1
    assert found.row(0) == (0, math.exp(-1), math.exp(-1))


def test_a_window_of_another_completion_is_not_looked_at() -> None:
    """32 sure tokens behind 32 unsure ones of another answer are sure."""
    arrays, _ = ordered([[-1.0] * 32, [0.0] * 32], [])
    found = array_scores(arrays, {name: ARRAYS[name] for name in ("sliding_confidence",)})

    assert found is not None
    assert found["sliding_confidence"].to_list() == [math.exp(-1), 1.0]


def test_a_span_ends_with_its_completion() -> None:
    """Also where the next one's places go on from the last."""
    tokens = OrderedTokens(np.array([1, 1, 2]), np.array([-1.0, -1.0, -1.0]), None, np.array([3, 4, 5]))
    found = array_scores(tokens, {"longest_low_confidence_span": ARRAYS["longest_low_confidence_span"]})

    assert found is not None
    assert found["longest_low_confidence_span"].to_list() == [2, 1]


def test_a_completion_in_two_places_is_not_in_order() -> None:
    """Nothing is computed where rows of another completion, or other ids, come between."""
    for ids in ([1, 2, 1], [2, 1]):
        zeros: Any = np.zeros(len(ids))
        assert array_scores(OrderedTokens(np.array(ids), zeros, None, None), {"_sum": ARRAYS["_sum"]}) is None
