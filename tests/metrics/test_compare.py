"""Comparison of two runs: by hand, divergences against whole distributions, and the verdict."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import logprob_store as ls
from logprob_store.errors import InputError
from logprob_store.metrics.two_runs.comparison import compare_in_batches
from logprob_store.metrics.two_runs.pair_batches import PairedRuns
from logprob_store.metrics.two_runs.verdict import seen_share
from logprob_store.schema import ALTERNATIVES, COMPLETIONS, TOKENS

if TYPE_CHECKING:
    from pathlib import Path

LN2 = math.log(2)
V = 5

weights = st.lists(st.floats(0.001, 1), min_size=V, max_size=V)

Shown = list[tuple[str, float]]
Answer = list[tuple[str, float, Shown]]

shown_beside = st.dictionaries(st.sampled_from("abc"), st.floats(0.01, 0.3), max_size=3).map(lambda p: [*p.items()])
answers = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.01, 1), shown_beside), max_size=4)
runs = st.dictionaries(st.sampled_from("pqrstu"), answers, min_size=1)


def run(answers: dict[str, Answer], *, name: str, texts: dict[str, str] | None = None) -> tuple[pl.LazyFrame, ...]:
    """The tables of a run: for each prompt id its tokens, each with its p and the p of its alternatives."""
    completions, tokens, alternatives = [], [], []
    for number, (prompt, answer) in enumerate(answers.items()):
        text = (texts or {}).get(prompt, "".join(token for token, *_ in answer))
        row = {"completion_id": number * 10, "prompt_id": prompt, "sample_index": 0, "choice_index": 0, "text": text}
        completions.append({**row, "prompt_index": number, "token_count": len(answer)})
        for position, (token, p, shown) in enumerate(answer):
            place = {"completion_id": number * 10, "section": "content", "position": position}
            tokens.append({**place, "token": token, "logprob": math.log(p)})
            alternatives += [
                {**place, "rank": rank, "token": other, "logprob": math.log(q)}
                for rank, (other, q) in enumerate(shown, 1)
            ]
    rows = ((TOKENS, tokens), (ALTERNATIVES, alternatives), (COMPLETIONS, completions))
    return tuple(
        pl.DataFrame(listed, schema=schema, orient="row").lazy().with_columns(run=pl.lit(name))
        for schema, listed in rows
    )


BEFORE = run(
    {
        "same": [("a", 0.5, [("a", 0.5), ("b", 0.5)])],
        "parts": [("x", 0.5, [("x", 0.5), ("y", 0.25)]), ("é", 0.5, [("é", 0.5), ("e", 0.25)]), ("!", 1.0, [])],
        "gone": [("g", 0.5, [])],
    },
    name="before",
)
AFTER = run(
    {
        "parts": [("x", 0.25, [("y", 0.75), ("x", 0.25)]), ("è", 0.5, [("è", 0.5), ("é", 0.5)])],
        "same": [("a", 0.5, [("a", 0.5), ("b", 0.5)])],
        "new": [("n", 0.5, [])],
    },
    name="after",
)


def prompt(name: str, **options: Any) -> dict[str, Any]:
    """The row of one prompt."""
    frame = ls.compare(BEFORE, AFTER, **options).prompts.collect()
    return frame.row(by_predicate=pl.col("prompt_id") == name, named=True)


def test_a_changed_answer_by_hand() -> None:
    """`xé!` against `xè`: one common token, first difference at byte 2 (é and è share their first byte), position 1."""
    row = prompt("parts")

    assert row["flip"] is True
    assert (row["first_difference"], row["difference_section"], row["common_tokens"]) == (1, "content", 1)
    assert row["first_different_byte"] == 2
    # (1/2)(1/2)(1) against (1/4)(1/2): -2 ln 2 and -3 ln 2; means -2/3 ln 2 and -3/2 ln 2
    assert row["delta_logprob_sum"] == pytest.approx(-LN2)
    assert row["delta_mean_logprob"] == pytest.approx(-5 / 6 * LN2)
    assert row["delta_perplexity"] == pytest.approx(2**1.5 - 2 ** (2 / 3))
    assert row["delta_confidence"] == pytest.approx(2**-1.5 - 2 ** (-2 / 3))
    # x: 1/4 - 1/2; at the second token they chose differently
    assert row["rms_delta_p"] == row["max_abs_delta_p"] == pytest.approx(0.25)
    # two places have alternatives on both sides: the likeliest are x and y, then é and è (é ties with è: 1/2)
    assert (row["compared_places"], row["same_top_rate"]) == (2, 0.5)


def test_positions_by_hand() -> None:
    """Both places up to the first difference, with the divergence of their alternatives."""
    frame = ls.compare(BEFORE, AFTER).positions.filter(prompt_id="parts").sort("position").collect()
    first, second = frame.iter_rows(named=True)

    assert frame.height == 2
    assert (first["token_a"], first["same_token"], first["delta_p"]) == ("x", True, pytest.approx(-0.25))
    # x 1/2, y 1/4, hidden 1/4 against x 1/4, y 3/4, hidden 0 (counted as 1e-9)
    kl = 0.5 * math.log(2) + 0.25 * math.log(1 / 3) + 0.25 * math.log(0.25 / 1e-9)
    assert first["kl"] == pytest.approx(kl)
    assert (second["token_a"], second["token_b"], second["delta_p"], second["same_token"]) == ("é", "è", None, False)
    # é 1/2 and 1/2 on both; a shows e 1/4 and hides 1/4; b shows è 1/2 and hides nothing: s t = 1/8 > m n = 0,
    # so a's hidden quarter is è, and e has nothing on b's side: (1/4, 0) and (1/4, 1/2)
    middle = (0.25 * math.log(2) + 0.25 * math.log(0.25 / 0.375) + 0.5 * math.log(0.5 / 0.375)) / 2
    assert second["js"] == pytest.approx(middle)


def test_what_is_the_same_has_no_difference() -> None:
    """Equal answers have no place of difference, no flip and no divergence."""
    row = prompt("same")

    assert (row["flip"], row["first_difference"], row["first_different_byte"]) == (False, None, None)
    assert (row["mean_kl"], row["mean_js"], row["rms_delta_p"], row["delta_logprob_sum"]) == (0, 0, 0, 0)


def test_answers_without_a_partner_stay() -> None:
    """A prompt that only one run has keeps a row, without a flip or a difference."""
    assert (prompt("gone")["completion_id_b"], prompt("gone")["flip"], prompt("gone")["logprob_sum_a"]) == (
        None,
        None,
        pytest.approx(-LN2),
    )
    assert (prompt("new")["completion_id_a"], prompt("new")["flip"]) == (None, None)


def test_answers_may_be_compared_in_another_form() -> None:
    """Answers whose normalised texts are equal are no flip."""
    a, b = ({"p": [(text, 0.5, [])]} for text in ("Paris", "PARIS."))
    comparison = ls.compare(run(a, name="a"), run(b, name="b"), answer=ls.normalised_text())

    assert comparison.prompts.collect()["flip"].to_list() == [False]


def test_an_answer_that_goes_on_differs_where_the_other_ends() -> None:
    """`ab` against `a`: the difference is at position 1, where one answer has no token."""
    a = run({"p": [("a", 0.5, []), ("b", 0.5, [])]}, name="a")
    row = ls.compare(a, run({"p": [("a", 0.5, [])]}, name="b")).prompts.collect().row(0, named=True)

    assert (row["first_difference"], row["common_tokens"], row["first_different_byte"]) == (1, 1, 1)


def test_a_null_prompt_id_is_a_partner_like_any_other() -> None:
    """Null prompt ids match each other."""
    tables = [run({"p": [("a", 0.5, [])]}, name=name) for name in "ab"]
    null = [(*rest, done.with_columns(prompt_id=pl.lit(None, pl.String))) for *rest, done in tables]

    assert ls.compare(*null).summary(resamples=2).pairs == 1


def test_order_of_rows_changes_nothing() -> None:
    """Shuffled tables give the same pairs and places."""
    shuffled = tuple(table.collect().sample(fraction=1, shuffle=True, seed=3).lazy() for table in AFTER)
    one, other = ls.compare(BEFORE, AFTER), ls.compare(BEFORE, shuffled)

    assert_frame_equal(one.prompts.sort("prompt_id").collect(), other.prompts.sort("prompt_id").collect())


@pytest.mark.slow
@settings(max_examples=15)
@given(runs, runs, st.integers(1, 12))
def test_how_many_are_compared_at_a_time_changes_nothing(
    first: dict[str, Answer], second: dict[str, Answer], rows: int
) -> None:
    """Batches of a few rows give the same pairs, places and summary as one batch."""
    a, b = run(first, name="a"), run(second, name="b")
    whole, parts = (compare_in_batches(PairedRuns(a, b, rows=size)).collect() for size in (10_000, rows))
    who, place = ["prompt_id", "completion_id_a", "completion_id_b"], ["completion_id_a", "position"]
    # sums of a few numbers in another order: the last digit
    close = {"rel_tol": 1e-12, "abs_tol": 1e-14}

    assert_frame_equal(parts.prompts.sort(who).collect(), whole.prompts.sort(who).collect(), **close)
    assert_frame_equal(parts.positions.sort(place).collect(), whole.positions.sort(place).collect(), **close)
    if first.keys() & second.keys():
        assert_frame_equal(parts.summary(resamples=3).metrics, whole.summary(resamples=3).metrics, **close)


def test_some_are_compared_at_a_time() -> None:
    """A batch ends with the pair that reaches its size, and answers that only the second run has come last."""
    # a has 6 alternatives for 5 tokens, 11/5 rows a token, b 10/4: same 11/5 + 10/4, more than 4
    batches = [batch["prompt_id"].to_list() for batch in list_batches(rows=4)]

    assert batches == [["same"], ["parts"], ["gone"], ["new"]]
    assert [batch["prompt_id"].to_list() for batch in list_batches(rows=100)] == [["same", "parts", "gone", "new"]]


def list_batches(*, rows: int) -> list[pl.DataFrame]:
    """The pairs of the two runs, by batch."""
    paired = PairedRuns(BEFORE, AFTER, rows=rows)
    return list(paired.batches(paired.pairs()))


def test_a_filter_on_the_prompt_compares_no_other() -> None:
    """A filter on the prompt and a `head` give the rows asked for."""
    comparison = compare_in_batches(PairedRuns(BEFORE, AFTER, rows=1))

    assert comparison.positions.filter(prompt_id="same").collect()["token_a"].to_list() == ["a"]
    assert comparison.prompts.head(2).collect()["prompt_id"].to_list() == ["same", "parts"]
    assert comparison.prompts.filter("flip").select("prompt_id").collect().rows() == [("parts",)]


def test_flips_do_not_read_the_alternatives(tmp_path: Path) -> None:
    """Without the file of alternatives, flips and tokens can be read, and divergences cannot."""
    path = tmp_path / "alternatives.parquet"
    BEFORE[1].sink_parquet(path)
    comparison = ls.compare((BEFORE[0], pl.scan_parquet(path), BEFORE[2]), AFTER)
    comparison.prompts.collect_schema()
    path.unlink()

    assert comparison.prompts.select(pl.col("flip").sum()).collect().item() == 1
    assert comparison.positions.select(pl.col("same_token").sum()).collect().item() == 2
    with pytest.raises(FileNotFoundError):
        comparison.prompts.select("mean_js").collect()


def test_two_answers_of_one_name_are_paired_with_each() -> None:
    """Duplicate prompt ids make a pair of each combination, each with its own places."""
    answers = {"p": [("a", 0.5, [("a", 0.5), ("b", 0.5)])], "q": [("c", 0.5, [("c", 0.5), ("d", 0.5)])]}
    one, other = ((*rest, done.with_columns(prompt_id=pl.lit("p"))) for *rest, done in (run(answers, name="a"),) * 2)
    rows = ls.compare(one, other).prompts.sort("completion_id_a", "completion_id_b").collect()

    assert rows["flip"].to_list() == [False, True, True, False]
    assert rows["common_tokens"].to_list() == [1, 0, 0, 1]
    assert rows["compared_places"].to_list() == [1, 1, 1, 1]


def test_a_run_is_like_itself() -> None:
    """Nothing flips, nothing diverges, and the verdict is ok."""
    summary = ls.compare(BEFORE, BEFORE).summary(resamples=10)

    assert [summary.estimate(name) for name in ("flip_rate", "mean_js", "perplexity_increase", "rms_delta_p")] == [
        0
    ] * 4
    assert summary.verdict(max_flip_rate=0, max_perplexity_increase=0, max_js=0).passed


def test_summary_by_hand() -> None:
    """One of two pairs flips; the perplexities are over 4 tokens and 3."""
    summary = ls.compare(BEFORE, AFTER).summary(resamples=50)

    assert (summary.pairs, summary.only_a, summary.only_b) == (2, 1, 1)
    assert summary.estimate("flip_rate") == 0.5
    # (-1 - 2) ln 2 over 4 tokens; (-1 - 3) ln 2 over 3
    assert summary.estimate("perplexity_a") == pytest.approx(2 ** (3 / 4))
    assert summary.estimate("perplexity_increase") == pytest.approx(2 ** (4 / 3 - 3 / 4) - 1)
    # both chose "a" and "x": deltas 0 and -1/4
    assert summary.estimate("rms_delta_p") == pytest.approx(math.sqrt(1 / 16 / 2))
    assert summary.estimate("abs_delta_p_max") == pytest.approx(0.25)
    # three places with alternatives on both sides, of which one has another likeliest token
    assert summary.estimate("same_top_rate") == pytest.approx(2 / 3)


def test_shares_of_a_summary_have_exact_intervals() -> None:
    """No flip of two is [0, 1 - 0.025^(1/2)], which is 0.841886, and no resample is needed."""
    summary = ls.compare(BEFORE, BEFORE).summary(resamples=10)
    rows = {row["metric"]: row for row in summary.metrics.filter(pl.col("metric") != "mean_kl").iter_rows(named=True)}
    high = 1 - 0.025 ** (1 / summary.pairs)

    assert [rows["flip_rate"][name] for name in ("low", "high", "resamples")] == [0, pytest.approx(high), 0]
    assert rows["lower_confidence_share"]["high"] == pytest.approx(high)
    # One place of "same" and two of "parts" are worth (1 + 2)^2 / (1^2 + 2^2) = 1.8 independent ones.
    assert rows["same_top_rate"]["low"] == pytest.approx(0.025 ** (1 / 1.8))


def nights(flips: int, prompts: int, *, p: float = 0.5, q: float = 0.5) -> tuple[Any, Any]:
    """Two nights of one-token answers, of which so many differ; q is the probability on the second night."""
    first = {f"p{number}": [("a", p, [("a", p)])] for number in range(prompts)}
    second = {f"p{number}": [("b" if number < flips else "a", q, [("a", q)])] for number in range(prompts)}
    return run(first, name="monday"), run(second, name="tuesday")


@pytest.mark.parametrize(
    ("flips", "prompts", "exceeded"),
    [
        # The lower bound at 0.05 of Beta(k, n - k + 1): 3 of 50 is 0.0166, 4 of 50 is 0.0278.
        (3, 50, ()),
        (4, 50, ("flip_rate",)),
        # 1 of 10 is 1 - 0.95^(1/10) = 0.0051; 10 of 10 is 0.05^(1/10) = 0.74.
        (1, 10, ()),
        (10, 10, ("flip_rate",)),
    ],
)
def test_flips_alarm_where_the_exact_lower_bound_is_above_the_limit(
    flips: int, prompts: int, exceeded: tuple[str, ...]
) -> None:
    """A share above the limit that chance alone may bring is no alarm."""
    assert ls.compare(*nights(flips, prompts)).summary(resamples=10).verdict().exceeded == exceeded


def test_samples_of_one_prompt_are_no_independent_flips() -> None:
    """One prompt of four samples that all flip says as much as one flip: 0.05 is the lower bound of 1 of 1."""
    one, other = (
        (tokens, alternatives, completions.with_columns(prompt_id=pl.lit("p"), sample_index=pl.col("completion_id")))
        for tokens, alternatives, completions in nights(4, 4)
    )
    summary = ls.compare(one, other).summary(resamples=10)

    assert (summary.prompts, summary.pairs) == (1, 4)
    assert summary.at_least["flip_rate"] == pytest.approx(0.05)


def test_a_rise_that_few_answers_bring_is_no_alarm() -> None:
    """One of two answers is less likely: resamples of the other alone show no rise."""
    summary = ls.compare(BEFORE, AFTER).summary(resamples=200)

    assert (summary.estimate("perplexity_increase") or 0) > 0.05
    assert "perplexity_increase" not in summary.verdict().exceeded


def test_the_verdict_by_hand() -> None:
    """The line and the list name what is above its limit, and what one run alone has."""
    summary = ls.compare(BEFORE, AFTER).summary(resamples=200)
    verdict = summary.verdict()

    assert verdict.exceeded == ("flip_rate", "missing_share")
    assert not verdict.passed
    # 1 of 2: 1 - 0.95^(1/2) = 0.0253. Both of 2: 0.05^(1/2) = 0.22; one of 2 alarms, so 1 - (1 - p)^2 = 0.8
    assert verdict.line == (
        "CHANGED: after against before, 2 pairs: 50.00% of answers differ (above limit 0.02: at least 2.53%), "
        f"perplexity {summary.estimate('perplexity_increase'):+.2%} (limit 0.05 not surely passed: at least +0.00%), "
        f"mean JS {summary.estimate('mean_js'):.4f}; "
        "1 only in before, 1 only in after: 33.33% of the answers of before missing (above limit 0.05), "
        "33.33% of the answers of after added; "
        "with 2 prompts, a true flip rate of 55.3% is seen 4 nights in 5"
    )
    assert summary.verdict(max_flip_rate=None, max_perplexity_increase=math.inf, max_missing=0.34).passed


def test_most_prompts_missing_is_not_ok() -> None:
    """Two of three prompts are gone, though their answers are 2 of 42: one prompt has 40 samples."""
    answers: dict[str, Answer] = {f"p{number:02}": [("a", 0.5, [])] for number in range(42)}
    tables = []
    for name, kept in (("monday", answers), ("tuesday", dict([*answers.items()][:40]))):
        tokens, alternatives, completions = run(kept, name=name)
        number = pl.col("completion_id") // 10
        of_one = completions.with_columns(
            prompt_id=pl.when(number < 40).then(pl.lit("many")).otherwise("prompt_id"),
            sample_index=pl.when(number < 40).then(number).otherwise(0).cast(pl.Int32),
        )
        tables.append((tokens, alternatives, of_one))
    summary = ls.compare(*tables).summary(resamples=2)
    verdict = summary.verdict()

    assert (summary.prompts, summary.prompts_only_a, summary.prompts_only_b, summary.pairs) == (1, 2, 0, 40)
    assert summary.missing_share == pytest.approx(2 / 42)
    assert verdict.exceeded == ("missing_share",)
    assert "66.67% of the prompts of monday missing (above limit 0.05)" in verdict.line


def test_most_answers_missing_is_not_ok() -> None:
    """3 of 50 answers have a partner: what they say is nothing about the run."""
    first, second = nights(0, 50)
    few = (*second[:2], second[2].head(3))
    verdict = ls.compare(first, few).summary(resamples=10).verdict()

    assert verdict.exceeded == ("missing_share",)
    assert (
        "47 only in monday, 0 only in tuesday: 94.00% of the answers of monday missing (above limit 0.05)"
        in verdict.line
    )


def test_added_rows_are_no_alarm_unless_they_are_limited() -> None:
    """25 of tuesday's 50 answers are to prompts that monday did not have."""
    first, second = nights(0, 50)
    summary = ls.compare((*first[:2], first[2].head(25)), second).summary(resamples=10)

    assert (summary.missing_share, summary.missing_prompt_share) == (0, 0)
    assert (summary.added_share, summary.added_prompt_share) == (0.5, 0.5)
    assert summary.verdict().passed
    assert (
        "0.00% of the answers of monday missing (limit 0.05), 50.00% of the answers of tuesday added"
        in summary.verdict().line
    )
    assert summary.verdict(max_added=0.5).passed
    assert summary.verdict(max_added=0.4).exceeded == ("added_share",)


