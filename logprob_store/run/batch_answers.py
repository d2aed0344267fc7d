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
from logprob_store.batch.output_file import Taken, is_whole, lost_line, read_output, take
from logprob_store.counted import counted
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
_OF_THE_ACCOUNT: Final = "quota"
_ENDED_EARLY: Final = frozenset({"expired", "cancelled"})


class _Line(NamedTuple):
    """A line that belongs to a call of the batch: the place of the call in the input file, and what the line means."""

    place: int
    taken: Taken


class Missing(NamedTuple):
    """What a service says that a batch has, and that is in none of its files: answers, and lines of any kind."""

    answers: int
    lines: int
    said: int

    @property
    def any(self) -> bool:
        """Whether something is missing."""
        return bool(self.answers or self.lines)

    def __str__(self) -> str:
        """As the end of a sentence about the service."""
        if not self.answers:
            return f"no line for {counted(self.lines, 'call')} that failed"
        if not self.said:
            return "no file of answers that can be read to its end"
        return f"{self.said - self.answers} of {counted(self.said, 'answer')} that it says to have"


class _Taking:
    """What is taken of a batch so far, in one pass over its files or in several.

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
        self._is_in_output = bytearray(len(lines))
        self._is_seen = bytearray(len(lines))
        self._errors: dict[int, LogprobStoreError] = {}

    def begin_pass(self) -> None:
        """From now on lines are read again: one that was taken before does not come twice."""
        self.odd = 0
        self._is_seen = bytearray(len(self.lines))

    def is_new(self, line: _Line, *, of_output: bool) -> bool:
        """Whether a line is the first answer to its call; an error is kept, for a call that gets no answer."""
        self._is_in_output[line.place] |= of_output
        if self._is_seen[line.place] and self._is_answered[line.place]:
            self.odd += 1
        self._is_seen[line.place] = True
        if self._is_answered[line.place]:
            return False
        if line.taken.error is not None:
            self._errors.setdefault(line.place, line.taken.error)
            return False
        self._is_answered[line.place] = True
        return True

    def missing(self, batch: SentBatch, *, is_whole: bool) -> Missing:
        """What the files lack by the service's own counts; without counts, by whether the output can be read at all."""
        found = sum(self._is_answered) + sum(not self._is_answered[place] for place in self._errors)
        if found == len(self.lines):
            return Missing(0, 0, 0)
        answers, all_lines = (min(count, batch.lines) for count in (batch.done, batch.done + batch.failed))
        in_output = sum(self._is_in_output)
        if not all_lines and batch.output_file_id:
            return Missing(0 if in_output and is_whole else 1, 0, 0)
        return Missing(max(0, answers - in_output), max(0, all_lines - found), answers)

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
        self._takings: dict[int, _Taking] = {}

    async def take(self, batch: SentBatch) -> Missing:
        """Take the answers and failures of a batch that are in its files here; may be called again with better ones.

        Raises:
            DiskError: the cache or the journal cannot be written.
        """
        taking = self._takings.get(batch.number)
        if taking is None:
            taking = _Taking(self._journal.lines(batch), self._journal.failures(before=batch.number))
            self._takings[batch.number] = taking
        taking.begin_pass()
        output = self._journal.path(batch, "output")
        for path in (output, self._journal.path(batch, "errors")):
            if path.exists():
                await self._take_file(batch, path, taking, of_output=path == output)
        return taking.missing(batch, is_whole=output.exists() and is_whole(output))

    async def finish(self, batch: SentBatch, *, are_lost: bool) -> StopRunError | None:
        """Settle the calls of a batch of which all is taken.

        Args:
            batch: of which `take` was called.
            are_lost: whether calls without a line may have an answer that the service does not give.

        Returns:
            The error of its lines after which no further call can succeed; else None.

        Raises:
            DiskError: the journal cannot be written.
        """
        taking = self._takings.pop(batch.number)
        failed = taking.failed(lost_line() if are_lost else self._missing(batch))
        stop = _stop_of(list(failed.values()), batch)
        failures = [taking.failed_line(place, error) for place, error in failed.items() if not _is_of(stop, error)]
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
        return stop

    async def _take_file(self, batch: SentBatch, path: Path, taking: _Taking, *, of_output: bool) -> None:
        """Take the lines of a file: the answers are in the cache before they are counted."""
        reading = self._read(path, taking)
        while (lines := await asyncio.to_thread(next, reading, None)) is not None:
            new = [line for line in lines if taking.is_new(line, of_output=of_output)]
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


def _stop_of(errors: list[LogprobStoreError], batch: SentBatch) -> StopRunError | None:
    """The error after which no further call can succeed: of the account, or of every line of a batch.

    One line's refusal of the key may be that line's own, as others were answered with it.
    """
    stops = [error for error in errors if isinstance(error, StopRunError)]
    of_account = next((error for error in stops if error.reason == _OF_THE_ACCOUNT), None)
    return of_account or (stops[0] if len(stops) == batch.lines else None)


def _is_of(stop: StopRunError | None, error: LogprobStoreError) -> bool:
    """Whether a call failed with what stops the run: it has no failure then, and the next session asks it."""
    return stop is not None and isinstance(error, StopRunError) and error.reason == stop.reason
