"""Bodies of the Responses API: several items and parts become one completion."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from builders import answer_with
from decode.decoding import assert_scanned, decode_one, failure_of, rebuild

from logprob_store.decode.decoder import decode_answers

ASKED = {"endpoint": "responses", "include": ["message.output_text.logprobs"]}


def entry(text: str, logprob: float = -1.0, *others: str) -> dict[str, Any]:
    """A token with its alternatives."""
    top = [{"token": other, "logprob": -2.0, "bytes": list(other.encode())} for other in others]
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": top}


def said(text: str, *tokens: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A content part of type output_text with these tokens."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(tokens), **keys}


def message(*parts: Any, **keys: Any) -> dict[str, Any]:
    """An output item of type message."""
    return {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": parts, **keys}


def response(*output: Any, **keys: Any) -> dict[str, Any]:
    """A body of the Responses API."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "m-1",
        "output": output,
        "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
        **keys,
    }


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}
REASONING = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
TWO_PARTS = response(
    REASONING, message(said("ab", entry("a", -1.0, "x"), entry("b"))), message(said("c", entry("c", -3.0, "y"))), CALL
)


def test_a_response_becomes_one_completion() -> None:
    """The status is the finish reason, the usage has other names, and tool calls are kept as JSON."""
    completions, _, _ = decode_one(TWO_PARTS, **ASKED)
    row = completions.row(0, named=True)

    expected = {
        "completion_id": 0,
        "endpoint": "responses",
        "response_id": "resp_1",
        "response_model": "m-1",
        "created": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),  # date -ud @1700000000
        "finish_reason": "completed",
        "text": "abc",
        "refusal": None,
        "tool_calls": json.dumps([CALL], separators=(",", ":")),
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "token_count": 3,
        "logprob_sum": -5.0,  # -1 -1 -3
    }

    assert {key: row[key] for key in expected} == expected


def test_positions_run_on_over_parts_and_items() -> None:
    """The first token of the second message is the third of its section."""
    _, tokens, alternatives = decode_one(TWO_PARTS, **ASKED)

    assert tokens.select("section", "position", "token", "bytes", "logprob").rows() == [
        ("content", 0, "a", b"a", -1.0),
        ("content", 1, "b", b"b", -1.0),
        ("content", 2, "c", b"c", -3.0),
    ]
    assert alternatives.select("position", "rank", "token").rows() == [(0, 1, "x"), (2, 1, "y")]


def test_the_rebuilt_value_has_an_entry_for_each_part() -> None:
    """Each has the indices of its item and part; a part without logprobs has none, null stays null."""
    parts = [said("a", entry("a"), entry("b")), {"type": "output_text", "text": ""}, said("", logprobs=None), said("")]
    decoded = decode_answers(
        [answer_with(response(REASONING, message(*parts), message(said("c", entry("c")))), **ASKED)]
    )

    assert decoded.failures == []
    assert rebuild(decoded) == {
        0: [
            {"item": 1, "part": 0, "logprobs": [entry("a"), entry("b")]},
            {"item": 1, "part": 2, "logprobs": None},
            {"item": 1, "part": 3, "logprobs": []},
            {"item": 2, "part": 0, "logprobs": [entry("c")]},
        ]
    }
    assert json.loads(decoded.completions.column("wire")[0].as_py())["layout"] == {
        "format": "responses",
        "parts": [[1, 0, "content", 2], [1, 2, None], [1, 3, "content", 0], [2, 0, "content"]],
    }


def test_regular_responses_share_one_wire_text() -> None:
    """A single part takes all tokens, so their number is not in the text."""
    wires = {decode_one(response(message(said("a", *[entry("a")] * n))), **ASKED)[0]["wire"].item() for n in (1, 2, 30)}

    assert wires == {
        (
            '{"shape":"chat","content":"list","token":["bytes","logprob","token","top_logprobs"],'
            '"layout":{"format":"responses","parts":[[0,0,"content"]]}}'
        )
    }


def test_responses_go_the_fast_way() -> None:
    """One part or several, on one line or pretty-printed, are scanned."""
    one = response(message(said("a", entry("a", -1.0, "b"))))
    bodies = [json.dumps(body, indent=indent).encode() for body in (one, TWO_PARTS) for indent in (None, 1)]
    answers = [answer_with(body, prompt_index=n, **ASKED) for n, body in enumerate(bodies)]
    decoded = decode_answers(answers, scanner_min_bytes=0)

    assert_scanned(decoded)
    assert decoded.tokens.column("token").to_pylist() == ["a", "a", "a", "b", "c", "a", "b", "c"]


