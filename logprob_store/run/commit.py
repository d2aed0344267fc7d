"""Parts of a run from outcomes to files: one is decoded while the one before is written.

Holds what goes into a part (`Pending`), and the two threads. Leaves out decoding (`decode`), files (`store.writing`),
and when a part is full (`parts`, `importing.session`).
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.decode.anomalies import count_anomalies
from logprob_store.decode.decoder import Decoder
from logprob_store.errors import CallError, DecodeError
from logprob_store.events import emit_prompt_failed
from logprob_store.failures import FAILURES as CLASSES
from logprob_store.run.prompt_scoring import without_unscored
from logprob_store.schema import FAILURES, arrow_schema, call_number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from logprob_store.request import Answer, Request
    from logprob_store.run.plan import BadCall
    from logprob_store.store.manifest import Input
    from logprob_store.store.writing import RunWriter

log = logging.getLogger(__name__)

AT_ONCE: Final = 2
"""Parts to hand over before waiting for the first of them: one to decode, one to write."""

_ANSWER_COUNTS: Final = {"api": "from_api", "cache": "from_cache", "fixture": "from_fixtures"}


@dataclass(slots=True)
class Pending:
    """Outcomes for one part; `settles` says whether they are calls of a job, which its run counts as settled.

    `bad` are the answers that turn out to be of no use, each with its row of `failures`. A chunk's `absent` calls go
    with its prompts. `files` are the inputs of an import that the part is the end of.
    """

    answers: list[Answer] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[pa.Table] = field(default_factory=list)
    imports: list[pa.Table] = field(default_factory=list)
    settles: bool = True
    prompts_read: int = 0
    absent: list[tuple[int, int]] = field(default_factory=list)
    files: list[Input] = field(default_factory=list)
    bad: list[tuple[DecodeError, dict[str, Any]]] = field(default_factory=list)
    weight: int = 0

    def __bool__(self) -> bool:
        return bool(self.answers or self.failures or self.prompts or self.absent)


class Committer:
    """Commits the parts of a run, in the order in which they are given."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        # One core is left to the part that is being written: with a thread more than there are cores both are slower
        # (docs/performance.md).
        self._decoder = Decoder(max(1, pa.cpu_count() - 1))
        self._decoding = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode-part")
        self._writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write-part")
        self._failed: BaseException | None = None

    def submit(self, pending: Pending) -> Future[None]:
        """Decode and write a part; done when it is durable, `pending` then having the failures that showed.

        After a part that could not be committed there is none: each one later gets the same error. The prompts of a
        part stand in it and in no other.
        """
        decoding = self._decoding.submit(_decode_part, pending, self._decoder, self._writer.manifest.job)
        return self._writing.submit(self._write, pending, decoding)

    def close(self) -> None:
        """End the threads, once they have done what was submitted."""
        self._decoding.shutdown(wait=True)
        self._writing.shutdown(wait=True)
        self._decoder.close()

    def _write(self, pending: Pending, decoding: Future[dict[str, pa.Table]]) -> None:
        if self._failed is not None:
            raise self._failed
        try:
            _write_part(self._writer, pending, decoding.result())
        except BaseException as error:
            self._failed = error
            raise


def _decode_part(pending: Pending, decoder: Decoder, job: Mapping[str, Any]) -> dict[str, pa.Table]:
    """The tables of a part; of answers that could not be decoded `pending` then has the failures."""
    pending.answers.sort(key=lambda answer: (answer.request.prompt_index, answer.request.sample_index))
    answers = pending.answers
    decoded = decoder.decode(answers)
    if job.get("model.mode") == "score":
        decoded = without_unscored(answers, decoded)
    for index, error in decoded.failures:
        # An import reads files that may hold a million bodies without logprobs: its summary counts them.
        level = logging.WARNING if pending.settles else logging.INFO
        failure = _undecoded(answers[index], error)
        emit_prompt_failed(log, answers[index].request, failure, level=level)
        row = failure_row(answers[index].request, failure, answers[index].fetched_at)
        pending.failures.append(row)
        pending.bad.append((error, row))
    rows = {"completions": decoded.completions, "tokens": decoded.tokens, "alternatives": decoded.alternatives}
    for name, parts in (("prompts", pending.prompts), ("imports", pending.imports)):
        if parts:
            rows[name] = pa.concat_tables(parts)
    pending.failures.sort(key=lambda row: (row["prompt_index"], row["sample_index"]))
    rows["failures"] = pa.Table.from_pylist(pending.failures, schema=arrow_schema(FAILURES))
    return rows


def _write_part(writer: RunWriter, pending: Pending, rows: Mapping[str, pa.Table]) -> None:
    samples = writer.manifest.samples
    asked = (answer.request for answer in pending.answers)
    settled = [call_number(request.prompt_index, request.sample_index, samples) for request in asked]
    settled += [call_number(row["prompt_index"], row["sample_index"], samples) for row in pending.failures]
    writer.manifest.inputs += [file for file in pending.files if file not in writer.manifest.inputs]
    writer.commit(
        rows,
        settled=settled if pending.settles else (),
        absent=pending.absent,
        prompts_read=pending.prompts_read,
        counts=_counts(pending, rows),
    )


def _counts(pending: Pending, rows: Mapping[str, pa.Table]) -> dict[str, int]:
    counts = {name: table.num_rows for name, table in rows.items() if name not in {"failures", "imports"}}
    for source, name in _ANSWER_COUNTS.items():
        counts[name] = sum(answer.source == source for answer in pending.answers)
    counts["calls"] = sum(answer.attempts for answer in pending.answers if answer.source == "api")
    counts["calls"] += sum(row["attempts"] for row in pending.failures)
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
