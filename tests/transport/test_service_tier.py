"""Calls by a service tier that the job names."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from builders import answer_to, chat_request
from pacing.simulation import run

from logprob_store.errors import RetryableError
from logprob_store.transport.service_tier import send_by_tier

if TYPE_CHECKING:
    from logprob_store.request import Answer, Request


def tiers_sent(request: Request, waits: list[float], *, fallback_s: float | None = None) -> list[str]:
    """The tiers that a request is sent by, when each call but the last fails and the next follows after a wait."""
    sent: list[str] = []

    async def transport(sent_request: Request) -> Answer:
        tier = json.loads(sent_request.content)["service_tier"]
        assert sent_request.body["service_tier"] == tier
        sent.append(tier)
        if len(sent) <= len(waits):
            raise RetryableError("no room", error_type="no_capacity", status=429)
        return answer_to(sent_request)

    async def main() -> None:
        call = send_by_tier(transport, "flex", fallback_s=fallback_s)
        for wait in waits:
            with pytest.raises(RetryableError):
                await call(request)
            await asyncio.sleep(wait)
        answer = await call(request)
        assert answer.request is request

    run(main())
    return sent


def test_the_tier_is_sent_and_the_answer_is_to_the_question() -> None:
    """What is stored, and its key, know nothing of the tier."""
    request = chat_request("Hi", max_tokens=3)

    assert tiers_sent(request, []) == ["flex"]
    assert "service_tier" not in request.body


def test_the_rest_of_what_is_sent_is_unchanged() -> None:
    """The tier is added at the end."""
    request = chat_request("Hi", max_tokens=3)
    contents: list[bytes] = []

    async def transport(sent: Request) -> Answer:
        contents.append(sent.content)
        return answer_to(sent)

    asyncio.run(send_by_tier(transport, "priority")(request))

    assert json.loads(contents[0]) == {**json.loads(request.content), "service_tier": "priority"}


def test_without_a_fallback_the_tier_stays() -> None:
    """However long that takes."""
    assert tiers_sent(chat_request(), [100.0, 5000.0]) == ["flex", "flex", "flex"]


def test_the_standard_tier_is_asked_after_the_given_time() -> None:
    """Counted from the first call for the request."""
    assert tiers_sent(chat_request(), [40.0, 50.0, 40.0], fallback_s=90.0) == ["flex", "flex", "default", "default"]


def test_each_request_has_its_own_time() -> None:
    """A request that is new is sent by the tier first, also where it falls back at once."""
    assert tiers_sent(chat_request("a"), [1.0], fallback_s=0.0) == ["flex", "default"]


def test_a_request_that_names_a_tier_is_sent_as_it_is() -> None:
    """Such as one whose row has it in its parameters."""
    request = chat_request("Hi", max_tokens=3, service_tier="default")

    assert tiers_sent(request, []) == ["default"]
