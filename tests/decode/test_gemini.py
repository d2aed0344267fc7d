"""Gemini's generateContent: the rows for both spellings, and for candidates that leave keys out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from decode.decoding import columns, decode_one, failure_of, rebuilt
from decode.native_bodies import (
    gemini,
    gemini_body,
    gemini_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable


RESULT = {
    "chosenCandidates": [gemini_token("a", -0.5, 1), gemini_token("b", -0.25, 2)],
    "topCandidates": [{"candidates": [gemini_token("a", -0.5, 1), gemini_token("c", -1.0, 3)]}, {}],
    "logProbabilitySum": -0.75,
}


def snake(value: Any) -> Any:
    """A value whose keys are spelled as the Python SDK spells them."""
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): snake(held) for key, held in value.items()}


@pytest.mark.parametrize("spell", [lambda body: body, snake], ids=["camelCase", "snake_case"])
def test_both_spellings_give_the_same_rows(spell: Callable[[Any], Any]) -> None:
    """The API's camelCase and the Python SDK's snake_case give the same rows, and each is rebuilt."""
    body = spell(gemini_body(gemini(RESULT)))
    completions, tokens, alternatives = decode_one(body)
    created = datetime(2026, 2, 15, 7, 50, 39, 178410, UTC)
    names = ("response_id", "response_model", "created", "finish_reason", "text", "prompt_tokens", "completion_tokens")

    assert columns(completions, *names) == [("r1", "gemini-2.5-flash", created, "STOP", "ab", 5, 2)]
    assert columns(tokens, "token", "token_id", "logprob") == [("a", 1, -0.5), ("b", 2, -0.25)]
    assert columns(alternatives, "position", "rank", "token") == [(0, 1, "a"), (0, 2, "c")]
    assert rebuilt(body) == {0: spell({"avgLogprobs": -9.5, "logprobsResult": RESULT})}
    assert "patch" not in completions["wire"][0]


def test_nulls_of_a_dump_are_rebuilt() -> None:
    """model_dump() writes every field, with null for those that are not set."""
    body = snake(gemini_body(gemini({**RESULT, "topCandidates": None, "logProbabilitySum": None}, index=None)))

    assert rebuilt(body)[0]["logprobs_result"] == snake({**RESULT, "topCandidates": None, "logProbabilitySum": None})


def test_thoughts_and_function_calls_are_not_text() -> None:
    """Thoughts are left out of the text, and function calls become tool calls."""
    parts = [
        {"text": "hm", "thought": True},
        {"text": "a"},
        {"functionCall": {"name": "f", "args": {}}},
        {"text": "b", "thought": False},
    ]
    completions, _, _ = decode_one(gemini_body(gemini(RESULT, parts=parts)))

    assert columns(completions, "text", "tool_calls") == [("ab", '[{"name":"f","args":{}}]')]


@pytest.mark.parametrize(("indices", "expected"), [((None, 1), [0, 1]), ((1, 0), [1, 0]), ((None, None), [0, 1])])
def test_a_missing_index_is_the_place_in_the_list(indices: tuple[int | None, ...], expected: list[int]) -> None:
    """JSON of protocol buffers leaves out an index of 0."""
    held = [{} if index is None else {"index": index} for index in indices]
    texts = [gemini(RESULT, parts=[{"text": text}], **index) for text, index in zip("ab", held, strict=True)]
    completions, _, _ = decode_one(gemini_body(*texts))

    assert dict(columns(completions, "text", "choice_index")) == dict(zip("ab", expected, strict=True))


def test_a_token_without_text_is_null() -> None:
    """A token whose text is missing does not fail the answer."""
    result = {"chosenCandidates": [{"tokenId": 7, "logProbability": -0.5}, gemini_token("a", -1.0, 1)]}
    _, tokens, _ = decode_one(gemini_body(gemini(result)))

    assert columns(tokens, "token", "token_id") == [(None, 7), ("a", 1)]
    assert rebuilt(gemini_body(gemini(result)))[0]["logprobsResult"] == result


def test_an_average_alone_is_a_failure() -> None:
    """Vertex sends avgLogprobs without being asked, which is no logprob of a token."""
    body = gemini_body({"avgLogprobs": -0.5, "content": {"parts": [{"text": "a"}]}})

    error_type, message = failure_of(body)

    assert error_type == "no_logprobs"
    assert message.startswith("candidates[0]: avgLogprobs alone, which is sent unasked")
    assert rebuilt(body) == {0: {"avgLogprobs": -0.5}}
