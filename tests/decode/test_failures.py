"""Bodies that cannot be decoded: each is one failure that says what is wrong and where."""

from __future__ import annotations

from typing import Any

import pytest
from builders import answer_with
from decode.decoding import decode_one, failure_of

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.formats import chat as chat_shape

GOOD = {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": []}]}}]}


def chosen(**keys: Any) -> dict[str, Any]:
    """A body of one choice with these keys."""
    return {"choices": [keys]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "not JSON: Expecting value at character 0 of 0 bytes: ''"),
        (
            b"<html>\x1b[31mBad Gateway",
            r"not JSON: Expecting value at character 0 of 22 bytes: '<html>\x1b[31mBad Gateway'",
        ),
        (b'{"choices": [{"logp', "not JSON: Unterminated string starting at at character 14 of 19 bytes"),
        (b'{"choices": [\xff]}', "not UTF-8 at byte 13 of 16"),
        (b'{"choices":[{"logprobs":{"content":[{"token":"\xff","logprob":-1}]}}]}', "not UTF-8 at byte 46"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"choices":' + b"1" * 5000 + b"}", "a number that cannot be read"),
        (b'{"choices":[{"logprobs":{"content":[{"token":"a\x01","logprob":-1}]}}]}', "Invalid control character"),
        (b"[]", "the body is list, not an object"),
        (b"null", "the body is NoneType, not an object"),
        (b"{}", "choices: missing or null"),
        (b'{"choices": {}}', "choices: empty"),
        (b'{"choices": []}', "choices: empty"),
        (b'{"choices": [7]}', "choices[0]: expected an object, got int"),
        ({"choices": [{"index": 0}, {"index": 0}]}, "choices[1].index: 0 stands twice"),
        ({"choices": [{"index": 0}, {}]}, "choices[1].index: expected an integer in 0..999, got 'None'"),
        ({"choices": [{"index": -1}]}, "choices[0].index: expected an integer"),
        ({"choices": [{"index": 1000}]}, "choices[0].index: expected an integer"),
        ({"choices": [{"index": True}]}, "choices[0].index: expected an integer"),
        (chosen(logprobs=[]), "choices[0].logprobs: expected an object, got list"),
        (chosen(logprobs={"content": "a"}), "choices[0].logprobs.content: expected a list, got str"),
        (chosen(logprobs={"content": ["a"]}), "choices[0].logprobs.content[0]: expected an object, got str"),
        (
            chosen(logprobs={"refusal": [{"logprob": 0}]}),
            "choices[0].logprobs.refusal[0].token: expected a string, got NoneType",
        ),
        (
            chosen(logprobs={"content": [{"token": "a", "logprob": 0, "top_logprobs": [{"token": 5}]}]}),
            "choices[0].logprobs.content[0].top_logprobs[0].token: expected a string, got int",
        ),
        (
            chosen(logprobs={"content": [{"token": "a", "logprob": 0, "top_logprobs": {"a": 0}}]}),
            "choices[0].logprobs.content[0].top_logprobs: expected a list, got dict",
        ),
        (
            chosen(
                logprobs={
                    "content": [{"token": "a", "logprob": 0, "top_logprobs": [{"token": "a", "logprob": 0}] * 32_768}]
                }
            ),
            "32768 alternatives, more than the 32767 ranks there are",
        ),
        (chosen(logprobs={"tokens": ["a", 5]}), "choices[0].logprobs.tokens[1]: expected a string, got int"),
        (
            chosen(logprobs={"tokens": ["a", "b"], "token_logprobs": [0]}),
            "choices[0].logprobs.token_logprobs: expected a list of 2 items, one for each token, got 1 items",
        ),
        (
            chosen(logprobs={"tokens": ["a"], "top_logprobs": [[]]}),
            "choices[0].logprobs.top_logprobs[0]: expected an object, got list",
        ),
        (
            b'{"choices":[{"logprobs":{"content":[],"x":' + b"[" * 70 + b"]" * 70 + b"}}]}",
            "logprobs are nested deeper than 64 levels",
        ),
    ],
)
def test_a_malformed_answer_names_the_place(body: Any, expected: str) -> None:
    """The message names the JSON path or the byte, and has no control character."""
    error_type, message = failure_of(body)

    assert error_type == "malformed_answer"
    assert expected in message
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"error": {"message": "overloaded\x1b[2J", "code": 5}},
            r"the server answered with an error: overloaded\x1b[2J",
        ),
        ({"error": "no"}, "the server answered with an error: no"),
        ({"error": {"code": 5}, "choices": []}, "the server answered with an error: {'code': 5}"),
        ({"object": "error", "message": "no model"}, "the server answered with an error: no model"),
    ],
)
def test_an_error_sent_with_status_200_is_one(body: Any, expected: str) -> None:
    """A body that reports an error is a failure with the server's words, made printable."""
    assert failure_of(body) == ("error_body", expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (chosen(logprobs=None), "choices[0].logprobs: null, though asked for"),
        (chosen(text="a"), "choices[0].logprobs: absent, though asked for"),
        (chosen(logprobs=None, message={"tool_calls": [{}]}), "choices[0].logprobs: null, though asked for"),
        (chosen(logprobs={}), "choices[0].logprobs: no list of tokens in it, only ''"),
        (chosen(logprobs={"rank": 1}), "choices[0].logprobs: no list of tokens in it, only 'rank'"),
        (
            chosen(logprobs={"content": []}, text="a"),
            "choices[0].logprobs: no tokens in it, though the answer is not empty",
        ),
        (chosen(logprobs={"content": None}, message={"refusal": "a"}), "choices[0].logprobs: no tokens in it"),
        (
            {**chosen(logprobs={"content": []}), "usage": {"completion_tokens": 1}},
            "choices[0].logprobs: no tokens in it",
        ),
    ],
)
def test_no_logprobs_though_asked_for_is_a_failure(body: Any, expected: str) -> None:
    """An answer without the logprobs that were asked for is not an empty answer."""
    error_type, message = failure_of(body)

    assert error_type == "no_logprobs"
    assert message.startswith(expected)