def test_runs_without_a_common_answer_are_named() -> None:
    """With how many answers each has, and a prompt of each, by which to see what went wrong."""
    first, second = nights(0, 2)
    others = (*second[:2], second[2].with_columns(prompt_id=pl.lit("q7")))

    with pytest.raises(
        ls.InputError,
        match=r"run 'monday' has 2 answers \(one is to prompt 'p0'\) and run 'tuesday' has 2 answers \(one is to "
        r"prompt 'q7'\); none has the same prompt_id.*Name two runs that asked the same prompts",
    ):
        ls.compare(first, others).summary()


def test_a_limit_that_cannot_be_judged_is_not_ok() -> None:
    """All logprobs of one night are gone: no perplexity, no divergence, and the line says of how many tokens."""
    first, (tokens, alternatives, completions) = nights(0, 50)
    lost = pl.lit(None, pl.Float64).alias("logprob")
    without = (tokens.with_columns(lost), alternatives.with_columns(lost), completions)
    verdict = ls.compare(first, without).summary(resamples=10).verdict(max_js=0.01)

    assert (verdict.exceeded, verdict.unknown) == ((), ("perplexity_increase", "mean_js"))
    assert not verdict.passed
    assert verdict.line.startswith("UNKNOWN: tuesday against monday, 50 pairs: 0.00% of answers differ (limit 0.02), ")
    assert "perplexity cannot be judged (limit 0.05): 50 of 50 tokens of tuesday have no logprob" in verdict.line
    assert "mean JS cannot be judged (limit 0.01): 50 of 50 places have alternatives in one run alone" in verdict.line


