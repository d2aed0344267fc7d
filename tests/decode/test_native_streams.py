"""Streams of servers' native APIs become one answer; one without its end is a failure that keeps the text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from decode.decoding import decode_one, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    Frames = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


def sse(*pieces: Any, done: bool = False) -> bytes:
    """Server-sent events."""
    return ("".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n" * done).encode()


def as_list(*pieces: Any) -> bytes:
    """One JSON list."""
    return json.dumps(pieces).encode()


def as_lines(*pieces: Any) -> bytes:
    """A piece a line."""
    return "\n".join(map(json.dumps, pieces)).encode()


WAYS = pytest.mark.parametrize("record", [sse, as_list, as_lines])


def gemini(text: str, *tokens: tuple[str, float], finish: str | None = None, top: bool = False) -> dict[str, Any]:
    """A piece of streamGenerateContent."""
    chosen = [{"token": token, "tokenId": 1, "logProbability": logprob} for token, logprob in tokens]
    result: dict[str, Any] = {"chosenCandidates": chosen}
    if top:
        result["topCandidates"] = [{"candidates": [one]} for one in chosen]
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "logprobsResult": result}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "g", "responseId": "r"}


@WAYS
def test_pieces_of_gemini_are_one_answer(record: Callable[..., bytes]) -> None:
    """Texts and tokens are joined in their order; the reason to finish is that of the last piece."""
    recorded = record(gemini("2 +", ("2", -0.1), (" +", -0.2)), gemini(" 2", (" 2", -0.3), finish="STOP"))
    completions, tokens, _ = decode_one(recorded)

    assert completions.select("text", "finish_reason", "response_id").rows() == [("2 + 2", "STOP", "r")]
    assert tokens.select("token", "logprob").rows() == [("2", -0.1), (" +", -0.2), (" 2", -0.3)]


def test_alternatives_of_gemini_stay_with_their_tokens() -> None:
    """A piece without alternatives does not shift those of the pieces behind it."""
    _, tokens, alternatives = decode_one(
        sse(gemini("a", ("a", -0.5)), gemini("b", ("b", -0.25), finish="STOP", top=True))
    )

    assert tokens["token"].to_list() == ["a", "b"]
    assert alternatives.select("position", "token").rows() == [(1, "b")]


def sglang(text: str, tokens: list[list[Any]], count: int, *, finish: str | None = None) -> dict[str, Any]:
    """A piece of /generate with `stream: true`."""
    reason = None if finish is None else {"type": finish}
    meta = {"id": "x", "finish_reason": reason, "prompt_tokens": 3, "completion_tokens": count}
    return {"text": text, "meta_info": {**meta, "output_token_logprobs": tokens}}


A, B, C = [-0.5, 1, "a"], [-0.25, 2, "b"], [0.0, 3, "b"]


@WAYS
@pytest.mark.parametrize(
    "pieces",
    [
        [sglang("a", [A], 1), sglang("ab", [A, B], 2), sglang("abb", [A, B, C], 3, finish="stop")],
        [sglang("a", [A], 1), sglang("b", [B], 2), sglang("b", [C], 3, finish="stop")],
    ],
    ids=["each repeats the one before", "each is new"],
)
def test_pieces_of_sglang_are_one_answer(record: Callable[..., bytes], pieces: list[Any]) -> None:
    """The count of tokens tells whether a piece repeats the ones before it."""
    completions, tokens, _ = decode_one(record(*pieces))

    assert completions.select("text", "finish_reason", "completion_tokens").rows() == [("abb", "stop", 3)]
    assert tokens.select("token", "token_id", "logprob").rows() == [("a", 1, -0.5), ("b", 2, -0.25), ("b", 3, 0.0)]


def test_equal_tokens_of_sglang_are_not_taken_for_a_repeat() -> None:
    """Two pieces may hold the same token with the same number: three tokens were counted, so three there are."""
    same = [0.0, 9, " "]
    _, tokens, _ = decode_one(
        sse(sglang(" ", [same], 1), sglang(" ", [same], 2), sglang(" ", [same], 3, finish="length"))
    )

    assert tokens["position"].to_list() == [0, 1, 2]


def tgi(token_id: int, text: str, logprob: float, **more: Any) -> dict[str, Any]:
    """A piece of /generate_stream."""
    token = {"id": token_id, "text": text, "logprob": logprob, "special": False}
    return {"token": token, "generated_text": None, "details": None, **more}


@pytest.mark.parametrize(
    "pieces",
    [
        [
            tgi(1, "a", -0.5, index=1),
            tgi(2, "b", -1, index=2, generated_text="ab", details={"finish_reason": "length", "generated_tokens": 2}),
        ],
        [
            {"token": {"id": 1, "text": "a", "log_prob": -0.5}},
            {
                "token": {"id": 2, "text": "b", "log_prob": -1},
                "generated_text": "ab",
                "details": {"finish_reason": "length", "generated_tokens": 2, "inputs": "x"},
            },
        ],
        [
            {"token": {"id": 1, "text": "a", "logprob": -0.5, "special": False, "count_output_tokens": 1}},
            {
                "token": {"id": 2, "text": "b", "logprob": -1, "special": False, "count_output_tokens": 2},
                "generated_text": None,
                "finished": True,
                "finish_reason": "length",
                "details": None,
            },
        ],
    ],
    ids=["TGI", "LMI", "LightLLM"],
)
@WAYS
def test_a_token_a_piece(record: Callable[..., bytes], pieces: list[Any]) -> None:
    """TGI, and servers that answer like it but for a key, send a token a piece."""
    completions, tokens, _ = decode_one(record(*pieces))

    assert completions.select("text", "finish_reason", "completion_tokens").rows() == [("ab", "length", 2)]
    assert tokens.select("token", "token_id", "logprob").rows() == [("a", 1, -0.5), ("b", 2, -1.0)]


def test_alternatives_of_tgi() -> None:
    """A piece may have the alternatives of its token."""
    top = [{"id": 1, "text": "a", "logprob": -0.5, "special": False}]
    last = tgi(2, "b", -1, generated_text="ab", details={"finish_reason": "length"})
    _, _, alternatives = decode_one(sse(tgi(1, "a", -0.5, top_tokens=top), last))

    assert alternatives.select("position", "token", "logprob").rows() == [(0, "a", -0.5)]


CUT = {
    "gemini": [gemini("Hel", ("Hel", -0.1)), gemini("lo", ("lo", -0.1))],
    "sglang": [sglang("Hel", [A], 1), sglang("Hello", [A, B], 2)],
    "tgi": [tgi(1, "Hel", -0.5), tgi(2, "lo", -0.5)],
    "llama.cpp": [{"content": "Hel", "stop": False}, {"content": "lo", "stop": False}],
    "ollama": [{"response": "Hel", "done": False, "logprobs": []}, {"response": "lo", "done": False, "logprobs": []}],
}


@pytest.mark.parametrize("name", CUT)
@WAYS
def test_a_native_stream_without_its_end_is_a_failure(record: Callable[..., bytes], name: str) -> None:
    """Part of an answer would look like the whole; the message has the text that came."""
    error_type, message = failure_of(record(*CUT[name]))

    assert error_type == "malformed_answer"
    assert message == "the stream was cut off before its end; what came of the answer: 'Hello'"


@WAYS
@pytest.mark.parametrize("name", CUT)
def test_a_native_stream_that_ends_with_an_error_is_a_failure(record: Callable[..., bytes], name: str) -> None:
    """An error in place of the next piece is the server's, and the message has the text that came."""
    error_type, message = failure_of(record(*CUT[name], {"error": {"message": "overloaded"}}))

    assert error_type == "error_body"
    assert message == "the server answered with an error: overloaded; what came of the answer: 'Hello'"


def test_llama_cpp_streams_several_prompts() -> None:
    """Pieces of several prompts, mixed, are choices by their index."""

    def piece(index: int, text: str, *, stop: bool) -> dict[str, Any]:
        token = {"id": 1, "token": text, "bytes": list(text.encode()), "logprob": -0.5, "top_logprobs": []}
        return {"index": index, "content": text, "stop": stop, "completion_probabilities": [token] if text else []}

    mixed = [piece(0, "a", stop=False), piece(1, "x", stop=False), piece(1, "", stop=True), piece(0, "", stop=True)]
    completions, _, _ = decode_one(sse(*mixed))

    assert completions.select("choice_index", "text").rows() == [(0, "a"), (1, "x")]


def test_a_failed_generation_of_lmi_is_an_error() -> None:
    """Its status is 200, and its reason to finish is `error`."""
    details = {"finish_reason": "error", "generated_tokens": None, "inputs": None, "tokens": None}

    assert failure_of({"generated_text": "", "details": details})[0] == "error_body"
    assert failure_of(sse(tgi(1, "a", -0.5), tgi(-1, "", -1, generated_text="", details=details)))[0] == "error_body"
