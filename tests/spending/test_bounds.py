"""Requests that a ceiling of tokens or dollars lets through, and those that it refuses before they are sent."""

from __future__ import annotations

from typing import Any

import pytest
from builders import chat_request

from logprob_store.errors import PromptError
from logprob_store.request import make_request
from logprob_store.spending.bounds import check_bounded, no_maximum

TEXT = [{"role": "user", "content": "Hi"}]


def body_of(endpoint: str, **params: Any) -> dict[str, Any]:
    """A body that is bounded without these parameters."""
    content = {"chat": "messages", "completions": "prompt", "responses": "input"}[endpoint]
    most = {"responses": "max_output_tokens"}.get(endpoint, "max_tokens")
    return {"model": "m", content: "Hi" if endpoint == "completions" else TEXT, most: 5, **params}


def refusal(endpoint: str, *, harmless: tuple[str, ...] = (), **params: Any) -> str:
    """What is said about a request with these parameters; empty if it is let through."""
    body = {name: value for name, value in body_of(endpoint, **params).items() if value != "none"}
    try:
        check_bounded(make_request(body, endpoint=endpoint, provider="p"), harmless=harmless)
    except PromptError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("endpoint", "params"),
    [
        ("chat", {"temperature": 0, "top_p": 0.5, "seed": 1, "stop": ["."], "n": 3, "logprobs": True}),
        ("chat", {"max_tokens": None, "max_completion_tokens": 5}),
        ("chat", {"n": 2.0, "web_search_options": None}),
        ("chat", {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"}),
        ("chat", {"chat_template_kwargs": {"enable_thinking": False}, "guided_json": {}, "top_k": 1}),
        ("chat", {"service_tier": "default", "reasoning_effort": "low", "reasoning": {"effort": "low"}}),
        ("chat", {"thinking": {"type": "disabled"}, "modalities": ["text"]}),
        ("completions", {"max_tokens": 0, "echo": True}),
        ("completions", {"prompt": [[1, 2], [3]], "best_of": 2}),
        ("responses", {"instructions": "be brief", "text": {"verbosity": "low"}, "store": False}),
        ("responses", {"input": "Hi"}),
        ("responses", {"input": [{"type": "function_call_output", "call_id": "c", "output": "1"}]}),
    ],
)
def test_what_is_known_is_let_through(endpoint: str, params: dict[str, Any]) -> None:
    """Parameters that change how tokens are chosen or shown, and those that the worst case counts."""
    assert refusal(endpoint, **params) == ""


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"n": "4"}, "the parameter n is '4'"),
        ({"n": -1}, "the parameter n is -1"),
        ({"n": 2.5}, "the parameter n is 2.5"),
        ({"n": True}, "the parameter n is True"),
        ({"best_of": "8"}, "the parameter best_of is '8'"),
        ({"max_tokens": "5"}, "the parameter max_tokens is '5'"),
        ({"max_tokens": -1}, "the parameter max_tokens is -1"),
        ({"max_completion_tokens": "9000"}, "the parameter max_completion_tokens is '9000'"),
        ({"max_tokens": 0}, "sets no max_completion_tokens or max_tokens"),
        ({"max_tokens": None}, "sets no max_completion_tokens or max_tokens"),
        ({"max_tokens": "none"}, "sets no max_completion_tokens or max_tokens"),
        ({"max_output_tokens": 9}, "the parameter max_output_tokens"),
        ({"num_return_sequences": 4}, "the parameter num_return_sequences"),
        ({"num_predict": 4}, "the parameter num_predict"),
        ({"candidate_count": 4}, "the parameter candidate_count"),
        ({"extra_body": {"n": 4}}, "the parameter extra_body"),
        ({"prediction": {"type": "content", "content": "x"}}, "the parameter prediction"),
        ({"web_search_options": {}}, "the parameter web_search_options"),
        ({"data_sources": [{"type": "azure_search"}]}, "the parameter data_sources"),
        ({"plugins": [{"id": "web"}]}, "the parameter plugins"),
        ({"search_parameters": {"mode": "auto"}}, "the parameter search_parameters"),
        ({"models": ["m", "dearer"]}, "the parameter models"),
        ({"provider": {"order": ["x"]}}, "the parameter provider"),
        ({"audio": {"voice": "a"}}, "the parameter audio"),
        ({"modalities": ["text", "audio"]}, "the parameter modalities"),
        ({"service_tier": "priority"}, "the parameter service_tier"),
        ({"enable_thinking": True}, "the parameter enable_thinking"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9000}}, "the parameter thinking"),
        ({"reasoning": {"max_tokens": 9000}}, "the parameter reasoning"),
        ({"chat_template": "{% for i in range(9999) %}x{% endfor %}"}, "the parameter chat_template"),
        ({"tools": [{"type": "web_search"}]}, "the tool web_search"),
        ({"tools": [{"google_search": {}}]}, "the tool {'google_search': {}}"),
        ({"tools": [{"type": ["function"]}]}, "the tool"),
        ({"tools": [{"type": "function", "function": {"name": "$web_search"}}]}, "the tool function"),
        ({"tools": {"type": "file_search"}}, "the tool file_search"),
        ({"model": "m:online"}, "the model 'm:online'"),
        ({"something_new": 1}, "the parameter something_new"),
    ],
    ids=str,
)
def test_a_parameter_that_nothing_bounds_is_refused(params: dict[str, Any], said: str) -> None:
    """The sentence names it, and says what to do."""
    found = refusal("chat", **params)

    assert said in found
    assert any(way in found for way in ("take it out", "write it as one", "set it in model.params"))


