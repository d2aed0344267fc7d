"""The table of failures: it is complete, the code follows it, and the docs show it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.failure_policy import (
    FAILURES,
    FailureClass,
    classify,
    concerns_the_prompt,
    failures_table,
    refuses_logprobs,
)
from logprob_store.transport.refusals import error_of_status

REPO = Path(__file__).parents[1]


def test_a_row_of_the_table() -> None:
    """A row has the class, its statuses and codes, what follows for this call and for others, and the bill."""
    expected = (
        "| `server_error` | the server failed or was overloaded (408, 409, 424, 425, 5xx) "
        "| tried again, then a failure row | no growth; many in a row: one call at a time until one succeeds "
        "| no; 408, 504, 524, 598: maybe |"
    )

    assert expected in failures_table().splitlines()


def test_every_class_that_the_package_names_is_in_the_table() -> None:
    """Each error_type and reason in the code is in the table, except those of imported lines."""
    sources = [path for path in (REPO / "logprob_store").rglob("*.py") if "importing" not in path.parts]
    named = {
        name
        for path in sources
        for name in re.findall(r'\b(?:error_type|reason)(?:: str)?\s*=\s*"(\w+)"', path.read_text(encoding="utf-8"))
    }

    assert named <= FAILURES.keys()


THEN_OF_ERRORS = {"RetryableError": "again", "CallError": "row", "StopRunError": "stop"}


def raised_by_hand() -> list[tuple[str, str]]:
    """Each error class with each failure that the package names where it raises one."""
    found = set()
    for path in (REPO / "logprob_store").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if any(f"{name}(" in text for name in THEN_OF_ERRORS) else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in THEN_OF_ERRORS:
                values = [keyword.value for keyword in node.keywords if keyword.arg in {"error_type", "reason"}]
                parts = [part for value in values for part in ast.walk(value)]  # `"a" if x else "b"` names two
                found |= {(node.func.id, part.value) for part in parts if isinstance(part, ast.Constant)}
    return sorted(found)


@pytest.mark.parametrize(("error", "name"), raised_by_hand())
def test_an_error_made_by_hand_follows_the_table(error: str, name: str) -> None:
    """An error that the package raises itself is the one that the table's `then` asks for."""
    assert FAILURES[name].then == THEN_OF_ERRORS[error]


OF_AN_ANSWER = [name for name, kind in FAILURES.items() if kind.advice or kind.codes or kind.statuses]


@pytest.mark.parametrize("name", OF_AN_ANSWER)
def test_a_class_of_an_answer_that_stops_a_run_has_advice(name: str) -> None:
    """A failure found by code or status that stops a run has advice; other failures have none."""
    kind = FAILURES[name]

    assert ("{where}" in kind.advice) is (kind.then == "stop")


@pytest.mark.parametrize("kind", [kind for kind in FAILURES.values() if kind.if_all], ids=lambda kind: kind.name)
def test_the_message_of_a_stop_by_the_first_outcomes(kind: FailureClass) -> None:
    """It says how many they were, in whose words, and only failures of one call need it."""
    assert "{count}" in kind.if_all
    assert "{where}" in kind.if_all
    assert kind.then != "stop"


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (429, {"code": "rate_limit_exceeded"}, "rate_limit"),
        (429, {}, "rate_limit"),
        (429, {"code": "resource_unavailable"}, "no_capacity"),
        (429, {"message": "Resource unavailable"}, "no_capacity"),
        (429, {"message": "The resources are temporarily unavailable for flex"}, "no_capacity"),
        (429, {"message": "There is not enough capacity for this request"}, "no_capacity"),
        (429, {"message": "Resource has been exhausted (e.g. check quota)."}, "rate_limit"),
        (429, {"code": "rate_limit_exceeded", "message": "Resource unavailable"}, "rate_limit"),
        (503, {"message": "Resource unavailable"}, "server_error"),
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, "quota"),
        (429, {"type": "insufficient_quota", "message": "insufficient_quota, slow down"}, "rate_limit"),
        (400, {"code": "billing_hard_limit_reached"}, "quota"),
        (402, {}, "quota"),
        (400, {"message": "Your credit balance is too low to access the API."}, "quota"),
        (403, {"message": "Sorry, your account balance is insufficient"}, "quota"),
        (429, {"code": "1113", "message": "Insufficient balance or no resource package."}, "quota"),
        (403, {"message": "Your team has used all available credits or reached its limit."}, "quota"),
        (400, {"message": 'Bad prompt: "insufficient balance"'}, "invalid_request"),
        (401, {"code": "invalid_api_key"}, "authentication"),
        (403, {}, "authentication"),
        (403, {"message": "You are not allowed to request logprobs from this model."}, "logprobs_refused"),
        (400, {"code": "unsupported_parameter", "param": "top_logprobs"}, "logprobs_refused"),
        (400, {"code": "content_filter"}, "content_filter"),
        (403, {"code": "content_policy_violation"}, "content_filter"),
        (403, {"code": 403, "message": "m requires moderation. Your input was flagged for x"}, "content_filter"),
        (403, {"message": "Project does not have access to model"}, "authentication"),
        (424, {"message": "Request failed during generation"}, "server_error"),
        (400, {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}, "content_filter"),
        (400, {"innererror": "ResponsibleAIPolicyViolation"}, "invalid_request"),
        (429, {"code": "rate_limit_exceeded", "message": "Request too large: Limit 1, Requested 2"}, "over_limit"),
        (413, {"code": "rate_limit_exceeded", "type": "tokens"}, "over_limit"),
        (413, {}, "invalid_request"),
        (400, {"code": ["odd"], "message": 5}, "invalid_request"),
        (404, {"code": "model_not_found"}, "invalid_request"),
        (307, {}, "invalid_request"),
        (408, {}, "server_error"),
        (409, {}, "server_error"),
        (500, {}, "server_error"),
        (503, {"code": "slow_down"}, "rate_limit"),
        (529, {"type": "overloaded_error"}, "server_error"),
        (599, {}, "server_error"),
    ],
)  # fmt: skip
def test_classify(status: int, said: dict[str, Any], expected: str) -> None:
    """The structured code decides first, then the status."""
    assert classify(status, said).name == expected


