"""The answers that a run of imports has, and the prompt that each further record belongs to.

The ledger answers two questions, which make importing repeatable (docs/decisions/0007-import-identity.md). It takes
some 100 bytes of memory an answer, and as much again for a prompt that has an id or a known request.

*Does the run have this answer?* An answer is identified by its body and by the id of its prompt if the recording gives
one, however the body is written (`body_identity`). Answers with neither a prompt id nor a response id count as often
as they stand in a file.

*To which prompt does it belong?* Records with the same prompt id belong to one prompt, unless their requests are known
and differ; so do records without an id that have the same request. Any other record is a prompt of its own. A further
answer to a prompt is a further sample, and so is a further failure. An answer takes the place of one failure, whichever
comes first: what stays open of a prompt is as many failures as it has more of than answers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from logprob_store.importing.body_identity import DIGEST_BYTES
from logprob_store.schema import call_of_number
from logprob_store.store.tables import StoreTables

if TYPE_CHECKING:
    from collections import Counter

    from logprob_store.importing.body_identity import BodyIdentity
    from logprob_store.importing.records import Record
    from logprob_store.store.commit import RunWriter


@dataclass(slots=True)
class KnownPrompt:
    """A prompt to which further records may belong.

    Args:
        index: its prompt_index.
        request_digest: the digest of its request, if that is known.
        samples: how many sample indexes are taken.
        unmatched: answers that have taken the place of no failure.
    """

    index: int
    request_digest: bytes | None
    samples: int = 0
    unmatched: int = 0


@dataclass(frozen=True, slots=True)
class Assignment:
    """The prompt and sample that a record gets; `prompt_digest` is None if no later record can belong to the prompt."""

    prompt_index: int
    sample_index: int
    is_new_prompt: bool
    answer_digest: bytes
    prompt_digest: bytes | None
    request_digest: bytes | None


class Ledger:
    """The answers and prompts of a run; `mark_failed` tells it of failures that only decoding finds."""

    def __init__(self, writer: RunWriter) -> None:
        self.next_index = writer.manifest.prompts_read
        self._answers: set[bytes] = set()
        self._prompts: dict[bytes, KnownPrompt] = {}
        self._failed_samples: dict[int, set[int]] = {}
        self._load(writer)
        self._may_be_older = bool(self._answers)

    def assign(
        self, record: Record, request_digest: bytes | None, body: BodyIdentity, copies: Counter[tuple[int, bytes]]
    ) -> Assignment | None:
        """The prompt and sample of a record, or None if the run has the record already.

        Args:
            record: an answer or a failure.
            request_digest: the digest of its request, if that is known.
            body: what identifies its body.
            copies: the equal records without any id that came before it in the same file; this one is counted.
        """
        answer, *older = (
            _answer_digest(record, request_digest, digest, copies, kind)
            for kind, digest in enumerate((body.canonical, *(body.older if self._may_be_older else ())))
        )
        is_known = answer in self._answers or not self._answers.isdisjoint(older)
        self._answers.add(answer)
        if is_known:
            return None
        key, prompt = self._find_prompt(record.prompt_id, request_digest)
        is_new = prompt is None
        if prompt is None:
            prompt = KnownPrompt(self.next_index, request_digest)
            self.next_index += 1
        if key is None:
            return Assignment(prompt.index, 0, is_new, answer, None, request_digest)
        self._prompts[key] = prompt
        prompt.request_digest = prompt.request_digest or request_digest
        sample = self._next_sample(prompt, failed=record.problem is not None)
        return Assignment(prompt.index, sample, is_new, answer, key, request_digest)

    def has_prompt(self, prompt_id: str, request_digest: bytes | None) -> bool:
        """Whether the run has any record for a prompt."""
        return self._find_prompt(prompt_id, request_digest)[1] is not None

    def mark_failed(self, prompt_index: int, sample_index: int) -> None:
        """Mark a sample as failed, so that the next answer to its prompt takes its place."""
        self._failed_samples.setdefault(prompt_index, set()).add(sample_index)

    def _find_prompt(
        self, prompt_id: str | None, request_digest: bytes | None
    ) -> tuple[bytes | None, KnownPrompt | None]:
        """The key of a record's prompt, None if nothing identifies it, and the prompt if the run has it."""
        if prompt_id is None:
            return request_digest, None if request_digest is None else self._prompts.get(request_digest)
        key = _digest("id", prompt_id)
        prompt = self._prompts.get(key)
        if prompt is not None and request_digest is not None and prompt.request_digest not in {None, request_digest}:
            key = _digest("id", prompt_id, request_digest)
            prompt = self._prompts.get(key)
        return key, prompt

    def _next_sample(self, prompt: KnownPrompt, *, failed: bool) -> int:
        """The sample index of a record: for an answer that of a failed sample, for a failure that of an answer.

        If there is none whose place it can take, or that can take its own, it is the next index.
        """
        failed_samples = self._failed_samples.get(prompt.index, set())
        if failed and prompt.unmatched > 0:
            answered = next((n for n in range(prompt.samples) if n not in failed_samples), None)
            if answered is not None:
                prompt.unmatched -= 1
                return answered
        if not failed and failed_samples:
            sample = min(failed_samples)
            failed_samples.discard(sample)
            return sample
        prompt.samples += 1
        if failed:
            self.mark_failed(prompt.index, prompt.samples - 1)
        else:
            prompt.unmatched += 1
        return prompt.samples - 1

    def _load(self, writer: RunWriter) -> None:
        """Load what earlier imports committed."""
        rows = StoreTables(writer.store, (writer.manifest,)).imports
        last = rows.select(pl.col("prompt_index").max()).collect().item()
        # A repair may have removed rows of prompts and kept their answers; no index is given twice.
        self.next_index = max(self.next_index, 0 if last is None else last + 1)
        self._answers.update(rows.select("answer_digest").collect()["answer_digest"])
        identified = rows.filter(pl.col("prompt_digest").is_not_null())
        prompts = identified.group_by("prompt_digest").agg(
            pl.col("prompt_index").first(),
            pl.col("request_digest").drop_nulls().first(),
            pl.col("sample_index").max() + 1,
            2 * pl.col("sample_index").n_unique() - pl.len(),  # a failure and the answer to it have one sample
        )
        for digest, *values in prompts.collect().iter_rows():
            self._prompts[digest] = KnownPrompt(*values)
        known = {prompt.index: prompt for prompt in self._prompts.values()}
        for call in writer.open_failures:
            index, sample = call_of_number(call, writer.manifest.samples)
            if index in known:
                known[index].unmatched -= 1
                self.mark_failed(index, sample)


def _answer_digest(
    record: Record, request_digest: bytes | None, body: bytes, copies: Counter[tuple[int, bytes]], kind: int
) -> bytes:
    if record.prompt_id:
        return _digest(record.prompt_id, body)
    if record.response_id is not None:
        return body
    equal = kind, body + (request_digest or b"")  # each kind of identity counts by itself, as its version did
    copies[equal] += 1
    return _digest(request_digest, body, str(copies[equal] - 1))


def _digest(*parts: bytes | str | None) -> bytes:
    return hashlib.sha256(msgspec.json.encode(parts)).digest()[:DIGEST_BYTES]
