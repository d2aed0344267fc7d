"""Answers of further APIs: the rows, derived by hand, and the logprobs part rebuilt from them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from decode.decoding import decode_one, failure_of

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.rebuild import rebuild_logprobs
from logprob_store.request import Answer, make_request

if TYPE_CHECKING:
    import polars as pl

    Frames = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


def sse(*pieces: Any) -> bytes:
    """Server-sent events without `[DONE]`."""
    return "".join(f"event: x\ndata: {json.dumps(piece)}\n\n" for piece in pieces).encode()


def rebuilt(body: Any) -> list[Any]:
    """What is rebuilt from the tables of a body, a value for each choice."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = make_request({"model": "m"}, endpoint="chat", provider="p")
    decoded = decode_answers([Answer(request, 200, {}, content, "import")])

    assert decoded.failures == []
    return list(rebuild_logprobs(decoded.completions, decoded.tokens, decoded.alternatives).values())


def rows(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """The tokens of a table."""
    return frame.select("section", "token", "token_id", "logprob").rows()


LISTED = [
    {"token": "Hel", "logprob": -0.5, "bytes": [72, 101, 108]},
    {"token": "lo", "logprob": -1, "bytes": [108, 111]},
]
TRANSCRIPTION = {
    "text": "Hello",
    "logprobs": LISTED,
    "usage": {"type": "tokens", "input_tokens": 9, "output_tokens": 2},
}
SPOKEN = [
    {"type": "transcript.text.delta", "delta": "Hel", "logprobs": LISTED[:1]},
    {"type": "transcript.text.delta", "delta": "lo", "logprobs": LISTED[1:]},
    {"type": "transcript.text.done", "text": "Hello", "usage": TRANSCRIPTION["usage"]},
]


@pytest.mark.parametrize(
    "body",
    [TRANSCRIPTION, sse(*SPOKEN), sse(*SPOKEN[:2], {**SPOKEN[2], "logprobs": LISTED})],
    ids=["body", "deltas", "done"],
)
def test_transcriptions(body: Any) -> None:
    """Tokens and usage of the audio API; a stream has the logprobs in its deltas, and mostly in its last event."""
    completions, tokens, _ = decode_one(body)

    assert completions.select("text", "prompt_tokens", "completion_tokens").rows() == [("Hello", 9, 2)]
    assert rows(tokens) == [("content", "Hel", None, -0.5), ("content", "lo", None, -1.0)]
    assert rebuilt(body) == [LISTED]


def test_a_transcription_that_was_cut_off() -> None:
    """The message has the text that came."""
    _, message = failure_of(sse(*SPOKEN[:2]))

    assert message == "the stream was cut: no event transcript.text.done; what came of the answer: 'Hello'"


def watsonx(*results: Any) -> dict[str, Any]:
    """A body of watsonx."""
    return {"model_id": "granite", "created_at": "2026-01-01T00:00:00Z", "results": list(results)}


RESULT = {
    "generated_text": "ab",
    "generated_token_count": 2,
    "input_token_count": 2,
    "stop_reason": "max_tokens",
    "generated_tokens": [
        {"text": "a", "rank": 1, "logprob": -0.5, "top_tokens": [{"text": "a", "logprob": -0.5}]},
        {
            "text": "b",
            "rank": 2,
            "logprob": -2,
            "top_tokens": [{"text": "c", "logprob": -1}, {"text": "b", "logprob": -2}],
        },
    ],
    "input_tokens": [{"text": "x"}, {"text": "y", "rank": 3, "logprob": -3.0}],
}


def test_watsonx() -> None:
    """Tokens of prompt and answer, with alternatives and ranks; the first of the prompt has no number."""
    completions, tokens, alternatives = decode_one(watsonx(RESULT))

    assert completions.select("text", "finish_reason", "response_model", "prompt_tokens").rows() == [
        ("ab", "max_tokens", "granite", 2)
    ]
    assert rows(tokens) == [
        ("prompt", "x", None, None),
        ("prompt", "y", None, -3.0),
        ("content", "a", None, -0.5),
        ("content", "b", None, -2.0),
    ]
    assert alternatives.select("position", "rank", "token").rows() == [(0, 1, "a"), (1, 1, "c"), (1, 2, "b")]
    assert rebuilt(watsonx(RESULT)) == [{key: RESULT[key] for key in ("generated_tokens", "input_tokens")}]


def test_a_stream_of_watsonx() -> None:
    """Each piece has its own tokens; the reason to stop is `not_finished` until the last."""
    pieces = [
        watsonx({"generated_text": token["text"], "stop_reason": reason, "generated_tokens": [token]})
        for token, reason in zip(RESULT["generated_tokens"], ["not_finished", "eos_token"], strict=True)
    ]
    completions, tokens, _ = decode_one(sse(*pieces))

    assert completions.select("text", "finish_reason").rows() == [("ab", "eos_token")]
    assert tokens["token"].to_list() == ["a", "b"]


def entry(text: str) -> dict[str, Any]:
    """A token of the chat shape."""
    return {"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []}


def dashscope(text: str, *tokens: str, finish: str = "null") -> dict[str, Any]:
    """A body of DashScope."""
    message = {"role": "assistant", "content": text}
    choice = {"finish_reason": finish, "message": message, "logprobs": {"content": [entry(one) for one in tokens]}}
    return {
        "request_id": "r",
        "output": {"choices": [choice]},
        "usage": {"input_tokens": 3, "output_tokens": len(tokens)},
    }


@pytest.mark.parametrize(
    "body",
    [
        dashscope("abc", "a", "b", "c", finish="stop"),
        sse(dashscope("a", "a"), dashscope("ab", "a", "b"), dashscope("abc", "a", "b", "c", finish="stop")),
        sse(dashscope("a", "a"), dashscope("b", "b"), dashscope("c", "c", finish="stop")),
    ],
    ids=["whole", "each piece repeats", "each piece is new"],
)
def test_dashscope(body: Any) -> None:
    """A chat completion inside `output`, whole or streamed in either way."""
    completions, tokens, _ = decode_one(body)

    assert completions.select("text", "finish_reason", "response_id", "prompt_tokens").rows() == [
        ("abc", "stop", "r", 3)
    ]
    assert tokens["token"].to_list() == ["a", "b", "c"]
    assert rebuilt(body) == [{"content": [entry("a"), entry("b"), entry("c")]}]


COHERE = {
    "id": "c",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "Hi é"}]},
    "usage": {"tokens": {"input_tokens": 5, "output_tokens": 3}},
    "logprobs": [
        {"text": "Hi", "token_ids": [5], "logprobs": [-0.5]},
        {"text": " é", "token_ids": [7, 8], "logprobs": [-1.0, -2.0]},
    ],
}


