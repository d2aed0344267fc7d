"""Bodies that cannot be decoded: each is one failure that says what is wrong and where."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from builders import answer_with
from decode.decoding import assert_scanned, decode_one, failure_of

from logprob_store.decode import completions_table, decoder
from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.formats import chat as chat_shape

CHAT = {"content": [{"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": []}]}
GOOD = {"choices": [{"logprobs": CHAT}]}


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
        (b'{"choices":' + b"1" * 5000 + b"}", "choices: expected a list of objects, got a number"),
        (b'{"choices":[{"logprobs":{"content":[{"token":"a\x01","logprob":-1}]}}]}', "Invalid control character"),
        (b"[]", "the body is a list, not an object"),
        (b"null", "the body is null, not an object"),
        (b"{}", "choices: missing or null"),
        (b'{"choices": {}}', "choices: empty"),
        (b'{"choices": []}', "choices: empty"),
        (b'{"choices": [7]}', "choices: expected a list of objects, got a list of a number"),
        (b'{"choices": "a"}', "choices: expected a list of objects, got a text"),
        ({"choices": [{}] * 1001}, "choices: 1001, more than the 1000 that can be numbered"),
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
        ({"error": {"code": 5}, "choices": []}, 'the server answered with an error: {"code": 5}'),
        ({"object": "error", "message": "no model"}, "the server answered with an error: no model"),
        ({"error": "no", **GOOD}, "the server answered with an error: no"),
        (
            chosen(finish_reason="error", message={"content": "The ans\x1b"}, logprobs=CHAT),
            r"the server answered with an error: finish_reason: error; before it failed came 'The ans\x1b'",
        ),
        (
            chosen(finish_reason="stop", error={"code": 502, "message": "idle"}, text="Th", logprobs=CHAT),
            "the server answered with an error: idle; before it failed came 'Th'",
        ),
        (
            {"choices": [{"index": 0, "text": "a", "logprobs": CHAT}, {"index": 1, "finish_reason": "abort"}]},
            "the server answered with an error: finish_reason: abort; before it failed came 'a'",
        ),
    ],
)
def test_an_error_sent_with_status_200_is_one(body: Any, expected: str) -> None:
    """The message has the server's words, made printable, and then the text that came before."""
    assert failure_of(body) == ("error_body", expected)
    assert failure_of(body, logprobs=False) == ("error_body", expected)


@pytest.mark.parametrize(
    "end",
    [
        {"error": {"message": "idle"}},
        {"choices": [{"index": 0, "finish_reason": "error"}]},
        {"object": "error", "message": "idle", "type": "BadRequestError", "code": 400},
        {"code": 502, "message": "idle"},
    ],
)
def test_a_stream_that_ends_in_an_error_is_a_failure(end: Any) -> None:
    """A last piece or a choice reports the error, and the message has the text that came before."""
    chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Th"}, "logprobs": CHAT}]}
    error_type, message = failure_of(
        "".join(f"data: {json.dumps(piece)}\n\n" for piece in (chunk, end)).encode() + b"data: [DONE]\n\n"
    )

    assert error_type == "error_body"
    assert message.endswith("; what came of the answer: 'Th'")


