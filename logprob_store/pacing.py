"""How many calls may be under way, and how soon the next may start.

Holds the bound on concurrency and a fixed limit of requests a minute. Leaves out retrying (`retry`) and what the
server's own headers say about its limits.
"""

from __future__ import annotations

import asyncio
from typing import Self


class Slots:
    """An async context manager that lets `concurrency` calls in, evenly spaced when a rate is given.

    A call that waits to be repeated holds no slot.

    Args:
        concurrency: calls under way at most.
        requests_per_minute: starts a minute at most, spread evenly so that limits enforced per second hold too.
    """

    def __init__(self, concurrency: int, requests_per_minute: float | None = None) -> None:
        self._free = asyncio.Semaphore(concurrency)
        self._spacing_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_start = 0.0

    async def __aenter__(self) -> Self:
        await self._free.acquire()
        if self._spacing_s:
            now = asyncio.get_running_loop().time()
            start = max(now, self._next_start)
            self._next_start = start + self._spacing_s
            try:
                await asyncio.sleep(start - now)
            except asyncio.CancelledError:
                self._free.release()
                raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._free.release()
