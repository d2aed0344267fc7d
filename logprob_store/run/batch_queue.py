"""What the batches of a session share: how many tokens may be queued, and when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from logprob_store.batch.journal import SentBatch

_ROOM: Final = 0.9
"""The part of a limit of tokens that is filled: tokens are estimated."""
_TRIES: Final = 10
"""How often a batch is refused for its tokens, with none of ours beside it, before it is taken to be too large."""
_SMALLEST: Final = 8
"""The part of the first size, or of the limit, below which files are not made smaller: others fill the queue."""


class LeftError(Exception):
    """The session waits for a batch no longer; the batch goes on at the service."""


class BatchQueue:
    """The batches of a run that are under way at the service.

    `limit` is the most tokens of prompts that may be queued, `max_bytes` the most bytes of a file, each None where it
    is not known. `leaves` says that the session does not wait for batches. `must_end` says that what is under way is to
    be ended, and nothing more begun. `is_stopped` says that the session ends at once. `ends` counts the batches that
    ended, and `calls_begun` the calls of those that were begun, in this session.

    Args:
        limit: the most tokens of prompts that may be queued.
        leaves: whether the session waits for no batch.
    """

    def __init__(self, *, limit: int | None = None, leaves: bool = False) -> None:
        self.limit = limit
        self.max_bytes: int | None = None
        self.leaves = leaves
        self.must_end = False
        self.is_stopped = False
        self.ends = 0
        self.calls_begun = 0
        self._smallest: int | None = None
        self._under_way: dict[int, int] = {}
        self._change = asyncio.Event()

    def begins_none(self) -> bool:
        """Whether nothing more is begun."""
        return self.must_end or self.is_stopped

    def end(self) -> None:
        """From now on nothing more is begun, and what is under way is ended."""
        self.must_end = True
        self._notify()

    def stop(self) -> None:
        """From now on nothing is waited for."""
        self.is_stopped = True
        self._notify()

    async def wait_for_room(self, batch: SentBatch) -> None:
        """Wait until a batch fits under the limit, or nothing else is under way; from then on it counts.

        Raises:
            LeftError: nobody waits.
        """
        while not self.must_end and self.limit is not None and self._under_way:
            if sum(self._under_way.values()) + batch.tokens <= self.limit:
                break
            await self.wait_for_change(None)
        self._under_way[batch.number] = batch.tokens

    def adopted(self, batch: SentBatch) -> None:
        """Count a batch that an earlier session began."""
        self._under_way[batch.number] = batch.tokens

    def ended(self, batch: SentBatch) -> None:
        """A batch is not under way any more."""
        if self._under_way.pop(batch.number, None) is not None:
            self._notify()

    def is_too_large(self, batch: SentBatch, limit: int | None) -> bool:
        """Whether a batch that was refused for its tokens never fits; then the next ones are made smaller.

        Args:
            batch: it counts no more.
            limit: as the service names it.
        """
        if limit:
            self.limit = max(1, int(limit * _ROOM))
            if batch.tokens > limit:
                return True
        if self._smallest is None:
            self._smallest = (limit or batch.tokens) // _SMALLEST
        half = batch.tokens // 2
        is_refused = not self._under_way and len(batch.past_ids) >= _TRIES and batch.lines > 1
        if is_refused and half >= max(1, self._smallest):
            self.limit = half
            return True
        return False

    async def wait_for_change(self, seconds: float | None) -> None:
        """Wait until a batch ends, at most so many seconds.

        Raises:
            LeftError: nobody waits.
        """
        if self.leaves:
            raise LeftError
        await self.sleep(seconds)

    async def sleep(self, seconds: float | None) -> None:
        """Wait so many seconds, or until something changes.

        Raises:
            LeftError: the session ends.
        """
        if self.is_stopped:
            raise LeftError
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._change.wait(), seconds)
        if self.is_stopped:
            raise LeftError

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
