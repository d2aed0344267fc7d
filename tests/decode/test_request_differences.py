"""What came and was not asked for is counted, so that an alarm can be set on it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import answer_with, chat_token

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.request_differences import count_differences, is_same_model


def differences(*bodies: dict[str, Any], **asked: Any) -> dict[str, int]:
    """The counts above zero of answers with these bodies, to requests with these parameters."""
    made = [answer_with(body, prompt_index=index, **asked) for index, body in enumerate(bodies)]
    decoded = decode_answers(made)
    assert decoded.failures == []
    return {name: count for name, count in count_differences(decoded.completions, made).items() if count}


def body(*indices: object, **fields: Any) -> dict[str, Any]:
    """A chat answer with choices of these indices."""
    logprobs = {"content": [chat_token("a")]}
    choices = [{"index": index, "message": {"content": "a"}, "logprobs": logprobs} for index in indices]
    return {"choices": choices, **fields}


@pytest.mark.parametrize(
    ("indices", "asked"),
    [((0,), {}), ((0, 1), {"n": 2}), ((1, 0), {"n": 2}), ((0, 1), {"n": "2"}), ((0,), {"n": None})],
)
def test_the_choices_that_were_asked_for(indices: tuple[int, ...], asked: dict[str, Any]) -> None:
    """In any order, and where `n` is a text, as some servers take it."""
    assert differences(body(*indices), **asked) == {}


@pytest.mark.parametrize("indices", [(0,), (0, 1, 2), (0, 7)])
def test_fewer_more_and_other_choices(indices: tuple[int, ...]) -> None:
    """Each answer counts once, however many of its choices are wrong."""
    assert differences(body(*indices), body(0, 1), n=2) == {"choices_differ": 1}


def test_prompts_in_one_request_multiply_the_choices() -> None:
    """The legacy API answers a list of prompts with `n` choices for each."""
    choices = [
        {"index": number, "text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [-1.0]}} for number in (0, 1)
    ]

    assert differences({"choices": choices}, endpoint="completions", prompt=["a", "b"]) == {}


def test_another_model() -> None:
    """Each completion of it counts."""
    assert differences(body(0, 1, model="other"), body(0, 1, model="m-2026-01-01"), n=2) == {"model_differs": 2}


@pytest.mark.parametrize(
    ("asked", "served", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("openai/gpt-4o", "gpt-4o", True),
        ("models/gemini-2.0-flash", "gemini-2.0-flash-001", True),
        ("Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b-instruct", True),
        ("llama3.2", "llama3.2:latest", True),
        ("m", None, True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4o", False),
        ("llama3.1", "llama3.2", False),
    ],
)
def test_versions_of_a_model_are_that_model(asked: str, served: str | None, same: bool) -> None:  # noqa: FBT001
    """A provider's prefix, capitals, a date or a tag make no other model; another size does."""
    assert is_same_model(asked, served) is same


@pytest.mark.parametrize(
    ("asked", "served", "expected"),
    [
        ("flex", "default", {"tier_differs": 1}),
        ("flex", "flex", {}),
        ("auto", "default", {}),
        (None, "flex", {}),
        ("auto", "priority", {"tier_differs": 1}),
        (None, "priority", {"tier_differs": 1}),
        ("priority", "priority", {}),
        ("fast", "priority", {}),  # two names of one tier
        (None, "fast", {"tier_differs": 1}),
    ],
)
def test_another_tier(asked: str | None, served: str, expected: dict[str, int]) -> None:
    """It counts where a tier was asked for, and where the server chose the one that costs more than the job says."""
    assert differences(body(0, service_tier=served), **({"service_tier": asked} if asked else {})) == expected


def test_the_tier_that_served_is_kept() -> None:
    """A chat answer, a stream of it and one of the Responses API say which tier served the call."""
    stream = [{"object": "chat.completion.chunk", **body(0)}, {"object": "chat.completion.chunk", **body()}]
    for piece in stream:
        piece["service_tier"] = "flex"
        for choice in piece["choices"]:
            choice["delta"], choice["finish_reason"] = choice.pop("message"), "stop"
    events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in stream).encode() + b"data: [DONE]\n\n"
    part = {"type": "output_text", "text": "a", "logprobs": [chat_token("a")]}
    response = {"status": "completed", "output": [{"type": "message", "content": [part]}]}
    answers = [answer_with(made) for made in (body(0, service_tier="flex"), events)]
    answers += [answer_with(response | {"service_tier": "flex"}, endpoint="responses")]

    tiers = [decode_answers([answer]).completions["service_tier"].to_pylist() for answer in answers]

    assert tiers == [["flex"]] * 3
