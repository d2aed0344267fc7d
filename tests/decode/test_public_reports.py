"""Answers as public bug reports show them, each with the report it stands for: what is kept of them, and how."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import answer_with
from decode.decoding import decode_one, rebuild

from logprob_store.decode.decoder import decode_answers

TOKENS = [
    {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": [{"token": "Hi", "logprob": -0.1}]},
    {"token": "!", "logprob": -0.2, "bytes": [33], "top_logprobs": []},
]
LOGPROBS = {"content": TOKENS}


def chat(message: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A chat answer whose choice has no logprobs."""
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi!", **message}}], **keys}


@pytest.mark.parametrize("held", [TOKENS, LOGPROBS], ids=["list", "object"])
@pytest.mark.parametrize("place", ["beside", "message"])
def test_logprobs_in_another_place(held: Any, place: str) -> None:
    """LiteLLM put Ollama's beside the choices (BerriAI/litellm pull request 17372); a message may have them, too."""
    body = chat({}, logprobs=held) if place == "beside" else chat({"logprobs": held})
    decoded = decode_answers([answer_with(body)])

    assert decoded.failures == []
    assert decoded.tokens["logprob"].to_pylist() == [-0.1, -0.2]
    assert rebuild(decoded) == {0: held}


def test_logprobs_beside_several_choices_are_nobodys() -> None:
    """It is not known which choice they are of."""
    choices = [{"index": n, "finish_reason": "stop", "message": {"content": "Hi!"}} for n in range(2)]
    [(_, failure)] = decode_answers([answer_with({"choices": choices, "logprobs": TOKENS})]).failures

    assert failure.error_type == "no_logprobs"


@pytest.mark.parametrize("place", ["beside", "delta"])
def test_logprobs_in_another_place_of_chunks(place: str) -> None:
    """Those of all chunks are joined."""

    def chunk(token: dict[str, Any]) -> dict[str, Any]:
        misplaced = {"logprobs": {"content": [token]}}
        delta = {"content": token["token"], **(misplaced if place == "delta" else {})}
        beside = misplaced if place == "beside" else {}
        return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}], **beside}

    end = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    events = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in [*map(chunk, TOKENS), end])
    completions, tokens, _ = decode_one(events)

    assert completions["text"].to_list() == ["Hi!"]
    assert tokens["logprob"].to_list() == [-0.1, -0.2]


def test_a_stream_that_says_twice_that_it_ends() -> None:
    """OpenRouter repeats the finish reason beside the usage (langchain-ai/langchainjs issue 11054)."""
    head = {"id": "c", "object": "chat.completion.chunk"}
    end = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
    pieces = [
        {**head, "choices": [{"index": 0, "delta": {"content": "Hi!"}, "logprobs": LOGPROBS}]},
        {**head, "choices": [end]},
        {**head, "choices": [end], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    ]
    completions, _, _ = decode_one(b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in pieces))

    row = completions.select("text", "finish_reason", "prompt_tokens", "completion_tokens", "token_count").row(0)
    assert row == ("Hi!", "stop", 3, 2, 2)


def test_tokens_without_a_text_in_a_response() -> None:
    """Parts of an emoji are empty texts in vLLM's events (vllm-project/vllm pull request 37126); all are kept."""
    tops = [{"token": "", "logprob": value} for value in (-0.5, -12.8, -17.6)]
    part = {"type": "output_text", "text": "\U0001f60a", "logprobs": [{**tops[0], "top_logprobs": tops}]}
    body = {"status": "completed", "output": [{"type": "message", "content": [part]}]}
    _, tokens, alternatives = decode_one(body, endpoint="responses", include=["message.output_text.logprobs"])

    assert tokens["logprob"].to_list() == [-0.5]
    assert alternatives["logprob"].to_list() == [-0.5, -12.8, -17.6]


def test_a_token_whose_alternatives_are_parts_of_it() -> None:
    """llama.cpp joins the bytes of a character in the token alone (ggml-org/llama.cpp pull request 18454)."""
    tops = [{"id": 96, "token": "\ufffd", "bytes": [163], "logprob": -0.29}]
    token = {"id": 96, "token": "\u6563", "bytes": [230, 149, 163], "logprob": -0.29, "top_logprobs": tops}
    body = chat({"content": "\u6563"})
    body["choices"][0]["logprobs"] = {"content": [token]}
    decoded = decode_answers([answer_with(body)])

    assert decoded.tokens["bytes"].to_pylist() == ["\u6563".encode()]
    assert decoded.alternatives["bytes"].to_pylist() == [b"\xa3"]
    assert rebuild(decoded) == {0: {"content": [token]}}


def test_alternatives_that_were_merged_by_their_text() -> None:
    """SGLang keeps the last of two tokens with one text (sgl-project/sglang issue 32290): the token keeps its own."""
    logprobs = {"tokens": ["\ufffd"], "token_logprobs": [-0.1], "top_logprobs": [{"\ufffd": -5.0, "a": -3.0}]}
    body = {"choices": [{"index": 0, "text": "\ufffd", "finish_reason": "stop", "logprobs": logprobs}]}
    _, tokens, alternatives = decode_one(body, endpoint="completions", logprobs=2)

    assert tokens["logprob"].to_list() == [-0.1]
    assert alternatives["logprob"].to_list() == [-5.0, -3.0]


def test_an_echo_whose_tokens_are_no_text() -> None:
    """Prompt tokens had the texts before them in vLLM (vllm-project/vllm issue 5334): nothing is scored wrongly."""
    logprobs = {
        "tokens": ["<s>", "1", ".", "\n Carol", "\n\n has", "0"],
        "token_logprobs": [None, -5.7, -0.9, -10.6, -6.3, -0.5],
        "text_offset": [0, 4, 5, 6, 13, 34],
        "top_logprobs": None,
    }
    body = {"choices": [{"index": 0, "text": "1. Carol has0", "finish_reason": "length", "logprobs": logprobs}]}
    answer = answer_with(body, endpoint="completions", logprobs=1, echo=True, prompt="1. Carol has")
    [(_, failure)] = decode_answers([answer]).failures

    assert "it cannot be told where the echoed prompt ends" in str(failure)
