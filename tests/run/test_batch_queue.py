"""How much may be queued, and when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from logprob_store.batch.journal import SentBatch
from logprob_store.run.batch_queue import BatchQueue, LeftError


def batch(number: int, tokens: int, *, refused: int = 0, lines: int = 10) -> SentBatch:
    """A batch of so many tokens that was refused so often."""
    return SentBatch(number, "uploaded", "m", lines, 1, "", tokens, past_ids=["b"] * refused)


async def has_room(queue: BatchQueue, one: SentBatch) -> bool:
    """Whether a batch goes on at once."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(queue.wait_for_room(one), 0.01)
        return True
    return False


def test_a_batch_waits_for_room() -> None:
    """It goes on when another one has ended."""

    async def scenario() -> list[bool]:
        queue = BatchQueue(limit=100)
        first, second = batch(1, 60), batch(2, 60)
        found = [await has_room(queue, first), await has_room(queue, second)]
        queue.ended(first)
        return [*found, await has_room(queue, second)]

    assert asyncio.run(scenario()) == [True, False, True]


def test_a_batch_alone_is_always_let_through() -> None:
    """The service says whether it is too large."""
    assert asyncio.run(has_room(BatchQueue(limit=10), batch(1, 60)))


def test_nobody_waits_when_the_session_leaves() -> None:
    """A detached session leaves what has no room to the next one."""

    async def scenario() -> None:
        queue = BatchQueue(limit=100, leaves=True)
        await queue.wait_for_room(batch(1, 60))
        await queue.wait_for_room(batch(2, 60))

    with pytest.raises(LeftError):
        asyncio.run(scenario())


def test_a_stop_wakes_who_waits() -> None:
    """At once."""

    async def scenario() -> None:
        queue = BatchQueue()
        asyncio.get_running_loop().call_later(0.01, queue.stop)
        await queue.sleep(60)

    with pytest.raises(LeftError):
        asyncio.run(asyncio.wait_for(scenario(), 5))


@pytest.mark.parametrize(
    ("one", "limit", "too_large"),
    [
        (batch(1, 500), 400, True),
        (batch(1, 300), 400, False),
        (batch(1, 300), None, False),
        (batch(1, 300, refused=10), None, True),
        (batch(1, 300, refused=10, lines=1), None, False),
        (batch(1, 300), 0, False),
    ],
)
def test_a_batch_is_too_large_for_the_queue(one: SentBatch, limit: int | None, too_large: bool) -> None:  # noqa: FBT001
    """By the limit that the service names, or because it is refused again and again with nothing beside it."""
    queue = BatchQueue()

    assert queue.is_too_large(one, limit) is too_large
    assert (queue.limit is not None and queue.limit < one.tokens) is too_large
