"""The parts of a run: outcomes become tables, and tables become files.

`PartContents` is what goes into a part. `Committer` has two threads: one decodes a part while the other writes the part
before it. `run.buffer` and `importing.importer` decide when a part is full.
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.decode.anomalies import count_anomalies, count_odd_decisions
from logprob_store.decode.decoder import Decoder
from logprob_store.errors import CallError, DecodeError
from logprob_store.events import emit_prompt_failed
from logprob_store.failure_policy import FAILURES as FAILURE_CLASSES
from logprob_store.run.prompt_scoring import without_unscored
from logprob_store.schema import FAILURES, arrow_schema, call_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from logprob_store.request import Answer, BadCall, Request
    from logprob_store.store.commit import RunWriter
    from logprob_store.store.manifest import Input, Spent

log = logging.getLogger(__name__)

PARTS_IN_FLIGHT: Final = 2
"""Parts that may be submitted and not committed: one is decoded, one is written."""

_ANSWER_COUNTS: Final = {
    "api": "from_api",
    "batch": "from_batches",
    "cache": "from_cache",
    "fixture": "from_fixtures",
}
_BOUGHT: Final = ("api", "batch")
"""The sources of answers that this run paid for."""


@dataclass(slots=True)
class PartContents:
    """The outcomes and prompts that go into one part.

    Args:
        answers: the answers to decode.
        failures: rows of `failures`, for calls without an answer.
        prompts: rows of `prompts`.
        imports: rows of `imports`.
        settles: whether the outcomes are of a job's calls, which the manifest then lists as settled.
        prompts_read: how many prompts, from the first, have a row with this part.
        absent: half-open intervals of call numbers that belong to no call, or to one that is passed over; they are
            settled with their prompts' rows.
        passed: calls that are passed over, by the reason.
        prompts_passed: prompts without a row, because all their calls are passed over.
        files: the input files of an import that end in this part.
        weight: bytes in memory, roughly.
    """

    answers: list[Answer] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[pa.Table] = field(default_factory=list)
    imports: list[pa.Table] = field(default_factory=list)
    settles: bool = True
    prompts_read: int = 0
    absent: list[tuple[int, int]] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    prompts_passed: int = 0
    files: list[Input] = field(default_factory=list)
    weight: int = 0

    def __bool__(self) -> bool:
        return bool(self.answers or self.failures or self.prompts or self.absent)


class Undecoded(NamedTuple):
    """An answer that could not be decoded: the error, and its row for `failures`."""

    error: DecodeError
    row: dict[str, Any]


class DecodedPart(NamedTuple):
    """A part ready to be written: rows by table, the rows of `failures` once more, and the undecoded answers."""

    tables: dict[str, pa.Table]
    failures: list[dict[str, Any]]
    undecoded: list[Undecoded]


class Committer:
    """Commits the parts of a run, in the order in which they are submitted.

    Args:
        writer: of the run.
        sync_spent: returns what the run has spent so far, for the manifest, and makes the record of calls durable.
        decode: makes the tables of a part; `decode_part` but for tests.
        write: writes the tables of a part; `write_part` but for tests.
    """

    def __init__(
        self,
        writer: RunWriter,
        *,
        sync_spent: Callable[[], Spent | None] | None = None,
        decode: Callable[[PartContents, Decoder, Mapping[str, Any]], DecodedPart] | None = None,
        write: Callable[[RunWriter, PartContents, DecodedPart, Callable[[], Spent | None] | None], None] | None = None,
    ) -> None:
        self._writer = writer
        self._sync_spent = sync_spent
        self._decode = decode or decode_part
        self._write_part = write or write_part
        # One core is left to the thread that writes: with more threads than cores, decoding and writing are both slower
        # (docs/performance.md).
        self._decoder = Decoder(max(1, pa.cpu_count() - 1))
        self._decoding = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode-part")
        self._writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write-part")
        self._failed: BaseException | None = None

    def submit(self, contents: PartContents) -> Future[list[Undecoded]]:
        """Decode and write a part; the future is done when it is durable, with the answers that could not be decoded.

        Once a part cannot be committed, each later one fails with the same error: its manifest would say that all
        prompts before it have rows, and those of the failed part have none.
        """
        decoding = self._decoding.submit(self._decode, contents, self._decoder, self._writer.manifest.job)
        return self._writing.submit(self._write, contents, decoding)

    def close(self) -> None:
        """End the threads, once they have committed what was submitted."""
        self._decoding.shutdown(wait=True)
        self._writing.shutdown(wait=True)
        self._decoder.close()

    def _write(self, contents: PartContents, decoding: Future[DecodedPart]) -> list[Undecoded]:
        if self._failed is not None:
            raise self._failed
        try:
            part = decoding.result()
            self._write_part(self._writer, contents, part, self._sync_spent)
        except BaseException as error:
            self._failed = error
            raise
        return part.undecoded


def decode_part(contents: PartContents, decoder: Decoder, job: Mapping[str, Any]) -> DecodedPart:
    """Decode the answers of a part into tables; an answer that cannot be decoded becomes a row of `failures`.

    Args:
        contents: the outcomes of the part.
        decoder: decodes the answers, in threads of its own.
        job: the job's identity, as the manifest has it.
    """
    answers = sorted(contents.answers, key=lambda answer: (answer.request.prompt_index, answer.request.sample_index))
    decoded = decoder.decode(answers)
    if job.get("model.mode") == "score":
        decoded = without_unscored(answers, decoded)
    undecoded = [_undecoded(answers[index], error, settles=contents.settles) for index, error in decoded.failures]
    failures = [*contents.failures, *(row for _, row in undecoded)]
    failures.sort(key=lambda row: (row["prompt_index"], row["sample_index"]))
    names = ("completions", "tokens", "alternatives", "decisions")
    tables: dict[str, pa.Table] = {name: getattr(decoded, name) for name in names}
    for name, rows in (("prompts", contents.prompts), ("imports", contents.imports)):
        if rows:
            tables[name] = pa.concat_tables(rows)
    tables["failures"] = pa.Table.from_pylist(failures, schema=arrow_schema(FAILURES))
    return DecodedPart(tables, failures, undecoded)


def write_part(
    writer: RunWriter, contents: PartContents, part: DecodedPart, sync_spent: Callable[[], Spent | None] | None
) -> None:
    """Write the tables of a part and list it in the manifest."""
    samples = writer.manifest.samples
    asked = (answer.request for answer in contents.answers)
    settled = [call_number(request.prompt_index, request.sample_index, samples) for request in asked]
    settled += [call_number(row["prompt_index"], row["sample_index"], samples) for row in part.failures]
    writer.manifest.inputs += [file for file in contents.files if file not in writer.manifest.inputs]
    writer.commit(
        part.tables,
        settled=settled if contents.settles else (),
        absent=contents.absent,
        passed=contents.passed,
        prompts_passed=contents.prompts_passed,
        prompts_read=contents.prompts_read,
        counts=_counts(contents.answers, part),
        sync_spent=sync_spent,
    )


def _counts(answers: Sequence[Answer], part: DecodedPart) -> dict[str, int]:
    tables = part.tables
    counts = {name: sum(answer.source == source for answer in answers) for source, name in _ANSWER_COUNTS.items()}
    counts["calls"] = sum(answer.attempts for answer in answers if answer.source in _BOUGHT)
    counts["calls"] += sum(row["attempts"] for row in part.failures)
    counts |= count_anomalies(tables["completions"], tables["tokens"], tables["alternatives"], answers=answers)
    counts |= count_odd_decisions(tables["decisions"])
    # `usage` is per answer and is repeated on the row of each choice: count it once.
    first = tables["completions"].filter(pc.equal(tables["completions"]["choice_index"], 0))
    for name in ("prompt_tokens", "completion_tokens"):
        counts[name] = pc.sum(first[name]).as_py() or 0
    return counts


def failure_row(call: Request | BadCall, error: CallError, first_at: datetime | None) -> dict[str, Any]:
    """A row of `failures`."""
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


def _undecoded(answer: Answer, error: DecodeError, *, settles: bool) -> Undecoded:
    # An earlier answer may have been lost (`maybe_billed`), or a service may bill an answer of this class or not.
    unknown = answer.source in _BOUGHT and FAILURE_CLASSES[error.error_type].billed == "maybe"
    maybe_billed = answer.maybe_billed or unknown
    failure = CallError(str(error), error_type=error.error_type, status=answer.status, maybe_billed=maybe_billed)
    failure.attempts = answer.attempts
    # An import may read a million bodies without logprobs: its summary counts them, and no line is shown for each.
    emit_prompt_failed(log, answer.request, failure, level=logging.WARNING if settles else logging.INFO)
    return Undecoded(error, failure_row(answer.request, failure, answer.fetched_at))
