"""Answers and requests that a program logged as text inside a field, and what is named where there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from importing.recorded import cassette, recorded_body, recorded_chunks, recorded_request


def asked(importing: Any) -> list[Any]:
    """The prompts, parsed."""
    return [text and json.loads(text) for text in importing.frames()["prompts"].sort("prompt_index")["messages"]]


def encoded(value: Any, times: int) -> Any:
    """The value as JSON text, encoded so often; unchanged for 0."""
    for _ in range(times):
        value = json.dumps(value)
    return value


@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda body: {"response": body},
        lambda body: {"body": body, "id": "7"},
        lambda body: {"time": "2025-01-01", "level": "info", "response_body": body},
        lambda body: {"raw_response": {"status": 200, "body": body}},
        lambda body: {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None},
        lambda body: {"key": "a", "response": body},
        lambda body: {"recordId": "a", "modelInput": {}, "modelOutput": body},
        lambda body: {"call_type": "acompletion", "messages": "[]", "response": body},
        lambda body: cassette((json.dumps(recorded_request(0)), {"string": encoded(body, 1)})),
        lambda body: encoded(body, 1),
    ],
    ids=["response", "body", "log line", "envelope", "batch", "gemini", "bedrock", "litellm", "cassette", "text"],
)
def test_an_answer_inside_a_text(importing: Any, wrap: Any, times: int) -> None:
    """Loggers write JSON into a field as text, some of them twice."""
    importing.lines(json.dumps(wrap(encoded(recorded_body(0), times))))

    assert importing.texts == ["n0!"]
    assert importing.open_failures == []


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_request_inside_a_text(importing: Any, times: int) -> None:
    """Beside an answer it is the request of it, however often it was encoded."""
    request, answer = encoded(recorded_request(0), times), encoded(recorded_body(0), times)
    importing.lines({"request": request, "response": answer}, {"request_body": request, "response_body": answer})

    assert asked(importing) == [recorded_request(0)["messages"]]
    assert importing.frames()["completions"]["text"].to_list() == ["n0!"]


def test_a_stream_inside_a_field(importing: Any) -> None:
    """The events of a stream may be the text of a field, too."""
    events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in recorded_chunks(0)) + "data: [DONE]\n\n"
    importing.lines({"response": events}, {"body": encoded(events, 1)})

    assert importing.texts == ["n0!", "n0!"]


def test_messages_of_litellm_as_text(importing: Any) -> None:
    """LiteLLM's database has lists and objects as JSON text."""
    request = recorded_request(0)
    payload = {"call_type": "acompletion", "model": request["model"], "messages": json.dumps(request["messages"])}
    parameters = json.dumps({"logprobs": True, "top_logprobs": 1})
    importing.lines({**payload, "response": json.dumps(recorded_body(0)), "model_parameters": parameters})

    assert asked(importing) == [request["messages"]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"lc": 1, "type": "constructor", "id": ["x", "AIMessage"], "kwargs": None}, "(kwargs: null)"),
        ({"lc": 1, "type": "constructor", "id": None, "kwargs": {}}, "(id: no name of a class)"),
        ({"type": "ai", "data": None}, "(data: null)"),
        ({"type": "ai", "data": [5]}, "(data: a list)"),
        ({"generations": None, "llm_output": {}}, "a result of LangChain without generations"),
        ({"generations": [[]], "llm_output": {}}, "a result of LangChain without generations"),
        ({"version": 2, "status": "success", "eval": {}, "samples": [None]}, "sample of Inspect is null"),
        ({"response": None, "request": {}}, "no response: and no error says why"),
    ],
)
def test_an_object_without_an_answer_is_a_failure(importing: Any, value: Any, expected: str) -> None:
    """What a tool wrote without the answer that belongs there is a row that says so, not nothing."""
    importing.lines(value, recorded_body(0))

    assert importing.texts == ["n0!"]
    [message] = importing.frames()["failures"]["message"]

    assert expected in message


@pytest.mark.parametrize(
    "place", ['{"created": %s, ', '[{"created": %s, ', '{\n"created": %s, ', 'data: {"created": %s, ']
)
def test_a_number_that_is_too_long_costs_its_field(importing: Any, place: str) -> None:
    """The answer that it stands in is read, whatever form the file has."""
    end = "]" if place.startswith("[") else "\n\n" if place.startswith("data") else ""
    content = place.replace("%s", "1" * 5000) + json.dumps(recorded_body(0))[1:] + end
    importing.content(content + "\n" + json.dumps(recorded_body(1)))

    assert importing.texts == ["n0!", "n1!"]