@pytest.mark.parametrize("name", [name for name, kind in FAILURES.items() if kind.codes or kind.statuses])
def test_each_class_raises_the_error_of_its_policy(name: str) -> None:
    """A failure with a code or status of its own becomes the error that `then` names."""
    kind = FAILURES[name]
    status = min(kind.statuses, default=400)
    code = min(kind.codes, default=None)

    error = error_of_status(status, {}, f'{{"error":{{"code":"{code}"}}}}'.encode() if code else b"")

    if kind.then == "stop":
        assert isinstance(error, StopRunError)
        assert error.reason == name
    else:
        assert isinstance(error, CallError)
        assert isinstance(error, RetryableError) == (kind.then == "again")
        assert error.error_type == name


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"message": "You are not allowed to request logprobs from this model."}, True),
        ({"code": "unsupported_parameter", "param": "top_logprobs"}, True),
        ({"code": "unsupported_parameter", "param": "temperature"}, False),
        ({"message": "Invalid value for 'top_logprobs': must be at most 20"}, True),
        ({"message": "logprobs are not supported with reasoning models"}, True),
        ({"message": "Unrecognized request argument supplied: logprobs"}, True),
        ({"detail": [{"loc": ["body", "logprobs"], "msg": "Extra inputs are not permitted"}]}, True),
        ({"detail": [{"loc": ["body", "stop"], "msg": "too many", "input": {"logprobs": True}}]}, False),
        ({"message": "the model has no catalogprobs"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_refuses_logprobs(said: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    """The parameter that the server names decides, or else its words; never the request that it shows."""
    assert refuses_logprobs(400, said) is expected


def test_the_docs_of_the_store_list_the_classes_of_failure_rows() -> None:
    """docs/store.md names each class that can stand in the table `failures`."""
    page = (REPO / "docs" / "store.md").read_text(encoding="utf-8")
    table = page[page.index("| error_type | what it is |") :].split("\n\n")[0]
    rows = {name for name, kind in FAILURES.items() if kind.then in {"row", "again"}}

    assert rows <= set(re.findall(r"\w+", table))


@pytest.mark.parametrize(
    "message",
    [
        "Content Exists Risk",
        "data_inspection_failed: Input data may contain inappropriate content.",
        "Prompt was blocked: PROHIBITED_CONTENT",
        "Request blocked by guardrail",
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097",
        "Invalid 'messages[0].content': string too long. Expected a string with maximum length 1048576",
        "prompt is too long: 210000 tokens > 200000 maximum",
    ],
)
def test_refusals_of_one_prompt(message: str) -> None:
    """Services' own words for a prompt that is too long or not allowed: other prompts may be taken."""
    assert concerns_the_prompt(f"HTTP 400: {message}")


@pytest.mark.parametrize(
    "message",
    [
        "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5",
        "Unknown parameter: 'safety_identifier'.",
        "The model `nvidia/content-safety-8b` does not exist",
        "The model `omni-moderation-latest` does not exist",
        "max_tokens 100000 exceeds the maximum of 4096",
        "Your account has been flagged",
        "Unsupported value: 'temperature' does not support 0.2 with this model.",
    ],
)
def test_refusals_of_the_job(message: str) -> None:
    """What would be refused with every prompt, though its words sound like one prompt's fault."""
    assert not concerns_the_prompt(f"HTTP 400: {message}")
