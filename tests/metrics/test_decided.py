"""Options of typed questions as label probabilities: with hand-worked sums, bounds and gaps."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.metrics.labels.decided import decisions_as_answers, numbered_questions
from logprob_store.schema import DECISIONS


def decisions(*questions: tuple[str, dict[Any, float | None]], completion_id: int = 0, **columns: Any) -> pl.LazyFrame:
    """The decisions of one completion: questions by name, each with its options; booleans are typed as such."""
    rows = [
        {
            "completion_id": completion_id,
            "question_index": place,
            "question": name,
            "question_type": "choice",
            "refused": False,
            "option_index": n,
            "value": str(value).lower() if isinstance(value, bool) else value,
            "value_type": "boolean" if isinstance(value, bool) else "string",
            "probability": p,
            **columns,
        }
        for place, (name, options) in enumerate(questions)
        for n, (value, p) in enumerate(options.items())
    ]
    return pl.DataFrame(rows, schema=DECISIONS).lazy().select(pl.lit("r").alias("run"), pl.all())


def probabilities(frame: pl.LazyFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of the label probabilities, rounded."""
    return ls.decision_probabilities(frame).select(pl.col(columns).round(6)).collect().rows()


def test_probabilities_that_sum_to_one_are_the_servers() -> None:
    """Nothing is unknown, and the bounds are the probability itself."""
    frame = decisions(("q", {"a": 0.75, "b": 0.25}))

    assert probabilities(frame, "probability", "lower", "upper", "coverage", "unknown_mass") == [
        (0.75, 0.75, 0.75, 1.0, 0.0),
        (0.25, 0.25, 0.25, 1.0, 0.0),
    ]


def test_what_is_missing_from_the_sum_is_in_the_bounds() -> None:
    """0.5 + 0.25: the missing 1/4 may be the first's (0.75) or the other's (0.5)."""
    frame = decisions(("q", {"a": 0.5, "b": 0.25}))

    assert probabilities(frame, "probability", "lower", "upper", "coverage")[0] == (0.666667, 0.5, 0.75, 0.75)


def test_a_sum_above_one_is_divided_out() -> None:
    """Independent probabilities of 0.75 each are one half each; the 0.5 too much may be one's or the other's."""
    frame = decisions(("q", {"a": 0.75, "b": 0.75}))

    assert probabilities(frame, "probability", "lower", "upper", "unknown_mass") == [(0.5, 0.25, 0.75, 0.0)] * 2


def test_a_coverage_above_one_is_said() -> None:
    """0.9 + 0.67 = 1.57: the server's numbers are not those of one choice."""
    assert probabilities(decisions(("q", {"a": 0.9, "b": 0.67})), "coverage") == [(1.57,)] * 2


def test_an_option_without_a_probability_makes_the_others_unsure() -> None:
    """Half of the mass may be the option's of which the server said NaN: no label is the likelier."""
    frame = decisions(("q", {"a": 0.5, "b": None}))

    assert probabilities(frame, "probability", "lower", "upper") == [(None, 0.5, 1.0), (None, 0.0, 0.5)]


@pytest.mark.parametrize("others", [{True: 0.5}, {}])
def test_a_text_with_the_spelling_of_a_boolean_is_in_quotes(others: dict[Any, float]) -> None:
    """Whether or not the boolean came in the same answer: a label means the same in each row."""
    frame = decisions(("q", {**others, "true": 0.25, "maybe": 0.25}))
    labels = ls.decision_probabilities(frame).collect()["label"].to_list()

    assert labels[-2:] == ['"true"', "maybe"]
    assert labels[:-2] == ["true" for _ in others]


def test_a_text_in_quotes_has_a_label_of_its_own() -> None:
    """It may be an option as well."""
    frame = decisions(("q", {"true": 0.5, '"true"': 0.25, True: 0.25}))

    assert ls.decision_probabilities(frame).collect()["label"].to_list() == ['"true"', '""true""', "true"]


def test_a_second_answer_to_a_question_does_not_count() -> None:
    """A server that answers one question twice would weigh double in every mean."""
    frame = decisions(("q", {"a": 0.75, "b": 0.25}), ("q", {"a": 0.25, "b": 0.75}))

    assert ls.decided(frame).collect()["label_probability"].to_list() == [0.75]


def test_questions_of_one_answer_are_apart() -> None:
    """Each question has its own likeliest option, in the order in which they were asked."""
    frame = decisions(("b", {"x": 0.25, "y": 0.75}), ("a", {"x": 1.0, "y": 0.0}))
    found = ls.decided(frame).select("question", "label", "label_probability", "margin", "runner_up").collect()

    assert found.rows() == [("b", "y", 0.75, 0.5, "x"), ("a", "x", 1.0, 1.0, "y")]


def test_a_refused_question_has_a_row_without_a_label() -> None:
    """It is seen, and no probability is made up."""
    frame = decisions(("q", {"a": None}), refused=True, option_index=None, value=None)
    [row] = ls.decided(frame).collect().to_dicts()

    assert (row["question"], row["refused"], row["label"], row["label_probability"]) == ("q", True, None, None)


def test_a_served_score_stands_beside_the_expected_one() -> None:
    """1/4 x 1 + 3/4 x 3 = 2.5, whatever the server says."""
    frame = decisions(("q", {"1": 0.25, "3": 0.75}), question_type="score", value_type="number", score=2.4)
    found = ls.decision_probabilities(frame).group_by("completion_id").agg(ls.expected_score()).collect()

    assert found["expected_score"].to_list() == [2.5]
    assert ls.decided(frame).collect()["served_score"].to_list() == [2.4]


def test_conformal_sets_of_questions() -> None:
    """Nine answers whose true option has 0.9 to 0.1: at alpha 0.2 the threshold is the 8th score, 0.8."""
    frames = [decisions(("q", {"a": p / 10, "b": 1 - p / 10}), completion_id=p) for p in range(1, 10)]
    labels = ls.decision_probabilities(pl.concat(frames)).with_columns(truth=pl.lit("a"))

    assert ls.conformal_threshold(labels, alpha=0.2).threshold == pytest.approx(0.8)


def test_a_comparison_pairs_questions_by_name() -> None:
    """In the second run the questions stand in another order, and each has the number of its name."""
    first = decisions(("a", {"x": 0.75, "y": 0.25}), ("b", {"x": 0.5, "y": 0.5}))
    second = decisions(("b", {"x": 0.5, "y": 0.5}), ("a", {"x": 0.25, "y": 0.75}))
    completions = pl.LazyFrame({"run": ["r"], "completion_id": [0], "text": [None], "choice_index": [0]})
    numbers = numbered_questions([first, second])
    texts = [
        decisions_as_answers(completions.cast({"text": pl.String}), one, numbers)[2]
        .select("choice_index", "text")
        .sort("choice_index")
        .collect()
        .rows()
        for one in (first, second)
    ]

    assert texts == [[(0, "a: x"), (1, "b: x")], [(0, "a: y"), (1, "b: x")]]