def test_reasoning_and_refusals_with_logprobs_are_sections() -> None:
    """The section follows from the type of the item, then from that of the part."""
    reasoning = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "r", "logprobs": [entry("r")]}]}
    refusal = {"type": "refusal", "refusal": "no", "logprobs": [entry("no")]}
    completions, tokens, _ = decode_one(response(reasoning, message(said("c", entry("c")), refusal)), **ASKED)

    assert tokens.select("section", "position", "token").rows() == [
        ("content", 0, "c"),
        ("refusal", 0, "no"),
        ("reasoning", 0, "r"),
    ]
    assert completions.select("text", "refusal").row(0) == ("c", "no")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "max_output_tokens"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": "?"}, "incomplete"),
        ({"status": None}, None),
    ],
)
def test_the_finish_reason(keys: Any, expected: str | None) -> None:
    """It is the reason of an incomplete response, or else the status."""
    completions, _, _ = decode_one(response(message(said("a", entry("a"))), **keys), **ASKED)

    assert completions["finish_reason"].to_list() == [expected]


@pytest.mark.parametrize(
    ("body", "error_type", "expected"),
    [
        (
            response(status="failed", error={"code": "server_error", "message": "sorry"}),
            "error_body",
            "the server answered with an error: sorry",
        ),
        (response(status="failed"), "error_body", "the server answered with an error: status: failed"),
        (response(status="queued"), "malformed_answer", "status: queued, the response holds no output yet"),
        (response(message(said("a"))), "no_logprobs", "output[].content[].logprobs: no tokens in it"),
        (response(message(said("a", logprobs=None))), "no_logprobs", "output[].content[].logprobs: null, though asked"),
        (response(output=5), "malformed_answer", "output: expected a list, got a number"),
        (response(output=None), "malformed_answer", "output: missing or null, expected a list of at least one item"),
        (response(), "malformed_answer", "output: empty, expected a list of at least one item"),
        (response(None), "malformed_answer", "output: a list of null, expected a list of at least one item"),
        (
            response(CALL, message(said("a", logprobs={}))),
            "no_logprobs",
            "output[].content[].logprobs: null, though asked for",
        ),
        (
            response(message(said("Th", entry("Th"))), status="failed", error={"message": "sorry"}),
            "error_body",
            "the server answered with an error: sorry; before it failed came 'Th'",
        ),
        (response(status="cancelled"), "error_body", "the server answered with an error: status: cancelled"),
        (
            response(message(said("Th", entry("Th"))), status="in_progress"),
            "malformed_answer",
            "status: in_progress, the response is not finished: so far it holds 'Th'",
        ),
    ],
)
def test_a_failed_response_has_a_message(body: Any, error_type: str, expected: str) -> None:
    """It has the server's words, the status, or the path."""
    found_type, found = failure_of(body, **ASKED)

    assert (found_type, found[: len(expected)]) == (error_type, expected)


@pytest.mark.parametrize(
    ("body", "reason", "calls"),
    [
        (response(REASONING, CALL), "completed", [CALL]),
        (
            response(REASONING, status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
            "max_output_tokens",
            None,
        ),
        (response(status="incomplete", incomplete_details={"reason": "content_filter"}), "content_filter", None),
        (response(message(said("")), status="incomplete"), "incomplete", None),
        (response(output=None, status="incomplete"), "incomplete", None),
    ],
)
def test_a_response_without_text_needs_no_tokens(body: Any, reason: str, calls: Any) -> None:
    """Function calls alone, a limit used up by reasoning, or a filtered text are a completion without tokens."""
    completions, tokens, _ = decode_one(body, **ASKED)

    expected = (None, reason, calls and json.dumps(calls, separators=(",", ":")), 0)

    assert completions.select(pl.col("text").replace("", None), "finish_reason", "tool_calls", "token_count").row(
        0
    ) == (expected)
    assert len(tokens) == 0


def test_bytes_that_are_not_utf8_are_refused_in_raw_values() -> None:
    """The scanner would not check them."""
    body = json.dumps(response(message(said("a", entry("a" * 300))))).encode().replace(b"aaa", b"a\xffa", 1)
    _, found = failure_of(body, **ASKED)

    assert found.startswith("the answer is not UTF-8 at byte")


def test_oddities_of_other_servers_are_no_failure() -> None:
    """Content as plain text, a part that is no object, lone surrogates and NaN."""
    body = response(message(said("a", entry("a", float("nan")))), message(), usage=[], created_at="now", id=5)
    body["output"] = [*body["output"], {"type": "message", "content": "\ud83d b"}]
    body["output"][1]["content"] = ["what?"]
    completions, tokens, _ = decode_one(body, **ASKED)

    assert completions.select("text", "prompt_tokens", "created", "response_id").row(0) == (
        "awhat?\ufffd b",
        None,
        None,
        None,
    )
    assert tokens["logprob_flag"].to_list() == ["missing"]