@pytest.mark.parametrize("error", [None, {}, "", {"code": None, "message": None}])
def test_an_empty_error_is_none(error: Any) -> None:
    """Some servers always send the key `error`."""
    body = {"error": error, **chosen(error=error, text="a", finish_reason="stop", logprobs=CHAT)}
    _, tokens, _ = decode_one(body)

    assert tokens["token"].to_list() == ["a"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (chosen(logprobs=None), "choices[0].logprobs: null, though asked for"),
        (chosen(text="a"), "choices[0].logprobs: absent, though asked for"),
        (
            chosen(logprobs=None, text="a", finish_reason="length", message={"tool_calls": [{}]}),
            "choices[0].logprobs: null, though asked for",
        ),
        (chosen(logprobs=None, message={"content": " "}, finish_reason="stop"), "choices[0].logprobs: null, though"),
        (
            chosen(logprobs="-1", text="a", finish_reason="stop"),
            "choices[0].logprobs: no list of tokens, but a text",
        ),
        (chosen(logprobs={}), "choices[0].logprobs: no list of tokens, but no keys"),
        (chosen(logprobs={"rank": 1}), "choices[0].logprobs: no list of tokens, but the keys 'rank'"),
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


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        ({"message": {"content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}, [CALL]),
        ({"message": {"content": "\n\n", "tool_calls": [CALL]}}, [CALL]),
        (
            {"message": {"content": None, "function_call": CALL["function"]}, "finish_reason": "function_call"},
            [{"type": "function", "function": CALL["function"]}],
        ),
        ({"message": {"content": ""}, "finish_reason": "length"}, None),
        ({"message": {"content": None}, "finish_reason": "content_filter"}, None),
        ({"message": {"content": ""}, "finish_reason": "stop"}, None),
    ],
)
@pytest.mark.parametrize("logprobs", [{"logprobs": None}, {}, {"logprobs": {}}, {"logprobs": {"content": []}}])
def test_an_answer_without_text_needs_no_tokens(choice: Any, calls: Any, logprobs: Any) -> None:
    """Tool calls alone, a limit used up by reasoning, or a filtered text are a completion without tokens."""
    completions, tokens, _ = decode_one({**chosen(**choice, **logprobs), "usage": {"completion_tokens": 64}})

    assert completions["token_count"].to_list() == [0]
    assert completions["tool_calls"].to_list() == [calls and json.dumps(calls, separators=(",", ":"))]
    assert len(tokens) == 0


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
    assert_scanned(decoded, but=[] if broken else [7, 150])
    assert decoded.tokens.column("completion_id").to_pylist() == [n * 10**8 for n in range(200) if n not in broken]


def test_an_answer_that_no_table_can_hold_is_a_failure_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while tables are made fails the one answer that causes it, and no other."""

    def refuse_five(tasks: Any, *args: Any) -> pa.Table:
        if any(task.answer_index == 5 for task in tasks):
            raise pa.ArrowInvalid("Value 32768 too large to fit in C integer type")
        return completions_table.completions_table(tasks, *args)

    monkeypatch.setattr(decoder, "completions_table", refuse_five)
    decoded = decode_answers([answer_with(GOOD, prompt_index=n) for n in range(12)])
    [(index, error)] = decoded.failures

    assert index == 5
    assert error.error_type == "malformed_answer"
    assert "the decoder did not foresee this answer (ArrowInvalid: Value 32768 too large" in str(error)
    assert decoded.tokens.column("completion_id").to_pylist() == [n * 10**8 for n in range(12) if n != 5]


def test_a_format_that_raises_fails_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the reader of a shape is a failure of the answer that has the shape."""

    def stumble(*_: Any) -> Any:
        raise KeyError("token")

    monkeypatch.setattr(chat_shape, "read_tokens", stumble)
    legacy = {"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": [-1.0]}}]}
    decoded = decode_answers([answer_with(GOOD), answer_with(legacy, prompt_index=1)])

    assert [(index, str(error)) for index, error in decoded.failures] == [
        (
            0,
            "choices[0].logprobs: the decoder did not foresee this answer (KeyError: 'token'); please report it",
        )
    ]
    assert decoded.tokens.column("token").to_pylist() == ["a"]


def test_two_answers_for_one_prompt_are_the_callers_mistake() -> None:
    """Two answers with one prompt and sample index are refused, because their rows could not be told apart."""
    with pytest.raises(ValueError, match="answers 0 and 1 are both for prompt_index, sample_index"):
        decode_answers([answer_with(GOOD), answer_with(GOOD)])


def test_the_format_is_found_from_the_answer_and_the_endpoint_is_a_hint() -> None:
    """The endpoint does not choose the format; only messages name it."""
    _, tokens, _ = decode_one(GOOD, endpoint="responses")

    assert tokens["token"].to_list() == ["a"]

    error_type, message = failure_of({"id": 5, "vector": "?"}, endpoint="embeddings")

    assert error_type == "malformed_answer"
    assert message == (
        "choices: missing or null, expected a list of at least one choice; "
        "the embeddings answer has the keys 'id, vector'"
    )


def test_shapes_name_themselves() -> None:
    """The names of shapes are pinned, because stored tables hold them."""
    assert chat_shape.NAME == "chat"


@pytest.mark.parametrize("field", ['"created": %s', '"usage": {"prompt_tokens": %s}', '"status": %s', '"x": %s'])
def test_a_number_beside_the_choices_may_be_too_long_to_read(field: str) -> None:
    """It says nothing about the tokens, which were paid for; the field counts as unsaid."""
    body = '{"choices": [{"logprobs": {"content": [{"token": "a", "logprob": -1}]}, "text": "a"}], ' + field % (
        "9" * 5000
    )
    completions, tokens, _ = decode_one((body + ', "prompt_logprobs": null}').encode())

    assert completions.select("text", "prompt_tokens", "created").row(0) == ("a", None, None)
    assert tokens["logprob"].to_list() == [-1.0]
