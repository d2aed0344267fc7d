"""Bytes that a server writes to an idle connection are not taken for an answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import fault_answers
import pytest
from builders import chat_request

from logprob_store.transport.live import live_transport


@pytest.mark.parametrize("step", ["unasked", "parting"])
def test_bytes_on_an_idle_connection_are_not_the_next_answer(fault_server: Any, step: str) -> None:
    """Neither a repeated answer nor a proxy's closing notice is taken for the answer to the next request."""
    fault_server.when("first", step)
    requests = [chat_request(text) for text in ("first", "second")]

    async def both() -> list[dict[str, Any]]:
        async with live_transport(base_url=fault_server.url, api_key="none", concurrency=1) as transport:
            answers = []
            for request in requests:
                answer = await transport(request)
                answers.append(json.loads(answer.body))
                await asyncio.sleep(0.1)
            return answers

    expected = [json.loads(fault_answers.answer_to("/v1/chat/completions", request.body)) for request in requests]
    assert asyncio.run(both()) == expected
    assert len(fault_server.calls) == 2