@pytest.mark.parametrize(("gone", "unknown"), [(2, ()), (3, ("perplexity_increase", "mean_js"))])
def test_what_most_of_is_gone_cannot_be_judged(gone: int, unknown: tuple[str, ...]) -> None:
    """Of 50 answers, two without logprobs are 4 % and three are 6 %, above the 5 % that may be missing."""
    first, (tokens, alternatives, completions) = nights(0, 50)
    lost = pl.when(pl.col("completion_id") >= gone * 10).then("logprob").alias("logprob")
    without = (tokens.with_columns(lost), alternatives.with_columns(lost), completions)
    summary = ls.compare(first, without).summary(resamples=10)

    assert summary.verdict(max_js=0.01).unknown == unknown
    assert summary.verdict(max_js=0.01, max_missing=0.06).unknown == ()


def test_long_answers_do_not_speak_for_short_ones() -> None:
    """47 of 50 answers lost their logprobs and alternatives; the tokens of the other three are 30 times as many."""
    shown = [("a", 0.5), ("b", 0.5)]
    answers: dict[str, Answer] = {f"p{n:02}": [("a", 0.5, shown)] * (500 if n < 3 else 1) for n in range(50)}
    first, (tokens, alternatives, completions) = (run(answers, name=name) for name in ("monday", "tuesday"))
    kept = pl.col("completion_id") < 30
    without = (
        tokens.with_columns(pl.when(kept).then("logprob").alias("logprob")),
        alternatives.filter(kept),
        completions,
    )
    verdict = ls.compare(first, without).summary(resamples=2).verdict(max_js=0.01)

    assert verdict.unknown == ("perplexity_increase", "mean_js")
    assert "(limit 0.05): 47 of 50 answers of tuesday have no logprob" in verdict.line
    assert "47 of 50 answers have no place with alternatives in both runs" in verdict.line


