"""Scores of several answers to one prompt: by hand, and against a slow reference."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import logprob_store as ls

SCHEMA = {
    "run": pl.String,
    "prompt_id": pl.String,
    "sample_index": pl.Int32,
    "choice_index": pl.Int32,
    "text": pl.String,
    "logprob_sum": pl.Float64,
    "mean_logprob": pl.Float64,
    "unscored_tokens": pl.UInt32,
}

samples = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.one_of(st.none(), st.floats(-3000, 0))), min_size=1, max_size=8
)


def answers(*rows: tuple[str | None, float | None], run: str = "r", prompt: str | None = "p") -> pl.LazyFrame:
    """Samples of one prompt; each logprob is of two tokens, None is an answer with an unscored token."""
    listed = [
        (run, prompt, i, 0, text, total or 0.0, (total or 0.0) / 2, int(total is None))
        for i, (text, total) in enumerate(rows)
    ]
    return pl.DataFrame(listed, schema=SCHEMA, orient="row").lazy()


def scored(rows: pl.LazyFrame, **options: Any) -> dict[str, Any]:
    """The scores of the one prompt."""
    return ls.sample_scores(rows, **options).collect().row(0, named=True)


def entropy_of(masses: dict[str, float]) -> float | None:
    """-sum P ln P over shares of positive masses."""
    total = sum(masses.values())
    return -sum(m / total * math.log(m / total) for m in masses.values() if m > 0) if masses else None


def log_sum_exp(logprobs: list[float]) -> float:
    """The logarithm of the sum of probabilities that may all underflow."""
    return max(logprobs) + math.log(sum(math.exp(logprob - max(logprobs)) for logprob in logprobs))


@given(samples, st.integers(0, 9))
def test_scores_are_those_of_the_definition(rows: list[tuple[str | None, float | None]], seed: int) -> None:
    """Every column is what the plain loop gives, whatever the order of rows."""
    frame = answers(*rows).collect().sample(fraction=1, shuffle=True, seed=seed).lazy()
    row = scored(frame, clusters="text")
    logprobs = [logprob for _, logprob in rows if logprob is not None]
    known = [(text, logprob) for text, logprob in rows if text is not None and logprob is not None]
    votes = Counter(text for text, _ in rows if text is not None)
    top = max((logprob for _, logprob in known), default=0.0)
    joint: dict[str, float] = {}
    for text, logprob in known:
        joint[text] = joint.get(text, 0.0) + math.exp(logprob - top)

    assert row["samples"] == len(rows)
    assert row["unscored_samples"] == len(rows) - len(logprobs)
    assert row["unclustered_samples"] == len(rows) - sum(votes.values())
    assert row["clusters"] == len(votes)
    assert row["mc_entropy"] == (pytest.approx(-sum(logprobs) / len(logprobs)) if logprobs else None)
    assert row["agreement"] == (pytest.approx(max(votes.values()) / sum(votes.values())) if votes else None)
    assert votes.get(row["majority"], 0) == max(votes.values(), default=0)
    drawn = [log_sum_exp([own for other, own in known if other == text]) for text, _ in known]
    carlo = -sum(drawn) / len(drawn) if drawn else None
    assert row["semantic_entropy_monte_carlo"] == (None if carlo is None else pytest.approx(carlo, abs=1e-9))
    for name, expected in (("", entropy_of(joint)), ("_discrete", entropy_of({k: float(v) for k, v in votes.items()}))):
        actual = row[f"semantic_entropy{name}"]
        assert actual == (None if expected is None else pytest.approx(expected, abs=1e-9))
        number = len(known) if name == "" else sum(votes.values())
        negentropy = (
            None if number < 2 or expected is None else pytest.approx(1 - expected / math.log(number), abs=1e-9)
        )
        assert row[f"semantic_negentropy{name}"] == negentropy


def test_numbers_by_hand() -> None:
    """P = 1/2, 1/8, 1/8 in clusters x, x, y: 5/6 and 1/6; by the mean of two tokens sqrt P: 0.793, 0.207."""
    row = scored(answers(("x", math.log(1 / 2)), ("x", math.log(1 / 8)), ("y", math.log(1 / 8))), clusters="text")
    roots = {"x": 2**-0.5 + 8**-0.5, "y": 8**-0.5}

    assert row["semantic_entropy"] == pytest.approx(entropy_of({"x": 5, "y": 1}))
    assert row["semantic_entropy_normalised"] == pytest.approx(entropy_of(roots))
    # -(ln 1/2 + 2 ln 1/8) / 3 = 7/3 ln 2, and half of it by token
    assert row["mc_entropy"] == pytest.approx(7 / 3 * math.log(2))
    assert row["mc_entropy_normalised"] == pytest.approx(7 / 6 * math.log(2))


def test_underflowing_probabilities_keep_their_shares() -> None:
    """The shares of e^-2000 and a third of it are 3/4 and 1/4, though both are 0.0 as floats."""
    row = scored(answers(("x", -2000.0), ("y", -2000.0 - math.log(3))), clusters="text")

    assert row["semantic_entropy"] == pytest.approx(entropy_of({"x": 3, "y": 1}))


def test_one_sample_has_no_negentropy() -> None:
    """The entropy of one answer is 0, and its negentropy is null, because ln 1 = 0."""
    row = scored(answers(("x", -1.0)))

    assert (row["semantic_entropy"], row["semantic_negentropy"], row["semantic_negentropy_discrete"]) == (0, None, None)


def test_equal_votes_go_to_the_likelier() -> None:
    """With one vote each, the likelier answer is the majority; of equally likely ones, the first."""
    assert scored(answers(("x", -2.0), ("y", -1.0)))["majority"] == "y"
    assert scored(answers(("y", -1.0), ("x", -1.0)))["majority"] == "y"


def test_texts_alike_but_for_form_are_one_cluster() -> None:
    """Case, white space and the full stop at the end do not make another answer; the point in a number does."""
    rows = answers(("Paris", -1.0), (" paris.\n", -1.0), ("PARIS!", -1.0), ("1.5", -1.0), ("15", -1.0))

    assert scored(rows)["clusters"] == 3


def test_a_function_judges_each_prompt_once() -> None:
    """The function is given the texts of a prompt in the order of samples, without nulls."""
    given: list[list[str]] = []

    def first_letters(texts: list[str]) -> list[str]:
        given.append(texts)
        return [text[0] for text in texts]

    rows = answers(("ab", -1.0), (None, -1.0), ("ac", -1.0), ("b", -1.0)).sort("sample_index", descending=True)
    row = scored(rows, clusters=first_letters)

    assert given == [["ab", "ac", "b"]]
    assert (row["clusters"], row["majority"], row["unclustered_samples"]) == (2, "a", 1)


def test_a_function_with_too_few_clusters_is_an_error() -> None:
    """Fewer clusters than texts is an error that names the prompt."""
    with pytest.raises(ValueError, match="1 for 2 texts"):
        scored(answers(("a", -1.0), ("b", -1.0)), clusters=lambda _: ["x"])


def test_repeated_runs_are_samples_of_one_prompt() -> None:
    """With `by` prompt_id alone, the answers of two runs are samples of one prompt."""
    rows = pl.concat([answers(("a", -1.0), run="r"), answers(("b", -1.0), run="s")])
    row = scored(rows, by=["prompt_id"], clusters=lambda texts: texts)

    assert (row["samples"], row["clusters"], row["agreement"]) == (2, 2, 0.5)


def test_prompts_are_kept_apart_and_lazy() -> None:
    """Each prompt has a row, also one with a null id; both engines agree."""
    rows = pl.concat(
        [answers(("a", -1.0), ("b", -2.0)), answers(("a", -1.0), prompt="q"), answers(("c", None), prompt=None)]
    )
    query = ls.sample_scores(rows).sort("prompt_id")

    assert isinstance(query, pl.LazyFrame)
    assert query.collect()["samples"].to_list() == [1, 2, 1]
    assert query.collect()["clusters"].to_list() == [1, 2, 1]
    assert_frame_equal(query.collect(engine="streaming"), query.collect(engine="in-memory"))


TRACES = [9.0, 12.0, 10.25, 7.5, 11.0, 8.0, 13.0, 6.0, 9.5, 10.5]


def voting(texts: list[str | None], confidences: list[float | None]) -> pl.LazyFrame:
    """Answers to one prompt with the confidence of each."""
    rows = {"run": "r", "prompt_id": "p", "sample_index": range(len(texts)), "choice_index": 0, "text": texts}
    schema = {"text": pl.String, "trace": pl.Float64}
    return pl.DataFrame({**rows, "trace": confidences}, schema_overrides=schema).lazy()


def vote(texts: list[str | None], confidences: list[float | None], **options: Any) -> dict[str, Any]:
    """The vote on the one prompt."""
    rows = voting(texts, confidences).collect().sample(fraction=1, shuffle=True, seed=1)
    return ls.confidence_vote(rows.lazy(), confidence="trace", clusters="text", **options).collect().row(0, named=True)


@pytest.mark.parametrize(("keep", "votes"), [(1.0, 10), (0.5, 5), (0.1, 1)])
def test_votes_of_deepconf(keep: float, votes: int) -> None:
    """What its authors' code answers for ten traces, and how many are left after filtering."""
    found = vote(list("aabbabbacc"), [*TRACES], keep=keep)

    assert (found["answer"], found["votes"], found["filtered"]) == ("b", votes, 10 - votes)


