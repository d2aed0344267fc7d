"""The calls of a run, a few at a time, with what the cache has of their answers; read ahead of whoever asks.

Prompts become requests, and kept answers are read and unpacked, while those before are on their way into the store, so
that it does not wait for them. Leaves out prompts and requests (`planning`), the cache itself, and what is done with
either (`session`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence

    from logprob_store.cache.answers import CachedAnswer
    from logprob_store.request import Request
    from logprob_store.run.plan import Chunk

    LookUp = Callable[[Sequence[Request]], Coroutine[Any, Any, Mapping[str, CachedAnswer]]]

AT_ONCE: Final = 32
"""Requests; the answers to all of a chunk may not fit into memory."""

AHEAD: Final = 3
"""How many times so many are looked up beside those that are handed out."""


@dataclass(frozen=True, slots=True)
class Few:
    """Some requests of a chunk and, by key, what is kept of their answers.

    `begins` is the chunk when they are its first. One without requests has one `Few` all the same.
    """

    begins: Chunk | None
    requests: Sequence[Request]
    kept: Mapping[str, CachedAnswer]


async def look_up_ahead(chunks: Iterator[Chunk], look_up: LookUp) -> AsyncGenerator[Few]:
    """All requests of the chunks, in order.

    An error of either comes when its turn does, after all that was before it. Close it (`contextlib.aclosing`): no
    thread then reads on.
    """
    ahead: deque[asyncio.Task[Few]] = deque()
    reading = _read(chunks)
    try:
        while True:
            while ahead and not _has_more(reading):
                yield await ahead.popleft()
            chunk = await reading
            if chunk is None:
                return
            reading = _read(chunks)
            for first in range(0, max(1, len(chunk.requests)), AT_ONCE):
                few = chunk.requests[first : first + AT_ONCE]
                ahead.append(asyncio.create_task(_looked_up(None if first else chunk, few, look_up)))
                if len(ahead) > AHEAD:
                    yield await ahead.popleft()
    finally:
        await asyncio.gather(reading, *ahead, return_exceptions=True)


def _read(chunks: Iterator[Chunk]) -> asyncio.Task[Chunk | None]:
    return asyncio.create_task(asyncio.to_thread(next, chunks, None))


def _has_more(reading: asyncio.Task[Chunk | None]) -> bool:
    return reading.done() and reading.exception() is None and reading.result() is not None


async def _looked_up(begins: Chunk | None, requests: Sequence[Request], look_up: LookUp) -> Few:
    return Few(begins, requests, await look_up(requests))