def test_the_user_may_vouch_for_a_parameter() -> None:
    """One that the user names as harmless is let through; a number that is none is not."""
    assert refusal("chat", harmless=("something_new", "n"), something_new=1) == ""
    assert "the parameter n is '4'" in refusal("chat", harmless=("n",), n="4")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "video_url", "video_url": {"url": "https://x/y.mp4"}}, "a part of type 'video_url'"),
        ({"type": "audio_url", "audio_url": {"url": "https://x/y.mp3"}}, "a part of type 'audio_url'"),
        ({"type": "document_url", "document_url": "https://x/1.pdf"}, "a part of type 'document_url'"),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "a part of type 'input_audio'"),
        ({"type": "file", "file": {"file_id": "f"}}, "a part of type 'file'"),
        ({"type": "input_image", "file_id": "f"}, "the key file_id"),
        ({"type": "image_url", "image_url": {"url": "u", "file_id": "f"}}, "the key file_id in an image"),
        ({"type": "image_url", "image_url": ["u", "v"]}, "an image that is a list"),
        ({"type": "text", "text": "x", "file_ids": ["f"]}, "the key file_ids"),
        ({"type": "text", "text": {"url": "u"}}, "a text that is a dict"),
        ({"type": {"image_url": 1}}, "a part of type"),
        ({"image_url": "https://x/y.png"}, "a part without a type, with image_url"),
        ({}, "a part without a type"),
        (7, "a part that is a int"),
    ],
    ids=str,
)
def test_a_part_whose_size_is_not_known_is_refused(part: Any, said: str) -> None:
    """Media by URL or id, in whatever spelling; the sentence names the part."""
    with pytest.raises(PromptError) as caught:
        check_bounded(chat_request([part, {"type": "text", "text": "x"}], max_tokens=5))

    assert said in str(caught.value)
    assert "take it out" in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": "https://x/y.png"},
        {"type": "input_image", "image_url": "https://x/y.png"},
    ],
)
def test_a_typed_image_is_let_through(image: dict[str, Any]) -> None:
    """Its worst case is known."""
    check_bounded(chat_request([image, "text"], max_tokens=5))


@pytest.mark.parametrize(
    ("endpoint", "content"),
    [
        ("chat", [{"role": "user", "content": "x", "images": ["u"]}]),
        ("chat", [{"role": "user", "content": "x", "audio": {"id": "a"}}]),
        ("chat", [{"role": "user", "content": {"url": "u"}}]),
        ("chat", ["x"]),
        ("responses", [{"type": "item_reference", "id": "i"}]),
        ("responses", [{"type": "input_file", "file_id": "f"}]),
        ("responses", [{"type": ["message"], "role": "user", "content": "x"}]),
        ("responses", [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]),
        ("responses", [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file"}]}]),
    ],
    ids=str,
)
def test_a_message_that_refers_to_more_is_refused(endpoint: str, content: Any) -> None:
    """Whatever the message holds beside text and images."""
    name = "messages" if endpoint == "chat" else "input"

    assert "the prompt has" in refusal(endpoint, **{name: content})


def test_of_two_maxima_both_have_to_be_numbers() -> None:
    """A server may read the one that is text."""
    assert "max_completion_tokens is '500'" in refusal("chat", max_completion_tokens="500")
    assert no_maximum({"max_tokens": 5, "max_completion_tokens": 0}, "chat")
