"""llama.cpp's /completion: the rows for logprobs, probabilities, the old form, several prompts and streams."""

from __future__ import annotations

import json
import math

import pytest
from decode.decoding import columns, decode_one, rebuilt
from decode.native_bodies import (
    llamacpp,
    logprob_token,
    prob_token,
)


def test_a_body_becomes_a_completion() -> None:
    """Model, stop_type, content and token counts go into the columns for them."""
    completions, _, _ = decode_one(llamacpp([logprob_token("a", -1.5, 7)]))
    expected = [("gemma", "limit", "ab", 5, 2, 1, -1.5)]
    names = ("response_model", "finish_reason", "text", "prompt_tokens", "completion_tokens", "token_count")

    assert columns(completions, *names, "logprob_sum") == expected


def test_a_token_has_its_id_bytes_and_logprob() -> None:
    """Tokens are read as in chat; the lowest float stands for -inf and is flagged as a sentinel."""
    lowest = -3.4028234663852886e38
    part = [logprob_token("é", -0.5, 7, top_logprobs=[logprob_token("é", -0.5, 7), logprob_token("b", lowest, 8)])]
    _, tokens, alternatives = decode_one(llamacpp(part))

    assert columns(tokens, "token", "bytes", "token_id", "logprob") == [("é", b"\xc3\xa9", 7, -0.5)]
    assert columns(alternatives, "rank", "token", "logprob", "logprob_flag", "logprob_wire") == [
        (1, "é", -0.5, None, None),
        (2, "b", None, "sentinel", lowest),
    ]
    assert rebuilt(llamacpp(part)) == {0: part}


def test_probabilities_become_their_logarithms() -> None:
    """A probability becomes its logarithm; 0 is neg_inf, more than 1 is positive, and any other value is missing."""
    tops = [prob_token("b", prob, 8) for prob in (1, 0.0, 2.0, -0.5, None, True)]
    part = [prob_token("a", 0.25, 7, top_probs=tops)]
    _, tokens, alternatives = decode_one(llamacpp(part))

    assert columns(tokens, "token", "token_id", "logprob") == [("a", 7, math.log(0.25))]
    assert columns(alternatives, "logprob", "logprob_flag", "logprob_wire") == [
        (0.0, None, None),
        (None, "neg_inf", None),
        (None, "positive", math.log(2)),
        (None, "missing", None),
        (None, "missing", None),
        (None, "missing", None),
    ]
    assert repr(rebuilt(llamacpp(part))[0][0]["top_probs"]) == repr(
        [dict(prob_token("b", prob, 8)) for prob in (1.0, 0.0, 2.0, -0.5, None, True)]
    )


def test_probabilities_of_single_precision_need_no_patch() -> None:
    """exp(ln p), rounded to the server's single precision, is p; the first four are recorded values."""
    probs = [0.01373891532421112, 0.3302119970321655, 0.15234194695949554, 0.9314325451850891, 1e-45]
    part = [prob_token("a", prob, 7, top_probs=[]) for prob in probs]
    completions, _, _ = decode_one(llamacpp(part))

    assert any(math.exp(math.log(prob)) != prob for prob in probs)
    assert json.loads(completions["wire"][0]).keys() == {"shape", "token", "prob", "patch"}
    assert [place for place, *_ in json.loads(completions["wire"][0])["patch"]] == [[4, "prob"]]  # 1e-45 is no float32
    assert rebuilt(llamacpp(part)) == {0: part}


def test_an_old_release_sends_no_probability_of_the_chosen_token() -> None:
    """The chosen token has the probability of the alternative with its text, if there is just one."""
    part = [
        {"content": "a", "probs": [{"prob": 0.5, "tok_str": "b"}, {"prob": 0.25, "tok_str": "a"}]},
        {"content": "c", "probs": [{"prob": 0.5, "tok_str": "b"}]},
        {"content": "d", "probs": [{"prob": 0.5, "tok_str": "d"}, {"prob": 0.25, "tok_str": "d"}]},
    ]
    old = {"stop_type": None, "stopped_eos": False, "stopped_word": True, "stopped_limit": False}
    body = llamacpp(part, **old)
    del body["stop_type"]
    completions, tokens, alternatives = decode_one(body)

    assert columns(tokens, "token", "logprob", "logprob_flag") == [
        ("a", math.log(0.25), None),
        ("c", None, "missing"),
        ("d", None, "missing"),
    ]
    assert columns(alternatives.head(2), "position", "rank", "token", "logprob") == [
        (0, 1, "b", math.log(0.5)),
        (0, 2, "a", math.log(0.25)),
    ]
    assert completions["finish_reason"].to_list() == ["word"]
    assert rebuilt(body) == {0: part}


@pytest.mark.parametrize(("prompts", "counted"), [(("x", "x"), 5), (("x", "y"), 10)])
def test_several_answers_are_choices(prompts: tuple[str, str], counted: int) -> None:
    """Samples of one prompt count its tokens once; answers to several prompts add theirs up."""
    parts = [[logprob_token("a", -1.0, 1)], [prob_token("b", 0.5, 2)]]
    body = [llamacpp(parts[n], index=n, prompt=prompts[n]) for n in (1, 0)]
    completions, tokens, _ = decode_one(body)

    assert columns(completions, "completion_id", "choice_index", "prompt_tokens", "completion_tokens") == [
        (0, 0, counted, 4),
        (1, 1, counted, 4),
    ]
    assert columns(tokens, "completion_id", "token", "logprob") == [(0, "a", -1.0), (1, "b", math.log(0.5))]
    assert rebuilt(body) == {0: parts[0], 1: parts[1]}


@pytest.mark.parametrize("spell", ["events", "list"])
def test_a_stream_is_one_answer(spell: str) -> None:
    """Server-sent events, or a list of their data, are merged; the last piece has the counts and no token."""
    tokens = [logprob_token("a", -1.0, 1), prob_token("b", 0.5, 2)]
    pieces = [
        {"index": 0, "content": "a", "stop": False, "tokens_predicted": 1, "completion_probabilities": tokens[:1]},
        {"index": 0, "content": "b", "stop": False, "tokens_predicted": 2, "completion_probabilities": tokens[1:]},
        {"index": 0, "content": "", "stop": True, "tokens_predicted": 2, "stop_type": "eos"},
    ]
    events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces)
    body = events.encode() if spell == "events" else json.dumps(pieces).encode()
    completions, rows, _ = decode_one(body)

    assert columns(completions, "text", "finish_reason", "completion_tokens") == [("ab", "eos", 2)]
    assert columns(rows, "token", "logprob") == [("a", -1.0), ("b", math.log(0.5))]
    assert rebuilt(body) == {0: tokens}
