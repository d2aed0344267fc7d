"""What a run has and the store has not yet: answers and failures on their way into a part.

Holds the buffer between the event loop and the thread that decodes and writes. Leaves out decoding (`decode`) and files
(`store.writing`). Its size is bounded by bytes: an answer with one token and one with a thousand weigh what they weigh.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.anomalies import count_anomalies
from logprob_store.decode import Decoder
from logprob_store.errors import CallError, DecodeError
from logprob_store.events import emit_prompt_failed
from logprob_store.failures import FAILURES as CLASSES
from logprob_store.schema import FAILURES, arrow_schema
from logprob_store.scoring import FirstLook, without_unscored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from logprob_store.errors import StopRunError
    from logprob_store.planning import BadCall, Chunk
    from logprob_store.request import Answer, Request
    from logprob_store.session import Progress
    from logprob_store.store.writing import RunWriter

log = logging.getLogger(__name__)

PART_SECONDS: Final = 60.0
"""Seconds after which a part is written whatever its size, so that a slow run can be watched."""

_DECODE_BYTES: Final = 8 << 20
_BESIDE_BYTES: Final = 4000
"""What an answer or a failure weighs in memory beside its body: its request and the objects around both."""

_ANSWER_COUNTS: Final = {"api": "from_api", "cache": "from_cache", "fixture": "from_fixtures"}


@dataclass(slots=True)
class Pending:
    """Outcomes for one part; `settles` says whether they are calls of a job, which its run counts as settled.

    `bad` are the answers that turn out to be of no use. A chunk's `absent` calls go with its prompts.
    """

    answers: list[Answer] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[pa.Table] = field(default_factory=list)
    imports: list[pa.Table] = field(default_factory=list)
    settles: bool = True
    prompts_read: int = 0
    absent: list[tuple[int, int]] = field(default_factory=list)
    bad: list[DecodeError] = field(default_factory=list)
    weight: int = 0

    def __bool__(self) -> bool:
        return bool(self.answers or self.failures or self.prompts or self.absent)


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
        self._writer = writer
        self._progress = progress
        self._pending = Pending()
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parts")
        self._decoder = Decoder()
        self._since = asyncio.get_running_loop().time()
        self._first_look = FirstLook(writer.manifest)
        self._broken: BaseException | None = None
        self._under_way: set[asyncio.Future[None]] = set()

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
        """Add an answer; waits while the buffer is full and the one before is still being written."""
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
        await self._flush(anyhow=True)
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        """End the threads."""
        self._thread.shutdown(wait=True)
        self._decoder.close()

    def _is_full(self) -> bool:
        overdue = asyncio.get_running_loop().time() - self._since > PART_SECONDS
        return self._pending.weight >= self._part_bytes or overdue or self._first_look.due(len(self._pending.answers))

    async def _flush_if_full(self) -> None:
        if self._broken is not None:
            raise self._broken
        if not self._is_full():
            return
        # One part is written while the next one fills. Those who wait, as both are full, are what keeps memory bounded;
        # and what the first answers were worth is waited for. Shielded, because who waits may be cancelled when the run
        # is stopped, and must not take along what others have put into the part.
        waits = self._turn.locked() or self._first_look.due(len(self._pending.answers))
        flushing = asyncio.ensure_future(self._flush(anyhow=False))
        flushing.add_done_callback(self._under_way.discard)
        flushing.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._under_way.add(flushing)
        if waits:
            await asyncio.shield(flushing)
        else:
            await asyncio.sleep(0)  # let it take the part, so that the next answer finds room

    async def _flush(self, *, anyhow: bool) -> None:
        async with self._turn:
            if anyhow or self._is_full():
                try:
                    await self._commit_pending()
                except BaseException as error:
                    self._broken = self._broken or error
                    raise

    async def _commit_pending(self) -> None:
        pending, self._pending = self._pending, Pending()
        self._since = asyncio.get_running_loop().time()
        if pending:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, commit_part, self._writer, pending, self._decoder)
            for answer in pending.answers:
                self._on_durable(answer)  # without a cache it was not, until now
            self._progress.failed += len(pending.bad)
            self._first_look.note(pending.bad)


def commit_part(writer: RunWriter, pending: Pending, decoder: Decoder) -> None:
    """Decode and write one part; of answers that could not be decoded `pending` then has the failures."""
    samples = writer.manifest.samples
    pending.answers.sort(key=lambda answer: (answer.request.prompt_index, answer.request.sample_index))
    tables: dict[str, list[pa.Table]] = {"completions": [], "tokens": [], "alternatives": []}
    for answers in _by_weight(pending.answers):
        decoded = decoder.decode(answers)
        if writer.manifest.job.get("model.mode") == "score":
            decoded = without_unscored(answers, decoded)
        tables["completions"].append(decoded.completions)
        tables["tokens"].append(decoded.tokens)
        tables["alternatives"].append(decoded.alternatives)
        for index, error in decoded.failures:
            # An import reads files that may hold a million bodies without logprobs: its summary counts them.
            level = logging.WARNING if pending.settles else logging.INFO
            failure = _undecoded(answers[index], error)
            emit_prompt_failed(log, answers[index].request, failure, level=level)
            pending.failures.append(failure_row(answers[index].request, failure, answers[index].fetched_at))
            pending.bad.append(error)
    rows = {name: pa.concat_tables(parts) for name, parts in tables.items() if parts}
    for name, parts in (("prompts", pending.prompts), ("imports", pending.imports)):
        if parts:
            rows[name] = pa.concat_tables(parts)
    pending.failures.sort(key=lambda row: (row["prompt_index"], row["sample_index"]))
    rows["failures"] = pa.Table.from_pylist(pending.failures, schema=arrow_schema(FAILURES))
    settled = [answer.request.prompt_index * samples + answer.request.sample_index for answer in pending.answers]
    settled += [row["prompt_index"] * samples + row["sample_index"] for row in pending.failures]
    writer.commit(
        rows,
        settled=settled if pending.settles else (),
        absent=pending.absent,
        prompts_read=pending.prompts_read,
        counts=_counts(pending, rows),
    )


def _by_weight(answers: list[Answer]) -> Iterator[list[Answer]]:
    group: list[Answer] = []
    weight = 0
    for answer in answers:
        group.append(answer)
        weight += len(answer.body)
        if weight >= _DECODE_BYTES:
            yield group
            group, weight = [], 0
    if group:
        yield group


def _counts(pending: Pending, rows: Mapping[str, pa.Table]) -> dict[str, int]:
    counts = {name: table.num_rows for name, table in rows.items() if name not in {"failures", "imports"}}
    for source, name in _ANSWER_COUNTS.items():
        counts[name] = sum(answer.source == source for answer in pending.answers)
    counts["calls"] = sum(answer.attempts for answer in pending.answers if answer.source == "api")
    counts["calls"] += sum(row["attempts"] for row in pending.failures)
    if "completions" in rows:
        counts |= count_anomalies(rows["completions"], rows["tokens"], rows["alternatives"])
        # Usage is per answer and stands on each of its choices: count it once.
        first = rows["completions"].filter(pc.equal(rows["completions"]["choice_index"], 0))
        for name in ("prompt_tokens", "completion_tokens"):
            counts[name] = pc.sum(first[name]).as_py() or 0
    return counts


def failure_row(call: Request | BadCall, error: CallError, first_at: datetime | None) -> dict[str, Any]:
    """One row of `failures`."""
    now = datetime.now(UTC)
    return {
        "prompt_id": call.prompt_id,
        "prompt_index": call.prompt_index,
        "sample_index": call.sample_index,
        "request_key": getattr(call, "key", None),
        "error_type": error.error_type,
        "status": error.status,
        "message": str(error),
        "attempts": error.attempts,
        "first_at": first_at or now,
        "last_at": now,
        "maybe_billed": error.maybe_billed,
    }


def _undecoded(answer: Answer, error: DecodeError) -> CallError:
    # Of an earlier call for it the answer may have been lost; and who knows whether a service bills what is no answer.
    unknown = answer.source == "api" and CLASSES[error.error_type].billed == "maybe"
    maybe_billed = answer.maybe_billed or unknown
    failure = CallError(str(error), error_type=error.error_type, status=answer.status, maybe_billed=maybe_billed)
    failure.attempts = answer.attempts
    return failure
