"""TGI's /generate: the rows for details, prefill, the old form, and the best of several."""

from __future__ import annotations

from typing import Any

import pytest
from decode.decoding import columns, decode_one, rebuilt
from decode.native_bodies import (
    tgi,
    tgi_token,
)


def test_a_body_becomes_a_completion() -> None:
    """Prefill tokens are the prompt; whether a token is special is kept in the wire column only."""
    part = {
        "tokens": [tgi_token("a", -0.5, 1), tgi_token("</s>", -0.25, 2, special=True)],
        "prefill": [{"id": 5, "text": "<s>", "logprob": None}, {"id": 6, "text": "x", "logprob": -3.0}],
        "top_tokens": [[tgi_token("a", -0.5, 1), tgi_token("b", -1.0, 3)], [tgi_token("</s>", -0.25, 2, special=True)]],
    }
    completions, tokens, alternatives = decode_one(tgi(**part))

    assert columns(completions, "finish_reason", "text", "completion_tokens", "token_count") == [
        ("eos_token", "ab", 2, 2)
    ]
    assert columns(tokens, "section", "token", "token_id", "logprob", "logprob_flag") == [
        ("prompt", "<s>", 5, None, "missing"),
        ("prompt", "x", 6, -3.0, None),
        ("content", "a", 1, -0.5, None),
        ("content", "</s>", 2, -0.25, None),
    ]
    assert columns(alternatives, "section", "position", "rank", "token_id") == [
        ("content", 0, 1, 1),
        ("content", 0, 2, 3),
        ("content", 1, 1, 2),
    ]
    assert rebuilt(tgi(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]


def test_a_list_of_one_body_is_one_answer() -> None:
    """The endpoint `/` and hosted endpoints send the body in a list."""
    completions, tokens, _ = decode_one([tgi(tokens=[tgi_token("a", -0.5, 1)])])

    assert columns(completions, "completion_id", "text") == [(0, "ab")]
    assert columns(tokens, "token", "logprob") == [("a", -0.5)]


def test_an_old_release_sends_triples() -> None:
    """Tokens are lists of id, text and logprob."""
    body = {"generated_text": "a", "details": {"finish_reason": "length", "tokens": [[1, "a", -0.5], [2, "b", -0.25]]}}
    completions, tokens, _ = decode_one(body)

    assert columns(tokens, "token", "token_id", "logprob") == [("a", 1, -0.5), ("b", 2, -0.25)]
    assert rebuilt(body) == {0: {"tokens": [[1, "a", -0.5], [2, "b", -0.25]]}}
    assert "patch" not in completions["wire"][0]


def test_keys_that_are_left_out_need_no_patch() -> None:
    """Serde leaves out keys whose value is None, as the first token's logprob."""
    body = tgi(prefill=[{"id": 5, "text": "<s>"}, {"id": 6, "text": "x", "logprob": -3.0}], tokens=[])
    completions, tokens, _ = decode_one(body, logprobs=False)

    assert columns(tokens, "token", "logprob", "logprob_flag") == [("<s>", None, "missing"), ("x", -3.0, None)]
    assert rebuilt(body) == {0: {key: body["details"][key] for key in ("prefill", "tokens")}}
    assert "patch" not in completions["wire"][0]


def test_the_best_of_several_is_the_first_choice() -> None:
    """The other sequences are further choices, each with its own text and tokens."""
    other = {"generated_text": "c", "finish_reason": "length", "generated_tokens": 1, "prefill": []}
    other["tokens"] = [tgi_token("c", -2.0, 3)]
    completions, tokens, _ = decode_one(tgi(tokens=[tgi_token("a", -0.5, 1)], best_of_sequences=[other]))

    assert columns(completions, "completion_id", "text", "finish_reason", "completion_tokens") == [
        (0, "ab", "eos_token", 3),
        (1, "c", "length", 3),
    ]
    assert columns(tokens, "completion_id", "token") == [(0, "a"), (1, "c")]


@pytest.mark.parametrize("details", [{"top_tokens": []}, {"tokens": None, "top_tokens": [], "prefill": None}])
def test_lists_without_tokens_are_rebuilt(details: dict[str, Any]) -> None:
    """Empty and null lists are rebuilt although no token shows which keys tokens have."""
    assert rebuilt({"generated_text": "", "details": details}) == {0: details}
