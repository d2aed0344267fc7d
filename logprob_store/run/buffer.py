"""What a run has and the store has not yet: answers and failures on their way into a part.

Holds the buffer between the event loop and the threads that decode and write (`committing`). Its size is bounded by
bytes: an answer with one token and one with a thousand weigh what they weigh.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from logprob_store.run.commit import AT_ONCE, Committer, Pending, failure_row
from logprob_store.run.prompt_scoring import FirstLook

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from logprob_store.errors import CallError, StopRunError
    from logprob_store.request import Answer, Request
    from logprob_store.run.plan import BadCall, Chunk
    from logprob_store.run.session import Progress
    from logprob_store.store.writing import RunWriter

PART_SECONDS: Final = 60.0
"""Seconds after which a part is written whatever its size, so that a slow run can be watched."""

_BESIDE_BYTES: Final = 4000
"""What an answer or a failure weighs in memory beside its body: its request and the objects around both."""


class PartBuffer:
    """Collects outcomes and commits them as parts, one after the other, off the event loop."""

    def __init__(
        self,
        writer: RunWriter,
        progress: Progress,
        *,
        part_bytes: int,
        on_durable: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self._part_bytes = part_bytes
        self._on_durable = on_durable
        self._progress = progress
        self._pending = Pending()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._committer = Committer(writer)
        self._since = asyncio.get_running_loop().time()
        self._first_look = FirstLook(writer.manifest)
        self._broken: BaseException | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._next: tuple[asyncio.Future[None], asyncio.Task[None]] | None = None

    @property
    def useless(self) -> StopRunError | None:
        """The reason to stop when the first answers show that no other will do."""
        return self._first_look.verdict

    def add_prompts(self, chunk: Chunk) -> None:
        """Note the prompt rows of a chunk; they go with the next part."""
        if chunk.prompts.num_rows:
            self._pending.prompts.append(chunk.prompts)
            self._pending.weight += chunk.prompts.nbytes
        self._pending.prompts_read = max(self._pending.prompts_read, chunk.prompts_read)
        self._pending.absent += chunk.absent

    async def add_answer(self, answer: Answer) -> None:
        """Add an answer; waits while the buffer is full and the two parts before it are not written."""
        self._pending.answers.append(answer)
        self._pending.weight += len(answer.body) + _BESIDE_BYTES
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
        self._pending.failures.append(failure_row(call, error, first_at))
        self._pending.weight += _BESIDE_BYTES
        self._progress.settled += 1
        self._progress.failed += 1

    async def flush(self) -> None:
        """Commit what there is; raises what a commit before has raised, which may have had nobody to tell."""
        await self._flush()
        if self._under_way:
            await asyncio.wait(self._under_way)
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        """End the threads."""
        self._committer.close()

    def _is_full(self) -> bool:
        overdue = asyncio.get_running_loop().time() - self._since > PART_SECONDS
        return self._pending.weight >= self._part_bytes or overdue or self._first_look.due(len(self._pending.answers))

    async def _flush_if_full(self) -> None:
        if self._broken is not None:
            raise self._broken
        if not self._is_full():
            return
        # One part is written, one decoded, while the next one fills. Those who wait, as all are full, are what keeps
        # memory bounded; and what the first answers were worth is waited for. Shielded, because who waits may be
        # cancelled when the run is stopped, and must not take along what others have put into the part.
        looks = self._first_look.due(len(self._pending.answers))
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
            pending, self._pending = self._pending, Pending()
            self._since = asyncio.get_running_loop().time()
            if following is not None:
                following[0].set_result(None)
            if not pending:
                return
            try:
                await self._commit(pending)
            except BaseException as error:
                self._broken = self._broken or error
                raise

    async def _commit(self, pending: Pending) -> None:
        await asyncio.wrap_future(self._committer.submit(pending))
        for answer in pending.answers:
            self._on_durable(answer)  # without a cache it was not, until now
        self._progress.failed += len(pending.bad)
        self._first_look.note([error for error, _ in pending.bad])
