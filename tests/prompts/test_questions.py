"""Typed questions: templates over the columns of a row, options from a column, and whole questions from a column."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import predicate, requests_of, write_job, write_prompts

import logprob_store as ls
from logprob_store.decision_questions import problem_of_questions
from logprob_store.run.plan import plan_job

if TYPE_CHECKING:
    from pathlib import Path

TOPIC = {"name": "topic", "type": "choice", "instructions": "Topic of {field}?", "choices": "{topics}"}
LATE = {"name": "late", "type": "predicate", "instructions": "It is late."}


def write(folder: Path, columns: dict[str, Any], *questions: dict[str, Any], **prompts: Any) -> ls.Job:
    """A job of the endpoint decisions over these columns."""
    write_prompts(folder, {"text": ["Hi"] * len(next(iter(columns.values()))), **columns})
    path = write_job(folder, "http://h/v1", model={"endpoint": "decisions"}, prompts=prompts)
    tables = "".join(
        "[[questions]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in one.items()) for one in questions
    )
    path.write_text(path.read_text() + tables)
    return ls.load_job(path)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(held)}" for key, held in value.items()) + "}"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def problems(job: ls.Job) -> list[str]:
    """Why rows cannot be asked."""
    return [str(bad.problem) for chunk in plan_job(job).chunks() for bad in chunk.bad]


def test_the_body_has_the_text_and_the_questions(tmp_path: Path) -> None:
    """A text is sent as it is, and nothing asks for logprobs."""
    [request] = requests_of(write(tmp_path, {"id": ["a"]}, LATE))

    assert request.body == {"model": "m", "input": "Hi", "questions": [LATE]}
    assert not request.asks_logprobs


def test_texts_of_questions_are_templates(tmp_path: Path) -> None:
    """Instructions, descriptions and options take the values of their row."""
    asked = {
        "name": "q",
        "type": "choice",
        "instructions": "{a}?",
        "choices": ["{b}", True, {"value": "c", "description": "{a}"}],
    }
    [request] = requests_of(write(tmp_path, {"a": ["one"], "b": [2]}, asked))
    [question] = request.body["questions"]

    assert question["instructions"] == "one?"
    assert question["choices"] == [{"value": "2"}, {"value": True}, {"value": "c", "description": "one"}]


def test_options_come_from_a_list_in_the_row(tmp_path: Path) -> None:
    """Each row has options of its own."""
    job = write(tmp_path, {"field": ["x", "y"], "topics": [["a", "b"], ["c", "d", "e"]]}, TOPIC)
    counts = [len(request.body["questions"][0]["choices"]) for request in requests_of(job)]

    assert counts == [2, 3]


def test_options_come_from_json_text_in_the_row(tmp_path: Path) -> None:
    """JSON may hold booleans and descriptions too."""
    job = write(tmp_path, {"field": ["x"], "topics": ['[true, {"value": "b", "description": "c"}]']}, TOPIC)
    [request] = requests_of(job)

    assert request.body["questions"][0]["choices"] == [{"value": True}, {"value": "b", "description": "c"}]


def test_questions_come_from_a_column(tmp_path: Path) -> None:
    """JSON text in a column is sent as it stands."""
    [request] = requests_of(
        write(tmp_path, {"asked": [json.dumps([predicate("a"), predicate("b")])]}, questions="asked")
    )

    assert request.body["questions"] == [predicate("a"), predicate("b")]


def test_a_system_message_makes_messages(tmp_path: Path) -> None:
    """With a system column, the input is a list of two messages."""
    [request] = requests_of(write(tmp_path, {"role": ["Be strict."]}, LATE, system="role"))

    assert [message["role"] for message in request.body["input"]] == ["system", "user"]


def test_what_was_asked_is_in_the_prompts_table(tmp_path: Path) -> None:
    """Input and questions are kept together."""
    [chunk] = plan_job(write(tmp_path, {"id": ["a"]}, LATE)).chunks()

    assert json.loads(chunk.prompts["messages"][0].as_py()) == {"input": "Hi", "questions": [LATE]}


@pytest.mark.parametrize(
    ("topics", "problem"),
    [
        ([["a", "b"], ["a"]], "choices has 1 option; it takes from 2 to 255"),
        ([["a", "b"], ["a", "a"]], "choices: 'a' is there twice"),
        ([["a", "b"], None], "column 'topics' is null: fill it, or leave the row out"),
        ([["a", "b"], [str(n) for n in range(256)]], "choices has 256 options; it takes from 2 to 255"),
    ],
)
def test_a_row_whose_questions_would_be_refused_is_one_failure(tmp_path: Path, topics: list[Any], problem: str) -> None:
    """The other rows are asked."""
    job = write(tmp_path, {"field": ["x", "y"], "topics": topics}, TOPIC)
    [said] = problems(job)

    assert said.startswith("prompts.parquet, row 1: ")
    assert said.endswith(problem)
    assert len(requests_of(job)) == 1


def test_a_text_and_a_boolean_are_two_options() -> None:
    """`true` and "true" may stand in one question."""
    asked = {"type": "choice", "instructions": "?", "choices": [{"value": True}, {"value": "true"}]}

    assert problem_of_questions([asked]) is None


@pytest.mark.parametrize(
    ("questions", "problem"),
    [
        ([predicate(f"q{n}") for n in range(401)], "there are 401 questions; one call takes 400 at most"),
        ([predicate("a"), predicate("a")], "two questions have the name 'a'"),
        ([{"type": "score", "name": "a", "instructions": "?", "levels": [{"label": 1}]}], "levels has 1 option"),
        ([{"type": "rank", "name": "a"}], "question 'a': its type is 'rank', and not one of predicate, choice, score"),
        ([{"type": "predicate", "name": "a"}], "question 'a': it has no instructions"),
        ([5], "question 0 is no object"),
        ([], "there is no list of questions"),
    ],
)
def test_what_the_api_would_refuse_is_said_before_the_call(questions: list[Any], problem: str) -> None:
    """The message names the question and what it takes."""
    assert problem in str(problem_of_questions(questions))


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ({**LATE, "choices": ["a", "b"]}, 'a question of type "predicate" has no choices'),
        ({**LATE, "type": "choice"}, 'a question of type "choice" needs choices'),
        ({**TOPIC, "choices": ["a"]}, "question 'topic': choices has 1 option"),
        ({**TOPIC, "choices": "topics"}, 'write a list, or "{COLUMN}" for the list in a column'),
        ({**LATE, "instruction": "?"}, "unknown key"),
    ],
)
def test_a_job_file_with_a_wrong_question_is_refused(tmp_path: Path, question: dict[str, Any], problem: str) -> None:
    """Nothing is read or asked."""
    with pytest.raises(ls.JobError) as raised:
        write(tmp_path, {"field": ["x"], "topics": [["a", "b"]]}, question)

    assert problem in str(raised.value)


def test_decisions_need_questions(tmp_path: Path) -> None:
    """The message says both ways to ask them."""
    with pytest.raises(ls.JobError, match=r"needs \[\[questions\]\], or prompts\.questions"):
        write(tmp_path, {"id": ["a"]})


def test_questions_need_the_endpoint(tmp_path: Path) -> None:
    """A chat job with questions would not ask them."""
    write_prompts(tmp_path, {"text": ["Hi"]})
    path = write_job(tmp_path, "http://h/v1", prompts={"questions": "asked"})

    with pytest.raises(ls.JobError, match=r'model\.endpoint = "decisions" alone'):
        ls.load_job(path)


def test_another_question_is_another_job(tmp_path: Path) -> None:
    """The identity of a run holds each question by its name."""
    job = write(tmp_path, {"id": ["a"]}, LATE)

    assert job.identity()["questions.late"] == LATE


@pytest.mark.parametrize(
    "question", [{**LATE, "instructions": "{nope}?"}, {**TOPIC, "choices": ["{nope}", "b"]}, TOPIC]
)
def test_a_column_that_is_not_there(tmp_path: Path, question: dict[str, Any]) -> None:
    """The message says that a question names it, not the prompts."""
    job = write(tmp_path, {"id": ["a"], "field": ["x"]}, question)

    with pytest.raises(ls.LogprobStoreError, match=r"\(\[\[questions\]\]\)"):
        list(plan_job(job).chunks())