def test_without_alternatives_a_limit_on_js_cannot_be_judged() -> None:
    """Runs that were compared without alternatives have no divergence, and a limit on it was asked for."""
    first, second = nights(0, 5)
    summary = ls.compare((first[0], None, first[2]), (second[0], None, second[2])).summary(resamples=10)

    assert summary.verdict(max_js=0.01).unknown == ("mean_js",)
    assert summary.verdict().passed


def test_a_limit_that_is_no_number_is_an_error() -> None:
    """Nothing is ever above NaN, so such an alarm would never ring."""
    with pytest.raises(InputError, match="max_js nan: nothing is ever above it"):
        ls.compare(BEFORE, AFTER).summary(resamples=10).verdict(max_js=math.nan)


@pytest.mark.parametrize(("prompts", "limit", "least"), [(50, 0.02, 4), (200, 0.02, 8), (1000, 0.02, 29), (3, 0.0, 1)])
def test_power_is_that_of_the_least_count_that_alarms(prompts: int, limit: float, least: int) -> None:
    """At the share that is said, so many flips or more come in 4 nights of 5: the binomial sum."""
    share = seen_share(prompts, limit)
    assert share is not None
    fewer = math.fsum(
        math.comb(prompts, count) * share**count * (1 - share) ** (prompts - count) for count in range(least)
    )

    assert 1 - fewer == pytest.approx(0.8, abs=1e-9)


