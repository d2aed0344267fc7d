"""API keys and the environment: a key is sent and shown nowhere, and OPENAI_BASE_URL is ignored."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import traceback
from typing import TYPE_CHECKING, Any

import fault_script
import fault_server as fault_server_module
import pytest
from builders import chat_request

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import JobError, LogprobStoreError, StopRunError
from logprob_store.pacing.pacer import Pacer
from logprob_store.replay.fixtures import fixture_line
from logprob_store.run.asker import Asker
from logprob_store.transport.addresses import Addresses
from logprob_store.transport.lazy_live import lazy_live_transport
from logprob_store.transport.live import live_transport
from logprob_store.transport.url_and_key import warn_of_plain_http

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.request import Answer

KEY = "-".join(["sk", "test", "0123456789abcdefghijklmnop"])  # noqa: FLY002  in one piece, scanners take it for a key


def test_the_key_is_in_no_log_error_cache_or_fixture(
    fault_server: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in none of these, also at DEBUG, in tracebacks, and when the server repeats it."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setitem(fault_script.ERRORS, "401", (401, "invalid_api_key", "x", f"Incorrect API key: {KEY}"))
    fault_server.script("500, reset, ok, 401")
    said: list[str] = []

    async def main() -> Answer:
        async with (
            live_transport(base_url=fault_server.url, api_key=KEY) as transport,
            Asker(transport, pacer=Pacer(1), cache=cache) as asker,
        ):
            answer = await asker.ask(chat_request())
            with pytest.raises(StopRunError) as caught:
                await asker.ask(chat_request("refused"))
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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("step", ["401", "500", "malformed", "ok"])
def test_the_key_is_found_in_other_encodings(
    fault_server: Any, monkeypatch: pytest.MonkeyPatch, encoding: str, step: str
) -> None:
    """In refusals and answers, good and bad ones, with its characters apart."""
    said = {"error": {"message": f"Incorrect API key: {KEY}", "code": "x"}}
    answer = {"choices": [{"index": 0, "message": {"content": KEY}}]}
    bodies = {"malformed": json.dumps(answer)[:-3], "ok": json.dumps(answer)}
    content = bodies.get(step, json.dumps(said)).encode(encoding)
    status = int(step) if step.isdecimal() else 200
    monkeypatch.setattr(fault_server_module, "_head", _head_of(status, len(content)))
    monkeypatch.setattr(fault_server_module, "_spoilt", lambda *_: content)
    found: list[str] = []

    async def main() -> None:
        async with live_transport(base_url=fault_server.url, api_key=KEY) as transport:
            try:
                found.append(repr((await transport(chat_request())).body))
            except LogprobStoreError as error:
                found.append(str(error) + repr(getattr(error, "response", "")))

    asyncio.run(main())

    assert "[key]" in found[0]
    assert "0123" not in found[0].replace("\\x00", "").replace("\\", "").replace("x00", "")


def _head_of(status: int, length: int) -> Any:
    """The head of an answer with this status, whatever the fault server would say."""
    return lambda *_: f"HTTP/1.1 {status} S\r\ncontent-length: {length}\r\n\r\n".encode()


def test_the_base_url_in_the_environment_is_ignored(fault_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_BASE_URL, which request keys do not include, changes no call."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")

    async def default() -> str:
        return str((await Addresses(api_key=KEY).of("chat")).url)

    async def ask() -> None:
        async with live_transport(base_url=fault_server.url, api_key=KEY) as transport:
            await transport(chat_request())

    asyncio.run(ask())

    assert len(fault_server.calls) == 1
    assert asyncio.run(default()) == "https://api.openai.com/v1/chat/completions"


@pytest.mark.parametrize("key", [None, "sk-with-newline\n", "ключ"])
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
    ("base_url", "key", "warns"),
    [
        ("http://10.0.0.1/v1", KEY, True),
        ("http://example.org/v1", KEY, True),
        ("https://example.org/v1", KEY, False),
        ("http://localhost:8080/v1", KEY, False),
        ("http://127.0.0.1:8080/v1", KEY, False),
        ("http://[::1]:8080/v1", KEY, False),
        ("http://example.org/v1", "none", False),
        (None, KEY, False),
    ],
)
def test_a_key_over_plain_http_is_warned_of(
    caplog: pytest.LogCaptureFixture, base_url: str | None, key: str, *, warns: bool
) -> None:
    """Unless it stays on this machine, or is no secret; the key is not in the warning."""
    warn_of_plain_http(base_url, key)

    assert ("over plain http" in caplog.text) == warns
    assert KEY not in caplog.text


def test_a_header_over_plain_http_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The values of `model.headers` may be secrets as well."""

    async def main() -> None:
        async with lazy_live_transport(
            base_url="http://example.org/v1",
            api_key="none",
            azure_api_version=None,
            azure_deployment=None,
            concurrency=1,
            timeout_s=1,
            max_answer_bytes=1024,
            headers={"X-Key": KEY},
            query={},
        ):
            pass

    asyncio.run(main())

    assert "over plain http" in caplog.text
