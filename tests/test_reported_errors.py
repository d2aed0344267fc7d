"""Errors that a body with status 200 reports."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import answer_to, chat_request

from logprob_store.decode.decoder import decode_answers
from logprob_store.errors import CallError, RetryableError
from logprob_store.failure_policy import classify
from logprob_store.reported_errors import find_reported_error
from logprob_store.transport.answer_check import check_answer


def choice(**keys: Any) -> dict[str, Any]:
    """A body with one choice."""
    return {"choices": [{"index": 0, **keys}]}


@pytest.mark.parametrize(
    ("body", "said", "partial"),
    [
        ({"error": {"code": 429, "message": "slow"}}, {"code": 429, "message": "slow"}, ""),
        ({"error": "no"}, {"message": "no"}, ""),
        ({"error": ["no"]}, {"message": '["no"]'}, ""),
        ({"object": "error", "message": "no model", "code": 404}, {"code": 404, "message": "no model"}, ""),
        (choice(finish_reason="error", text="a"), {"message": "finish_reason: error"}, "a"),
        (choice(finish_reason="ERROR"), {"message": "finish_reason: ERROR"}, ""),
        (choice(finish_reason="insufficient_system_resource"), None, ""),
        (choice(error={"code": 502}, message={"content": [{"text": "a"}, {"text": "b"}]}), {"code": 502}, "ab"),
        ({"error": {"code": 5}, **choice(finish_reason="error", error={"code": 6})}, {"code": 5}, ""),
        ({"output": [], "status": "failed", "error": {"code": "server_error"}}, {"code": "server_error"}, ""),
        (
            {"output": [{"content": [{"text": "Th"}]}], "status": "cancelled", "error": None},
            {"message": "status: cancelled"},
            "Th",
        ),
        (
            {"text": "Th", "meta_info": {"finish_reason": {"type": "abort", "message": "full", "status_code": 503}}},
            {"message": "full"},
            "Th",
        ),
        ({"object": "error", "message": "oom", **choice(text="Th")}, {"message": "oom"}, "Th"),
        ({"type": "error", "message": "oom", **choice(text="Th")}, {"message": "oom", "type": "error"}, "Th"),
        ({"error": {"message": "oom"}, **choice(text="Th")}, {"message": "oom"}, "Th"),
        ({"error": "oom", "error_type": "generation", **choice(text="Th")}, {"message": "oom"}, "Th"),
        ({"status": "failed", **choice(text="Th")}, {"message": "status: failed"}, "Th"),
        ({"status": "Error", "message": "oom", **choice(text="Th")}, {"code": None, "message": "oom"}, "Th"),
        ({"success": False, **choice(text="Th")}, {"message": "success: false"}, "Th"),
        ({"success": False, "msg": "oom", "code": 9, **choice(text="Th")}, {"code": 9, "message": "oom"}, "Th"),
        ({"error_code": 18, "error_msg": "qps", **choice(text="Th")}, {"code": 18, "message": "qps"}, "Th"),
        (
            {"base_resp": {"status_code": 1000, "status_msg": "unknown error"}, **choice(text="Th")},
            {"code": 1000, "message": "unknown error"},
            "Th",
        ),
        (choice(finish_reason="timeout", text="Th"), {"message": "finish_reason: timeout"}, "Th"),
        (choice(finish_reason="Cancelled", text="Th"), {"message": "finish_reason: Cancelled"}, "Th"),
        (choice(finish_reason="internal_error", text="Th"), {"message": "finish_reason: internal_error"}, "Th"),
        ({"error_code": 336100, "error_msg": "try again"}, {"code": 336100, "message": "try again"}, ""),
        (
            {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
            {"code": 1002, "message": "rate limit"},
            "",
        ),
    ],
)
def test_an_error_is_found_with_what_came_before(body: Any, said: Any, partial: str) -> None:
    """The error is found wherever the body reports it, with the text before it."""
    found = find_reported_error(body)

    assert found is not None
    assert found.partial == partial
    assert said is None or found.said == said


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        choice(finish_reason="stop", text="error"),
        choice(finish_reason={"type": "error"}),
        choice(finish_reason=["error"], message=5),
        {"error": {}, **choice(error={"code": 0, "message": ""})},
        {"choices": "error", "output": 5, "meta_info": "abort"},
        {"status": "failed"},  # not a response: no output
        {"output": [], "status": "incomplete", "error": None},
        {"status": "completed", "success": True, "type": "message", **choice(text="failed")},
        {"error": "none", **choice(text="a")},
        {"error": {"code": 0, "message": "success"}, **choice(text="a", error={"code": "200", "message": "OK"})},
        {"error_code": 0, "error_msg": "success", **choice(text="a")},
        {"code": 0, "message": "Success", "sid": "cha", **choice(text="a")},
        choice(finish_reason="length", text="a"),
        {"output": [], "status": ["failed"]},
        {"base_resp": {"status_code": 0, "status_msg": "success"}, **choice(text="a")},
    ],
)
def test_an_answer_reports_none(body: Any) -> None:
    """Keys that servers always send, and values of any type, are no error."""
    assert find_reported_error(body) is None


WHOLE = {"index": 0, "message": {"role": "assistant", "content": "Th"}, "finish_reason": "stop"}
FAILED: list[dict[str, Any]] = [
    {"error": {"message": "oom"}},
    {"error": "oom", "error_type": "generation"},
    {"object": "error", "message": "oom"},
    {"type": "error", "message": "oom"},
    {"status": "failed"},
    {"success": False, "message": "oom"},
    {"error_code": 18, "error_msg": "oom"},
    {"base_resp": {"status_code": 1000, "status_msg": "oom"}},
    {"errors": [{"message": "oom", "code": 504}]},
    {"errors": [{}, "oom"]},
    {"errors": {"message": "oom"}},
    {"code": 500, "message": "oom"},
    {"code": "503", "msg": "oom"},
    {"code": 502},
    {"status": 500, "message": "oom"},
    {"choices": [WHOLE | {"finish_reason": "error"}]},
    {"choices": [WHOLE | {"finish_reason": "timeout"}]},
    {"choices": [WHOLE | {"error": {"message": "oom"}}]},
]
FINE: list[dict[str, Any]] = [
    {"error": None, "status": "completed", "success": True, "error_code": 0, "base_resp": {"status_code": 0}},
    {"error": {"code": 0, "message": "success"}},
    {"error": {"code": 0, "message": "Success."}},
    {"error": {"code": None, "message": "", "type": "none"}},
    {"error": "no error"},
    {"error": "No errors."},
    {"errors": []},
    {"errors": [{}, None]},
    {"code": 200, "status": 200, "message": "OK"},
    {"code": 50505, "message": "a code of the service's own"},
    {"choices": [WHOLE | {"finish_reason": "no_error"}]},
    {"choices": [WHOLE | {"error": "no error"}]},
]


@pytest.mark.parametrize("odd", ["", ', "x": NaN'], ids=["strict", "lenient"])
@pytest.mark.parametrize("keys", [*FAILED, *FINE], ids=",".join)
def test_a_run_and_an_import_judge_alike(keys: dict[str, Any], odd: str) -> None:
    """What a run refuses before it is cached, decoding refuses where it is imported; beside a text, too."""
    body = json.dumps({"object": "chat.completion", "choices": [WHOLE], **keys})[:-1] + odd + "}"
    decoded = decode_answers([answer_to(chat_request(), body.encode())])

    assert [error.error_type for _, error in decoded.failures] == ["error_body"] * (keys in FAILED)
    if keys in FAILED:
        with pytest.raises(CallError, match="broke off after 'Th'"):
            check_answer(body.encode())
    else:
        check_answer(body.encode())


@pytest.mark.parametrize("keys", [keys for keys in FAILED if "choices" not in keys], ids=",".join)
def test_a_stream_that_ends_with_an_error(keys: dict[str, Any]) -> None:
    """A piece that reports an error is one in each spelling, for a run and for an import."""
    piece = {"id": "a", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Th"}}]}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **keys}
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in (piece, last)) + "data: [DONE]\n\n"
    decoded = decode_answers([answer_to(chat_request(), stream.encode())])

    assert [error.error_type for _, error in decoded.failures] == ["error_body"]
    with pytest.raises(CallError):
        check_answer(stream.encode())


@pytest.mark.parametrize("keys", [{"error": "no error"}, {"error": {"code": 0, "message": "Success."}}], ids=str)
def test_a_stream_whose_choice_says_that_nothing_went_wrong(keys: dict[str, Any]) -> None:
    """An `error` that says there is none is as good in a piece as in a body."""
    ends = {"id": "a", "object": "chat.completion.chunk"}
    last = {**ends, "choices": [{"index": 0, "delta": {"content": "Th"}, "finish_reason": "stop", **keys}]}
    stream = f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode()
    decoded = decode_answers([answer_to(chat_request(), stream)])

    assert check_answer(stream)[0] == stream
    assert decoded.failures == []


def piece(index: int = 0, finish_reason: str | None = None, **keys: Any) -> str:
    """A chunk with a text, as an event."""
    one = {"index": index, "delta": {"content": "Th"}, "finish_reason": finish_reason, "logprobs": {"content": []}}
    return f"data: {json.dumps({'id': 'a', 'object': 'chat.completion.chunk', 'choices': [one | keys]})}\n\n"


DONE = "data: [DONE]\n\n"
USAGE = 'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\n'


@pytest.mark.parametrize(
    "end",
    [
        'event: error\ndata: "busy"\n\n',
        "event: error\ndata: busy\n\n",
        'event: error\ndata: {"reason": "busy", "again": true}\n\n',
        'event: error\r\ndata: {"message": "busy", "code": 529}\r\n\r\n',
        'data: {"message": "busy", "error": null}\nevent: Error\n\n',
        "event: error\ndata: busy null\n\n",
    ],
)
def test_an_event_named_error_is_one_whatever_it_says(end: str) -> None:
    """The name of the event says that the stream failed; what stands in its data is in the message."""
    stream = (piece(finish_reason="stop") + end + DONE).encode()
    decoded = decode_answers([answer_to(chat_request(), stream)])

    assert ["busy" in str(error) for _, error in decoded.failures] == [True]
    with pytest.raises(CallError, match="busy"):
        check_answer(stream)


@pytest.mark.parametrize(
    "stream",
    [
        piece() + DONE,
        piece() + piece(index=1) + piece(finish_reason="stop") + DONE,
        piece() + piece(index=1) + piece(finish_reason="stop"),
        piece(index="1") + piece(finish_reason="stop") + DONE,  # type: ignore[arg-type]  a text
    ],
    ids=["never", "one of two", "no mark", "a text"],
)
def test_a_choice_without_its_end_is_cut_off(stream: str) -> None:
    """`[DONE]` does not make a whole answer of a choice whose `finish_reason` never came."""
    decoded = decode_answers([answer_to(chat_request(), stream.encode())])

    assert ["cut off" in str(error) for _, error in decoded.failures] == [True]
    with pytest.raises(RetryableError, match="broke off"):
        check_answer(stream.encode())


@pytest.mark.parametrize(
    "stream",
    [
        piece().replace('"finish_reason": null, ', "") + DONE,
        piece() + USAGE + DONE,
        piece() + piece(index=1) + piece(finish_reason="stop") + piece(index=1, finish_reason="length"),
        piece(index=1) + piece(index=2) + piece(index=3, finish_reason="stop"),
    ],
    ids=["mark alone", "usage", "two", "counted tokens"],
)
def test_a_stream_that_has_ended_is_kept(stream: str) -> None:
    """By `[DONE]` where the server has no `finish_reason`, by the usage behind all choices, by the end of each."""
    decoded = decode_answers([answer_to(chat_request(), stream.encode())])

    assert not any("cut off" in str(error) for _, error in decoded.failures)
    assert check_answer(stream.encode())[0] == stream.encode()


def test_a_reported_error_can_be_classified() -> None:
    """`classify` takes the object of the error."""
    found = find_reported_error({"output": [], "status": "failed", "error": {"code": "rate_limit_exceeded"}})

    assert found is not None
    assert classify(500, found.said).name == "rate_limit"
