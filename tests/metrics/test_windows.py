"""Spans and sliding windows: by hand, against a slow and obvious reference, and in any order of rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logprob_store as ls
from logprob_store.metrics.tokens.windows import Statistic
from logprob_store.schema import KEYS, TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

HALF, QUARTER = math.log(0.5), math.log(0.25)

values = st.lists(st.one_of(st.none(), st.floats(-30, 0)), max_size=12)
answers = st.lists(values, min_size=1, max_size=4)


def tokens(*rows: Sequence[float | None], section: str = "content") -> pl.DataFrame:
    """Token rows of several answers."""
    columns = ("completion_id", "section", "position", "logprob")
    schema = {"run": pl.String, **{name: TOKENS[name] for name in columns}}
    listed = [("r", i, section, t, logprob) for i, row in enumerate(rows) for t, logprob in enumerate(row)]
    return pl.DataFrame(listed, schema=schema, orient="row")


def windows_of(row: Sequence[float | None], window: int) -> list[float]:
    """The means of all whole windows of the scored tokens, or of all tokens where there are fewer."""
    scored = [logprob for logprob in row if logprob is not None]
    if 0 < len(scored) < window:
        return [sum(scored) / len(scored)]
    return [sum(scored[i : i + window]) / window for i in range(len(scored) - window + 1)]


def statistic_of(means: list[float], statistic: Statistic) -> float | None:
    """`statistic` in plain Python."""
    if not means:
        return None
    tenth = max(1, len(means) // 10)
    named = {
        "lowest": min(means),
        "mean": sum(means) / len(means),
        "tail": means[-1],
        "bottom": sum(sorted(means)[:tenth]) / tenth,
    }
    return named[statistic]


def longest_span(row: Sequence[float | None]) -> int | None:
    """The longest run of p < 1/2 in plain Python."""
    if all(logprob is None for logprob in row):
        return None
    longest = length = 0
    for logprob in row:
        length = length + 1 if logprob is not None and logprob < HALF else 0
        longest = max(longest, length)
    return longest


@given(rows=answers, window=st.integers(1, 14), seed=st.integers(0, 9))
def test_windows_are_those_of_the_definition(rows: list[list[float | None]], window: int, seed: int) -> None:
    """Every statistic of every answer equals that of the plain loop, in any order of rows."""
    names = get_args(Statistic)
    aggs = [ls.sliding_confidence(window=window, statistic=name).alias(name) for name in names]
    aggs += [ls.group_confidence("logprob", window=window, statistic=name).alias(f"group_{name}") for name in names]
    shuffled = tokens(*rows).sample(fraction=1, shuffle=True, seed=seed)
    actual = {row["completion_id"]: row for row in shuffled.group_by(KEYS).agg(aggs).iter_rows(named=True)}

    for number, row in enumerate(rows):
        if not row:
            assert number not in actual
            continue
        means = windows_of(row, window)
        for name in names:
            expected = statistic_of([math.exp(mean) for mean in means], name)
            assert actual[number][name] == (None if expected is None else pytest.approx(expected, rel=1e-9))
            expected = statistic_of(means, name)
            assert actual[number][f"group_{name}"] == (None if expected is None else pytest.approx(expected, abs=1e-9))


@given(rows=answers, seed=st.integers(0, 9))
def test_spans_are_those_of_the_definition(rows: list[list[float | None]], seed: int) -> None:
    """The longest span of every answer equals that of the plain loop, in any order of rows."""
    shuffled = tokens(*rows).sample(fraction=1, shuffle=True, seed=seed)
    found = shuffled.group_by(KEYS).agg(ls.longest_low_confidence_span())
    actual = dict(found.select("completion_id", "longest_low_confidence_span").iter_rows())

    assert actual == {number: longest_span(row) for number, row in enumerate(rows) if row}


def test_a_filter_leaves_a_gap() -> None:
    """Two low tokens with a removed one between them are two spans."""
    frame = tokens([QUARTER, 0.0, QUARTER]).filter(pl.col("logprob") < 0)

    assert frame.select(ls.longest_low_confidence_span()).item() == 1


def test_a_span_ends_with_its_section() -> None:
    """The end of the reasoning and the beginning of the content are two spans."""
    frame = pl.concat([tokens([QUARTER] * 2), tokens([QUARTER] * 3, section="reasoning")])

    assert frame.select(ls.longest_low_confidence_span()).item() == 3


def test_the_tail_is_of_what_was_written_last() -> None:
    """Reasoning comes before content, though it comes later in the enum and the rows."""
    frame = pl.concat([tokens([HALF, HALF]), tokens([QUARTER, QUARTER], section="reasoning")])

    assert frame.select(ls.sliding_confidence(window=2, statistic="tail")).item() == pytest.approx(0.5)


def test_order_may_be_another_column() -> None:
    """A frame with an order of its own needs neither section nor position."""
    frame = pl.DataFrame({"at": [2, 1], "logprob": [HALF, QUARTER]})

    assert frame.select(ls.sliding_confidence(window=1, statistic="tail", order="at")).item() == pytest.approx(0.5)


def test_certain_tokens_stay_certain() -> None:
    """Rounding in the running mean does not make p > 1."""
    frame = tokens([-1e6, -0.1, *[0.0] * 50])

    assert frame.select(ls.sliding_confidence(window=3, statistic="tail")).item() <= 1


@pytest.mark.parametrize("window", [0, -1])
def test_window_must_be_a_number_of_tokens(window: int) -> None:
    """A window of nothing is refused with its value."""
    with pytest.raises(ValueError, match=f"window {window}"):
        ls.sliding_confidence(window=window)


def test_unknown_statistic_is_refused() -> None:
    """The message lists the known statistics."""
    with pytest.raises(ValueError, match="'worst' is none of lowest, mean"):
        ls.group_confidence(window=2, statistic="worst")  # type: ignore[arg-type]


def test_group_confidence_composes_with_the_alternatives() -> None:
    """Alternatives by token, then windows by completion: -mean ln p is 2 ln 2 at one token, 3 ln 2 at the next."""
    rows = [
        ("r", 1, "content", t, r, p)
        for t, (p, q) in enumerate([(HALF, 3 * HALF), (HALF, 5 * HALF)])
        for r, p in enumerate((p, q))
    ]
    schema = ["run", "completion_id", "section", "position", "rank", "logprob"]
    frame = pl.DataFrame(rows, schema=schema, orient="row").lazy()
    by_token = frame.group_by(ls.POSITION).agg(ls.token_confidence())
    actual = by_token.group_by(KEYS).agg(ls.group_confidence(window=1)).collect()

    assert actual["group_confidence"].to_list() == [pytest.approx(2 * math.log(2))]