def test_same_seed_same_intervals() -> None:
    """The same seed gives the same intervals again."""
    comparison = ls.compare(BEFORE, AFTER)

    assert_frame_equal(comparison.summary(resamples=20).metrics, comparison.summary(resamples=20).metrics)


def test_runs_of_other_prompts_are_an_error() -> None:
    """Runs without a common answer are an error that says what to do."""
    with pytest.raises(InputError, match="no answer in common"):
        ls.compare(BEFORE, run({"other": [("a", 0.5, [])]}, name="b")).summary()


def kl(p: list[float], q: list[float]) -> float:
    """The definition."""
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


def js(p: list[float], q: list[float]) -> float:
    """The definition."""
    middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    return (kl(p, middle) + kl(q, middle)) / 2


def bounds(p: list[float], q: list[float], k: int) -> tuple[float, float]:
    """KL and JS where each side shows its k likeliest tokens."""
    shown = [[x if x in sorted(side, reverse=True)[:k] else None for x in side] for side in (p, q)]
    rows = [(a and math.log(a), b and math.log(b)) for a, b in zip(*shown, strict=True) if a or b]
    frame = pl.DataFrame(rows, schema={"logprob_a": pl.Float64, "logprob_b": pl.Float64}, orient="row")
    found: tuple[float, float] = frame.select(ls.kl_divergence(), ls.js_divergence()).row(0)
    return found


