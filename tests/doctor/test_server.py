"""The one call that the doctor makes: as small as it can be, and what its answer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_to, chat_body, chat_request, chat_token, completions_request

from logprob_store.doctor.server import _refused_call, check_logprobs, check_unlisted, smallest_request
from logprob_store.errors import RetryableError
from logprob_store.job import make_job

if TYPE_CHECKING:
    from logprob_store.job import Job
    from logprob_store.request import Request


def a_job(**model: Any) -> Job:
    """A job with these keys of its model."""
    section = {"name": "m", "top_logprobs": 2, **model}
    return make_job("j", prompts={"path": "p", "prompt": "t"}, model=section, store={"path": "s"})


@pytest.mark.parametrize(
    ("request_", "openai", "expected"),
    [
        (chat_request(max_tokens=9, n=3), True, {"max_tokens": 1, "n": 1}),
        (chat_request(max_completion_tokens=9), False, {"max_completion_tokens": 1}),
        (chat_request(), True, {"max_completion_tokens": 1}),
        (chat_request(), False, {"max_tokens": 1}),
        (completions_request(max_tokens=-1, best_of=4), False, {"max_tokens": 1, "best_of": 1}),
        (completions_request(max_tokens=0, echo=True), False, {"max_tokens": 0, "echo": True}),  # a score asks for none
    ],
)
def test_one_token_of_one_choice_is_asked_for(request_: Request, openai: bool, expected: dict[str, Any]) -> None:  # noqa: FBT001
    """By the name that the job uses, or else by the one that the server knows; all else stays as the job has it."""
    body = smallest_request(request_, openai=openai).body
    same = {name: value for name, value in request_.body.items() if name not in expected}

    assert body == {**same, **expected}


def test_as_many_alternatives_as_asked_for() -> None:
    """Two came, and two were asked for."""
    answer = answer_to(chat_request(), chat_body([chat_token("a", tops={"a": -0.1, "b": -2.5})]))

    assert check_logprobs(a_job(), answer).state == "ok"


def test_fewer_alternatives_than_asked_for() -> None:
    """Servers cut the number down and say nothing."""
    answer = answer_to(chat_request(), chat_body([chat_token("a", tops={"a": -0.1, "b": -2.5})]))
    check = check_logprobs(a_job(top_logprobs=20), answer)

    assert check.state == "warn"
    assert "2 alternatives of a token came, and model.top_logprobs asks for 20" in check.said


def test_an_answer_without_logprobs() -> None:
    """It says what to change."""
    body = chat_body([chat_token("a")])
    body["choices"][0]["logprobs"] = None
    check = check_logprobs(a_job(), answer_to(chat_request(logprobs=True), body))

    assert check.state == "fail"
    assert "Choose a model and server that give them" in check.said


def test_an_answer_without_a_token() -> None:
    """A model that reasons may use the one token up: that shows nothing."""
    assert check_logprobs(a_job(), answer_to(chat_request(), chat_body([]))).state == "warn"


@pytest.mark.parametrize(("tier", "state"), [("flex", "warn"), (None, "fail")])
def test_a_tier_without_room_is_no_failure(tier: str | None, state: str) -> None:
    """A run waits for `flex` for an hour; a call by the standard tier that took too long is one that failed."""
    error = RetryableError("the server did not answer within 30 s", error_type="timeout")

    assert _refused_call(error, tier=tier).state == state


@pytest.mark.parametrize(("is_called", "state"), [(True, "warn"), (False, "fail")])
def test_a_model_that_openai_does_not_list(is_called: bool, state: str) -> None:  # noqa: FBT001
    """It may answer all the same, as for some fine-tuned ones: the call shows it, and without one it is in doubt."""
    check = check_unlisted(a_job(name="ft:gpt-4o-mini:a::b"), ["gpt-4o-mini"], is_called=is_called)

    assert check.state == state
    assert "does not list 'ft:gpt-4o-mini:a::b'" in check.said
