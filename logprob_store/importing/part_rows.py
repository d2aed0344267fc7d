"""The rows of one part of an import: `prompts` and `imports`, answers to decode, and failures.

The request of an answer is the recorded one. If none was recorded, the answer counts as one to a request for logprobs,
because an answer without logprobs would be of no use; but one that has those of its prompt (vLLM) was asked for these
alone. Its `request_key` is the sha256 of its body, white space between values aside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from logprob_store.request import RESPONSES_LOGPROBS, Answer, Request, make_request
from logprob_store.run.parts import PartContents, failure_row
from logprob_store.schema import IMPORTS, PROMPTS, arrow_schema

if TYPE_CHECKING:
    from logprob_store.importing.body_identity import BodyIdentity
    from logprob_store.importing.ledger import Assignment
    from logprob_store.importing.records import Record
    from logprob_store.store.manifest import Input

_RECORD_BYTES: Final = 400
"""Bytes that a record counts for beside its body, so that a million tiny records do not make one part."""

_UNKNOWN_REQUEST_BODY: Final = {"logprobs": True, "include": [RESPONSES_LOGPROBS]}
_PROMPT_LOGPROBS: Final = re.compile(rb'"prompt_logprobs"\s*:\s*\[')
_PROMPTS: Final = arrow_schema(PROMPTS)
_IMPORTS: Final = arrow_schema(IMPORTS)


@dataclass(slots=True)
class PartRows:
    """What the next part holds; `files` are the files whose last record is in it, `size_bytes` its size."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[tuple[str, int, str | None]] = field(default_factory=list)
    imports: list[tuple[Any, ...]] = field(default_factory=list)
    files: list[Input] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, file: str, record: Record, assignment: Assignment, *, body: BodyIdentity, provider: str) -> None:
        """Add a record under the prompt and sample that it was assigned."""
        request = _request(f"{file}:{record.place}", record, assignment, body, provider)
        if assignment.is_new_prompt:
            self.prompts.append((request.prompt_id, assignment.prompt_index, _prompt_json(record)))
        digests = assignment.answer_digest, assignment.prompt_digest, assignment.request_digest
        self.imports.append((assignment.prompt_index, assignment.sample_index, file, record.place, *digests))
        if record.problem is not None:
            self.failures.append(failure_row(request, record.problem, record.recorded_at))
        else:
            answer = Answer(request, 200, {}, record.body, record.source, attempts=0, fetched_at=record.recorded_at)
            self.answers.append(answer)
        self.size_bytes += len(record.body) + len(request.content) + _RECORD_BYTES

    def contents(self, prompts_read: int) -> PartContents:
        """The rows in the form that `Committer.submit` takes."""
        prompts = pa.Table.from_arrays(_columns(self.prompts, _PROMPTS), schema=_PROMPTS)
        imports = pa.Table.from_arrays(_columns(self.imports, _IMPORTS), schema=_IMPORTS)
        return PartContents(
            self.answers,
            self.failures,
            [prompts],
            [imports],
            settles=False,
            prompts_read=prompts_read,
            files=self.files,
        )


def _columns(rows: list[tuple[Any, ...]], schema: pa.Schema) -> list[pa.Array]:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]


def _request(place: str, record: Record, assignment: Assignment, body: BodyIdentity, provider: str) -> Request:
    recorded, endpoint = record.request, record.endpoint
    index, sample = assignment.prompt_index, assignment.sample_index
    if recorded is None:
        prompt_id = record.prompt_id or record.response_id or place
        is_scored = b'"prompt_logprobs"' in record.body and _PROMPT_LOGPROBS.search(record.body)
        asked = {} if is_scored else _UNKNOWN_REQUEST_BODY
        return Request(index, prompt_id, sample, endpoint, provider, asked, body.sha256, b"")
    digest = assignment.request_digest
    request = make_request(
        recorded.body,
        endpoint=recorded.endpoint or endpoint,
        provider=recorded.provider or provider,
        prompt_index=index,
        prompt_id=record.prompt_id or ("" if digest is None else digest.hex()[:16]),
        sample_index=sample,
    )
    return request if recorded.key is None else replace(request, key=recorded.key)


def _prompt_json(record: Record) -> str | None:
    prompt = record.prompt if record.request is None else record.request.prompt
    return None if prompt is None else msgspec.json.encode(prompt).decode()
