"""Live calls against a server that misbehaves: each fault's error, status and billing."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import tenacity

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import CallError, JobError, RetryableError, StopRunError
from logprob_store.failures import refuses_logprobs
from logprob_store.pacing.pacer import Pacer
from logprob_store.replay.fixtures import fixture_line
from logprob_store.request import make_request
from logprob_store.run import retry
from logprob_store.run.asker import Asker
from logprob_store.transport.addresses import Addresses
from logprob_store.transport.live import keepalive_socket, live_transport
from logprob_store.transport.rate_headers import retry_after_s
from logprob_store.transport.refusals import error_of_status

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.request import Answer, Request
    from logprob_store.transport import Transport

KEY = "-".join(["sk", "test", "0123456789abcdefghijklmnop"])  # noqa: FLY002  in one piece, scanners take it for a key


def _request(text: str = "Grüße") -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "logprobs": True, "top_logprobs": 2}
    return make_request(body, endpoint="chat", provider="p")


def _ask(url: str | None, *, attempts: int = 1, timeout_s: float = 5.0, retry_for_s: float = 600.0) -> Answer:
    async def ask() -> Answer:
        async with live_transport(base_url=url, api_key=KEY, concurrency=2, timeout_s=timeout_s) as transport:
            pacer = Pacer(2)
            return await retry.ask_until_answered(
                _request(), transport, pacer=pacer, attempts=attempts, retry_for_s=retry_for_s
            )

    try:
        return asyncio.run(ask())
    finally:
        gc.collect()  # an unclosed connection would warn here, and warnings are errors


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries for which the server names no time follow at once."""
    monkeypatch.setattr(retry, "_jitter", tenacity.wait_none())


def test_the_request_is_sent_as_it_is(fault_server: Any) -> None:
    """The server gets the bytes of `content`, as JSON, with the key; the answer's bytes come back unchanged."""
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
        ("408", "server_error", 408, False),
        ("409", "server_error", 409, False),
        ("500", "server_error", 500, False),
        ("502", "server_error", 502, False),
        ("503", "server_error", 503, False),
        ("504", "server_error", 504, False),
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
def test_a_passing_fault(
    fault_server: Any,
    step: str,
    error_type: str,
    status: int | None,
    maybe_billed: bool,  # noqa: FBT001
) -> None:
    """A call with a passing fault is repeated; the error has its class, status and whether it may be billed."""
    fault_server.script(f"{step}*5")

    with pytest.raises(RetryableError) as caught:
        _ask(fault_server.url, attempts=2)

    assert len(fault_server.calls) == caught.value.attempts == 2
    assert (caught.value.error_type, caught.value.status) == (error_type, status)
    assert caught.value.maybe_billed is maybe_billed
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("step", ["429", "500", "reset", "reset_body", "truncated", "malformed", "error200"])
def test_a_fault_that_passes(fault_server: Any, step: str) -> None:
    """Once the fault has passed, the answer comes, with its attempts counted."""
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
    """A fault of one prompt is not repeated, and does not stop the run."""
    fault_server.script(f"{step}*5")

    with pytest.raises(CallError) as caught:
        _ask(fault_server.url, attempts=4)

    assert len(fault_server.calls) == caught.value.attempts == 1
    assert (caught.value.error_type, caught.value.status) == (error_type, status)
    assert caught.value.maybe_billed is False
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
    """A fault that every prompt would have stops the run at the first."""
    fault_server.script(f"{step}*5")

    with pytest.raises(StopRunError) as caught:
        _ask(fault_server.url, attempts=4)

    assert len(fault_server.calls) == 1
    assert (caught.value.reason, caught.value.status) == (reason, status)


def test_an_answer_without_logprobs_is_an_answer(fault_server: Any) -> None:
    """An answer without logprobs is kept, because it was paid for; decoding finds the failure."""
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
    """A server that sends nothing, or too slowly, is a timeout that may be billed."""
    fault_server.script(step)
    started = asyncio.new_event_loop()
    before = started.time()

    with pytest.raises(RetryableError) as caught:
        _ask(fault_server.url, timeout_s=0.4)

    assert started.time() - before < 4
    started.close()
    assert (caught.value.error_type, caught.value.status, caught.value.maybe_billed) == ("timeout", None, True)


