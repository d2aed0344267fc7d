"""Errors that a body with status 200 reports."""

from __future__ import annotations

from typing import Any

import pytest

from logprob_store.failure_policy import classify
from logprob_store.reported_errors import find_reported_error


def choice(**keys: Any) -> dict[str, Any]:
    """A body with one choice."""
    return {"choices": [{"index": 0, **keys}]}


@pytest.mark.parametrize(
    ("body", "said", "partial"),
    [
        ({"error": {"code": 429, "message": "slow"}}, {"code": 429, "message": "slow"}, ""),
        ({"error": "no"}, {"message": "no"}, ""),
        ({"error": ["no"]}, {"message": '["no"]'}, ""),
        ({"object": "error", "message": "no model", "code": 404}, {"code": 404, "message": "no model"}, ""),
        (choice(finish_reason="error", text="a"), {"message": "finish_reason: error"}, "a"),
        (choice(finish_reason="ERROR"), {"message": "finish_reason: ERROR"}, ""),
        (choice(finish_reason="insufficient_system_resource"), None, ""),
        (choice(error={"code": 502}, message={"content": [{"text": "a"}, {"text": "b"}]}), {"code": 502}, "ab"),
        ({"error": {"code": 5}, **choice(finish_reason="error", error={"code": 6})}, {"code": 5}, ""),
        ({"output": [], "status": "failed", "error": {"code": "server_error"}}, {"code": "server_error"}, ""),
        (
            {"output": [{"content": [{"text": "Th"}]}], "status": "cancelled", "error": None},
            {"message": "status: cancelled"},
            "Th",
        ),
        (
            {"text": "Th", "meta_info": {"finish_reason": {"type": "abort", "message": "full", "status_code": 503}}},
            {"message": "full"},
            "Th",
        ),
        ({"error_code": 336100, "error_msg": "try again"}, {"code": 336100, "message": "try again"}, ""),
        (
            {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
            {"code": 1002, "message": "rate limit"},
            "",
        ),
    ],
)
def test_an_error_is_found_with_what_came_before(body: Any, said: Any, partial: str) -> None:
    """The error is found wherever the body reports it, with the text before it."""
    found = find_reported_error(body)

    assert found is not None
    assert found.partial == partial
    assert said is None or found.said == said


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        choice(finish_reason="stop", text="error"),
        choice(finish_reason={"type": "error"}),
        choice(finish_reason=["error"], message=5),
        {"error": {}, **choice(error={"code": 0, "message": ""})},
        {"choices": "error", "output": 5, "meta_info": "abort"},
        {"status": "failed"},  # not a response: no output
        {"output": [], "status": "incomplete", "error": None},
        {"output": [], "status": ["failed"]},
        {"base_resp": {"status_code": 0, "status_msg": "success"}, **choice(text="a")},
    ],
)
def test_an_answer_reports_none(body: Any) -> None:
    """Keys that servers always send, and values of any type, are no error."""
    assert find_reported_error(body) is None


def test_a_reported_error_can_be_classified() -> None:
    """`classify` takes the object of the error."""
    found = find_reported_error({"output": [], "status": "failed", "error": {"code": "rate_limit_exceeded"}})

    assert found is not None
    assert classify(500, found.said).name == "rate_limit"