@pytest.mark.parametrize("value", [{"content": []}, {"content": None, "refusal": None}, {"tokens": []}])
@pytest.mark.parametrize("usage", [None, {}, {"completion_tokens": 0}])
def test_an_answer_of_no_tokens_is_a_success(value: Any, usage: Any) -> None:
    """An empty answer with an empty list of logprobs is a completion without tokens."""
    body = {**chosen(logprobs=value, message={"content": ""}), "usage": usage}
    completions, tokens, _ = decode_one(body)

    assert completions.select("text", "token_count", "logprob_sum").row(0) == ("", 0, None)
    assert len(tokens) == 0


@pytest.mark.parametrize(("choice", "wire"), [({"logprobs": None}, '{"shape":"null"}'), ({}, '{"shape":"absent"}')])
def test_logprobs_that_were_not_asked_for_may_lack(choice: Any, wire: str) -> None:
    """The answer is a completion, and the `wire` column tells null from absent."""
    completions, _, _ = decode_one(chosen(text="a", **choice), logprobs=False)

    assert completions.select("text", "token_count", "wire").row(0) == ("a", 0, wire)


def test_one_bad_choice_fails_its_whole_answer() -> None:
    """The rows of the good choice alone would look like the whole answer."""
    good = GOOD["choices"][0]
    error_type, message = failure_of({"choices": [{**good, "index": 0}, {"index": 1, "logprobs": None}]})

    assert (error_type, message) == ("no_logprobs", "choices[1].logprobs: null, though asked for")


@pytest.mark.parametrize("bad", [b"{", rb'{"choices":[{"logprobs":{"content":[{"token":"\ud83d","logprob":-1}]}}]}'])
def test_a_bad_one_among_many_is_isolated(bad: bytes) -> None:
    """Two of 200 bodies are broken or irregular; the other 198 are still read in bulk."""
    bodies = [bad if n in (7, 150) else GOOD for n in range(200)]
    decoded = decode_answers([answer_with(body, prompt_index=n) for n, body in enumerate(bodies)], scanner_min_bytes=0)

    broken = [7, 150] if bad == b"{" else []

    assert [index for index, _ in decoded.failures] == broken
    assert decoded.not_scanned == ([] if broken else [7, 150])
    assert decoded.tokens.column("completion_id").to_pylist() == [n * 10**8 for n in range(200) if n not in broken]


def test_two_answers_for_one_prompt_are_the_callers_mistake() -> None:
    """Two answers with one prompt and sample index are refused, because their rows could not be told apart."""
    with pytest.raises(ValueError, match="answers 0 and 1 are both for prompt_index, sample_index"):
        decode_answers([answer_with(GOOD), answer_with(GOOD)])


def test_the_format_is_found_from_the_answer_and_the_endpoint_is_a_hint() -> None:
    """The endpoint does not choose the format; only messages name it."""
    _, tokens, _ = decode_one(GOOD, endpoint="responses")

    assert tokens["token"].to_list() == ["a"]

    error_type, message = failure_of({"id": 5, "detail": "?"}, endpoint="embeddings")

    assert error_type == "malformed_answer"
    assert message == (
        "choices: missing or null, expected a list of at least one choice; "
        "the embeddings answer has the keys 'id, detail'"
    )


def test_shapes_name_themselves() -> None:
    """The names of shapes are pinned, because stored tables hold them."""
    assert chat_shape.NAME == "chat"
