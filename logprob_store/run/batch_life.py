"""The life of one batch: uploaded, begun, waited for, downloaded, collected.

Each step is written into the journal before it is made and after it. A step that may have been made without our knowing
is looked for at the service before it is made again, so that a process that is killed at any instant, or a connection
that breaks, never leads to two batches.
"""

from __future__ import annotations

import logging
import random
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from logprob_store.batch.client import RUNNING, made_nothing
from logprob_store.batch.journal import FailedLine
from logprob_store.batch.output_file import lost_line
from logprob_store.counted import counted
from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.run.batch_queue import BatchQueue, LeftError
from logprob_store.transport.inflated import NotGivenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from logprob_store.batch.client import Batch, BatchClient
    from logprob_store.batch.folder import BatchFolder
    from logprob_store.batch.journal import Journal, SentBatch
    from logprob_store.batch.services import BatchService
    from logprob_store.run.batch_answers import BatchCollector, Missing
    from logprob_store.spending.reservation import Reservation

log = logging.getLogger(__name__)

_FIRST_WAIT_S: Final = 1.0
_GROWTH: Final = 1.5
_FULL_GROWTH: Final = 1.25
_LONGEST_FULL: Final = 10
_LOOKS: Final = 5
"""How often a batch is looked for that the service does not show at once."""
_LATE: Final = timedelta(hours=25)
"""After this time a batch in a state that nobody knows is not waited for any more."""
_FILE_LOOKS: Final = 8
"""How often a batch is begun whose new file the service does not know: for most of a minute."""
_MOST_UNCLEAR: Final = 6
"""How often an upload or a creation is made that nobody can tell the outcome of: each is looked for twice as long."""
_KEPT: Final = timedelta(days=29)
"""Services delete the files of a batch after 30 days; one that is younger is there, whatever they say for now."""
_PATIENCE_S: Final = 600.0
"""How long a session waits for what should be there: answers that a file lacks, a service that looks at a new file.
Shorter where it asks more often than every 20 s."""
_TOO_LARGE: Final = 413
_INVALID: Final = 400
_FORBIDDEN: Final = 403
_GONE: Final = 410
_NOT_FOUND: Final = frozenset({404, _GONE})
_NO_FILE_YET: Final = re.compile(
    r"\b(?:can ?not|can't|could not|couldn't|unable to) (?:find|locate) (?:the |an? )?(?:input )?file\b"
    r"|\bno such (?:input )?file\b"
    r"|\bfile\b.{0,80}\b(?:not found|does not exist|doesn't exist|not (?:yet )?(?:ready|processed|available|visible))"
    r"|\bfile\b.{0,80}\b(?:still|being) (?:being )?processed",
    re.IGNORECASE,
)
"""What a refusal says of an input file that the service does not know yet, or is busy with."""
_DELETED: Final = re.compile(r"\b(?:expired|deleted|no longer (?:available|exists))\b", re.IGNORECASE)
_QUEUE_FULL: Final = re.compile(r"token_limit_exceeded|enqueued token limit", re.IGNORECASE)
_LIMIT: Final = re.compile(r"\blimit\s*(?:is|of|:|=)?\s*([0-9][0-9,_.]*)", re.IGNORECASE)
_SETTLES_S: Final = 60.0
"""How long a service may take to list a batch, at most; shorter where it is asked more often than every 20 s."""
_WARN_EVERY_S: Final = 60.0
_NOT_BEGUN: Final = RetryableError("the batch was not begun", error_type="batch_ended")


_T = TypeVar("_T")