def test_cohere() -> None:
    """The tokens of a piece of several have no text of their own."""
    completions, tokens, _ = decode_one(COHERE)

    assert completions.select("text", "response_id", "completion_tokens").rows() == [("Hi é", "c", 3)]
    assert rows(tokens) == [
        ("content", "Hi", 5, -0.5),
        ("content", None, 7, -1.0),
        ("content", None, 8, -2.0),
    ]
    assert rebuilt(COHERE) == [COHERE["logprobs"]]


def test_a_stream_of_cohere() -> None:
    """Its events become the same body."""
    events = [
        {"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}},
        *(
            {
                "type": "content-delta",
                "index": 0,
                "delta": {"message": {"content": {"text": one["text"]}}},
                "logprobs": one,
            }
            for one in COHERE["logprobs"]
        ),
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE["usage"]}},
    ]
    completions, _, _ = decode_one(sse(*events))

    assert completions.select("text", "response_id", "finish_reason").rows() == [("Hi é", "c", "COMPLETE")]
    assert rebuilt(sse(*events)) == [COHERE["logprobs"]]


def jurassic(token: str, logprob: float, raw: float, *, tops: Any = None) -> dict[str, Any]:
    """A token of Jurassic-2."""
    chosen = {"token": token, "logprob": logprob, "raw_logprob": raw}
    return {"generatedToken": chosen, "topTokens": tops, "textRange": {"start": 0, "end": len(token)}}


AI21 = {
    "id": 1234,
    "prompt": {"text": "q", "tokens": [jurassic("▁q", -8.0, -8.0)]},
    "completions": [
        {
            "data": {
                "text": "ab",
                "tokens": [jurassic("▁a", -0.25, -0.5, tops=[{"token": "▁a", "logprob": -0.25, "raw_logprob": -0.5}])],
            },
            "finishReason": {"reason": "endoftext"},
        }
    ],
}


