"""The worst case of a call, and the calls that have none."""

from __future__ import annotations

from typing import Any

import pytest

from logprob_store.errors import PromptError
from logprob_store.request import make_request
from logprob_store.spending.most_tokens import check_bounded, most_output, worst_case


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
    body = {"model": "m", "messages": [{"role": "user", "content": content}], "max_tokens": 5}
    asked = make_request(body, endpoint="chat", provider="p")

    assert worst_case(asked).prompt_tokens == len(asked.content) + 50_000


@pytest.mark.parametrize(
    ("endpoint", "body", "said"),
    [
        ("chat", {"messages": []}, "sets no max_completion_tokens or max_tokens"),
        ("responses", {"input": "x", "max_output_tokens": 5, "previous_response_id": "r"}, "previous_response_id"),
        ("responses", {"input": "x", "max_output_tokens": 5, "tools": [{"type": "web_search"}]}, "the tool web_search"),
        ("responses", {"input": [{"type": "input_file", "file_id": "f"}], "max_output_tokens": 5}, "a file"),
    ],
)
def test_what_nothing_bounds_is_refused(endpoint: str, body: dict[str, Any], said: str) -> None:
    """The message names what it is."""
    with pytest.raises(PromptError, match=said) as caught:
        check_bounded(make_request({"model": "m", **body}, endpoint=endpoint, provider="p"))

    assert caught.value.error_type == "bad_prompt"