def test_a_slow_answer_is_an_answer(fault_server: Any) -> None:
    """An answer that comes slowly, but within the limit, is an answer."""
    fault_server.script("drip:seconds=0.3")

    assert _ask(fault_server.url, timeout_s=5).status == 200


@pytest.mark.usefixtures("fault_server")
def test_a_refused_connection_is_surely_not_billed() -> None:
    """A connection that was refused is certainly not billed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with pytest.raises(RetryableError) as caught:
        _ask(f"http://127.0.0.1:{port}/v1")

    assert (caught.value.error_type, caught.value.maybe_billed) == ("connection", False)


def test_one_lost_answer_marks_the_whole_call(fault_server: Any) -> None:
    """`maybe_billed` of a lost answer stays when a later attempt fails for another reason."""
    fault_server.script("reset_body, 400")

    with pytest.raises(CallError) as caught:
        _ask(fault_server.url, attempts=3)

    assert (caught.value.error_type, caught.value.attempts, caught.value.maybe_billed) == ("invalid_request", 2, True)


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
    loop = asyncio.new_event_loop()
    before = loop.time()

    with pytest.raises(RetryableError):
        _ask(fault_server.url, attempts=5, retry_for_s=2)

    assert loop.time() - before < 2
    loop.close()
    assert len(fault_server.calls) == 1


def test_a_redirect_is_not_followed(fault_server: Any) -> None:
    """A redirect is an error that says to set base_url, and is not followed."""
    fault_server.script("redirect:to=/v1/completions")

    with pytest.raises(CallError, match=r"HTTP 307.*set model\.base_url"):
        _ask(fault_server.url, attempts=3)

    assert len(fault_server.calls) == 1


def _many(url: str, pacer: Pacer, texts: list[str], concurrency: int) -> list[str]:
    """Ask all at once; returns the texts in the order in which they were answered."""
    done: list[str] = []

    async def one(text: str, transport: Any) -> None:
        await retry.ask_until_answered(_request(text), transport, pacer=pacer)
        done.append(text)

    async def main() -> None:
        async with live_transport(base_url=url, api_key=KEY, concurrency=concurrency) as transport:
            await asyncio.gather(*(one(text, transport) for text in texts))

    asyncio.run(main())
    return done


def test_a_waiting_retry_holds_no_slot(fault_server: Any) -> None:
    """With one slot, another prompt is answered while the first waits to be asked again."""
    fault_server.when("first", "500:retry-after-ms=500")

    assert _many(fault_server.url, Pacer(1), ["first", "second", "third"], 1) == ["second", "third", "first"]


def test_concurrency_is_never_exceeded(fault_server: Any) -> None:
    """The server never sees more calls at once than the pacer allows, and sees that many."""
    fault_server.behaviour.delay_ms = 30
    fault_server.script("500:retry-after-ms=20, ok*3, 429:retry-after-ms=20")

    _many(fault_server.url, Pacer(3), [str(number) for number in range(20)], 3)

    assert fault_server.behaviour.most_in_flight == 3
    assert len(fault_server.calls) == 22


def test_calls_are_spaced(fault_server: Any) -> None:
    """1200 a minute is one every 50 ms; 11 calls take 10 spaces, less the 20 ms that the first two may be closer.

    A tenth of a second is for the first to arrive late: it finds no connection, no address, and a busy machine.
    """
    _many(fault_server.url, Pacer(6, requests_per_minute=1200), list("abcdefghijk"), 6)

    starts = sorted(call.at for call in fault_server.calls)
    assert starts[-1] - starts[0] >= 0.5 - 0.02 - 0.1


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


def test_the_key_is_in_no_log_error_cache_or_fixture(
    fault_server: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is nowhere, even at DEBUG, in tracebacks, and when the server repeats it."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setitem(_faults().ERRORS, "401", (401, "invalid_api_key", "x", f"Incorrect API key: {KEY}"))
    fault_server.script("500, reset, ok, 401")
    said: list[str] = []

    async def main() -> Answer:
        async with (
            live_transport(base_url=fault_server.url, api_key=KEY) as transport,
            Asker(transport, pacer=Pacer(1), cache=cache) as asker,
        ):
            answer = await asker.ask(_request())
            with pytest.raises(StopRunError) as caught:
                await asker.ask(_request("refused"))
            said.extend(traceback.format_exception(caught.value))
            return answer

    with AnswerCache(tmp_path) as cache:
        answer = asyncio.run(main())

    assert fault_server.calls[0].headers["authorization"].endswith(KEY)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY not in caplog.text
    assert "[key]" in "".join(said)
    assert KEY not in "".join(said)
    assert KEY.encode() not in kept
    assert KEY.encode() not in fixture_line(answer)


def _faults() -> Any:
    import fault_server

    return fault_server


def test_the_base_url_in_the_environment_is_not_heeded(fault_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_BASE_URL, which request keys do not include, is ignored, with a base_url and without."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")

    async def default() -> str:
        return str((await Addresses(api_key=KEY).of("chat")).url)

    _ask(fault_server.url)

    assert len(fault_server.calls) == 1
    assert asyncio.run(default()) == "https://api.openai.com/v1/chat/completions"


@pytest.mark.parametrize("key", [None, "", "sk-with-newline\n", "ключ"])
def test_a_key_that_cannot_be_sent(key: str | None) -> None:
    """No key, or one that no header can hold, is a JobError before any call."""

    async def main() -> None:
        async with live_transport(base_url="http://127.0.0.1:1/v1", api_key=key):
            pass

    with pytest.raises(JobError, match=r"key") as caught:
        asyncio.run(main())

    gc.collect()
    assert not key or key.strip() not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "250", "retry-after": "2"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 32 Foo 2026"}, None),
        ({"retry-after": "1790000000"}, None),
        ({"retry-after": "2592000"}, 2_592_000.0),  # a month's quota: 30 days
        ({"retry-after": ""}, None),
    ],
    ids=str,
)
def test_retry_after_s(headers: dict[str, str], expected: float | None) -> None:
    """What is no time to wait, or more than 32 days, counts as unsaid; a past date is 0 seconds."""
    assert retry_after_s(headers) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"message": "You are not allowed to request logprobs from this model."}, True),
        ({"code": "unsupported_parameter", "param": "top_logprobs"}, True),
        ({"code": "unsupported_parameter", "param": "temperature"}, False),
        ({"message": "Invalid value for 'top_logprobs': must be at most 20"}, True),
        ({"message": "logprobs are not supported with reasoning models"}, True),
        ({"message": "Unrecognized request argument supplied: logprobs"}, True),
        ({"detail": [{"loc": ["body", "logprobs"], "msg": "Extra inputs are not permitted"}]}, True),
        ({"detail": [{"loc": ["body", "stop"], "msg": "too many", "input": {"logprobs": True}}]}, False),
        ({"message": "the model has no catalogprobs"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_refuses_logprobs(said: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    """Decided by the parameter that the server names, else by its words; never by the request that it shows."""
    assert refuses_logprobs(400, said) is expected


def test_insufficient_quota_goes_by_the_code_alone() -> None:
    """`insufficient_quota` stops the run as a code only: one provider uses the words for a limit that passes."""
    body = b'{"error":{"message":"insufficient_quota for this minute","type":"insufficient_quota","code":"slow_down"}}'

    error = error_of_status(429, {}, body)

    assert isinstance(error, RetryableError)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"plain \x1b[31mtext\xff",
        b'{"error":"\\u001b]0;evil\\u0007\\nsecond line"}',
        b'{"error":[1]}',
        b"[" * 10_000,
        b'{"error":{"message":"' + b"x" * 100_000 + b'"}}',
    ],
    ids=["empty", "bytes", "escapes", "list", "deep", "long"],
)
def test_whatever_the_server_says_is_shown_on_one_harmless_line(body: bytes) -> None:
    """Terminal escapes, line breaks and megabytes of a server's message do not reach logs and tables."""
    text = str(error_of_status(400, {}, body))

    assert text.startswith("HTTP 400")
    assert text.isprintable()
    assert len(text) < 1100
    assert not re.search(r"[\x00-\x1f]", text)


def test_a_silent_connection_is_probed() -> None:
    """Gateways forget connections that are idle for minutes, and with them answers that are paid for."""
    address = socket.getaddrinfo("127.0.0.1", 1, type=socket.SOCK_STREAM)[0]
    with keepalive_socket(address) as opened:
        probes = opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle_s = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

    assert (probes, idle_s) == (1, 60)
