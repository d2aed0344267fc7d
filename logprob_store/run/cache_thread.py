"""The answer cache in a thread of its own, so that the event loop does not wait for the disk.

Answers that arrive while others are being written share the next write: one sync serves many.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from logprob_store.cache.answers import AnswerCache, CachedAnswer
    from logprob_store.request import Answer

_T = TypeVar("_T")


class CacheThread:
    """Reads and writes an answer cache in one thread.

    Args:
        cache: the cache.
        on_durable: called on the event loop with each answer that is on the disk.
        on_write_ended: called on the event loop with the key of each answer whose write has ended, failed or not.
    """

    def __init__(
        self, cache: AnswerCache, *, on_durable: Callable[[Answer], None], on_write_ended: Callable[[str], None]
    ) -> None:
        self._cache = cache
        self._on_durable = on_durable
        self._on_write_ended = on_write_ended
        self._queue: list[tuple[Answer, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cache")

    def holds(self, key: str) -> bool:
        """Whether the cache has a value for a key, readable or not. Takes 6 us on the event loop itself.

        Raises:
            CacheError: the cache cannot be read.
        """
        return self._cache.holds(key)

    async def get_many(self, keys: Collection[str]) -> dict[str, CachedAnswer]:
        """The readable answers among those of `keys`. A round trip to the thread takes 100 us.

        Raises:
            CacheError: the cache cannot be read.
        """
        return await self._in_thread(self._cache.get_many, keys)

    async def put(self, answer: Answer) -> None:
        """Write an answer; it is on the disk when this returns. The write goes on if the caller is cancelled.

        Raises:
            DiskError: it could not be written.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((answer, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_queue())
        await written

    async def close(self) -> None:
        """Wait for the writes under way, close the cache's connection in the thread, and end the thread."""
        if self._writer is not None:
            await self._writer
        await self._in_thread(self._cache.close)
        self._thread.shutdown(wait=True)

    async def _write_queue(self) -> None:
        while self._queue:
            batch, self._queue = self._queue, []
            try:
                await self._write([answer for answer, _ in batch])
            except BaseException as error:
                # Every task that waits for this batch gets the error, whatever it is; none waits for ever.
                for _, written in batch:
                    if not written.done():
                        written.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                for _, written in batch:
                    if not written.done():
                        written.set_result(None)
            finally:
                for answer, _ in batch:
                    self._on_write_ended(answer.request.key)

    async def _write(self, answers: list[Answer]) -> None:
        await self._in_thread(self._cache.put_many, answers)
        for answer in answers:
            self._on_durable(answer)

    async def _in_thread(self, call: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
