"""Records on their way into a part: the rows of `prompts` and `imports`, the answers to decode, the failures.

Leaves out deciding which records these are (`session`) and decoding and writing them (`parts`).

The request of an answer is what the recording says was asked. Where it says nothing, the answer counts as one to a
request for logprobs, since an answer without any would be of no use here, and its `request_key` is the sha256 of its
body, white space between values aside.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from logprob_store.request import Answer, Request, make_request
from logprob_store.run.commit import PartContents, failure_row
from logprob_store.schema import IMPORTS, PROMPTS, arrow_schema

if TYPE_CHECKING:
    from logprob_store.importing.ledger import Slot
    from logprob_store.importing.records import Record
    from logprob_store.store.manifest import Input

_RECORD_BYTES: Final = 400
"""What a record weighs beside its body, so that a million tiny ones do not pile up."""

_UNKNOWN: Final = {"logprobs": True}
_PROMPTS: Final = arrow_schema(PROMPTS)
_IMPORTS: Final = arrow_schema(IMPORTS)


@dataclass(slots=True)
class Rows:
    """What the next part gets; `weight` is its size in bytes, `files` those that were read to their end."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[tuple[str, int, str | None]] = field(default_factory=list)
    imports: list[tuple[Any, ...]] = field(default_factory=list)
    files: list[Input] = field(default_factory=list)
    weight: int = 0

    def add(self, file: str, record: Record, slot: Slot, *, sha256: str, provider: str) -> None:
        """Add a record that has its place in the run."""
        request = _request(f"{file}:{record.place}", record, slot, sha256, provider)
        if slot.is_new_prompt:
            self.prompts.append((request.prompt_id, slot.prompt_index, _messages(record)))
        digests = slot.answer_digest, slot.prompt_digest, slot.request_digest
        self.imports.append((slot.prompt_index, slot.sample_index, file, record.place, *digests))
        if record.problem is not None:
            self.failures.append(failure_row(request, record.problem, record.recorded_at))
        else:
            answer = Answer(request, 200, {}, record.body, record.source, attempts=0, fetched_at=record.recorded_at)
            self.answers.append(answer)
        self.weight += len(record.body) + len(request.content) + _RECORD_BYTES

    def contents(self, prompts_read: int) -> PartContents:
        """All of it, ready to be committed."""
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


def _request(place: str, record: Record, slot: Slot, sha256: str, provider: str) -> Request:
    asked, endpoint = record.asked, record.endpoint
    if asked is None:
        prompt_id = record.id or record.response_id or place
        index, sample = slot.prompt_index, slot.sample_index
        return Request(index, prompt_id, sample, endpoint, provider, _UNKNOWN, sha256, b"")
    named = "" if slot.request_digest is None else slot.request_digest.hex()[:16]
    request = make_request(
        asked.body,
        endpoint=asked.endpoint or endpoint,
        provider=asked.provider or provider,
        prompt_index=slot.prompt_index,
        prompt_id=record.id or named,
        sample_index=slot.sample_index,
    )
    return request if asked.key is None else replace(request, key=asked.key)


def _messages(record: Record) -> str | None:
    asked = None if record.asked is None else record.asked.prompt
    return None if asked is None else msgspec.json.encode(asked).decode()
