"""Native bodies of all servers: malformed ones, those without logprobs, and recorded ones value by value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import RECORDINGS, answer_with
from decode.decoding import decode_one, failure_of, rebuild
from decode.native_bodies import (
    gemini,
    gemini_body,
    llamacpp,
    ollama,
    sglang,
    tgi,
)

from logprob_store.decode.decoder import decode_answers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([llamacpp([]), {"error": {"message": "full"}}], "the server answered with an error: full"),
        (ollama([], done=False), "done: false, as in a stream that was cut off"),
        ([llamacpp([], stop=False)], "[0].stop: false, as in a stream that was cut off"),
        ([sglang(finish_reason=None)] * 2, "the stream was cut off before its end"),
        (gemini_body(), "candidates: none, expected at least one"),
        (gemini_body(5), "candidates: none, expected at least one"),
        ({"model_id": "m", "results": [None]}, "results: none, expected at least one"),
        ({"prompt": {}, "completions": [5]}, "completions: none, expected at least one"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "the server blocked the prompt: 'SAFETY'"),
    ],
)
def test_a_malformed_answer_names_the_json_path(body: Any, expected: str) -> None:
    """The message of a malformed answer begins with the JSON path."""
    _, message = failure_of(body)

    assert message.startswith(expected)
    assert message.isprintable()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (llamacpp(None), "completion_probabilities: null, though asked for"),
        (llamacpp([]), "completion_probabilities: no tokens in it"),
        (llamacpp({}), "completion_probabilities: no tokens in it"),
        (ollama({}), "logprobs: no list of tokens, but no keys"),
        (sglang(output_token_logprobs=5), "meta_info: no tokens in it"),
        ({"text": "a", "meta_info": 5}, "meta_info: absent, though asked for"),
        ({"generated_text": "a", "details": []}, "details: absent, though asked for"),
        (gemini_body(gemini([])), "candidates[0]: no tokens in it"),
        (ollama(None), "logprobs: null, though asked for"),
        (sglang(), "meta_info: absent, though asked for"),
        ({"generated_text": "a"}, "details: absent, though asked for"),
        (tgi(tokens=[]), "details: no tokens in it"),
        (gemini_body(gemini(None)), "candidates[0]: avgLogprobs alone"),
    ],
)
def test_no_logprobs_though_asked_for_is_a_failure(body: Any, expected: str) -> None:
    """An answer without the logprobs that were asked for is a failure; if none were asked for, it is a completion."""
    error_type, message = failure_of(body)

    assert error_type == "no_logprobs"
    assert message.startswith(expected)
    assert len(decode_one(body, logprobs=False)[0]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"text": "a", "logprobs": None}], "completion_probabilities": [], "done": True, "response": "b"},
        {"choices": [{"text": "a"}], "meta_info": {}, "generated_text": "b", "candidates": []},
    ],
)
def test_a_body_with_choices_is_not_native(body: Any) -> None:
    """Servers add keys of their own to the OpenAI shape; `choices` decides."""
    completions, _, _ = decode_one(body, logprobs=False)

    assert completions["text"].to_list() == ["a"]


FILES = [path for pattern in ("gemini", "ollama", "sglang", "tgi") for path in sorted(RECORDINGS.glob(f"{pattern}-*"))]


def raw_tokens(body: dict[str, Any]) -> tuple[Any, list[tuple[Any, ...]]]:
    """The logprobs part of a recorded body, and each token with its alternatives as (text, id, bytes, logprob)."""
    if "candidates" in body:
        [candidate] = body["candidates"]
        result = candidate["logprobsResult"]
        tops = result.get("topCandidates", [{}] * len(result["chosenCandidates"]))
        listed = [(c, top.get("candidates", [])) for c, top in zip(result["chosenCandidates"], tops, strict=True)]
        part = {key: candidate[key] for key in ("avgLogprobs", "logprobsResult")}
        return part, [tuple((o["token"], o["tokenId"], None, o["logProbability"]) for o in (c, *t)) for c, t in listed]
    if "meta_info" in body:
        part = {key: value for key, value in body["meta_info"].items() if key.endswith("_logprobs")}
        chosen, tops = part["output_token_logprobs"], part["output_top_logprobs"]
        listed = [(c, tops[n] if n < len(tops) else []) for n, c in enumerate(chosen)]
        return part, [tuple((text, number, None, p) for p, number, text in (c, *t)) for c, t in listed]
    if "details" in body:
        part = {key: value for key, value in body["details"].items() if key in ("tokens", "prefill", "top_tokens")}
        return part, [((t["text"], t["id"], None, t["logprob"]),) for t in part["tokens"]]
    return body["logprobs"], [((t["token"], None, bytes(t["bytes"]), t["logprob"]),) for t in body["logprobs"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recordings_value_by_value(path: Path) -> None:
    """Each row equals the raw JSON of a recorded answer, and the raw JSON is rebuilt."""
    body = json.loads(path.read_bytes())
    decoded = decode_answers([answer_with(path.read_bytes())])

    assert decoded.failures == []

    part, expected = raw_tokens(body)
    tokens, alternatives = pl.DataFrame(decoded.tokens), pl.DataFrame(decoded.alternatives)
    both = pl.concat([tokens.with_columns(rank=pl.lit(0, pl.Int16)), alternatives], how="diagonal")
    number = pl.coalesce("logprob", "logprob_wire")
    found = both.sort("position", "rank").select("position", "token", "token_id", "bytes", number).rows()

    assert found == [(n, *one) for n, listed in enumerate(expected) for one in listed]
    assert rebuild(decoded) == {0: part}
