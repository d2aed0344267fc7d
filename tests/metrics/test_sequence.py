"""Scores of chosen tokens: hand-made numbers, laws, nulls, and composition."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import logprob_store as ls
from logprob_store.schema import KEYS, TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable

SCORES = {
    "logprob_sum": ls.logprob_sum,
    "joint_probability": ls.joint_probability,
    "mean_logprob": ls.mean_logprob,
    "confidence": ls.confidence,
    "perplexity": ls.perplexity,
    "min_probability": ls.min_probability,
    "max_surprisal": ls.max_surprisal,
    "mean_surprisal": ls.mean_surprisal,
    "low_confidence_share": ls.low_confidence_share,
}
COUNTS = {"scored_tokens": ls.scored_tokens, "unscored_tokens": ls.unscored_tokens}
EVERY = [*SCORES.values(), *COUNTS.values()]

logprobs = st.lists(st.one_of(st.none(), st.floats(-30, 0)), max_size=12)


def column(values: list[float | None]) -> pl.DataFrame:
    """A frame of logprobs, float also when empty or all null."""
    return pl.DataFrame({"logprob": values}, schema={"logprob": pl.Float64})


def score(metric: pl.Expr, values: list[float | None]) -> float | None:
    """One metric of one answer."""
    value: float | None = column(values).select(metric).item()
    return value


HALF, QUARTER, EIGHTH = math.log(0.5), math.log(0.25), math.log(0.125)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        # p = 1/2, 1/4, 1/8 and one unscored: the product is 1/64, its cube root 1/4
        (ls.logprob_sum(), -6 * math.log(2)),
        (ls.joint_probability(), 1 / 64),
        (ls.mean_logprob(), -2 * math.log(2)),
        (ls.confidence(), 1 / 4),
        (ls.perplexity(), 4.0),
        (ls.min_probability(), 1 / 8),
        (ls.max_surprisal(), 3 * math.log(2)),
        (ls.max_surprisal(base=2), 3.0),
        (ls.mean_surprisal(), 2 * math.log(2)),
        (ls.mean_surprisal(base=2), 2.0),
        (ls.low_confidence_share(threshold=0.25), 1 / 3),
        (ls.low_confidence_share(), 2 / 3),
        (ls.scored_tokens(), 3),
        (ls.unscored_tokens(), 1),
    ],
)
def test_numbers_by_hand(metric: pl.Expr, expected: float) -> None:
    """Each formula gives the number worked out by hand, with the unscored token left out."""
    actual = score(metric, [HALF, None, EIGHTH, QUARTER])

    assert actual == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("values", [[], [None], [None, None]], ids=["empty", "null", "nulls"])
def test_no_scored_token_gives_null(metric: Callable[[], pl.Expr], values: list[float | None]) -> None:
    """Without a scored token a score is null, not NaN, 0 or 1."""
    assert score(metric(), values) is None


@pytest.mark.parametrize("metric", SCORES.values(), ids=SCORES)
def test_all_null_group_stays_null(metric: Callable[[], pl.Expr]) -> None:
    """A group of unscored tokens is null also beside a scored group."""
    frame = column([None, -1.0, None]).with_columns(key=pl.Series([1, 2, 1]))
    actual = frame.group_by("key", maintain_order=True).agg(metric()).to_series(1).is_null().to_list()

    assert actual == [True, False]


def test_counts_of_nothing_are_zero() -> None:
    """No rows give a count of 0, scored and unscored."""
    assert column([]).select(ls.scored_tokens(), ls.unscored_tokens()).row(0) == (0, 0)


def test_certain_answer_has_no_negative_zero() -> None:
    """P = 1 throughout gives a surprisal of 0.0, not -0.0."""
    row = column([0.0, 0.0]).select(ls.max_surprisal(), ls.mean_surprisal(), ls.perplexity()).row(0)

    assert [math.copysign(1, x) for x in row] == [1, 1, 1]
    assert row == (0.0, 0.0, 1.0)


def test_a_probability_at_the_threshold_is_not_low() -> None:
    """Low means below: a token at the threshold is not low."""
    assert score(ls.low_confidence_share(threshold=0.5), [HALF, math.nextafter(HALF, -1)]) == 0.5


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, 95, math.nan])
def test_threshold_must_be_a_probability(threshold: float) -> None:
    """A percentage, or nothing, is refused with its value."""
    with pytest.raises(ValueError, match=f"threshold {threshold}"):
        ls.low_confidence_share(threshold=threshold)


@pytest.mark.parametrize("base", [0, 1, -2, math.inf, math.nan])
def test_base_must_be_above_one(base: float) -> None:
    """A base no logarithm can have is refused with its value."""
    with pytest.raises(ValueError, match=f"base {base}"):
        ls.mean_surprisal(base=base)


def test_every_metric_is_named_after_its_function() -> None:
    """All of them fit into one `agg` without a clash of names."""
    assert column([-1.0]).select(metric() for metric in EVERY).columns == [*SCORES, *COUNTS]


@given(logprobs)
def test_perplexity_is_at_least_one(values: list[float | None]) -> None:
    """L <= 0 throughout gives perplexity >= 1, and confidence is its inverse in [0, 1]."""
    perplexity, confidence = column(values).select(ls.perplexity(), ls.confidence()).row(0)

    if any(x is not None for x in values):
        assert perplexity >= 1
        assert 0 <= confidence <= 1
        assert perplexity * confidence == pytest.approx(1)
    else:
        assert (perplexity, confidence) == (None, None)


@given(logprobs, st.randoms(use_true_random=False))
def test_row_order_changes_nothing(values: list[float | None], random: object) -> None:
    """A shuffled answer has the same scores."""
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (column(v).select(metric() for metric in EVERY).row(0) for v in (values, shuffled))

    for one, other in zip(first, second, strict=True):
        assert one == (None if other is None else pytest.approx(other, rel=1e-12, abs=1e-12))


@given(st.lists(logprobs, min_size=1, max_size=6), st.integers(1, 20))
def test_parts_change_nothing(completions: list[list[float | None]], cut: int) -> None:
    """Rows cut into two frames anywhere give the same groups, on either engine."""
    rows = pl.concat(
        column(values).with_columns(run=pl.lit("r"), completion_id=pl.lit(i)) for i, values in enumerate(completions)
    )
    metrics = [metric() for metric in EVERY]
    whole = rows.group_by(KEYS).agg(metrics).sort(KEYS)
    parts = pl.concat([rows[:cut].lazy(), rows[cut:].lazy()]).group_by(KEYS).agg(metrics).sort(KEYS)

    for engine in ("streaming", "in-memory"):
        actual = parts.collect(engine=engine)
        assert_frame_equal(actual, whole, rel_tol=1e-12, abs_tol=1e-12)


def test_over_gives_each_token_its_completions_score() -> None:
    """`over` broadcasts a score to the rows of its completion, so tokens can be filtered by it."""
    frame = column([HALF, HALF, EIGHTH]).with_columns(run=pl.lit("r"), completion_id=pl.Series([1, 1, 2]))
    perplexity = frame.with_columns(ls.perplexity().over(KEYS))["perplexity"].to_list()
    kept = frame.filter(ls.confidence().over(KEYS) < 0.4)["completion_id"].to_list()

    assert perplexity == pytest.approx([2, 2, 8])
    assert kept == [2]


def test_an_expression_can_be_the_column() -> None:
    """A filtered or computed column is scored as a named one is."""
    sections = pl.Series(["content", "prompt"], dtype=TOKENS["section"])
    frame = column([HALF, EIGHTH]).with_columns(section=sections)
    answer = frame.select(ls.perplexity(pl.col("logprob").filter(ls.generated()))).item()
    renamed = frame.rename({"logprob": "lp"}).select(ls.perplexity("lp")).item()

    assert answer == pytest.approx(2)
    assert renamed == pytest.approx(4)


def test_generated_leaves_out_only_the_prompt() -> None:
    """Content, refusal, reasoning and tool calls are generated; the prompt is not."""
    sections = pl.Series(["prompt", "content", "refusal", "reasoning", "tool"], dtype=TOKENS["section"])
    frame = pl.DataFrame({"section": sections})

    assert frame.filter(ls.generated())["section"].to_list() == ["content", "refusal", "reasoning", "tool"]


def test_underflow_is_zero_and_not_nan() -> None:
    """A long or hopeless answer has joint probability 0.0 and finite logarithms."""
    metrics = [ls.joint_probability(), ls.logprob_sum(), ls.min_probability()]
    joint, total, least = column([-800.0, -700.0]).select(metrics).row(0)

    assert joint == 0.0
    assert total == -1500.0
    assert least == 0.0


@given(logprobs, st.sampled_from([0.05, 0.2, 0.5, 1.0]))
def test_min_k_is_the_mean_of_the_lowest(values: list[float | None], k: float) -> None:
    """Sorted, cut after floor(kT), at least one, averaged."""
    scored = sorted(value for value in values if value is not None)
    count = max(1, math.floor(k * len(scored)))
    expected = sum(scored[:count]) / count if scored else None

    assert score(ls.min_k_probability(k=k), values) == (None if expected is None else pytest.approx(expected))


def test_min_k_counts_what_the_formula_counts() -> None:
    """29 % of 100 tokens are 29, though 0.29 * 100 is slightly less in floating point."""
    # the 29 lowest are -100..-72, their mean -86
    assert score(ls.min_k_probability(k=0.29), [-float(i) for i in range(1, 101)]) == pytest.approx(-86)


@pytest.mark.parametrize("k", [0, -0.2, 20, math.nan])
def test_min_k_needs_a_share(k: float) -> None:
    """A percentage, or nothing, is refused with its value."""
    with pytest.raises(ValueError, match=f"k {k} is not a share"):
        ls.min_k_probability(k=k)


def test_zlib_ratio_by_hand() -> None:
    """Repeated text compresses well; a null on either side gives null; an empty text compresses to 8 bytes."""
    texts = ["é" * 100, "", None, "x"]
    frame = pl.DataFrame({"mean_logprob": [-1.0, -1.0, -1.0, None], "text": texts})
    # 200 bytes of "é": 2 literals and one match in 12 bytes, as zlib itself says
    size = len(zlib.compress(("é" * 100).encode()))

    assert frame.select(ls.zlib_ratio()).to_series().to_list() == [pytest.approx(-1 / size), -0.125, None, None]


def test_corpus_perplexity_by_token_is_that_of_all_tokens() -> None:
    """Summing per answer and then over answers changes nothing."""
    frame = pl.DataFrame({"run": "r", "completion_id": [1, 1, 2], "logprob": [HALF, EIGHTH, QUARTER]})
    answers = frame.group_by(KEYS).agg(ls.logprob_sum(), ls.scored_tokens())

    assert answers.select(ls.corpus_perplexity()).item() == pytest.approx(frame.select(ls.perplexity()).item())


def test_corpus_perplexity_by_sequence_is_a_geometric_mean() -> None:
    """Each answer counts once: perplexities 4 and 16 make 8, whatever their lengths."""
    frame = pl.DataFrame({"logprob_sum": [-10 * math.log(4), -math.log(16)], "scored_tokens": [10, 1]})

    assert frame.select(ls.corpus_perplexity(by="sequence")).item() == pytest.approx(8)


@pytest.mark.parametrize("by", ["token", "sequence"])
@pytest.mark.parametrize("rows", [[], [(None, 0)], [(-1.0, 0), (None, 3)]], ids=["none", "unscored", "unusable"])
def test_corpus_without_tokens_is_null(rows: list[tuple[float | None, int]], by: Literal["token", "sequence"]) -> None:
    """No usable row gives null: not NaN, not 1."""
    schema = {"logprob_sum": pl.Float64, "scored_tokens": pl.UInt32}
    frame = pl.DataFrame(rows, schema=schema, orient="row")

    assert frame.select(ls.corpus_perplexity(by=by)).item() is None


def test_corpus_perplexity_knows_its_ways() -> None:
    """The message lists the known values."""
    with pytest.raises(ValueError, match="by 'word': it is by token or sequence"):
        ls.corpus_perplexity(by="word")  # type: ignore[arg-type]
