"""The buffer of outcomes that wait for their part, between the event loop and the threads of `run.parts`.

It is bounded by bytes, because an answer may have one token or a thousand.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from logprob_store.run.parts import PARTS_IN_FLIGHT, Committer, PartContents, failure_row

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from logprob_store.errors import CallError
    from logprob_store.request import Answer, BadCall, Request
    from logprob_store.run.plan import Chunk

PART_SECONDS: Final = 60.0
"""Seconds after which a part is committed whatever its size, so that the rows of a slow run can be read."""

_OVERHEAD_BYTES: Final = 4000
"""Memory that an answer or a failure takes beside its texts, in Python objects."""
_COPIES_OF_A_PROMPT: Final = 2
"""How often an answer holds the text of its prompt: in the request's body, and in the bytes that were sent. How often
a part does besides: as a row, and once more while the row is written."""


@dataclass(slots=True)
class Progress:
    """How far a session is.

    `total` is the number of calls of the job, `settled` of those with an outcome. Of the outcomes of this session,
    `failed`, `from_cache` and `from_fixtures` are counted here, and in `shared` those that came by the call of an equal
    prompt. `calls` counts the calls made in this session, retries too, `in_flight` those at the server now. `trouble`
    says for how long no call has been answered, and why; None while answers come. `batches` says how those under way
    are.
    """

    total: int = 0
    settled: int = 0
    calls: int = 0
    from_cache: int = 0
    from_fixtures: int = 0
    shared: int = 0
    failed: int = 0
    in_flight: int = 0
    spent_usd: float | None = None
    batches: str = ""
    trouble: str | None = None

    @property
    def answered(self) -> int:
        """The outcomes, of earlier sessions too, that are neither failures nor came from elsewhere in this session."""
        return self.settled - self.failed - self.from_cache - self.from_fixtures - self.shared


class PartBuffer:
    """Collects outcomes and hands them to the committer as parts, in order.

    One part is written, one is decoded, and the next one fills. While all three are full, adding waits: this bounds the
    memory.

    Args:
        committer: of the run; the buffer closes it.
        progress: counts the outcomes.
        part_bytes: bytes in memory from which on a part is committed.
        on_committed: called with each answer whose rows are committed.
    """

    def __init__(
        self,
        committer: Committer,
        progress: Progress,
        *,
        part_bytes: int,
        on_committed: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self._committer = committer
        self._progress = progress
        self._part_bytes = part_bytes
        self._on_committed = on_committed
        self._contents = PartContents()
        self._committing = asyncio.Semaphore(PARTS_IN_FLIGHT)
        self._filling_since_s = asyncio.get_running_loop().time()
        self._error: BaseException | None = None
        self._flushes: set[asyncio.Task[None]] = set()
        self._next_taken: asyncio.Future[None] | None = None

    def add_prompts(self, chunk: Chunk) -> None:
        """Add the prompt rows of a chunk to the part that fills."""
        if chunk.prompts.num_rows:
            self._contents.prompts.append(chunk.prompts)
            self._contents.weight += _COPIES_OF_A_PROMPT * chunk.prompts.nbytes
        self._contents.prompts_read = max(self._contents.prompts_read, chunk.prompts_read)
        self._contents.absent += chunk.absent
        self._contents.passed += chunk.passed
        self._contents.prompts_passed += chunk.prompts_passed

    async def add_answer(self, answer: Answer) -> None:
        """Add an answer; waits while the buffer is full and the two parts before it are not committed.

        Raises:
            DiskError: a part could not be committed, this one or an earlier one.
        """
        self._contents.answers.append(answer)
        prompt_bytes = _COPIES_OF_A_PROMPT * len(answer.request.content)
        self._contents.weight += len(answer.body) + prompt_bytes + _OVERHEAD_BYTES
        self._progress.settled += 1
        # An answer that an earlier session of this run paid for has no number of a call in this one.
        self._progress.from_cache += answer.source == "cache" or (answer.source == "api" and answer.call is None)
        self._progress.from_fixtures += answer.source == "fixture"
        await self._flush_if_full()

    async def add_failure(self, call: Request | BadCall, error: CallError, *, first_at: datetime | None = None) -> None:
        """Add a failure; waits and raises like `add_answer`."""
        self.add_failure_now(call, error, first_at=first_at)
        await self._flush_if_full()

    def add_failure_now(self, call: Request | BadCall, error: CallError, *, first_at: datetime | None = None) -> None:
        """Add a failure without waiting, for a task that is being cancelled."""
        self._contents.failures.append(failure_row(call, error, first_at))
        self._contents.weight += _OVERHEAD_BYTES
        self._progress.settled += 1
        self._progress.failed += 1

    async def flush(self) -> None:
        """Commit all outcomes.

        Raises:
            DiskError: a part could not be committed, this one or an earlier one whose error nobody was there to get.
        """
        await self._flush()
        if self._flushes:
            await asyncio.wait(self._flushes)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the committer's threads."""
        self._committer.close()

    async def _flush_if_full(self) -> None:
        if self._error is not None:
            raise self._error
        if not self._is_full():
            return
        if self._next_taken is None:
            self._next_taken = self._start_flush()
        # Shielded: the task that waits here may be cancelled when the run stops, and others wait for the same.
        await asyncio.shield(self._next_taken)

    def _is_full(self) -> bool:
        overdue = asyncio.get_running_loop().time() - self._filling_since_s > PART_SECONDS
        return self._contents.weight >= self._part_bytes or overdue

    def _start_flush(self) -> asyncio.Future[None]:
        """Commit the buffer once it is its turn; the future is done when the buffer is empty again."""
        task = asyncio.ensure_future(self._flush())
        task.add_done_callback(self._flushes.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # marks its error as retrieved
        self._flushes.add(task)
        return asyncio.get_running_loop().create_future()

    async def _flush(self) -> None:
        """Take what is in the buffer once a commit may begin, and commit it."""
        async with self._committing:
            taken, self._next_taken = self._next_taken, None
            contents, self._contents = self._contents, PartContents()
            self._filling_since_s = asyncio.get_running_loop().time()
            if taken is not None:
                taken.set_result(None)
            if not contents:
                return
            try:
                await self._commit(contents)
            except BaseException as error:
                self._error = self._error or error
                raise

    async def _commit(self, contents: PartContents) -> None:
        undecoded = await asyncio.wrap_future(self._committer.submit(contents))
        for answer in contents.answers:
            self._on_committed(answer)
        self._progress.failed += len(undecoded)