@given(weights, weights)
def test_divergences_are_lower_bounds_that_rise_with_k(first: list[float], second: list[float]) -> None:
    """They are at most the true divergence, do not fall with k, and are exact where every token is shown."""
    p, q = ([w / sum(side) for w in side] for side in (first, second))
    found = [bounds(p, q, k) for k in range(1, V + 1)]

    for (kl_k, js_k), (kl_more, js_more) in pairwise(found):
        assert 0 <= kl_k <= kl_more + 1e-9
        assert 0 <= js_k <= js_more + 1e-9
    assert found[-1] == (pytest.approx(kl(p, q), abs=1e-9), pytest.approx(js(p, q), abs=1e-9))


@given(st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.floats(0.02, 0.9), st.floats(0.02, 0.9))
def test_the_hidden_mass_is_placed_for_the_least(s: float, t: float, m: float, n: float) -> None:
    """No split of the hidden mass gives a smaller divergence, and one split gives this one."""
    # normalised: the first showed s of its own and c in common, the second t and d
    a, b = s + m + 0.1, t + n + 0.1
    s, m, c, t, n, d = s / a, m / a, 0.1 / a, t / b, n / b, 0.1 / b
    rows = {"logprob_a": [math.log(c), math.log(s), None], "logprob_b": [math.log(d), None, math.log(t)]}
    found = pl.DataFrame(rows).select(ls.kl_divergence(), ls.js_divergence()).row(0)
    steps = [i / 40 for i in range(41)]
    ways = [([c, s, m * x, m - m * x], [d, n * y, t, n - n * y]) for x in steps for y in steps]
    usable = [(p, q) for p, q in ways if all(y > 0 or x == 0 for x, y in zip(p, q, strict=True))]

    for actual, least in zip(found, (min(kl(*w) for w in usable), min(js(*w) for w in usable)), strict=True):
        assert actual <= least + 1e-9
        assert actual == pytest.approx(least, abs=0.02)