def test_ai21() -> None:
    """A row has the model's own number, and the one after temperature is kept in the `wire` column."""
    completions, tokens, alternatives = decode_one(AI21)

    assert completions.select("text", "finish_reason", "response_id").rows() == [("ab", "endoftext", "1234")]
    assert rows(tokens) == [("prompt", "▁q", None, -8.0), ("content", "▁a", None, -0.5)]
    assert alternatives["logprob"].to_list() == [-0.5]
    assert rebuilt(AI21) == [{"tokens": AI21["completions"][0]["data"]["tokens"], "prompt": AI21["prompt"]["tokens"]}]


def lightllm(*texts: str) -> list[dict[str, Any]]:
    """The tokens of a sample."""
    return [
        {"id": n, "logprob": -0.5, "special": False, "count_output_tokens": n, "prompt_tokens": 4, "text": text}
        for n, text in enumerate(texts, start=1)
    ]


def test_lightllm() -> None:
    """Of several samples each has its own list of tokens."""
    body = {"count_output_tokens": [2, 1], "finish_reason": ["length", "stop"], "prompt_tokens": 4}
    body |= {"generated_text": ["ab", "c"], "tokens": [lightllm("a", "b"), lightllm("c")]}
    completions, tokens, _ = decode_one(body)

    assert completions.select("text", "finish_reason", "prompt_tokens").rows() == [
        ("ab", "length", 4),
        ("c", "stop", 4),
    ]
    assert tokens.select("token", "token_id").rows() == [("a", 1), ("b", 2), ("c", 1)]
    assert rebuilt(body) == [{"tokens": lightllm("a", "b")}, {"tokens": lightllm("c")}]


def test_lmi_says_log_prob() -> None:
    """DJL's LMI containers differ from TGI in one key."""
    listed = [{"id": 1, "text": "a", "log_prob": -0.5}, {"id": 2, "text": "b", "log_prob": -0.25}]
    body = {"generated_text": "ab", "details": {"finish_reason": "length", "generated_tokens": 2, "tokens": listed}}
    _, tokens, _ = decode_one(body)

    assert tokens["logprob"].to_list() == [-0.5, -0.25]
    assert rebuilt(body) == [{"tokens": listed}]


def test_a_choice_without_its_body() -> None:
    """Programs save `response.choices[0]` alone."""
    logprobs = {"content": [entry("a")], "refusal": None}
    choice = {"finish_reason": "stop", "index": 0, "logprobs": logprobs, "message": {"content": "a"}}
    completions, _, _ = decode_one(choice)

    assert completions.select("text", "finish_reason").rows() == [("a", "stop")]
    assert rebuilt(choice) == [logprobs]


def test_llama_cpp_with_few_response_fields() -> None:
    """`response_fields` may leave nothing but the text and its probabilities."""
    token = {"id": 1, "token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}
    completions, tokens, _ = decode_one({"content": "a", "completion_probabilities": [token]})

    assert completions["text"].to_list() == ["a"]
    assert tokens["token_id"].to_list() == [1]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "a"}]}, "Anthropic's Messages"),
        (sse({"type": "message_start", "message": {}}, {"type": "message_stop"}), "Anthropic's Messages"),
        ({"custom_id": "a", "result": {"type": "succeeded"}}, "Anthropic's Message Batches"),
        ({"output": {"message": {}}, "stopReason": "end_turn"}, "Bedrock's Converse"),
        ({"inputTextTokenCount": 1, "results": [{"outputText": "a"}]}, "Amazon Titan"),
        ({"text": "a", "segments": [{"avg_logprob": -0.5}], "duration": 1.0}, "a verbose transcription"),
        ({"text": "a", "generation_id": "g", "finish_reason": "COMPLETE"}, "Cohere's v1 chat"),
        ({"content": "a"}, "response_fields"),
        ({"content": [{"token": "a", "logprob": -0.5}], "refusal": None}, "the logprobs of a choice"),
    ],
)
def test_answers_without_logprobs_are_named(body: Any, named: str) -> None:
    """The failure says in one sentence whose answer this is."""
    error_type, message = failure_of(body)

    assert error_type == "no_logprobs"
    assert message.startswith("this is ")
    assert named in message


def test_an_error_that_is_not_wrapped() -> None:
    """Some APIs send code and message at the top."""
    body = {"code": "InvalidParameter", "message": "no such model", "request_id": "r"}

    assert failure_of(body) == ("error_body", "the server answered with an error: no such model")
