"""Live calls against a server that misbehaves: each fault's error, status and billing."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import tenacity
from builders import chat_request

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.pacing.pacer import Pacer
from logprob_store.run.asker import Asker
from logprob_store.run.attempts import ask_until_answered
from logprob_store.transport.live import keepalive_socket, live_transport

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.request import Answer, Request
    from logprob_store.transport import Transport

KEY = "-".join(["sk", "test", "0123456789abcdefghijklmnop"])  # noqa: FLY002  in one piece, scanners take it for a key


def _request(text: str = "Grüße") -> Request:
    return chat_request(text, logprobs=True, top_logprobs=2)


def _ask(url: str | None, *, attempts: int = 1, timeout_s: float = 5.0, retry_for_s: float = 600.0) -> Answer:
    async def ask() -> Answer:
        async with live_transport(base_url=url, api_key=KEY, concurrency=2, timeout_s=timeout_s) as transport:
            pacer = Pacer(2)
            return await ask_until_answered(
                _request(), transport, pacer=pacer, attempts=attempts, retry_for_s=retry_for_s
            )

    try:
        return asyncio.run(ask())
    finally:
        gc.collect()  # an unclosed connection would warn here, and warnings are errors


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once, unless the server names a time."""
    monkeypatch.setattr("logprob_store.run.attempts._jitter", tenacity.wait_none())


def test_the_request_is_sent_as_it_is(fault_server: Any) -> None:
    """The server gets the bytes of `content` and the key, and the bytes of the answer are returned unchanged."""
    answer = _ask(fault_server.url)

    (call,) = fault_server.calls
    assert call.body.encode() == _request().content
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.headers["content-type"] == "application/json"
    assert (answer.status, answer.source, answer.attempts) == (200, "api", 1)
    assert answer.body.startswith(b'{"id": "chatcmpl-')
    assert answer.fetched_at is not None
    assert answer.latency_s is not None
    assert answer.headers == {"content-type": "application/json", "x-request-id": "req_fault"}


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize(
    ("step", "error_type", "status", "maybe_billed"),
    [
        ("429", "rate_limit", 429, False),
        ("408", "server_error", 408, True),
        ("409", "server_error", 409, False),
        ("500", "server_error", 500, False),
        ("502", "server_error", 502, False),
        ("503", "server_error", 503, False),
        ("504", "server_error", 504, True),
        ("529", "server_error", 529, False),
        ("400:x-should-retry=true", "invalid_request", 400, False),
        ("reset", "connection", None, True),
        ("reset_body", "connection", None, True),
        ("short", "connection", None, True),
        ("truncated", "malformed_answer", 200, True),
        ("malformed", "malformed_answer", 200, True),
        ("html", "malformed_answer", 200, True),
        ("empty", "malformed_answer", 200, True),
        ("error200", "server_error", 502, True),
    ],
)
def test_a_temporary_fault_is_repeated(
    fault_server: Any,
    step: str,
    error_type: str,
    status: int | None,
    maybe_billed: bool,  # noqa: FBT001
) -> None:
    """The error has its class, its status and whether the call may be billed."""
    fault_server.script(f"{step}*5")

    with pytest.raises(RetryableError) as caught:
        _ask(fault_server.url, attempts=2)

    assert len(fault_server.calls) == caught.value.attempts == 2
    assert (caught.value.error_type, caught.value.status) == (error_type, status)
    assert caught.value.maybe_billed is maybe_billed
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("step", ["429", "500", "reset", "reset_body", "truncated", "malformed", "error200"])
def test_an_answer_after_a_temporary_fault(fault_server: Any, step: str) -> None:
    """The answer counts the failed attempts."""
    fault_server.script(f"{step}*2")

    answer = _ask(fault_server.url, attempts=3)

    assert answer.attempts == len(fault_server.calls) == 3


@pytest.mark.parametrize(
    ("step", "error_type", "status"),
    [
        ("400", "invalid_request", 400),
        ("404", "invalid_request", 404),
        ("422", "invalid_request", 422),
        ("content_filter", "content_filter", 400),
        ("429:x-should-retry=false", "rate_limit", 429),
        ("500:x-should-retry=false", "server_error", 500),
    ],
)
def test_a_fault_of_this_prompt_alone(fault_server: Any, step: str, error_type: str, status: int) -> None:
    """It is not repeated, and does not stop the run."""
    fault_server.script(f"{step}*5")

    with pytest.raises(CallError) as caught:
        _ask(fault_server.url, attempts=4)

    assert len(fault_server.calls) == caught.value.attempts == 1
    assert (caught.value.error_type, caught.value.status) == (error_type, status)
    assert caught.value.maybe_billed is (step == "content_filter")
    assert not isinstance(caught.value, RetryableError)


@pytest.mark.parametrize(
    ("step", "reason", "status"),
    [
        ("quota", "quota", 429),
        ("401", "authentication", 401),
        ("403", "authentication", 403),
        ("no_logprobs", "logprobs_refused", 403),
    ],
)
def test_a_fault_of_every_prompt(fault_server: Any, step: str, reason: str, status: int) -> None:
    """It stops the run at the first call."""
    fault_server.script(f"{step}*5")

    with pytest.raises(StopRunError) as caught:
        _ask(fault_server.url, attempts=4)

    assert len(fault_server.calls) == 1
    assert (caught.value.reason, caught.value.status) == (reason, status)


