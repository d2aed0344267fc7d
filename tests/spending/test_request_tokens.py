"""The most and the likely tokens of a request."""

from __future__ import annotations

from typing import Any

import pytest
from builders import chat_request

from logprob_store.request import make_request
from logprob_store.spending.request_tokens import estimate_tokens, most_output, worst_case


@pytest.mark.parametrize(
    ("endpoint", "params", "expected"),
    [
        ("chat", {"max_tokens": 5}, 5),
        ("chat", {"max_completion_tokens": 7, "n": 3}, 21),
        ("chat", {"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ("completions", {"max_tokens": 5, "n": 2, "best_of": 4}, 20),
        ("completions", {"max_tokens": 5, "prompt": ["a", "b"]}, 10),
        ("completions", {"max_tokens": 5, "prompt": [1, 2, 3]}, 5),
        ("completions", {"max_tokens": 0}, 0),
        ("completions", {"max_completion_tokens": 5}, None),
        ("responses", {"max_output_tokens": 9}, 9),
        ("responses", {"max_tokens": 9}, None),
        ("chat", {"max_tokens": -1}, None),
        ("chat", {"max_tokens": None}, None),
        ("chat", {"max_tokens": True}, None),
        ("chat", {"max_tokens": 5.0}, 5),
        ("chat", {"max_tokens": 10**30}, 2**40),
        ("chat", {}, None),
    ],
)
def test_the_most_that_can_be_written(endpoint: str, params: dict[str, Any], expected: int | None) -> None:
    """The endpoint's own maximum, for each choice and prompt."""
    assert most_output(params, endpoint) == expected


def test_an_image_counts_as_more_than_its_bytes() -> None:
    """A picture's address has few bytes; text that only speaks of one adds nothing."""
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    content = [{"type": "text", "text": 'about "type":"image_url"'}, picture]
    asked = chat_request(content, max_tokens=5)

    assert worst_case(asked).prompt_tokens == len(asked.content) + 50_000


# likely


def _estimate(typical: float = 0.0, endpoint: str = "chat", **body: Any) -> int:
    request = make_request(body, endpoint=endpoint, provider="p")
    return estimate_tokens(request, typical_answer=typical) - len(request.content) // 4


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, 0),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "n": 3}, 300),
        ({"max_output_tokens": 50, "endpoint": "responses"}, 50),
        ({"max_output_tokens": 50}, 0),  # another endpoint's name bounds nothing
        ({"max_tokens": 10, "n": 2, "best_of": 4}, 40),
        ({"max_tokens": None, "n": None}, 0),
        ({"max_tokens": "many", "n": "all"}, 0),
        ({"max_tokens": -5, "n": -1}, 0),
        ({"max_tokens": True}, 0),
    ],
    ids=str,
)
def test_likely_tokens_of_an_answer(body: dict[str, Any], expected: int) -> None:
    """The maximum times the choices; a value that is not a number counts as absent."""
    assert _estimate(**body) == expected


def test_without_a_maximum_answers_so_far_are_the_measure() -> None:
    """Without a maximum, the average of earlier answers counts for each choice."""
    assert _estimate(40.0, n=2) == 80


def test_an_image_is_not_counted_by_its_bytes() -> None:
    """A megabyte of base64 does not count as a quarter of a million tokens."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    request = chat_request([{"type": "text", "text": "x" * 4000}, image])

    assert 2000 <= estimate_tokens(request) < 2100
