"""SGLang's /generate: the rows for output, input, token ids without text, and older releases."""

from __future__ import annotations

from typing import Any

import pytest
from builders import answer_with
from decode.decoding import columns, decode_one, rebuilt
from decode.native_bodies import (
    sglang,
)

from logprob_store.decode.anomalies import count_anomalies
from logprob_store.decode.decoder import decode_answers
from logprob_store.view.highlight import coloured, uncertain

TRIPLES = [[-0.5, 11, " a"], [-0.25, 12, " b"]]


def test_a_body_becomes_a_completion() -> None:
    """The finish reason is the type of an object; ids and counts are in meta_info."""
    completions, tokens, _ = decode_one(sglang(output_token_logprobs=TRIPLES))
    names = ("response_id", "finish_reason", "text", "prompt_tokens", "completion_tokens", "token_count")

    assert columns(completions, *names) == [("x1", "stop", "ab", 5, 2, 2)]
    assert columns(tokens, "section", "token", "token_id", "logprob") == [
        ("content", " a", 11, -0.5),
        ("content", " b", 12, -0.25),
    ]


@pytest.mark.parametrize("names", [("input", "output"), ("prefill", "decode")])
def test_input_tokens_are_the_prompt(names: tuple[str, str]) -> None:
    """The first has no logprob and no alternatives; before release 0.4 input and output have other names."""
    part = {
        f"{names[0]}_token_logprobs": [[None, 1, "The"], [-2.5, 2, " cat"]],
        f"{names[1]}_token_logprobs": TRIPLES,
        f"{names[0]}_top_logprobs": [None, [[-1.0, 3, " dog"], [-2.5, 2, " cat"]]],
        f"{names[1]}_top_logprobs": [[[-0.5, 11, " a"]], [[-0.25, 12, " b"]]],
    }
    completions, tokens, alternatives = decode_one(sglang(**part))

    assert columns(tokens, "section", "position", "token", "logprob", "logprob_flag") == [
        ("prompt", 0, "The", None, "missing"),
        ("prompt", 1, " cat", -2.5, None),
        ("content", 0, " a", -0.5, None),
        ("content", 1, " b", -0.25, None),
    ]
    assert columns(alternatives, "section", "position", "rank", "token") == [
        ("prompt", 1, 1, " dog"),
        ("prompt", 1, 2, " cat"),
        ("content", 0, 1, " a"),
        ("content", 1, 1, " b"),
    ]
    assert columns(completions, "token_count", "logprob_sum") == [(2, -0.75)]
    assert rebuilt(sglang(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]


def test_tokens_without_text_are_null_and_can_be_shown() -> None:
    """A token of which only the id was sent has a null text, not an empty one."""
    part = {"output_token_logprobs": [[-0.5, 11, None]], "output_top_logprobs": [[[-0.5, 11, None], [-1.0, 12, None]]]}
    completions, tokens, alternatives = decode_one(sglang(**part))

    assert columns(tokens, "token", "token_id", "logprob") == [(None, 11, -0.5)]
    assert columns(alternatives, "rank", "token", "token_id") == [(1, None, 11), (2, None, 12)]
    assert rebuilt(sglang(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]
    assert str(coloured(tokens)) == "\N{REPLACEMENT CHARACTER}"
    assert uncertain(tokens, alternatives)


@pytest.mark.parametrize(("others", "missing"), [([[-0.5, 11, None]], 0), ([[-0.5, 12, None]], 1)])
def test_tokens_without_text_are_no_anomaly(others: list[Any], missing: int) -> None:
    """Chosen token and alternatives are compared by id, and a null text does not count as differing."""
    part = {"output_token_logprobs": [[-0.5, 11, None]], "output_top_logprobs": [others]}
    decoded = decode_answers([answer_with(sglang(**part))])
    counted = count_anomalies(decoded.completions, decoded.tokens, decoded.alternatives)

    assert (counted["chosen_missing"], counted["text_differs"]) == (missing, 0)


def test_requested_ids_follow_the_top_alternatives() -> None:
    """Id 11 is in both lists and becomes one row; the order of the requested ids is rebuilt."""
    part = {
        "output_token_logprobs": [[-0.5, 11, None], [-0.25, 12, None]],
        "output_top_logprobs": [[[-0.5, 11, None], [-1.0, 13, None]], [[-0.25, 12, None], [-2.0, 13, None]]],
        "output_token_ids_logprobs": [
            [[-9.0, 99, None], [-0.5, 11, None]],
            [[-8.0, 99, None], [-7.0, 11, None]],
        ],
    }
    completions, _, alternatives = decode_one(sglang(**part))

    assert columns(alternatives, "position", "rank", "token_id", "logprob") == [
        (0, 1, 11, -0.5),
        (0, 2, 13, -1.0),
        (0, 3, 99, -9.0),
        (1, 1, 12, -0.25),
        (1, 2, 13, -2.0),
        (1, 3, 99, -8.0),
        (1, 4, 11, -7.0),
    ]
    assert rebuilt(sglang(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]


def test_empty_lists_of_older_releases_need_no_patch() -> None:
    """Older releases send [] where newer ones send null, and the lists may be shorter than the tokens."""
    part = {"output_token_logprobs": [*TRIPLES, *TRIPLES], "output_top_logprobs": [[], [[-0.25, 12, " b"]], []]}
    completions, _, alternatives = decode_one(sglang(**part))

    assert columns(alternatives, "position", "rank", "token") == [(1, 1, " b")]
    assert rebuilt(sglang(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]


def test_several_answers_are_choices() -> None:
    """A list of answers becomes choices in the order of the list."""
    body = [sglang(text=text, output_token_logprobs=[[-1.0, n, text]]) for n, text in enumerate("ab")]
    completions, tokens, _ = decode_one(body)

    assert columns(completions, "completion_id", "text", "prompt_tokens", "completion_tokens") == [
        (0, "a", 5, 4),
        (1, "b", 5, 4),
    ]
    assert columns(tokens, "completion_id", "token") == [(0, "a"), (1, "b")]


def test_ids_beyond_int32_are_null_and_rebuilt() -> None:
    """The column is Int32; the patch keeps other values."""
    part = {"output_token_logprobs": [[-0.5, 2**31, "a"], [-0.5, -(2**31), "b"], [-0.5, True, "c"]]}
    _, tokens, _ = decode_one(sglang(**part))

    assert tokens["token_id"].to_list() == [None, -(2**31), None]
    assert repr(rebuilt(sglang(**part))) == repr({0: part})
