"""The files of a batch that ended: answers go to the cache, failures to the journal, and the budget is settled.

Each call of the batch is taken once: by the first line that answers it, else by its error, else as lost. A session that
is killed in between is followed by one that does the same again, with the same result.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from logprob_store.batch.input_file import custom_id
from logprob_store.batch.journal import FailedLine
from logprob_store.batch.output_file import Taken, lost_line, read_output, take
from logprob_store.errors import CallError, LogprobStoreError, RetryableError, StopRunError
from logprob_store.request import Answer, Request
from logprob_store.schema import call_of_number
from logprob_store.usage import Bill

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from pathlib import Path

    from logprob_store.batch.journal import Journal, SentBatch
    from logprob_store.batch.output_file import OutputLine
    from logprob_store.cache.answers import AnswerCache
    from logprob_store.run.plan import Plan
    from logprob_store.spending.budget import Budget
    from logprob_store.spending.reservation import Reservation
    from logprob_store.transport.redaction import Redaction

log = logging.getLogger(__name__)

_BYTES_AT_ONCE: Final = 8 << 20
_LINES_AT_ONCE: Final = 500
_ENDED_EARLY: Final = frozenset({"expired", "cancelled"})


class _Line(NamedTuple):
    """A line that belongs to a call of the batch: the place of the call in the input file, and what the line means."""

    place: int
    taken: Taken


class _Taking:
    """What is taken of a batch so far.

    Args:
        lines: the call and the key of each line of its input file.
        before: the failures of its calls in earlier batches.
    """

    def __init__(self, lines: list[tuple[int, str]], before: dict[int, FailedLine]) -> None:
        self.lines = lines
        self.places = {custom_id(call, key): place for place, (call, key) in enumerate(lines)}
        self.odd = 0
        self.spent = Bill()
        self._before = before
        self._is_answered = bytearray(len(lines))
        self._errors: dict[int, LogprobStoreError] = {}

    def is_new(self, line: _Line) -> bool:
        """Whether a line is the first answer to its call; an error is kept, for a call that gets no answer."""
        if self._is_answered[line.place]:
            self.odd += 1
            return False
        if line.taken.error is not None:
            self._errors.setdefault(line.place, line.taken.error)
            return False
        self._is_answered[line.place] = True
        return True

    def attempts(self, call: int) -> int:
        """The number of batches that a call was in, with this one."""
        return 1 if call not in self._before else self._before[call].attempts + 1

    def failed(self, missing: LogprobStoreError) -> dict[int, LogprobStoreError]:
        """The errors of the calls without an answer, by their place; `missing` is that of those without a line."""
        places = range(len(self.lines))
        return {place: self._errors.get(place, missing) for place in places if not self._is_answered[place]}

    def failed_line(self, place: int, error: LogprobStoreError) -> FailedLine:
        """A failure as the journal has it."""
        call, key = self.lines[place]
        before = self._before.get(call)
        failed = FailedLine(call, key, "unforeseen", str(error), attempts=self.attempts(call))
        if isinstance(error, StopRunError):
            failed.error_type, failed.status = error.reason, error.status
        elif isinstance(error, CallError):
            failed.error_type, failed.status = error.error_type, error.status
            failed.maybe_billed, failed.again = error.maybe_billed, isinstance(error, RetryableError)
        failed.maybe_billed = failed.maybe_billed or (before is not None and before.maybe_billed)
        return failed


class BatchCollector:
    """Collects the batches of a run.

    Args:
        plan: the calls of the job.
        run_id: of the run.
        journal: of its batches.
        cache: where answers are kept.
        budget: of the run.
        held: what is reserved for the calls under way, by their number in the record of calls.
        redaction: takes the key out of what the service sends.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        run_id: str,
        journal: Journal,
        cache: AnswerCache,
        budget: Budget,
        held: MutableMapping[int, Reservation],
        redaction: Redaction,
    ) -> None:
        self._plan = plan
        self._run_id = run_id
        self._journal = journal
        self._cache = cache
        self._budget = budget
        self._held = held
        self._redaction = redaction

    async def collect(self, batch: SentBatch) -> StopRunError | None:
        """Take the answers and failures of a batch whose files are here.

        Returns:
            The error of its lines, if all have one after which no further call can succeed; else None.

        Raises:
            DiskError: the cache or the journal cannot be written.
        """
        taking = _Taking(self._journal.lines(batch), self._journal.failures(before=batch.number))
        for kind in ("output", "errors"):
            path = self._journal.path(batch, kind)
            if path.exists():
                await self._take_file(batch, path, taking)
        failed = taking.failed(self._missing(batch))
        failures = [taking.failed_line(place, error) for place, error in failed.items()]
        await asyncio.to_thread(self._journal.write_failures, batch, failures)
        for place, error in failed.items():
            reservation = self._held.pop(batch.first_call + place, None)
            if reservation is not None:
                reservation.failed(error)
        if self._budget.calls is not None:
            await asyncio.to_thread(self._budget.calls.sync)
        answered = batch.lines - len(failed)
        self._report(batch, answered=answered, failed=len(failed), odd=taking.odd)
        prices = self._budget.prices
        usd = None if prices is None else prices.usd(taking.spent)
        self._journal.write(batch, state="collected", answered=answered, usd=usd)
        self._journal.remove(batch, "output", "errors", "jsonl", "lines")
        stops = [error for error in failed.values() if isinstance(error, StopRunError)]
        return stops[0] if len(stops) == batch.lines else None  # one line's refusal may be that line's own

    async def _take_file(self, batch: SentBatch, path: Path, taking: _Taking) -> None:
        """Take the lines of a file: the answers are in the cache before they are counted."""
        reading = self._read(path, taking)
        while (lines := await asyncio.to_thread(next, reading, None)) is not None:
            new = [line for line in lines if taking.is_new(line)]
            answers = [self._answer(batch, line, taking) for line in new]
            await asyncio.to_thread(self._cache.put_many, answers)
            for line, answer in zip(new, answers, strict=True):
                self._settle(batch.first_call + line.place, line.taken, answer, taking)

    def _read(self, path: Path, taking: _Taking) -> Iterator[list[_Line]]:
        """The lines of a file that are of calls of the batch, some at a time."""
        some: list[_Line] = []
        size = 0
        for line in read_output(path):
            place = None if line is None else taking.places.get(line.custom_id)
            if line is None or place is None:
                taking.odd += 1
                continue
            some.append(_Line(place, self._take(line)))
            size += len(line.body)
            if size >= _BYTES_AT_ONCE or len(some) >= _LINES_AT_ONCE:
                yield some
                some, size = [], 0
        yield some

    def _take(self, line: OutputLine) -> Taken:
        return take(line, self._redaction, endpoint=self._plan.job.model.endpoint)

    def _answer(self, batch: SentBatch, line: _Line, taking: _Taking) -> Answer:
        call, key = taking.lines[line.place]
        prompt_index, sample_index = call_of_number(call, self._plan.calls_per_prompt)
        model = self._plan.job.model
        return Answer(
            Request(prompt_index, "", sample_index, model.endpoint, model.identity, {}, key, b""),
            line.taken.status,
            {},
            line.taken.body,
            "batch",
            attempts=taking.attempts(call),
            fetched_at=datetime.now(UTC),
            run=self._run_id,
            maybe_billed=self._budget.may_have_paid(key),
            call=batch.first_call + line.place,
        )

    def _settle(self, number: int, taken: Taken, answer: Answer, taking: _Taking) -> None:
        """Count an answer that is in the cache; one that an earlier session has counted is not counted twice."""
        reservation = self._held.pop(number, None)
        if reservation is not None:
            spent = reservation.answered(taken.usage, answer.body)
            taking.spent.add(spent)
            if self._budget.calls is not None:
                self._budget.calls.end(number, spent)

    def _missing(self, batch: SentBatch) -> RetryableError:
        if batch.status in _ENDED_EARLY:
            return RetryableError(
                f"the batch ended before this call was made ({batch.status})", error_type="batch_ended"
            )
        return lost_line()

    def _report(self, batch: SentBatch, *, answered: int, failed: int, odd: int) -> None:
        if odd:
            said = "batch %s: %d lines of its files are of no call, come twice or cannot be read"
            log.warning(said, batch.batch_id, odd)
        log.info("batch %s %s: %d answers, %d failures", batch.batch_id, batch.status, answered, failed)
