"""jobs/decisions_server.py: answers to typed questions from a model's scores of the next token, without a model."""

from __future__ import annotations

import importlib
from math import log
from pathlib import Path
from typing import Any

import pytest
from builders import choice_of, predicate

JOBS = Path(__file__).parents[1] / "jobs"
TOKENS = {" yes": 1, " no": 2, " a": 3, " b": 4, " ab": 3, " low": 5, " high": 6}
SCORES = {1: log(0.3), 2: log(0.1), 3: log(0.5), 5: log(0.25), 6: log(0.25)}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model whose next tokens have these scores, whatever it is asked; others are not among them."""
    monkeypatch.syspath_prepend(JOBS)
    server = importlib.import_module("decisions_server")

    def post(_: Any, path: str, body: dict[str, Any]) -> Any:
        if path == "/tokenize":
            return {"tokens": [TOKENS[body["content"]]]}
        listed = [{"id": token, "logprob": score} for token, score in SCORES.items()]
        return {"completion_probabilities": [{"top_logprobs": listed}], "tokens_evaluated": 7}

    monkeypatch.setattr(server.Model, "_post", post)
    return server.Model("http://h/v1")


def ask(model: Any, *questions: dict[str, Any]) -> Any:
    """The answers to these questions."""
    return model.decide({"model": "m", "input": "Hi", "questions": list(questions)})


def test_a_predicate_is_the_share_of_yes(model: Any) -> None:
    """0.3 / (0.3 + 0.1) = 0.75."""
    assert ask(model, predicate("late"))["answers"] == [{"type": "predicate", "name": "late", "probability": 0.75}]


def test_an_option_that_is_not_among_the_scores_has_no_share(model: Any) -> None:
    """All of the probability is on the other option."""
    [answer] = ask(model, choice_of("a", "b"))["answers"]

    assert (answer["choice"], answer["confidence"]) == ("a", 1.0)
    assert [option["probability"] for option in answer["probabilities"]] == [1.0, 0.0]


def test_a_score_is_expected_over_its_levels(model: Any) -> None:
    """Level 0 and level 1 are as likely: 0.5."""
    levels = {"type": "score", "name": "s", "instructions": "?", "levels": [{"label": "low"}, {"label": "high"}]}
    [answer] = ask(model, levels)["answers"]

    assert answer["score"] == 0.5


def test_the_usage_counts_the_prompt_of_each_question(model: Any) -> None:
    """Two questions of 7 tokens each, and nothing is written."""
    usage = ask(model, predicate("a"), predicate("b"))["usage"]

    assert (usage["input_tokens"], usage["output_tokens"]) == (14, 0)


def test_options_that_begin_with_one_token_are_refused(model: Any) -> None:
    """They cannot be told apart by the next token."""
    with pytest.raises(Exception, match="begin with the same token"):
        ask(model, choice_of("a", "ab"))
