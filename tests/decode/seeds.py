"""A small valid body of each wire format, functions that damage one, and a check of what is decoded from it.

For `test_fuzz.py` and `fuzz_atheris.py`, which differ in who makes the choices.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from builders import answer_with
from decode.decoding import rebuild

from logprob_store.decode.decoder import SCANNER_MIN_BYTES, UNFORESEEN, decode_answers
from logprob_store.decode.formats.body import number_choices

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = {"token": "b", "logprob": -2.5, "bytes": [98]}
TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [OTHER]}
CHAT = {"content": [TOKEN, TOKEN], "refusal": None}
LEGACY = {
    "tokens": ["a", "b"],
    "token_logprobs": [None, -1.0],
    "top_logprobs": [None, {"b": -1.0, "c": -2.0}],
    "text_offset": [0, 1],
}
PROMPT = [None, {"5": {"logprob": -3.0, "rank": 7, "decoded_token": "a"}, "6": {"logprob": -1.0, "rank": 1}}]
CHUNK = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": CHAT}]}
END = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
ITEM = {"type": "message", "content": [{"type": "output_text", "text": "aa", "logprobs": [TOKEN, TOKEN]}]}
CANDIDATES = {"chosenCandidates": [{"token": "a", "tokenId": 1, "logProbability": -1}], "topCandidates": []}
ONE = {"token": "a", "logprob": -0.5, "raw_logprob": -1.0}
JURASSIC = {"generatedToken": ONE, "topTokens": [ONE], "textRange": {"start": 0, "end": 1}}
OPTIONS = [{"value": True, "probability": 0.5}, {"value": "true", "probability": 0.25}]
LEVELS = [{"value": 1, "label": "a", "probability": 0.5}, {"value": 2, "label": "b", "probability": 0.5}]
TRIPLES = [[-0.5, 1, "a"], [-1.0, 2, None]]

BODIES: dict[str, Any] = {
    "chat": {"id": "x", "choices": [{"index": 0, "message": {"content": "aa"}, "logprobs": CHAT}], "usage": {}},
    "choices": {"choices": [{"index": n, "text": "a", "logprobs": CHAT} for n in (1, 0)], "prompt_logprobs": PROMPT},
    "completions": {"choices": [{"index": 0, "text": "ab", "logprobs": LEGACY, "prompt_logprobs": PROMPT}]},
    "together": {
        "choices": [{"logprobs": {"content": None, "tokens": ["a"], "token_logprobs": [0.7], "token_ids": [5]}}]
    },
    "responses": {"object": "response", "status": "completed", "output": [ITEM, ITEM, {"type": "function_call"}]},
    "chunks": [CHUNK, {"choices": []}, CHUNK, END],
    "response events": [{"type": "response.created"}, {"type": "response.completed", "response": {"output": [ITEM]}}],
    "llama.cpp": {"content": "a", "completion_probabilities": [{"id": 1, **TOKEN}], "stop": True},
    "llama.cpp sampled": {
        "content": "a",
        "completion_probabilities": [
            {"id": 1, "token": "a", "bytes": [97], "prob": 0.5, "top_probs": [{"id": 1, "token": "a", "prob": 0.5}]}
        ],
    },
    "ollama": {"model": "m", "message": {"role": "assistant", "content": "a"}, "done": True, "logprobs": [TOKEN]},
    "ollama pieces": [
        {"model": "m", "message": {"role": "assistant", "content": "a"}, "done": False, "logprobs": [TOKEN]},
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True},
    ],
    "llama.cpp pieces": [
        {"content": "a", "stop": False, "completion_probabilities": [{"id": 1, **TOKEN}]},
        {"content": "", "stop": True, "completion_probabilities": []},
    ],
    "sglang": {
        "text": "ab",
        "meta_info": {
            "prompt_tokens": 2,
            "input_token_logprobs": TRIPLES,
            "input_top_logprobs": [None, TRIPLES],
            "output_token_logprobs": TRIPLES,
            "output_top_logprobs": [TRIPLES, TRIPLES],
        },
    },
    "tgi": {
        "generated_text": "a",
        "details": {
            "prefill": [{"id": 1, "text": "a", "logprob": None}],
            "tokens": [{"id": 2, "text": "b", "logprob": -1.0, "special": False}],
            "top_tokens": [[{"id": 2, "text": "b", "logprob": -1.0, "special": False}]],
        },
    },
    "gemini": {
        "candidates": [
            {
                "content": {"parts": [{"text": "a"}]},
                "avgLogprobs": -1.5,
                "logprobsResult": {
                    "chosenCandidates": [{"token": "a", "tokenId": 5, "logProbability": -0.5}],
                    "topCandidates": [{"candidates": [{"token": "a", "tokenId": 5, "logProbability": -0.5}]}],
                },
            }
        ]
    },
    "gemini pieces": [
        {"candidates": [{"content": {"parts": [{"text": "a"}]}, "logprobsResult": CANDIDATES}], "responseId": "r"},
        {"candidates": [{"finishReason": "STOP", "logprobsResult": CANDIDATES}], "responseId": "r"},
    ],
    "sglang pieces": [
        {"text": "a", "meta_info": {"id": "x", "finish_reason": None, "output_token_logprobs": TRIPLES[:1]}},
        {"text": "ab", "meta_info": {"id": "x", "finish_reason": "stop", "output_token_logprobs": TRIPLES}},
    ],
    "tgi pieces": [
        {"token": {"id": 1, "text": "a", "logprob": -0.5, "special": False}, "index": 1, "generated_text": None},
        {"token": {"id": 2, "text": "b", "logprob": -1}, "index": 2, "generated_text": "ab", "details": {}},
    ],
    "transcription": {"text": "a", "logprobs": [TOKEN], "usage": {"input_tokens": 1}},
    "transcription events": [
        {"type": "transcript.text.delta", "delta": "a", "logprobs": [TOKEN]},
        {"type": "transcript.text.done", "text": "a", "logprobs": [TOKEN]},
    ],
    "decisions": {
        "model": "m",
        "answers": [
            {"type": "predicate", "name": "late", "probability": 0.75},
            {"type": "choice", "name": "c", "choice": True, "confidence": 0.5, "probabilities": OPTIONS},
            {"type": "score", "name": None, "score": 1.5, "confidence": 0.5, "probabilities": LEVELS},
            {"type": "refusal", "name": "r"},
        ],
        "usage": {"input_tokens": 9, "output_tokens": 0},
    },
    "watsonx": {
        "model_id": "m",
        "results": [
            {
                "generated_text": "a",
                "stop_reason": "eos_token",
                "generated_tokens": [{"text": "a", "logprob": -1, "rank": 1, "top_tokens": [{"text": "a"}]}],
                "input_tokens": [{"text": "x"}, {"text": "y", "logprob": -2}],
            }
        ],
    },
    "dashscope": {
        "request_id": "r",
        "output": {"choices": [{"finish_reason": "stop", "message": {"content": "a"}, "logprobs": CHAT}]},
    },
    "cohere": {
        "finish_reason": "COMPLETE",
        "message": {"content": [{"type": "text", "text": "a"}]},
        "logprobs": [{"text": "a", "token_ids": [1], "logprobs": [-1]}, {"token_ids": [1, 2], "logprobs": [-1, -2]}],
    },
    "cohere events": [
        {"type": "message-start", "id": "c"},
        {
            "type": "content-delta",
            "index": 0,
            "delta": {"message": {"content": {"text": "a"}}},
            "logprobs": {"text": "a", "token_ids": [1], "logprobs": [-1]},
        },
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
    ],
    "ai21": {
        "prompt": {"tokens": [JURASSIC]},
        "completions": [{"data": {"text": "a", "tokens": [JURASSIC]}, "finishReason": {"reason": "length"}}],
    },
    "lightllm": {
        "generated_text": ["a"],
        "count_output_tokens": 1,
        "tokens": [{"id": 1, "text": "a", "logprob": -1, "special": False}],
    },
    "bare choice": {"index": 0, "finish_reason": "stop", "message": {"content": "a"}, "logprobs": CHAT},
}

ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    -(10**400),
    1.5,
    float("nan"),
    float("-inf"),
    -9999.0,
    "",
    "token_id:7",
    "\ud83d",
    [],
    [None],
    [[]],
    {},
    {"": None},
    {"choices": []},
    TOKEN,
    [TOKEN],
    CHAT,
    LEGACY,
]

Pick = "Callable[[int], int]"
"""A source of choices: pick(n) is one of 0 to n - 1."""


def contents() -> dict[str, bytes]:
    """Each body as JSON, and the streams also as events and as lines."""
    made = {name: json.dumps(body).encode() for name, body in BODIES.items()}
    for name in [name for name, body in BODIES.items() if isinstance(body, list)]:
        made[f"{name}, sse"] = b"".join(b"data: %b\n\n" % json.dumps(piece).encode() for piece in BODIES[name])
        made[f"{name}, lines"] = b"\n".join(json.dumps(piece).encode() for piece in BODIES[name])
    return made


def damage_structure(value: Any, pick: Callable[[int], int]) -> Any:
    """A copy with one value replaced, removed, repeated, wrapped, or replaced by another part of the body."""
    value = json.loads(json.dumps(value))
    places = list(_places(value))
    if not places:
        return ODD[pick(len(ODD))]
    holder, key = places[pick(len(places))]
    how = pick(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif how == 1:
        holder[f"{key}2"] = holder[key]
    elif how == 2:
        holder[key] = [holder[key]]
    elif how == 3:
        other, from_there = places[pick(len(places))]
        holder[key] = json.loads(json.dumps(other[from_there]))
    else:
        holder[key] = ODD[pick(len(ODD))]
    return value


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def damage_bytes(content: bytes, pick: Callable[[int], int]) -> bytes:
    """The bytes with one change: a byte, a cut, a piece repeated or left out, a digit or a bracket inserted."""
    at = pick(len(content) + 1)
    end = min(len(content), at + 1 + pick(20))
    extras = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\xff", b"\n", b"9", b"-", b"null", b"NaN", b"\\ud800"]
    changes = (
        content[:at],
        content[:at] + content[end:],
        content[:end] + content[at:],
        content[:at] + extras[pick(len(extras))] + content[at:],
        content[:at] + bytes([pick(256)]) + content[at + 1 :],
        content + content,
    )
    return changes[pick(len(changes))]


def check(content: bytes, *, asked: bool, scanner_min_bytes: int = SCANNER_MIN_BYTES) -> None:
    """Check that a body gives rows that can be rebuilt, or a failure, and that its neighbours keep their rows."""
    good = json.dumps(BODIES["chat"]).encode()
    answers = [answer_with(body, prompt_index=n, logprobs=asked) for n, body in enumerate((good, content, good))]
    decoded = decode_answers(answers, scanner_min_bytes=scanner_min_bytes)
    rebuilt = rebuild(decoded)

    assert rebuilt[0] == rebuilt[2 * 10**8] == CHAT

    own = {key: value for key, value in rebuilt.items() if 10**8 <= key < 2 * 10**8}
    if decoded.failures:
        [(index, error)] = decoded.failures
        message = str(error)

        assert (index, own) == (1, {})
        assert UNFORESEEN not in message
        assert message.isprintable()
        assert 0 < len(message) < 1000
    else:
        assert own
        _compare(content, own)


def _compare(content: bytes, own: dict[int, Any]) -> None:
    """Compare the rebuilt values with what Python's JSON reads, for bodies with `choices`."""
    try:
        body = json.loads(content)
    except ValueError:
        return  # a stream
    if not (isinstance(body, dict) and body.get("choices")) or "delta" in str(body["choices"]):
        return
    listed = body["choices"] if isinstance(body["choices"], list) else [body["choices"]]
    objects = [choice for choice in listed if isinstance(choice, dict)]
    choices = [choice for choice in objects if _holds_something(choice)] or objects
    for index, choice in zip(number_choices([choice.get("index") for choice in choices]), choices, strict=True):
        value = own[10**8 + index]
        if isinstance(value, dict) and "prompt_logprobs" in value:
            beside = choice.get("prompt_logprobs")

            assert repr_of(value["prompt_logprobs"]) == repr_of(
                body["prompt_logprobs"] if beside is None else beside
            ), index

            value = value["logprobs"]

        assert repr_of(value) == repr_of(choice.get("logprobs")), index


def _holds_something(choice: dict[str, Any]) -> bool:
    """Whether there is anything in a choice; one without is left out beside others."""
    fields = ("text", "finish_reason", "error", "prompt_logprobs")
    return (
        "logprobs" in choice
        or isinstance(choice.get("message"), dict)
        or any(choice.get(field) is not None for field in fields)
    )


def repr_of(value: Any) -> str:
    """JSON with sorted keys, in which an integer is written as a float if a float holds it exactly."""
    return json.dumps(_floats(value), sort_keys=True)


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    if type(value) is not int or abs(value) >= 2**1023:
        return value
    return float(value) if float(value) == value else value
