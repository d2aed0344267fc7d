"""Answers to typed questions: their rows, worked out by hand, and the answers rebuilt from the rows alone."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from builders import answer_to, answer_with, choice_of, chosen, decisions_body, decisions_request, predicate
from decode.decoding import rebuild, same
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.decode.anomalies import count_anomalies, count_odd_decisions
from logprob_store.decode.decoder import decode_answers

LATE = {"type": "predicate", "name": "late", "probability": 0.75}
MOOD = {
    "type": "score",
    "name": "mood",
    "score": 1.25,
    "confidence": 0.5,
    "probabilities": [
        {"value": 1, "label": "bad", "probability": 0.75},
        {"value": 2, "label": "good", "probability": 0.25},
    ],
}


def decoded(body: Any, *questions: dict[str, Any]) -> Any:
    """The decoded answer to these questions."""
    return decode_answers([answer_to(decisions_request(*questions), body)])


def rows(body: Any, *questions: dict[str, Any], columns: str) -> list[tuple[Any, ...]]:
    """Some columns of the decisions of an answer."""
    found = decoded(body, *questions)
    assert found.failures == []
    frame = pl.DataFrame(pl.from_arrow(found.decisions))
    return frame.with_columns(pl.col(pl.Enum).cast(pl.String)).select(columns.split()).rows()


def failure(body: Any, *questions: dict[str, Any]) -> tuple[str, str]:
    """The class and the message of the failure that an answer becomes."""
    [(_, error)] = decoded(body, *questions).failures
    return error.error_type, str(error)


def test_a_predicate_has_a_row_for_true_and_one_for_false() -> None:
    """The probability that the statement is false is 1 - 0.75."""
    found = rows(decisions_body(LATE), predicate("late"), columns="question option_index value value_type probability")

    assert found == [("late", 0, "true", "boolean", 0.75), ("late", 1, "false", "boolean", 0.25)]


def test_a_choice_has_a_row_for_each_option() -> None:
    """Options keep their order, and the one that the server chose is marked."""
    body = decisions_body(chosen("topic", {"post": 0.625, "money": 0.375}))
    found = rows(body, choice_of("post", "money"), columns="option_index value chosen probability confidence")

    assert found == [(0, "post", True, 0.625, 0.5), (1, "money", False, 0.375, 0.5)]


def test_a_score_has_a_row_for_each_level() -> None:
    """A level has its number, its words, and the expected score of the question."""
    found = rows(decisions_body(MOOD), columns="value value_type label probability score chosen")

    assert found == [("1", "number", "bad", 0.75, 1.25, None), ("2", "number", "good", 0.25, 1.25, None)]


def test_a_text_and_a_boolean_of_one_spelling_are_two_values() -> None:
    """The server chose the boolean: only its row is marked."""
    body = decisions_body(chosen("topic", [(True, 0.5), ("true", 0.25), (False, 0.25)]))
    found = rows(body, choice_of(*"ab"), columns="value value_type chosen")

    assert found == [("true", "boolean", True), ("true", "string", False), ("false", "boolean", False)]


def test_a_refusal_is_one_row_of_its_question() -> None:
    """The question has the type that was asked, and no option."""
    body = decisions_body(LATE, {"type": "refusal", "name": "topic"})
    found = rows(body, predicate("late"), choice_of("a", "b"), columns="question question_type refused option_index")

    assert found[2:] == [("topic", "choice", True, None)]


def test_a_question_without_an_answer_has_a_row() -> None:
    """Of three questions the second has no answer: the third keeps its own place."""
    body = decisions_body(LATE, chosen("c", {"a": 1.0}))
    asked = (predicate("late"), predicate("lost"), choice_of("a", "b", name="c"))
    found = rows(body, *asked, columns="question_index question refused value")

    assert found == [
        (0, "late", False, "true"),
        (0, "late", False, "false"),
        (1, "lost", False, None),
        (2, "c", False, "a"),
    ]


def test_an_answer_that_nobody_asked_for_stands_behind_the_questions() -> None:
    """It is kept with its own name."""
    found = rows(decisions_body(LATE, {**LATE, "name": "x"}), predicate("late"), columns="question_index question")

    assert found == [(0, "late"), (0, "late"), (1, "x"), (1, "x")]


def test_answers_in_another_order_go_to_their_questions() -> None:
    """A name counts more than a place, and the order on the wire is rebuilt."""
    body = decisions_body({**LATE, "name": "b"}, {**LATE, "name": "a", "probability": 0.5})
    found = decoded(body, predicate("a"), predicate("b"))

    assert found.decisions["question"].to_pylist() == ["a", "a", "b", "b"]
    assert found.decisions["probability"].to_pylist() == [0.5, 0.5, 0.75, 0.25]
    assert rebuild(found) == {0: body["answers"]}


def test_unnamed_questions_go_by_their_place() -> None:
    """Without names, the second answer is that to the second question."""
    answers = [{"type": "predicate", "name": None, "probability": p} for p in (0.25, 0.5)]
    found = rows(decisions_body(*answers), predicate(None), predicate(None), columns="question_index probability")

    assert found == [(0, 0.25), (0, 0.75), (1, 0.5), (1, 0.5)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0000001, (1.0, None)),
        (1.5, (None, "above_one")),
        (-0.1, (None, "negative")),
        (float("nan"), (None, "not_finite")),
        (float("inf"), (None, "not_finite")),
        (None, (None, "missing")),
        ("0.5", (None, "missing")),
        (True, (None, "missing")),
    ],
)
def test_a_value_that_is_no_probability_is_null_and_flagged(value: Any, expected: tuple[Any, Any]) -> None:
    """The row says why, and the value on the wire is rebuilt."""
    body = decisions_body(chosen("topic", [("a", value), ("b", 0.25)]))
    found = decoded(body, choice_of("a", "b"))
    row = found.decisions.to_pylist()[0]

    assert (row["probability"], row["probability_flag"]) == expected
    assert same(rebuild(found)[0], json.loads(json.dumps(body["answers"])))


def test_a_completion_has_no_tokens_and_is_no_oddity() -> None:
    """The row has the tokens that were billed, none of its own, and nothing is counted as missing."""
    found = decoded(decisions_body(LATE), predicate("late"))
    row = found.completions.to_pylist()[0]

    assert (row["prompt_tokens"], row["completion_tokens"], row["token_count"], row["text"]) == (40, 0, 0, None)
    assert (row["endpoint"], row["response_model"], row["wire"]) == ("decisions", "m-1", '{"shape":"decisions"}')
    assert not any(count_anomalies(found.completions, found.tokens, found.alternatives).values())


def test_an_import_without_its_request_is_read() -> None:
    """Nobody knows what was asked, and nothing is missing."""
    found = decode_answers([answer_with(decisions_body(LATE, MOOD), endpoint="decisions")])

    assert found.failures == []
    assert found.decisions["question_index"].to_pylist() == [0, 0, 1, 1]


@pytest.mark.slow
def test_400_questions_with_255_options() -> None:
    """The largest request that the API takes gives a row for each option, and is rebuilt."""
    options = [str(n) for n in range(255)]
    asked = [choice_of(*options, name=f"q{n}") for n in range(400)]
    body = decisions_body(*(chosen(f"q{n}", dict.fromkeys(options, 1 / 255)) for n in range(400)))
    found = decoded(body, *asked)

    assert found.decisions.num_rows == 102_000
    assert rebuild(found) == {0: body["answers"]}


@pytest.mark.parametrize("answers", [[], [None], [{"type": "other"}], [{"type": "choice", "probabilities": []}]])
def test_an_answer_that_decides_nothing_is_a_failure(answers: list[Any]) -> None:
    """It was paid for, and is no empty success."""
    error_type, message = failure(decisions_body(*answers), predicate("late"))

    assert error_type == "no_decisions"
    assert message == "answers: none is an answer to a question"


def test_refusals_alone_are_an_answer() -> None:
    """A server that refuses every question has answered."""
    found = decoded(decisions_body({"type": "refusal", "name": "late"}), predicate("late"))

    assert found.failures == []
    assert found.decisions["refused"].to_pylist() == [True]


def test_answers_by_name_are_another_api() -> None:
    """The message says whose answer it is."""
    error_type, message = failure(decisions_body() | {"answers": {"late": {"noul": 0.5}}}, predicate("late"))

    assert error_type == "no_decisions"
    assert "System One" in message


def test_a_text_in_place_of_decisions_is_a_failure() -> None:
    """A server that takes the request for one of chat wrote a text, which decides nothing."""
    body = {"choices": [{"index": 0, "message": {"content": "late"}, "finish_reason": "stop"}]}

    assert failure(body, predicate("late"))[0] == "no_decisions"


def test_an_answer_of_other_decisions_costs_its_neighbours_nothing() -> None:
    """Of two answers in a batch, the bad one alone is a failure."""
    good, bad = decisions_request(predicate("late")), decisions_request(predicate("late"), prompt_index=1)
    found = decode_answers([answer_to(good, decisions_body(LATE)), answer_to(bad, decisions_body())])

    assert [index for index, _ in found.failures] == [1]
    assert found.decisions["completion_id"].to_pylist() == [0, 0]


def test_odd_decisions_are_counted() -> None:
    """One question is refused, one has no answer, and the probabilities of one sum to 0.5."""
    body = decisions_body({"type": "refusal", "name": "a"}, chosen("c", {"x": 0.25, "y": 0.25}), LATE)
    asked = (predicate("a"), predicate("b"), choice_of("x", "y", name="c"), predicate("late"))

    assert count_odd_decisions(decoded(body, *asked).decisions) == {
        "refused_questions": 1,
        "unanswered_questions": 1,
        "sums_differ": 1,
    }


numbers = st.floats(0, 1) | st.floats() | st.sampled_from([0, 1, None, "x", 10**400, True])
names = st.sampled_from([None, "a", "b", "c", "\ud83d", 5])
values = st.sampled_from([True, False, "true", "a", "", None, 1, 1.5, [], "\ud83d", 10**400])
options = st.fixed_dictionaries({"value": values, "probability": numbers}, optional={"label": names, "extra": numbers})
answers = st.fixed_dictionaries(
    {"type": st.sampled_from(["predicate", "choice", "score", "refusal", "other", None, [1]])},
    optional={
        "name": names,
        "probability": numbers,
        "probabilities": st.lists(options, max_size=3) | st.just(5) | st.just([7]),
        "choice": values,
        "score": numbers,
        "confidence": numbers,
        "legend": st.just({"a": [1]}),
    },
)


@given(
    st.lists(answers | st.sampled_from([None, 5, []]), max_size=5),
    st.lists(st.sampled_from([None, "a", "b", "c", 5]), max_size=4),
)
def test_what_was_on_the_wire_can_be_rebuilt_from_the_tables_alone(listed: list[Any], asked: list[Any]) -> None:
    """Whatever a server sends, its answers are rebuilt or are a failure that says where."""
    body = json.dumps(decisions_body(*listed)).encode()
    found = decoded(body, *({"type": "predicate", "name": name} for name in asked))

    if found.failures:
        assert str(found.failures[0][1]) == "answers: none is an answer to a question"
    else:
        assert same(rebuild(found)[0], json.loads(body)["answers"])
        keys = pl.DataFrame(pl.from_arrow(found.decisions)).select("completion_id", "question_index", "option_index")
        assert keys.equals(keys.sort(keys.columns))
