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

from logprob_store.batch.client import RUNNING
from logprob_store.batch.journal import FailedLine
from logprob_store.batch.output_file import is_whole
from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.run.batch_queue import BatchQueue, LeftError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from logprob_store.batch.client import Batch, BatchClient
    from logprob_store.batch.folder import BatchFolder
    from logprob_store.batch.journal import Journal, SentBatch
    from logprob_store.batch.services import BatchService
    from logprob_store.run.batch_answers import BatchCollector
    from logprob_store.spending.reservation import Reservation

log = logging.getLogger(__name__)

_FIRST_WAIT_S: Final = 1.0
_GROWTH: Final = 1.5
_LOOKS: Final = 5
"""How often a thing is looked for that a service may not show at once: a new file, a batch, an output."""
_LATE: Final = timedelta(hours=25)
"""After this time a batch in a state that nobody knows is not waited for any more."""
_FILE_LOOKS: Final = 8
"""How often a batch is begun whose new file the service does not know: for most of a minute."""
_TOO_LARGE: Final = 413
_INVALID: Final = 400
_NOT_FOUND: Final = frozenset({404, 410})
_QUEUE_FULL: Final = re.compile(r"token_limit_exceeded|enqueued token limit", re.IGNORECASE)
_LIMIT: Final = re.compile(r"\blimit\s*(?:is|of|:|=)?\s*([0-9][0-9,_.]*)", re.IGNORECASE)
_SETTLES_S: Final = 60.0
"""How long a service may take to list a batch, at most; shorter where it is asked more often than every 20 s."""
_WARN_EVERY_S: Final = 60.0


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
        try:
            file_id = await self._client.upload(path, self._file_name, purpose=self._service.purpose)
        except RetryableError as error:
            await self._pause(error)
            return
        except CallError as error:
            self.dissolve()
            if error.status == _TOO_LARGE and self.batch.lines > 1:
                log.warning(
                    "%s: the service takes no file of %d bytes: it gets smaller ones", self.batch.name, self.batch.size
                )
                self._queue.max_bytes = self.batch.size // 2
                return
            raise self._refused("the service takes no file of batches", error) from error
        self._journal.write(self.batch, state="uploaded", file_id=file_id)

    async def _find_or_upload(self) -> None:
        """An upload may have arrived without our knowing."""
        file_id = await self._look(lambda: self._client.find_file(self._file_name, purpose=self._service.purpose))
        if file_id is None:
            await self._upload()
        else:
            self._journal.write(self.batch, state="uploaded", file_id=file_id)

    async def _begin(self) -> None:
        if self._service.checks_files:
            await self._wait_for_file()
        await self._queue.wait_for_room(self.batch)
        if self._queue.must_end:
            return
        self._journal.write(self.batch, state="creating")
        await self._create()

    async def _wait_for_file(self) -> None:
        try:
            while not await self._patiently(lambda: self._client.is_ready(self.batch.file_id)):
                await self._sleep(self._wait_s)
        except CallError as error:
            self.dissolve()
            raise self._refused("the service refuses the file of a batch", error) from error

    async def _create(self) -> None:
        for look in range(_FILE_LOOKS):
            try:
                created = await self._client.create(
                    self.batch.file_id, endpoint=self._url, window=self._window, tag=self._try_tag
                )
            except RetryableError as error:
                if not error.maybe_billed:
                    self._journal.write(self.batch, state="uploaded")
                await self._pause(error)
                return  # where it may have begun, it is looked for
            except CallError as error:
                if _QUEUE_FULL.search(str(error)):
                    await self._wait_for_queue(str(error), None)
                    return
                # Right after an upload a service may not know the file yet, or be busy with it.
                if look + 1 < _FILE_LOOKS and "file" in str(error).lower():
                    await self._pause(error)
                    continue
                self.dissolve()
                raise self._refused("the service refuses the batch", error) from error
            self._note_begun(created)
            return

    async def _find_or_begin(self) -> None:
        """A batch may have begun without our knowing: it is found by its metadata, or by its file.

        A service may list it late. If it is begun again in the end, it may be there twice, and its rows say so.
        """
        until = time.monotonic() + min(_SETTLES_S, max(_SETTLES_S / 30, 3 * self._poll_s))
        while (found := await self._find_batch()) is None and time.monotonic() < until:
            await self._sleep(self._wait_s)
        if found is None:
            log.warning("%s is in no list of the service: it is begun again, marked maybe_billed", self.batch.name)
            for number in self.batch.numbers:
                if (reservation := self._held.get(number)) is not None:
                    reservation.repeated()
            await self._create()
        else:
            log.info("batch %s was begun before: it is adopted", found.id)
            self._note_begun(found)

    async def _find_batch(self) -> Batch | None:
        return await self._look(
            lambda: self._client.find_batch(
                tag=self._try_tag, file_id=self.batch.file_id, but=frozenset(self.batch.past_ids)
            )
        )

    def _note_begun(self, found: Batch) -> None:
        self._journal.write(
            self.batch,
            state="created",
            batch_id=found.id,
            status=found.status,
            created_at=datetime.now(UTC),
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
                    raise StopRunError(
                        f"the service does not show batch {self.batch.batch_id} ({error}). Use the key of the project "
                        "that began it, then run the same command: it is collected",
                        reason="batch_unseen",
                        status=error.status,
                    ) from error
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
        if found.completed and not found.output_file_id:
            found = await self._look_for_output(found)
        self._queue.ended(self.batch)
        self._journal.write(
            self.batch,
            state="ended",
            ended_at=datetime.now(UTC),
            output_file_id=found.output_file_id,
            error_file_id=found.error_file_id,
        )

    async def _look_for_output(self, found: Batch) -> Batch:
        """A batch that says that it has answers, and names no file of them yet."""
        for _ in range(_LOOKS - 1):
            await self._sleep(self._wait_s)
            found = await self._patiently(lambda: self._client.get(self.batch.batch_id))
            if found.output_file_id:
                break
        return found

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
            f"the service refuses the batch: {said}. Nothing was billed. Change what the job asks (model.name, "
            "model.params), then run the same command",
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
        await self._queue.wait_for_change(self._poll_s)

    async def _download(self) -> None:
        for kind, file_id in (("output", self.batch.output_file_id), ("errors", self.batch.error_file_id)):
            path = self._journal.path(self.batch, kind)
            if file_id and not path.exists():
                await self._download_file(file_id, kind)
        self._journal.write(self.batch, state="downloaded")

    async def _download_file(self, file_id: str, kind: str) -> None:
        path, name = self._journal.path(self.batch, kind), self.batch.batch_id
        for look in range(_LOOKS):
            last = look + 1 == _LOOKS
            try:
                await self._patiently(lambda: self._client.download(file_id, path))
            except CallError as error:
                if error.status not in _NOT_FOUND:
                    raise self._refused(f"the service does not give the {kind} of batch {name}", error) from error
                if last:
                    log.warning(
                        "batch %s: its %s file %s is gone (%s); services delete them after 30 days. Its calls are "
                        "asked again, and their rows say maybe_billed",
                        name,
                        kind,
                        file_id,
                        error,
                    )
            else:
                if last or is_whole(path):
                    return
                path.unlink()
                log.warning("batch %s: its %s file broke off, and is fetched again", name, kind)
            if not last:
                await self._sleep(self._wait_s)

    async def _collect(self) -> None:
        stop = await self._collector.collect(self.batch)
        if stop is not None:
            raise stop

    def _failed_line(self, place: int, error_type: str, said: str, status: int) -> FailedLine:
        call, key = self._journal.lines(self.batch)[place]
        return FailedLine(call, key, error_type, said, status)

    def abandon(self) -> None:
        """Wait for a batch no longer, though it may be billed: its calls are lost, and marked where they are asked."""
        lost = RetryableError("the batch had not ended at the deadline", error_type="batch_lost", maybe_billed=True)
        self._give_up(lost, "abandoned", "it had not ended at the deadline")

    def dissolve(self, said: str = "") -> None:
        """Give up a batch of which nothing was begun: its calls are free again, and cost nothing."""
        self._give_up(RetryableError("the batch was not begun", error_type="batch_ended"), "dissolved", said)

    def _give_up(self, error: RetryableError, state: str, said: str) -> None:
        for number in self.batch.numbers:
            reservation = self._held.pop(number, None)
            if reservation is not None:
                reservation.failed(error)
        self._queue.ended(self.batch)
        self._journal.write(self.batch, state=state, said=said)
        self._journal.remove(self.batch, "jsonl", "lines")

    async def _look(self, find: Callable[[], Awaitable[_T | None]]) -> _T | None:
        """What the service lists; None too where it lists nothing of that kind."""
        try:
            return await self._patiently(find)
        except CallError as error:
            log.info("the service gives no list: %s", error)
            return None

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until there is an answer: a service that is down for an hour ends no night."""
        while True:
            try:
                return await ask()
            except RetryableError as error:
                await self._pause(error)

    async def _pause(self, error: CallError) -> None:
        wait_s = getattr(error, "retry_after_s", None)
        if wait_s is None:
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


def _limit_in(said: str) -> int | None:
    """The limit of queued tokens that a service names.

    >>> _limit_in("Enqueued token limit reached for gpt-6-luna. Limit: 90,000 enqueued tokens.")
    90000
    """
    found = _LIMIT.search(said)
    digits = "" if found is None else re.sub("[^0-9]", "", found[1])
    return int(digits) if digits else None