def test_an_answer_without_logprobs_is_an_answer(fault_server: Any) -> None:
    """It was paid for and is kept; decoding finds the failure."""
    fault_server.script("null")

    assert b'"logprobs": null' in _ask(fault_server.url, attempts=3).body
    assert len(fault_server.calls) == 1


def test_the_sdk_does_not_retry_on_its_own(fault_server: Any) -> None:
    """One attempt is one call."""
    fault_server.script("500*5")

    with pytest.raises(RetryableError):
        _ask(fault_server.url, attempts=1)

    assert len(fault_server.calls) == 1


@pytest.mark.parametrize("step", ["hang", "drip:seconds=6"])
def test_a_call_has_a_time_limit(fault_server: Any, step: str) -> None:
    """A server that sends nothing, or too slowly, gives a timeout that may be billed."""
    fault_server.script(step)
    started = asyncio.new_event_loop()
    before = started.time()

    with pytest.raises(RetryableError) as caught:
        _ask(fault_server.url, timeout_s=0.4)

    assert started.time() - before < 4
    started.close()
    assert (caught.value.error_type, caught.value.status, caught.value.maybe_billed) == ("timeout", None, True)


def test_a_slow_answer_is_an_answer(fault_server: Any) -> None:
    """An answer that takes less than the limit is kept."""
    fault_server.script("drip:seconds=0.3")

    assert _ask(fault_server.url, timeout_s=5).status == 200


@pytest.mark.usefixtures("fault_server")
def test_a_refused_connection_is_surely_not_billed() -> None:
    """Its error is not `maybe_billed`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def call() -> Answer:
        async with live_transport(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, concurrency=2) as transport:
            return await transport(_request())

    with pytest.raises(RetryableError) as caught:
        asyncio.run(call())

    assert (caught.value.error_type, caught.value.maybe_billed) == ("connection", False)


def test_one_lost_answer_marks_the_whole_call(fault_server: Any) -> None:
    """`maybe_billed` of a lost answer stays when a later attempt fails for another reason."""
    fault_server.script("reset_body, 400")

    with pytest.raises(CallError) as caught:
        _ask(fault_server.url, attempts=3)

    assert (caught.value.error_type, caught.value.attempts, caught.value.maybe_billed) == ("invalid_request", 2, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "least_s"),
    [("retry-after-ms=300", 0.3), ("retry-after=1", 1.0), ("retry-after-date=3", 1.5), ("retry-after=0.4", 0.4)],
)
def test_the_server_says_how_long_to_wait(fault_server: Any, header: str, least_s: float) -> None:
    """The next call waits at least as long as the server says, in milliseconds, seconds or as a date."""
    fault_server.script(f"429:{header}")

    _ask(fault_server.url, attempts=2)

    first, second = fault_server.calls
    assert least_s - 0.01 <= second.at - first.at < 4


def test_no_call_is_started_after_the_time_is_up(fault_server: Any) -> None:
    """If the wait would end after retry_for_s, no further call is made."""
    fault_server.script("429:retry-after=300")
    before = time.monotonic()

    with pytest.raises(RetryableError):
        _ask(fault_server.url, attempts=5, retry_for_s=2)

    assert time.monotonic() - before < 100  # not the 300 s that the server asks for, however busy this machine is
    assert len(fault_server.calls) == 1


def test_a_redirect_is_not_followed(fault_server: Any) -> None:
    """A redirect is an error that says to set base_url, and is not followed."""
    fault_server.script("redirect:to=/v1/completions")

    with pytest.raises(CallError, match=r"HTTP 307.*set model\.base_url"):
        _ask(fault_server.url, attempts=3)

    assert len(fault_server.calls) == 1


def test_only_whole_good_answers_are_cached(fault_server: Any, tmp_path: Path) -> None:
    """Neither errors nor parts of answers are cached."""
    steps = [
        "400",
        "500",
        "quota",
        "reset_body",
        "truncated",
        "malformed",
        "html",
        "empty",
        "error200",
        "redirect:to=/x",
    ]
    fault_server.script(",".join(steps))

    async def main() -> None:
        async with live_transport(base_url=fault_server.url, api_key=KEY) as transport:
            for step in steps:
                with pytest.raises((CallError, StopRunError)):
                    await ask(transport, step)
            await ask(transport, "good")

    async def ask(transport: Transport, step: str) -> None:
        async with Asker(transport, pacer=Pacer(1), cache=cache, attempts=1) as asker:
            await asker.ask(_request(step))

    with AnswerCache(tmp_path) as cache:
        asyncio.run(main())

        assert list(cache.keys()) == [_request("good").key]


def test_a_silent_connection_is_probed() -> None:
    """Gateways forget connections that are idle for minutes, and with them answers that are paid for."""
    address = socket.getaddrinfo("127.0.0.1", 1, type=socket.SOCK_STREAM)[0]
    with keepalive_socket(address) as opened:
        probes = opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle_s = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

    assert (probes, idle_s) == (1, 60)


@pytest.mark.parametrize(("key", "said"), [("sk-bad", "refuses this key"), ("", "none was sent")])
def test_a_refused_key_is_told_from_none(fault_server: Any, key: str, said: str) -> None:
    """However short the key is."""
    fault_server.script("401")

    async def ask() -> None:
        async with live_transport(base_url=fault_server.url, api_key=key) as transport:
            await transport(chat_request())

    with pytest.raises(StopRunError, match=said):
        asyncio.run(ask())