class BatchLife:
    """Takes one batch from where the journal says that it is to its end.

    Args:
        batch: the batch.
        journal: of the run.
        client: asks the service.
        service: what is special about it.
        url: the path that the batch asks.
        window: how long the service may take.
        tag: by which the batch is found again.
        queue: how much may be under way at the service.
        collector: takes its files.
        held: what is reserved for its calls.
        poll_s: the longest wait between two looks.
    """

    def __init__(
        self,
        batch: SentBatch,
        *,
        journal: Journal,
        client: BatchClient | BatchFolder,
        service: BatchService,
        url: str,
        window: str,
        tag: str,
        queue: BatchQueue,
        collector: BatchCollector,
        held: MutableMapping[int, Reservation],
        poll_s: float,
    ) -> None:
        self.batch = batch
        self._journal = journal
        self._client = client
        self._service = service
        self._url = url
        self._window = window
        self._tag = tag
        self._queue = queue
        self._collector = collector
        self._held = held
        self._poll_s = poll_s
        self._wait_s = min(_FIRST_WAIT_S, poll_s)
        self._has_warned = False
        self._warned_at: float | None = None
        self._unclear: list[CallError | StopRunError] = []  # of uploads and creations that may have been made
        self._not_given: NotGivenError | None = None  # why the service gave no file when it was last asked
        self._missing_since: float | None = None
        self.trouble = ""

    async def go_on(self) -> None:
        """Make the steps that are left.

        Raises:
            LeftError: the session does not wait for it any more.
            StopRunError: the service refuses the batch or the key.
            DiskError: what it answered cannot be written.
        """
        steps = {
            "packed": self._upload,
            "uploading": self._find_or_upload,
            "uploaded": self._begin,
            "creating": self._find_or_begin,
            "created": self._wait_for_end,
            "ended": self._download,
            "downloaded": self._collect,
        }
        while self.batch.is_open:
            if self.batch.state in {"packed", "uploaded"} and self._queue.must_end:
                self.dissolve()
                return
            await steps[self.batch.state]()

    @property
    def _file_name(self) -> str:
        return f"{self._tag.replace('/', '-')}.jsonl"

    @property
    def _try_tag(self) -> str:
        """The tag, with the number of times that the service refused the same file because too much was queued."""
        return f"{self._tag}/{len(self.batch.past_ids)}"

    async def _upload(self) -> None:
        self._journal.write(self.batch, state="uploading")
        path = self._journal.path(self.batch, "jsonl")
        if not path.exists():
            log.warning("%s: its input file is gone before it was sent: its calls go into another", self.batch.name)
            self.dissolve()
            return
        try:
            file_id = await self._client.upload(path, self._file_name)
        except (CallError, StopRunError) as error:
            if not made_nothing(error):
                await self._note_unclear(error)
                return
            self._journal.write(self.batch, state="packed")
            if not isinstance(error, CallError):
                raise
            if isinstance(error, RetryableError):
                await self._pause(error)
                return
            self.dissolve()
            if error.status == _TOO_LARGE and self.batch.lines > 1:
                log.warning(
                    "%s: the service takes no file of %d bytes: it gets smaller ones", self.batch.name, self.batch.size
                )
                self._queue.max_bytes = self.batch.size // 2
                return
            raise self._refused("the service takes no file of batches", error) from error
        self._unclear.clear()
        self._journal.write(self.batch, state="uploaded", file_id=file_id)

    async def _find_or_upload(self) -> None:
        """An upload may have arrived without our knowing."""
        file_id = await self._look(lambda: self._client.find_file(self._file_name))
        if file_id is None:
            self._refuse_unclear("whether it has the file")
            await self._upload()
        else:
            self._unclear.clear()
            self._journal.write(self.batch, state="uploaded", file_id=file_id)

    async def _note_unclear(self, error: CallError | StopRunError) -> None:
        """What was asked for may have been made: it is looked for before it is asked for again."""
        self._unclear.append(error)
        if isinstance(error, CallError):
            await self._pause(error)

    def _refuse_unclear(self, what: str) -> None:
        """Go no further where the service does not let itself be understood.

        Raises:
            StopRunError: it was asked often enough, or no further question would be answered otherwise.
        """
        if not self._unclear:
            return
        last = self._unclear[-1]
        if len(self._unclear) >= _MOST_UNCLEAR or not isinstance(last, RetryableError):
            raise StopRunError(
                f"the service does not say {what} ({last}), and none of its lists shows it. The same command looks for "
                "it first",
                reason="batch_refused",
                status=last.status,
            ) from last

    async def _begin(self) -> None:
        if self._service.checks_files:
            await self._wait_for_file()
        await self._queue.wait_for_room(self.batch)
        if self._queue.must_end:
            return
        self._journal.write(self.batch, state="creating")
        await self._create()

    async def _wait_for_file(self) -> None:
        """Wait until the service has looked at the input file; after ten minutes it is asked to begin all the same."""
        until = time.monotonic() + min(_PATIENCE_S, 30 * self._poll_s)
        try:
            while not await self._patiently(lambda: self._client.is_ready(self.batch.file_id)):
                self.trouble = f"{self.batch.name}: the service has not looked at its input file yet"
                if self._queue.must_end or time.monotonic() > until:
                    return
                await self._sleep(self._wait_s)
                self._wait_s = min(self._wait_s * _GROWTH, self._poll_s)
            self.trouble = ""
        except CallError as error:
            self.dissolve()
            raise self._refused("the service refuses the file of a batch", error) from error

    async def _create(self) -> None:
        for look in range(_FILE_LOOKS):
            try:
                created = await self._client.create(
                    self.batch.file_id, endpoint=self._url, window=self._window, tag=self._try_tag
                )
            except (CallError, StopRunError) as error:
                if not made_nothing(error):
                    await self._note_unclear(error)
                    return
                self._journal.write(self.batch, state="uploaded")
                if not isinstance(error, CallError):
                    raise
                if _QUEUE_FULL.search(str(error)):
                    await self._wait_for_queue(str(error), None)
                    return
                if isinstance(error, RetryableError):
                    await self._pause(error)
                    return
                # Right after an upload a service may not know the file yet, or be busy with it.
                if look + 1 < _FILE_LOOKS and _NO_FILE_YET.search(str(error)):
                    await self._pause(error)
                    self._journal.write(self.batch, state="creating")
                    continue
                self._settle_doubts(are_one=False)
                self.dissolve()
                raise self._refused("the service refuses the batch", error) from error
            self._queue.calls_begun += self.batch.lines
            self._note_begun(created)
            return

    async def _find_or_begin(self) -> None:
        """A batch may have begun without our knowing: it is found by its metadata, or by its file.

        A service may list it late. If it is begun again in the end, it may be there twice: that is known when it has
        ended, by the list that shows it.
        """
        look_s = min(_SETTLES_S, max(_SETTLES_S / 30, 3 * self._poll_s)) * 2 ** max(0, len(self._unclear) - 1)
        until = time.monotonic() + look_s
        while (found := await self._look(self._find_batch)) is None and time.monotonic() < until:
            await self._sleep(self._wait_s)
            self._wait_s = min(self._wait_s * _GROWTH, self._poll_s)
        if found is not None:
            log.info("batch %s was begun before: it is adopted", found.id)
            self._note_begun(found)
        elif self._queue.must_end:
            log.warning("%s is in no list of the service: its calls are marked maybe_billed", self.batch.name)
            self._give_up(lost_line(), "abandoned", "no list of the service shows it")
        else:
            self._refuse_unclear("whether it has begun the batch")
            log.warning("%s is in no list of the service: it is begun again", self.batch.name)
            self._doubt()
            await self._create()

    async def _find_batch(self) -> Batch | None:
        async for found in self._listed_batches():
            return found
        return None

    def _listed_batches(self) -> AsyncIterator[Batch]:
        return self._client.find_batches(
            tag=self._try_tag, file_id=self.batch.file_id, but=frozenset(self.batch.past_ids)
        )

    def _doubt(self) -> None:
        """Hold the calls back once more: the batch may be there already."""
        before = [self._held[number].repeated() for number in self.batch.numbers if number in self._held]
        numbers = [one.number for one in before if one.number is not None]
        self._held.update({one.number: one for one in before if one.number is not None})
        if numbers:
            self._journal.write(self.batch, doubted=[*self.batch.doubted, numbers[0]])

    async def _resolve_doubts(self) -> None:
        """Find out by the list that shows the batch whether it was begun more than once.

        What was begun before it is listed before it. Where no list shows it nobody knows, and its calls are marked.
        """
        if not self.batch.doubted:
            return
        listed = await self._look(self._list_batches) or {}
        for other in listed.values():
            if other.id != self.batch.batch_id:
                log.warning("batch %s is there twice, and may be billed twice: %s", self.batch.batch_id, other.id)
                if not other.has_ended:
                    await self._end_twin(other)
        self._settle_doubts(are_one=listed.keys() == {self.batch.batch_id})

    async def _end_twin(self, other: Batch) -> None:
        try:
            await self._client.cancel(other.id)
        except CallError as error:
            log.warning("batch %s cannot be cancelled: %s", other.id, error)

    async def _list_batches(self) -> dict[str, Batch]:
        return {batch.id: batch async for batch in self._listed_batches()}

    def _settle_doubts(self, *, are_one: bool) -> None:
        """Count the times that were in doubt: for nothing if the batch was begun once."""
        for number in self.batch.doubted_numbers:
            if (reservation := self._held.pop(number, None)) is not None:
                reservation.failed(_NOT_BEGUN if are_one else lost_line())
        self._journal.write(self.batch, doubted=[])

    def _note_begun(self, found: Batch) -> None:
        self._unclear.clear()
        self._journal.write(
            self.batch,
            state="created",
            batch_id=found.id,
            status=found.status,
            created_at=found.created_at or datetime.now(UTC),
            expires_at=found.expires_at,
        )
        log.info("batch %s: %d calls, %s", found.id, self.batch.lines, found.status)

    async def _wait_for_end(self) -> None:
        missing, missing_since = 0, 0.0
        while True:
            try:
                found = await self._client.get(self.batch.batch_id)
            except RetryableError as error:
                if self._queue.leaves:
                    raise LeftError from error
                await self._pause(error)
                continue
            except CallError as error:
                missing += 1
                if missing == 1:
                    missing_since = time.monotonic()
                    log.warning("the service does not show batch %s: %s", self.batch.batch_id, error)
                is_late = missing >= _LOOKS and time.monotonic() - missing_since > 2 * self._poll_s
                if error.status not in _NOT_FOUND or is_late:
                    raise self._unseen(error) from error
                await self._pause(error)
                continue
            missing, self.trouble = 0, ""
            self._note_status(found)
            if found.has_ended:
                await self._note_end(found)
                return
            self._check_state(found)
            if self._queue.must_end and not self.batch.is_cancelled:
                await self._cancel()
            elif self._queue.leaves:
                raise LeftError
            await self._sleep(self._wait_s)
            self._wait_s = min(self._wait_s * _GROWTH, self._poll_s)

    def _unseen(self, error: CallError) -> StopRunError:
        what = "Use the key of the project that began it" if error.status in _NOT_FOUND else "See what is in the way"
        return StopRunError(
            f"the service does not show batch {self.batch.batch_id} ({error}). {what}, then run the same command: it "
            "is collected",
            reason="batch_unseen",
            status=error.status,
        )

    def _note_status(self, found: Batch) -> None:
        now = (found.status, found.completed, found.failed, found.started_at, found.expires_at)
        batch = self.batch
        if now != (batch.status, batch.done, batch.failed, batch.started_at, batch.expires_at):
            self._journal.write(
                batch,
                status=found.status,
                done=found.completed,
                failed=found.failed,
                started_at=found.started_at,
                expires_at=found.expires_at,
            )

    def _check_state(self, found: Batch) -> None:
        """A state that nobody knows is waited for like the known ones, but not for ever."""
        if found.status in RUNNING:
            return
        if not self._has_warned:
            self._has_warned = True
            log.warning("batch %s: the service says %r, which is no known state", found.id, found.status)
        began = self.batch.created_at or datetime.now(UTC)
        if datetime.now(UTC) > max(began + _LATE, (found.expires_at or began) + timedelta(hours=1)):
            raise StopRunError(
                f"batch {found.id} is {found.status!r} since more than a day, which is no state that is known. Look at "
                "it at the service; `logprobs batches --cancel` ends it and keeps what it has",
                reason="batch_refused",
            )

    async def _cancel(self) -> None:
        try:
            await self._client.cancel(self.batch.batch_id)
        except RetryableError as error:
            await self._pause(error)
            return
        except CallError as error:  # it has ended meanwhile
            log.info("batch %s cannot be cancelled: %s", self.batch.batch_id, error)
        self._journal.write(self.batch, is_cancelled=True)
        self._wait_s = min(_FIRST_WAIT_S, self._poll_s)

    async def _note_end(self, found: Batch) -> None:
        if found.status == "failed" and not found.output_file_id:
            await self._refused_file(found)
            return
        self._queue.ended(self.batch)
        self._queue.ends += 1
        self._journal.write(
            self.batch,
            state="ended",
            ended_at=found.ended_at or datetime.now(UTC),
            output_file_id=found.output_file_id,
            error_file_id=found.error_file_id,
        )

    async def _refused_file(self, found: Batch) -> None:
        """The service looked at the input file and began nothing; nothing is billed."""
        if any(_QUEUE_FULL.search(f"{error.code} {error.message}") for error in found.errors):
            await self._wait_for_queue(found.error_words, found.id)
            return
        said = found.error_words or "it does not say why"
        lines = {error.line: error for error in found.errors if error.line is not None}
        named = [line for line in lines if line <= self.batch.lines]
        if named and (len(named) < self.batch.lines or self.batch.lines == 1):
            failures = [
                self._failed_line(line - 1, "invalid_request", f"{lines[line].code}: {lines[line].message}", _INVALID)
                for line in named
            ]
            self._journal.write_failures(self.batch, failures)
            log.warning("batch %s: the service refuses %d of its lines: %s", found.id, len(named), said)
            self.dissolve(said)
            return
        self.dissolve(said)
        raise StopRunError(
            f"the service refuses batch {found.id}: {said.rstrip('.')}. Nothing was billed. {_what_to_do(found)}",
            reason="batch_refused",
        )

    async def _wait_for_queue(self, said: str, refused_id: str | None) -> None:
        """Too much is queued: the same file is begun again when others have ended, or packed anew if too large."""
        limit, past_ids = _limit_in(said), [*self.batch.past_ids, refused_id or ""]
        self._journal.write(self.batch, state="uploaded", past_ids=past_ids, batch_id="", status="", said=said)
        self._queue.ended(self.batch)
        if self.batch.lines == 1 and limit and self.batch.tokens > limit:
            self._journal.write_failures(self.batch, [self._failed_line(0, "over_limit", said, 429)])
            self.dissolve(said)
            return
        if self._queue.is_too_large(self.batch, limit):
            log.warning(
                "%s of %d tokens is more than may be queued: it is packed anew", self.batch.name, self.batch.tokens
            )
            self.dissolve(said)
            return
        log.info("%s waits until less is queued at the service: %s", self.batch.name, said)
        self.trouble = said
        # Each time leaves a batch in the account's list: a queue that others fill is asked less and less often.
        await self._queue.wait_for_change(self._poll_s * min(_FULL_GROWTH ** len(past_ids), _LONGEST_FULL))

    async def _download(self) -> None:
        """Fetch the files that are not here, or all where what is here was not enough."""
        is_again = self._missing_since is not None
        if is_again:
            await self._find_files()
        self._not_given = None
        for kind, file_id in (("output", self.batch.output_file_id), ("errors", self.batch.error_file_id)):
            if file_id and (is_again or not self._journal.path(self.batch, kind).exists()):
                await self._download_file(file_id, kind)
        self._journal.write(self.batch, state="downloaded")

    async def _find_files(self) -> None:
        """A service may name the files of a batch, or count its answers, later than it says that it has ended."""
        try:
            found = await self._patiently(lambda: self._client.get(self.batch.batch_id))
        except CallError as error:
            log.info("the service does not show batch %s any more: %s", self.batch.batch_id, error)
            return
        self._note_status(found)
        self._journal.write(
            self.batch,
            output_file_id=found.output_file_id or self.batch.output_file_id,
            error_file_id=found.error_file_id or self.batch.error_file_id,
        )

    async def _download_file(self, file_id: str, kind: str) -> None:
        """Fetch a file; of two that came for it the larger one is kept."""
        path, new = self._journal.path(self.batch, kind), self._journal.path(self.batch, f"{kind}.new")
        try:
            await self._patiently(lambda: self._client.download(file_id, new))
        except NotGivenError as error:
            self._not_given = error
            return
        except CallError as error:
            said = f"the service does not give the {kind} of batch {self.batch.batch_id}"
            raise self._refused(said, error) from error
        if path.exists() and path.stat().st_size > new.stat().st_size:
            new.unlink()
        else:
            new.replace(path)

    async def _collect(self) -> None:
        await self._resolve_doubts()
        missing = await self._collector.take(self.batch)
        if missing.any and await self._fetches_again(missing):
            return
        stop = await self._collector.finish(self.batch, are_lost=bool(missing.answers))
        if stop is not None:
            raise stop

    async def _fetches_again(self, missing: Missing) -> bool:
        """Whether the files of a batch are fetched once more, after a pause, as the service says that it has more.

        Raises:
            StopRunError: it gives fewer answers than it has for long: asked again they would be paid for twice.
            LeftError: nobody waits.
        """
        if self._queue.must_end:
            return False
        name, why = self.batch.batch_id, "" if self._not_given is None else f" ({self._not_given})"
        if self._not_given is not None and self._may_be_deleted(self._not_given):
            log.warning(
                "batch %s: its files are gone%s; services delete them after 30 days. Its calls are asked again, and "
                "their rows say maybe_billed",
                name,
                why,
            )
            return False
        self.trouble = f"batch {name}: the service gives {missing}{why}"
        now = time.monotonic()
        if self._missing_since is None:
            self._missing_since = now
            self._wait_s = min(_FIRST_WAIT_S, self._poll_s)
            log.warning("%s; its files are fetched again", self.trouble)
        self._journal.write(self.batch, state="ended")
        if self._queue.leaves:
            raise LeftError
        if now - self._missing_since > min(_PATIENCE_S, 30 * self._poll_s):
            if not missing.answers:
                log.warning("%s: what has no line is asked again", self.trouble)
                self._journal.write(self.batch, state="downloaded")
                return False
            raise StopRunError(
                f"{self.trouble}. They are paid for, so they are not asked again: the same command fetches them. "
                "`logprobs batches STORE --run NAME --job JOB.toml --cancel` takes what is there, and lets the next "
                f"run ask {counted(missing.answers, 'call')} again",
                reason="batch_incomplete",
            )
        await self._sleep(self._wait_s)
        self._wait_s = min(self._wait_s * _GROWTH, self._poll_s)
        return True

    def _may_be_deleted(self, error: NotGivenError) -> bool:
        """Whether a file that the service does not find may have been deleted, by its age or by the service's words."""
        ended = self.batch.ended_at or self.batch.created_at
        is_old = ended is not None and datetime.now(UTC) - ended > _KEPT
        return is_old or error.status == _GONE or _DELETED.search(str(error)) is not None

    def _failed_line(self, place: int, error_type: str, said: str, status: int) -> FailedLine:
        call, key = self._journal.lines(self.batch)[place]
        return FailedLine(call, key, error_type, said, status)

    def abandon(self) -> None:
        """Wait for a batch no longer, though it may be billed: its calls are lost, and marked where they are asked."""
        lost = RetryableError("the batch had not ended at the deadline", error_type="batch_lost", maybe_billed=True)
        self._give_up(lost, "abandoned", "it had not ended at the deadline")

    def dissolve(self, said: str = "") -> None:
        """Give up a batch of which nothing was begun: its calls are free again, and cost nothing."""
        self._give_up(_NOT_BEGUN, "dissolved", said)

    def _give_up(self, error: RetryableError, state: str, said: str) -> None:
        for number in (*self.batch.numbers, *self.batch.doubted_numbers):
            reservation = self._held.pop(number, None)
            if reservation is not None:
                reservation.failed(error)
        self._queue.ended(self.batch)
        self._journal.write(self.batch, state=state, said=said)
        self._journal.remove(self.batch, "jsonl", "lines")

    async def _look(self, find: Callable[[], Awaitable[_T | None]]) -> _T | None:
        """What the service lists; None too where it lists nothing of that kind, or nothing to this key."""
        try:
            return await self._patiently(find)
        except CallError as error:
            log.info("the service gives no list: %s", error)
        except StopRunError as error:
            if error.status != _FORBIDDEN:
                raise
            log.warning("the key may not list what the service has: %s", error.said)
        return None

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until there is an answer: a service that is down for an hour ends no night."""
        while True:
            try:
                return await ask()
            except RetryableError as error:
                await self._pause(error)

    async def _pause(self, error: CallError) -> None:
        asked_s = getattr(error, "retry_after_s", None)
        if asked_s is not None:
            wait_s = min(asked_s, self._poll_s)
        else:
            wait_s = self._wait_s * random.uniform(0.5, 1.0)  # noqa: S311  spreads requests, hides nothing
            self._wait_s = min(self._wait_s * _GROWTH, self._poll_s)
        self.trouble = str(error)
        now = time.monotonic()
        if self._warned_at is None or now - self._warned_at > _WARN_EVERY_S:
            self._warned_at = now
            log.warning("%s (%s): %s; it is tried again", self.batch.name, self.batch.state, error)
        await self._sleep(wait_s)

    async def _sleep(self, seconds: float) -> None:
        await self._queue.sleep(seconds)

    def _refused(self, what: str, error: CallError) -> StopRunError:
        return StopRunError(f"{what}: {error}", reason="batch_refused", status=error.status)


_ADVICE: Final = {
    "too_many_tasks": "Lower batch.lines, then run the same command.",
    "model_mismatch": "Change what the job asks (model.name, prompts.params), then run the same command.",
    "url_mismatch": "Change model.endpoint, or the service that batch.service names, then run the same command.",
    "empty_file": "The file did not arrive whole: run the same command, which sends it again.",
    "invalid_json_line": "The file did not arrive whole: run the same command, which sends it again.",
    "duplicate_custom_id": "The file did not arrive as it was sent: run the same command, which sends it again.",
}


def _what_to_do(refused: Batch) -> str:
    """What to do about a file that a service refuses, by the first code that is known."""
    codes = [error.code.lower() for error in refused.errors]
    if (advice := next((_ADVICE[code] for code in codes if code in _ADVICE), None)) is not None:
        return advice
    if any(codes):
        return "Change what the job asks (model.name, model.params), then run the same command."
    return "Look at it at the service, then run the same command, which sends the calls again."


def _limit_in(said: str) -> int | None:
    """The limit of queued tokens that a service names.

    >>> _limit_in("Enqueued token limit reached for gpt-6-luna. Limit: 90,000 enqueued tokens.")
    90000
    """
    found = _LIMIT.search(said)
    digits = "" if found is None else re.sub("[^0-9]", "", found[1])
    return int(digits) if digits else None
