"""Lookups of cached answers, made ahead of the session that uses them.

Prompts are read, and the cache is searched, while earlier answers are on their way into the store, so that the store
does not wait for the cache.
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

REQUESTS_PER_LOOKUP: Final = 32
"""The most requests of one lookup. All cached answers of a chunk may not fit into memory."""

FIRST_LOOKUP: Final = 2
"""Requests of the first lookup, when nothing is known of the answers' size."""

BYTES_PER_LOOKUP: Final = 8 << 20
"""Bytes of the cached answers of one lookup, about."""

LOOKUPS_AHEAD: Final = 3
"""Lookups in flight ahead of the consumer."""


@dataclass(frozen=True, slots=True)
class LookedUp:
    """Some requests of a chunk, and the cached answers to them by request key.

    `chunk` is set with the first requests of a chunk. A chunk without requests has one `LookedUp` too.
    """

    chunk: Chunk | None
    requests: Sequence[Request]
    cached: Mapping[str, CachedAnswer]


async def look_up_ahead(chunks: Iterator[Chunk], look_up: LookUp) -> AsyncGenerator[LookedUp]:
    """All requests of the chunks in order, some at a time, with their cached answers.

    Of small answers REQUESTS_PER_LOOKUP are looked up at a time, of large ones as many as make BYTES_PER_LOOKUP.

    An error of `chunks` or `look_up` is raised in its turn, after everything before it was yielded. Close the generator
    (`contextlib.aclosing`): that waits for the thread that reads prompts.
    """
    ahead: deque[asyncio.Task[LookedUp]] = deque()
    reading = _read(chunks)
    sized = _Sized(look_up)
    try:
        while True:
            while ahead and not _has_more(reading):
                yield await ahead.popleft()
            chunk = await reading
            if chunk is None:
                return
            reading = _read(chunks)
            first = 0
            while first == 0 or first < len(chunk.requests):
                requests = chunk.requests[first : first + sized.requests]
                ahead.append(asyncio.create_task(sized(None if first else chunk, requests)))
                first += max(1, len(requests))
                if len(ahead) > LOOKUPS_AHEAD:
                    yield await ahead.popleft()
    finally:
        await asyncio.gather(reading, *ahead, return_exceptions=True)


def _read(chunks: Iterator[Chunk]) -> asyncio.Task[Chunk | None]:
    return asyncio.create_task(asyncio.to_thread(next, chunks, None))


def _has_more(reading: asyncio.Task[Chunk | None]) -> bool:
    return reading.done() and reading.exception() is None and reading.result() is not None


class _Sized:
    """Looks up answers, and says how many of the next `requests` to take: as many as the last answers let expect."""

    def __init__(self, look_up: LookUp) -> None:
        self.requests = FIRST_LOOKUP
        self._look_up = look_up

    async def __call__(self, chunk: Chunk | None, requests: Sequence[Request]) -> LookedUp:
        cached = await self._look_up(requests)
        size = sum(len(answer.body) for answer in cached.values())
        if size > BYTES_PER_LOOKUP:
            self.requests = max(1, len(requests) // 2)
        elif 2 * size <= BYTES_PER_LOOKUP:
            self.requests = min(REQUESTS_PER_LOOKUP, max(self.requests, 2 * len(requests)))
        return LookedUp(chunk, requests, cached)
