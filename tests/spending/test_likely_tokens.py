"""How many tokens a call will count for."""

from __future__ import annotations

from typing import Any

import pytest

from logprob_store.request import make_request
from logprob_store.spending.likely_tokens import estimate_tokens


def _estimate(typical: float = 0.0, **body: Any) -> int:
    request = make_request(body, endpoint="chat", provider="p")
    return estimate_tokens(request, typical_answer=typical) - len(request.content) // 4


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, 0),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "n": 3}, 300),
        ({"max_output_tokens": 50}, 50),
        ({"max_tokens": 10, "n": 2, "best_of": 4}, 40),
        ({"max_tokens": None, "n": None}, 0),
        ({"max_tokens": "many", "n": "all"}, 0),
        ({"max_tokens": -5, "n": -1}, 0),
        ({"max_tokens": True}, 0),
    ],
    ids=str,
)
def test_what_an_answer_may_take(body: dict[str, Any], expected: int) -> None:
    """The maximum for each choice; what is no number counts as unsaid."""
    assert _estimate(**body) == expected


def test_without_a_maximum_answers_so_far_are_the_measure() -> None:
    """The running average of what answers took."""
    assert _estimate(40.0, n=2) == 80


def test_an_image_is_not_counted_by_its_bytes() -> None:
    """A megabyte of base64 is no quarter of a million tokens."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 4000}, image]}]}
    request = make_request(body, endpoint="chat", provider="p")

    assert 2000 <= estimate_tokens(request) < 2100
