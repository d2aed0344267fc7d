"""Outcomes of calls, waiting for a part.

The buffer stands between the event loop and the threads that decode and write (`run.commit`). Its size is bounded by
bytes, since an answer may have one token or a thousand.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from logprob_store.run.commit import PARTS_IN_FLIGHT, Committer, PartContents, failure_row
from logprob_store.run.prompt_scoring import FirstLook

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from logprob_store.errors import CallError, StopRunError
    from logprob_store.request import Answer, BadCall, Request
    from logprob_store.run.plan import Chunk
    from logprob_store.store.manifest import Manifest

PART_SECONDS: Final = 60.0
"""Seconds after which a part is written whatever its size, so that a slow run can be watched."""

_OVERHEAD_BYTES: Final = 4000
"""Memory of an answer or a failure beside the body: the request and the objects around both."""


@dataclass(slots=True)
class Progress:
    """How far a session is. Calls are prompts times samples; `in_flight` are those at the server now."""

    total: int = 0
    settled: int = 0
    calls: int = 0
    from_cache: int = 0
    from_fixtures: int = 0
    failed: int = 0
    in_flight: int = 0
    spent_usd: float | None = None


class PartBuffer:
    """Collects outcomes and commits them as parts, one after the other, off the event loop.

    Args:
        committer: of the run; the buffer closes it.
        manifest: of the run.
        progress: counts the outcomes.
        part_bytes: size from which on a part is committed.
        on_durable: called with each answer whose rows are durable.
    """

    def __init__(
        self,
        committer: Committer,
        manifest: Manifest,
        progress: Progress,
        *,
        part_bytes: int,
        on_durable: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self._committer = committer
        self._progress = progress
        self._part_bytes = part_bytes
        self._on_durable = on_durable
        self._contents = PartContents()
        self._turns = asyncio.Semaphore(PARTS_IN_FLIGHT)
        self._since = asyncio.get_running_loop().time()
        self._first_look = FirstLook(manifest)
        self._broken: BaseException | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._next: tuple[asyncio.Future[None], asyncio.Task[None]] | None = None

    @property
    def stop_reason(self) -> StopRunError | None:
        """The reason to stop, when the first answers show that no other will do."""
        return self._first_look.stop_reason

    def add_prompts(self, chunk: Chunk) -> None:
        """Add the prompt rows of a chunk; they go with the next part."""
        if chunk.prompts.num_rows:
            self._contents.prompts.append(chunk.prompts)
            self._contents.weight += chunk.prompts.nbytes
        self._contents.prompts_read = max(self._contents.prompts_read, chunk.prompts_read)
        self._contents.absent += chunk.absent

    async def add_answer(self, answer: Answer) -> None:
        """Add an answer; waits while the buffer is full and the two parts before it are not written."""
        self._contents.answers.append(answer)
        self._contents.weight += len(answer.body) + _OVERHEAD_BYTES
        self._progress.settled += 1
        self._progress.from_cache += answer.source == "cache"
        self._progress.from_fixtures += answer.source == "fixture"
        await self._flush_if_full()

    async def add_failure(self, call: Request | BadCall, error: CallError, *, first_at: datetime | None = None) -> None:
        """Add a failure; waits like `add_answer`."""
        self.add_failure_now(call, error, first_at=first_at)
        await self._flush_if_full()

    def add_failure_now(self, call: Request | BadCall, error: CallError, *, first_at: datetime | None = None) -> None:
        """Add a failure without waiting: for a task that is being cancelled."""
        self._contents.failures.append(failure_row(call, error, first_at))
        self._contents.weight += _OVERHEAD_BYTES
        self._progress.settled += 1
        self._progress.failed += 1

    async def flush(self) -> None:
        """Commit all outcomes; raises the error of an earlier commit, which no task may have waited for."""
        await self._flush()
        if self._under_way:
            await asyncio.wait(self._under_way)
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        """End the committer's threads."""
        self._committer.close()

    def _is_full(self) -> bool:
        overdue = asyncio.get_running_loop().time() - self._since > PART_SECONDS
        return self._contents.weight >= self._part_bytes or overdue or self._first_look.due(len(self._contents.answers))

    async def _flush_if_full(self) -> None:
        if self._broken is not None:
            raise self._broken
        if not self._is_full():
            return
        # One part is written, one decoded, and the next one fills. When all three are full, waiting here bounds the
        # memory. The first answers are waited for until they are committed, to see what they are worth. Shielded: a
        # task that waits here may be cancelled when the run stops, and the outcomes of other tasks must not go with it.
        looks = self._first_look.due(len(self._contents.answers))
        if self._next is None:
            taken = asyncio.get_running_loop().create_future()
            flushing = asyncio.ensure_future(self._flush())
            flushing.add_done_callback(self._under_way.discard)
            flushing.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._under_way.add(flushing)
            self._next = taken, flushing
        taken, flushing = self._next
        await asyncio.shield(flushing if looks else taken)

    async def _flush(self) -> None:
        async with self._turns:
            following, self._next = self._next, None
            contents, self._contents = self._contents, PartContents()
            self._since = asyncio.get_running_loop().time()
            if following is not None:
                following[0].set_result(None)
            if not contents:
                return
            try:
                await self._commit(contents)
            except BaseException as error:
                self._broken = self._broken or error
                raise

    async def _commit(self, contents: PartContents) -> None:
        undecoded = await asyncio.wrap_future(self._committer.submit(contents))
        for answer in contents.answers:
            self._on_durable(answer)  # without a cache, the answer was not durable until now
        self._progress.failed += len(undecoded)
        self._first_look.note([error for error, _ in undecoded])
