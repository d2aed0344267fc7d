"""The error that a refusal becomes, and its message."""

from __future__ import annotations

import json
import re

import pytest

from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.transport.refusals import error_of_status


def test_insufficient_quota_goes_by_the_code_alone() -> None:
    """Only the code `insufficient_quota` stops a run, because one provider uses the words for a temporary limit."""
    body = b'{"error":{"message":"insufficient_quota for this minute","type":"insufficient_quota","code":"slow_down"}}'

    error = error_of_status(429, {}, body)

    assert isinstance(error, RetryableError)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"plain \x1b[31mtext\xff",
        b'{"error":"\\u001b]0;evil\\u0007\\nsecond line"}',
        b'{"error":[1]}',
        b"[" * 10_000,
        b'{"error":{"message":"' + b"x" * 100_000 + b'"}}',
    ],
    ids=["empty", "bytes", "escapes", "list", "deep", "long"],
)
def test_a_server_s_message_is_one_harmless_line(body: bytes) -> None:
    """Terminal escapes, line breaks and megabytes of it do not reach logs and tables."""
    text = str(error_of_status(400, {}, body))

    assert text.startswith("HTTP 400")
    assert text.isprintable()
    assert len(text) < 1100
    assert not re.search(r"[\x00-\x1f]", text)


def test_the_words_of_the_service_behind_a_gateway_are_there() -> None:
    """`Provider returned error` alone says nothing."""
    body = b'{"error":{"message":"Provider returned error","code":502,"metadata":{"raw":"m is overloaded"}}}'

    assert str(error_of_status(502, {}, body)) == "HTTP 502: Provider returned error: m is overloaded"


@pytest.mark.parametrize(
    "error",
    [
        {"param": "logprobs", "code": "unsupported_parameter", "message": "Unsupported parameter: 'logprobs'."},
        {"param": "top_logprobs", "code": "unsupported_parameter", "message": "logprobs are not supported"},
        {"param": "include", "code": "unsupported_parameter", "message": "logprobs are not supported with reasoning."},
        {"param": "include[0]", "code": "unsupported_value", "message": "message.output_text.logprobs"},
        {"param": "top_logprobs", "code": None, "message": "must be less than or equal to 5"},
        {
            "message": "Provider returned error",
            "metadata": {"raw": '{"error": "top_logprobs must be less equal than 8"}'},
        },
        {"message": "Logprobs is not enabled for models/gemini", "status": "INVALID_ARGUMENT"},
    ],
)
def test_logprobs_that_are_refused_in_any_spelling(error: dict[str, object]) -> None:
    """Every prompt would be refused: the run stops, and the line to write is said."""
    found = error_of_status(400, {}, json.dumps({"error": error}).encode())

    assert isinstance(found, StopRunError)
    assert found.reason == "logprobs_refused"
    assert 'params = { reasoning_effort = "none", max_completion_tokens = 64 }' in str(found)


def test_another_part_of_an_answer_that_is_refused() -> None:
    """`include` asks for more than logprobs."""
    error = {"param": "include[0]", "code": "invalid_value", "message": "Invalid value: 'bogus'."}

    assert isinstance(error_of_status(400, {}, json.dumps({"error": error}).encode()), CallError)


@pytest.mark.parametrize(
    ("headers", "message", "expected"),
    [
        ({}, "Rate limit reached: Limit 200, Used 200. Please try again in 7m12s. Visit ...", 432.0),
        ({}, "Please retry after 26 seconds.", 26.0),
        ({}, "Please try your request again in 120ms", 0.12),
        ({"retry-after": "3"}, "Please try again in 20s.", 3.0),
        ({}, "Please try again later.", None),
        ({}, "Please try again in 99999999999999 seconds", None),
    ],
)
def test_how_long_to_wait_is_read_from_words_where_no_header_says_it(
    headers: dict[str, str], message: str, expected: float | None
) -> None:
    """Many services say it nowhere else."""
    error = error_of_status(429, headers, json.dumps({"error": {"message": message}}).encode())

    assert isinstance(error, RetryableError)
    assert error.retry_after_s == expected


def test_without_a_key_the_advice_is_to_name_one() -> None:
    """No key was sent, so that none can be wrong."""
    body = b'{"error": {"message": "Incorrect API key provided: none", "code": "invalid_api_key"}}'
    wrong, missing = (error_of_status(401, {}, body, sent_key=sent) for sent in (True, False))

    assert str(wrong).startswith("the server refuses this key. HTTP 401 invalid_api_key")
    assert str(missing).startswith("the server wants a key, and none was sent. HTTP 401 invalid_api_key")
    assert "model.api_key_env" in str(missing)


def test_a_model_that_is_not_there_is_no_matter_of_the_key() -> None:
    """With 403, as for a project that may not use it."""
    error = error_of_status(403, {}, b'{"error": {"message": "no access to model m", "code": "model_not_found"}}')

    assert isinstance(error, CallError)
    assert error.error_type == "invalid_request"


def test_a_status_is_said_once() -> None:
    """Some servers repeat it as the code."""
    assert str(error_of_status(400, {}, b'{"error": {"message": "no", "code": 400}}')) == "HTTP 400: no"


def test_a_path_that_is_not_there_below_a_base_url_without_one_suggests_v1() -> None:
    """Other base URLs, other statuses and a model that is not there say what is wrong by themselves."""

    def said(status: int = 404, message: str = "Not Found", base_url: str = "http://127.0.0.1:8000") -> str:
        body = json.dumps({"error": {"message": message}}).encode()
        return str(error_of_status(status, {}, body, base_url=base_url))

    assert 'try model.base_url = "http://127.0.0.1:8000/v1"' in said()
    assert "/v1" not in said(base_url="http://127.0.0.1:8000/api/v1") + said(400) + said(message="no such model")
