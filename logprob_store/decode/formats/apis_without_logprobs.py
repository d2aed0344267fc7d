"""Answers of APIs that give no log-probabilities, or not in this form, and a sentence about each for the failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


_LLAMACPP_KEYS: Final = frozenset({"content", "tokens", "model", "index", "id_slot"})


def _has(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    needed = frozenset(keys)
    return lambda held: needed <= held.keys()


_SENTENCES: Final[tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...]] = (
    (
        lambda held: held.get("type") == "message" and "content" in held,
        "this is an answer of Anthropic's Messages API, which gives no log-probabilities",
    ),
    (
        lambda held: isinstance(held.get("result"), dict) and "custom_id" in held,
        "this is a line of Anthropic's Message Batches, whose API gives no log-probabilities",
    ),
    (
        _has("stop_reason", "completion"),
        "this is an answer of Anthropic's Text Completions API, which gives no log-probabilities",
    ),
    (
        lambda held: isinstance(held.get("output"), dict) and "stopReason" in held,
        "this is an answer of Bedrock's Converse API, which gives no log-probabilities",
    ),
    (
        _has("inputTextTokenCount", "results"),
        "this is an answer of Amazon Titan on Bedrock, which gives no log-probabilities",
    ),
    (
        _has("generation", "prompt_token_count"),
        "this is an answer of Llama on Bedrock, whose API gives no log-probabilities",
    ),
    (
        _has("text", "segments"),
        (
            "this is a verbose transcription: it has the mean log-probability of each segment and no tokens. Ask for "
            'response_format json with include ["logprobs"]'
        ),
    ),
    (
        lambda held: "text" in held and ("generation_id" in held or "chat_history" in held),
        "this is Cohere's v1 chat, which gives no log-probabilities; its v2 chat does (logprobs: true)",
    ),
    (
        _has("generations"),
        "this is Cohere's generate, or a list of generations of another tool, which is not read; Cohere's v2 chat is",
    ),
    (
        _has("text_output"),
        (
            "this is an answer of Triton's generate extension, whose log-probabilities are not read; the same server's "
            "OpenAI-compatible endpoints are"
        ),
    ),
    (
        _has("outputs", "model_name"),
        "this is an answer of a KServe v2 server (tensors), which is not read; its OpenAI-compatible endpoints are",
    ),
    (_has("embeddings"), "this is an answer with embeddings, not with text"),
    (_has("embedding"), "this is an embedding, not a text"),
    (
        lambda held: isinstance(held.get("content"), str) and held.keys() <= _LLAMACPP_KEYS,
        (
            "this is an answer of llama.cpp whose response_fields leave out completion_probabilities, or of another "
            "server that sends the text alone"
        ),
    ),
    (
        lambda held: isinstance(held.get("content"), list) and held.keys() <= {"content", "refusal"},
        'this is the logprobs of a choice without its answer; wrap it as {"choices": [{"logprobs": ...}]}',
    ),
    (
        lambda held: isinstance(held.get("logprobs"), list) and held.keys() <= {"logprobs", "usage", "model"},
        "this is a list of log-probabilities without the texts or ids of its tokens",
    ),
)


def why_no_logprobs(held: Mapping[str, Any]) -> str | None:
    """The sentence about an answer; None if it is not known.

    >>> why_no_logprobs({"type": "message", "content": []})
    "this is an answer of Anthropic's Messages API, which gives no log-probabilities"
    """
    return next((sentence for matches, sentence in _SENTENCES if matches(held)), None)


_STREAM_SENTENCES: Final = (
    ("message_start", "this is a stream of Anthropic's Messages API, which gives no log-probabilities"),
    ("contentBlockDelta", "this is a stream of Bedrock's Converse API, which gives no log-probabilities"),
    ("messageStart", "this is a stream of Bedrock's Converse API, which gives no log-probabilities"),
)


def why_a_stream_has_no_logprobs(pieces: Collection[Mapping[str, Any]]) -> str | None:
    """The sentence about a stream in no known format; None if it is not known."""
    kinds = {kind for piece in pieces if isinstance(kind := piece.get("type"), str)}
    names = kinds | {key for piece in pieces for key in piece}
    return next((sentence for name, sentence in _STREAM_SENTENCES if name in names), None)
