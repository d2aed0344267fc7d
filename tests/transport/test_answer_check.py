"""Bodies with status 200: a reply, or an error in one of many spellings."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logprob_store.errors import CallError, LogprobStoreError, RetryableError, StopRunError
from logprob_store.transport.answer_check import check_answer
from logprob_store.usage import Usage, usage_of

BUSY = {"message": "Rate limit exceeded: try again later", "code": 429}
GOOD = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "a"}}]}


def body(value: Any) -> bytes:
    """The value as JSON."""
    return json.dumps(value).encode()


def events(*pieces: Any, done: bool = True) -> bytes:
    """A stream of server-sent events."""
    lines = [f"data: {json.dumps(piece)}\n\n" for piece in pieces]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        {**GOOD, "error": None},
        {**GOOD, "error": {}},
        {"choices": [], "usage": {"total_tokens": 5}},
        {"choices": "odd"},
        {"status": "completed", "error": None, "output": [{"type": "message"}]},
        {"status": "incomplete", "error": None, "output": [], "incomplete_details": {"reason": "max_output_tokens"}},
        {"content": "a", "completion_probabilities": []},
        {"choices": [{"finish_reason": 7, "message": "odd", "error": None}]},
        {**GOOD, "status": {"code": 0, "message": "ok"}},
        {**GOOD, "status": []},
        {"status": {"code": 0}, "output": [{"type": "message"}]},
        {**GOOD, "object": [1], "type": {}, "success": [], "error_code": {}, "base_resp": [1]},
    ],
    ids=",".join,
)
def test_a_reply_passes_as_it_is(value: dict[str, Any]) -> None:
    """What may be a reply is kept byte for byte; decoding says what is wrong with it."""
    content = body(value)

    assert check_answer(content)[0] == content


@pytest.mark.parametrize(
    ("value", "error_type"),
    [
        ({"error": BUSY, "user_id": "u"}, "rate_limit"),
        ({"id": "gen-1790000000-AbCdEfGhIjKlMnOpQrStUvWxYz", "provider": "Some Provider", "error": BUSY}, "rate_limit"),
        ({"error": "upstream connect error"}, "server_error"),
        ({"object": "chat.completion", "choices": None, "error": BUSY}, "rate_limit"),
        ({"object": "chat.completion", "choices": [], "error": BUSY}, "rate_limit"),
        ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, "rate_limit"),
        ({"code": 50505, "message": "Model service overloaded.", "data": None}, "server_error"),
        ({"detail": "Service is overloaded"}, "server_error"),
        ({"result": None, "success": False, "errors": [{"code": 3040, "message": "Capacity"}]}, "server_error"),
        ({}, "server_error"),
        ({"choices": [{"finish_reason": "error", "error": {"code": 502, "message": "idle"}}]}, "server_error"),
        ({"choices": [{"finish_reason": "error", "text": "The ans"}]}, "server_error"),
        ({"choices": [{"finish_reason": "stop"}, {"finish_reason": "error"}]}, "server_error"),
        ({"status": "failed", "output": [], "error": {"code": "rate_limit_exceeded", "message": "x"}}, "rate_limit"),
        ({"status": "failed", "output": [{"type": "message"}], "error": {"code": "server_error"}}, "server_error"),
        ({"status": "cancelled", "output": [], "error": None}, "server_error"),
    ],
    ids=str,
)
def test_an_error_is_tried_again_by_its_class(value: dict[str, Any], error_type: str) -> None:
    """The parsed body decides, wherever the error stands in it; the call may have been billed."""
    with pytest.raises(RetryableError) as caught:
        check_answer(body(value))

    assert (caught.value.error_type, caught.value.maybe_billed) == (error_type, True)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_answer_that_is_not_finished_is_not_bought_again(status: str) -> None:
    """A background response would be queued again by each attempt."""
    with pytest.raises(CallError, match="not finished") as caught:
        check_answer(body({"status": status, "output": []}))

    assert not isinstance(caught.value, RetryableError)


def test_an_error_says_what_came_before_it() -> None:
    """The text of an answer that broke off is in the message."""
    broken = {"choices": [{"finish_reason": "error", "message": {"content": "The answer"}, "error": {"code": 502}}]}

    with pytest.raises(CallError, match="broke off after 'The answer'"):
        check_answer(body(broken))


def test_an_error_that_no_retry_mends_is_what_its_status_means() -> None:
    """A 400 in the body fails the prompt; a used-up quota stops the run."""
    with pytest.raises(CallError) as refused:
        check_answer(body({"error": {"code": 400, "message": "bad"}}))
    with pytest.raises(StopRunError) as stopped:
        check_answer(body({"error": {"code": "insufficient_quota", "message": "empty"}}))

    assert not isinstance(refused.value, RetryableError)
    assert (refused.value.error_type, stopped.value.reason) == ("invalid_request", "quota")


def test_the_server_says_how_long_to_wait() -> None:
    """The headers of an answer that reports an error are heard."""
    with pytest.raises(RetryableError) as caught:
        check_answer(body({"error": BUSY}), headers={"retry-after": "3"})

    assert caught.value.retry_after_s == 3


def test_the_end_mark_of_a_stream_behind_json_is_cut_off() -> None:
    """The body that is kept is the JSON alone."""
    content, usage = check_answer(
        body({**GOOD, "usage": {"prompt_tokens": 2, "completion_tokens": 1}}) + b"\n\ndata: [DONE]\n\n"
    )

    assert json.loads(content)["choices"] == GOOD["choices"]
    assert usage is not None
    assert usage.total == 3


def test_a_stream_of_events_is_kept() -> None:
    """With the usage of its last piece, also when it is read again from the cache."""
    stream = events(
        {"choices": [{"finish_reason": "stop"}]}, {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    )

    content, usage = check_answer(stream)

    assert content == stream
    assert usage == usage_of(stream)
    assert usage is not None
    assert usage.total == 5


@pytest.mark.parametrize(
    ("stream", "error_type"),
    [
        (events({"choices": [{"delta": {"content": "a"}}]}, done=False), "malformed_answer"),
        (b'data: {"choices": [{"del', "malformed_answer"),
        (events({"choices": [{"delta": {"content": "a"}}]}, {"error": BUSY}), "rate_limit"),
        (events({"choices": [{"finish_reason": "error", "error": {"code": 502}}]}), "server_error"),
        (events({"type": "response.failed", "response": {"error": {"code": "server_error"}}}), "server_error"),
        (events({"type": "error", "code": "rate_limit_exceeded", "message": "x"}), "rate_limit"),
    ],
    ids=range(6),
)
def test_a_stream_that_fails_is_tried_again(stream: bytes, error_type: str) -> None:
    """A stream that breaks off or reports an error is no answer."""
    with pytest.raises(RetryableError) as caught:
        check_answer(stream)

    assert caught.value.error_type == error_type


def test_a_responses_stream_ends_with_its_event() -> None:
    """It has no end mark; its usage stands in the last event."""
    response = {"status": "completed", "output": [], "usage": {"input_tokens": 2, "output_tokens": 3}}
    stream = events({"type": "response.created"}, {"type": "response.completed", "response": response}, done=False)

    _, usage = check_answer(stream)

    assert usage is not None
    assert usage.total == 5


@given(
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=30).map(lambda inner: b'{"choices":[{}],"x":"' + inner + b'"}'),
        st.binary(max_size=30).map(lambda inner: b'data: {"choices":[{"finish_reason":"' + inner + b'"}]}\n\n'),
        st.text(alphabet="0123456789²३", max_size=5).map(lambda code: json.dumps({"error": {"code": code}}).encode()),
    )
)
@example(b'{"choices":[{}],"x":"\xff"}')
@example(b'{"error":{"code":"' + b"9" * 5000 + b'"}}')
def test_any_bytes_pass_or_are_an_error_of_the_call(body: bytes) -> None:
    """No answer ends the run: what cannot be read is a failure of its call."""
    with contextlib.suppress(LogprobStoreError):
        check_answer(body)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"Error": {"Code": "AuthFailure", "Message": "no such key"}}, "no such key"),
        ({"Error": "no such key", "RequestId": "r"}, "no such key"),
        ({"fault": {"faultstring": "Invalid ApiKey", "detail": {}}}, "Invalid ApiKey"),
        ({"choices": [], "message": "model not found"}, "model not found"),
    ],
)
def test_errors_in_further_spellings_are_never_kept(value: dict[str, Any], said: str) -> None:
    """What would fail only when it is decoded would be in the cache by then."""
    with pytest.raises(CallError, match=said):
        check_answer(body(value))


def test_a_stream_without_any_piece_is_no_answer() -> None:
    """The end mark alone says nothing."""
    with pytest.raises(RetryableError, match="holds no answer"):
        check_answer(b"data: [DONE]\n\n")


def test_events_without_data_keep_a_connection_open() -> None:
    """They are dropped, as the standard of server-sent events says."""
    stream = b"data:\n\n" + events(GOOD)

    assert check_answer(stream)[0] == stream


def test_comments_in_front_of_the_json_are_cut_off() -> None:
    """Gateways send them to keep the connection alive, also where no stream was asked for."""
    body = json.dumps(GOOD).encode()

    assert check_answer(b": PROCESSING\n\n: PROCESSING\n\n" + body)[0] == body


ODD: list[Any] = [[], {"a": 1}, [[1]], 7, None, True]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("key", ["type", "status", "object", "id", "success", "response"])
def test_a_piece_with_an_odd_value_is_an_answer(key: str, odd: Any) -> None:
    """A list or an object where a text is usual says nothing about the end of a stream."""
    stream = events({**GOOD, key: odd})

    assert check_answer(stream)[0] == stream


def test_a_body_that_the_check_did_not_foresee_is_a_failure_of_its_call() -> None:
    """Nothing that one server sends ends the run; the message asks to report it, without what is secret."""

    def redact(text: str) -> str:
        if "busy" in text:
            raise TypeError("secret")
        return text.replace("secret", "[key]")

    with pytest.raises(CallError, match=r"did not foresee this answer \(TypeError: \[key\]\)") as caught:
        check_answer(body({"error": "busy"}), redact=redact)

    assert not isinstance(caught.value, RetryableError)
    assert (caught.value.error_type, caught.value.maybe_billed) == ("unforeseen", True)


def test_an_error_that_is_nested_deeply_is_a_failure_of_its_call() -> None:
    """Python gives up on depth with an error of its own."""
    with pytest.raises(CallError):
        check_answer(b'{"error":' + b'{"a":' * 900 + b'"no"' + b"}" * 900 + b"}")


def test_a_stop_with_status_200_may_be_billed() -> None:
    """A body that says the quota is used up came with a status by which services bill."""
    with pytest.raises(StopRunError) as caught:
        check_answer(b'{"error":{"code":"insufficient_quota","message":"no credit"}}')

    assert caught.value.maybe_billed


def test_a_stream_reports_its_largest_usage() -> None:
    """A last piece that says less takes nothing back."""
    pieces = [{"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": count}} for count in (9, 1)]

    _, usage = check_answer(events({"choices": [{"finish_reason": "stop"}]}, *pieces))

    assert Usage(2, 0, 9) == usage


SAID = json.dumps({**GOOD, "usage": {"prompt_tokens": 2, "completion_tokens": 1}}).encode()


@pytest.mark.parametrize(
    "sent",
    [
        SAID + b"\n<!-- proxy -->",
        SAID + b"\0" * 5,
        SAID + b"\n.",
        SAID + b"{}",
        SAID + b"\n\ndata: [DONE]\n\ndata: [DONE]\n\n",
        b"\0" + SAID,
        b"\xef\xbb\xbf\n" + SAID + b"\n.",
        b")]}'\n" + SAID,
        json.dumps(SAID.decode()).encode(),
        json.dumps(json.dumps(SAID.decode())).encode(),
        SAID.decode().encode("utf-16"),
        SAID.decode().encode("utf-16-le"),
        SAID.decode().encode("utf-16-be"),
        SAID.decode().encode("utf-32"),
        json.dumps((SAID + b"\n.").decode()).encode(),
    ],
    ids=range(15),
)
def test_what_stands_around_an_answer_is_cut_off(sent: bytes) -> None:
    """The answer was paid for, and is whole; what is kept is the JSON alone, which every reader takes."""
    kept, usage = check_answer(sent)

    assert kept == SAID
    assert Usage(2, 0, 1) == usage


@pytest.mark.parametrize("char", ["\t", "\n", "\x0b", "\0"])
def test_control_characters_in_strings_are_escaped(char: str) -> None:
    """Servers that put JSON together by hand send them as they are."""
    kept, _ = check_answer(SAID.replace(b'"content": "a"', b'"content": "a%sb"' % char.encode()))

    assert json.loads(kept)["choices"][0]["message"] == {"content": f"a{char}b"}


def test_a_stream_in_another_encoding_is_kept_in_utf_8() -> None:
    """It is told by its first bytes, as a file is."""
    stream = events(GOOD)

    assert check_answer(stream.decode().encode("utf-16"))[0] == stream


@pytest.mark.parametrize(
    "sent", [SAID + b'\n{"error": {"code": 429}}', SAID[:-3], b"\0" + SAID[:-3], SAID + SAID], ids=range(4)
)
def test_what_breaks_off_or_is_taken_back_is_not_mended(sent: bytes) -> None:
    """A second object may say that the first one is void."""
    with pytest.raises(RetryableError, match="no JSON object"):
        check_answer(sent)


def test_a_byte_that_is_no_utf_8_is_replaced() -> None:
    """One damaged character does not cost the answer."""
    kept, _ = check_answer(SAID.replace(b'"content": "a"', b'"content": "a\xff"'))

    assert json.loads(kept)["choices"][0]["message"] == {"content": "a\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize("name", ["created", "status", "code"])
def test_a_number_that_is_too_long_to_read_is_no_error(name: str) -> None:
    """It says nothing about the answer, which is kept as it came."""
    sent = SAID[:-1] + b', "%b": %b}' % (name.encode(), b"9" * 5000)

    assert check_answer(sent)[0] == sent


@pytest.mark.parametrize(
    "error", ["model 'm' not found, try pulling it first", {"code": "model_not_found", "message": "x"}]
)
def test_a_model_that_is_not_there_is_no_outage(error: Any) -> None:
    """An error without a status in the body of a 200: said once, as with 404, and not tried again for ever."""
    with pytest.raises(CallError) as caught:
        check_answer(json.dumps({"error": error}).encode())

    assert (caught.value.error_type, caught.value.status) == ("invalid_request", 404)
    assert not isinstance(caught.value, RetryableError)