def test_share_of_a_vote_is_of_all_that_voted() -> None:
    """10.25 + 7.5 + 8 + 13 of 96.75."""
    assert vote(list("aabbabbacc"), [*TRACES])["share"] == pytest.approx(38.75 / 96.75)


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.one_of(st.none(), st.integers(0, 9))), min_size=1, max_size=9
    ),
    st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]),
)
def test_votes_are_those_of_the_definition(rows: list[tuple[str | None, int | None]], keep: float) -> None:
    """A linear quantile filters, sums decide, and of equals the answer that was asked first."""
    pairs = [(text, float(value)) for text, value in rows if text is not None and value is not None]
    ordered = sorted(value for _, value in pairs)
    votes: dict[str, float] = {}
    kept = 0
    if pairs:
        at = (1 - keep) * (len(ordered) - 1)
        low = math.floor(at)
        above = ordered[min(low + 1, len(ordered) - 1)]
        threshold = ordered[low] + (at - low) * (above - ordered[low])
        for text, value in pairs:
            if value >= threshold:
                votes[text] = votes.get(text, 0.0) + value
                kept += 1
    found = vote([text for text, _ in rows], [None if value is None else float(value) for _, value in rows], keep=keep)

    assert found["answer"] == (max(votes, key=lambda text: votes[text]) if votes else None)
    assert (found["votes"], found["without_vote"]) == (kept, len(rows) - len(pairs))
    assert found["filtered"] == len(pairs) - kept


def test_a_vote_takes_equal_texts_together_by_default() -> None:
    """Case and a full stop do not divide the votes for Paris."""
    rows = voting(["Paris.", "paris", "Lyon"], [2.0, 2.0, 3.0])

    assert ls.confidence_vote(rows, confidence="trace").collect()["answer"].to_list() == ["paris"]


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_a_vote_cannot_weigh_less_than_nothing(bad: float) -> None:
    """A sum of mean logprobs would elect the answer with the fewest votes."""
    with pytest.raises(ValueError, match="is not the weight of a vote"):
        vote(["a"], [bad])


@pytest.mark.parametrize("keep", [0.0, 1.5])
def test_keep_is_a_share(keep: float) -> None:
    """Nothing, or more than all, cannot be kept."""
    with pytest.raises(ValueError, match=f"keep {keep} is not a share"):
        ls.confidence_vote(voting(["a"], [1.0]), keep=keep)
