"""Ollama's /api/generate and /api/chat: the rows for whole bodies and for streams."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from decode.decoding import columns, decode_one, failure_of, rebuilt
from decode.native_bodies import (
    ollama,
)


def test_a_body_becomes_a_completion() -> None:
    """`created` is read from a time with seven decimal places and a time zone."""
    completions, tokens, _ = decode_one(ollama([{"token": "ab", "logprob": -1.5}]))
    created = datetime(2025, 12, 16, 11, 38, 48, 457821, UTC)
    names = ("response_model", "created", "finish_reason", "text", "prompt_tokens", "completion_tokens")

    assert columns(completions, *names) == [("mistral", created, "stop", "ab", 5, 3)]
    assert columns(tokens, "token", "bytes", "logprob") == [("ab", None, -1.5)]


def test_a_token_may_lack_bytes_and_alternatives() -> None:
    """Ollama leaves empty lists out; the missing keys are rebuilt as missing."""
    part = [
        {"token": "", "logprob": -0.25},
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1, "bytes": [98]}]},
    ]
    _, tokens, alternatives = decode_one(ollama(part))

    assert columns(tokens, "token", "bytes", "logprob") == [("", None, -0.25), ("a", b"a", -0.5)]
    assert columns(alternatives, "position", "token", "bytes") == [(1, "b", b"b")]
    assert rebuilt(ollama(part)) == {0: part}


def test_a_chat_answer_has_its_text_and_tool_calls() -> None:
    """Text and tool calls are taken from `message`."""
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    message = {"role": "assistant", "content": "hi", "thinking": "hm", "tool_calls": [call]}
    body = ollama([{"token": "hi", "logprob": -1}], message=message)
    del body["response"]
    completions, tokens, _ = decode_one(body)

    assert columns(completions, "text", "tool_calls") == [("hi", json.dumps([call], separators=(",", ":")))]
    assert columns(tokens, "section", "token") == [("content", "hi")]


@pytest.mark.parametrize("key", ["response", "message"])
def test_a_stream_is_one_answer(key: str) -> None:
    """Each line is a piece with some tokens or none; the last has the counts."""
    tokens = [{"token": text, "logprob": -1.0, "bytes": [ord(text)]} for text in "abc"]
    said = [{"response": text} if key == "response" else {"message": {"content": text}} for text in ("a", "bc", "")]
    pieces = [
        {"model": "mistral", "done": False, "logprobs": tokens[:1], **said[0]},
        {"model": "mistral", "done": False, "logprobs": tokens[1:], **said[1]},
        {"model": "mistral", "done": True, "done_reason": "stop", "eval_count": 3, **said[2]},
    ]
    body = "\n".join(map(json.dumps, pieces)).encode()
    completions, rows, _ = decode_one(body)

    assert columns(completions, "text", "finish_reason", "completion_tokens") == [("abc", "stop", 3)]
    assert rows["token"].to_list() == ["a", "b", "c"]
    assert rebuilt(body) == {0: tokens}


def test_a_stream_that_was_cut_off_is_a_failure() -> None:
    """Without its last piece a stream is a failure, because part of an answer would look like the whole."""
    pieces = [ollama([{"token": "a", "logprob": -1}], done=False)] * 2

    assert "cut off" in failure_of("\n".join(map(json.dumps, pieces)).encode())[1]
