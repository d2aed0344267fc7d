"""One completion, two beside each other, one failure and one token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from builders import full_table, open_writer
from explorer.explored_store import add_part, answers_table

from logprob_store.analysis.opened_store import open_store
from logprob_store.errors import InputError
from logprob_store.explorer import one_completion as reading
from logprob_store.explorer.one_completion import compared, one_completion, one_failure, one_token
from logprob_store.explorer.preparing import prepare
from logprob_store.explorer.questions import Questions
from logprob_store.schema import DECISIONS, completion_id

if TYPE_CHECKING:
    from pathlib import Path

P0, P1, P2 = (completion_id(index) for index in range(3))


@pytest.fixture
def questions(store: Path) -> Questions:
    """Over both runs of `store`."""
    return Questions(prepare(open_store(store)))


def test_a_completion_has_its_prompt_and_tokens(questions: Questions) -> None:
    """The tokens with what was almost written, the messages, the scores, and the facts of the call."""
    one = one_completion(questions, "one", P0)

    (content,) = one["tokens"]["sections"]
    assert [text for text, _ in content["spans"]] == ["Yes", "."]
    # the second likeliest has half of what 0.9 leaves
    assert content["spans"][0][1][0][6] == [["Yes", round(math.log(0.9), 5), 1], ["~", round(math.log(0.05), 5), 0]]
    assert one["prompt"] == [{"role": "user", "text": "Question 0"}]
    assert one["scores"]["confidence"] == pytest.approx(math.sqrt(0.72))
    assert one["facts"]["source"] == "api"


@pytest.mark.parametrize(
    ("passed_over", "shown", "counts"),
    [(0, ["a", "b"], (0, 3)), (2, ["c", "d"], (2, 1)), (4, ["e"], (4, 0)), (9, [], (5, 0))],
)
def test_a_long_answer_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passed_over: int, shown: list[str], counts: tuple[int, int]
) -> None:
    """And it is said how much stands before and behind."""
    monkeypatch.setattr(reading, "MOST_TOKENS", 2)
    with open_writer(tmp_path / "store") as writer:
        add_part(writer, answers_table({0: [(token, 0.5) for token in "abcde"]}), 0)
    questions = Questions(prepare(open_store(tmp_path / "store")))

    tokens = one_completion(questions, "r", P0, passed_over=passed_over)["tokens"]

    assert [text for section in tokens["sections"] for text, _ in section["spans"]] == shown
    assert (tokens["before"], tokens["left_out"]) == counts


def test_the_other_answers_to_its_prompt_are_listed(questions: Questions) -> None:
    """In the other run; the completion itself is not among them."""
    others = one_completion(questions, "one", P0)["others"]

    assert [(other["run"], other["text"]) for other in others] == [("two", "Yes!")]


def test_two_completions_part_at_the_first_other_token(questions: Questions) -> None:
    """`Yes` is in both, then the first ends otherwise."""
    both = compared(questions, ("one", P0), ("two", P0))

    assert both["difference"] == ["content", 1]
    assert [side["text"] for side in both["sides"]] == ["Yes.", "Yes!"]
    assert [place[:2] for place in both["places"]] == [["content", 0], ["content", 1]]


def test_equal_completions_part_nowhere(questions: Questions) -> None:
    """Their probabilities are compared all the same."""
    both = compared(questions, ("one", P1), ("two", P1))

    assert both["difference"] is None
    assert both["places"] == [["content", 0, 0.0]]


def test_a_failure_has_its_whole_message(questions: Questions) -> None:
    """And its class."""
    one = one_failure(questions, "one", 3, 0)

    assert (one["error_type"], one["message"], one["prompt_id"]) == ("timeout", "No answer in 60 s", "p3")


def test_a_token_is_looked_for_elsewhere(questions: Questions) -> None:
    """`It ` was written by both runs at 0.2, and nobody almost wrote it."""
    one = one_token(questions, "one", P2, "content", 0)

    written, almost = one["elsewhere"]["written"], one["elsewhere"]["almost"]
    assert (written["times"], almost["times"], almost["places"]) == (2, 0, [])
    assert written["mean_logprob"] == pytest.approx(math.log(0.2))
    assert sorted((place["run"], place["completion_id"], place["position"]) for place in written["places"]) == [
        ("one", P2, 0),
        ("two", P2, 0),
    ]


def test_typed_questions_have_options(tmp_path: Path) -> None:
    """Where a run has no tokens, its options are shown, and the likeliest is the label."""
    tables = answers_table({0: [("x", 0.5)]})
    columns = {
        "completion_id": [P0, P0],
        "question_index": [0, 0],
        "question": ["mood", "mood"],
        "question_type": ["choice", "choice"],
        "refused": [False, False],
        "option_index": [0, 1],
        "value": ["good", "bad"],
        "value_type": ["string", "string"],
        "chosen": [True, False],
        "probability": [0.75, 0.25],
    }
    decided = {"completions": tables["completions"], "decisions": full_table(DECISIONS, columns)}
    with open_writer(tmp_path / "store") as writer:
        writer.commit(decided, settled=[0])
        writer.finish("finished")
    questions = Questions(prepare(open_store(tmp_path / "store")))

    one = one_completion(questions, "r", P0)

    assert (one["label"], one["scores"]["label_probability"]) == ("good", 0.75)
    assert [(option["value"], option["probability"]) for option in one["decisions"]] == [("good", 0.75), ("bad", 0.25)]
    assert one["tokens"]["sections"] == []


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda questions: one_completion(questions, "one", 7), "run one has no completion 7"),
        (lambda questions: one_completion(questions, "three", 7), "run 'three' is not open here; these are: one, two"),
        (lambda questions: one_failure(questions, "one", 0, 0), "run one has no failure of prompt 0, sample 0"),
        (lambda questions: one_token(questions, "one", P0, "content", 9), f"completion {P0} of run one has no token 9"),
    ],
)
def test_what_is_not_there_is_said(questions: Questions, ask: object, said: str) -> None:
    """By its run and its number."""
    with pytest.raises(InputError) as raised:
        ask(questions)  # type: ignore[operator]

    assert str(raised.value).startswith(said)
