"""What a run of imports has already, and which prompt a record belongs to.

Holds the two questions that make importing repeatable. Memory grows by some 100 bytes an answer, and as much again for
a prompt that has an id or a known request. Leaves out writing.

*Is it there already?* An answer is known by the id of its prompt, if the recording gives one, and its body, white space
between values aside. One that has neither a prompt's id nor an id of its own counts as often as it stands in a file.

*Whose answer is it?* Records with one id are of one prompt, unless their requests are known and differ; so are records
without an id that ask the same. A further answer to a prompt is a further sample; a failure is open until there is one.
Anything else is a prompt of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import polars as pl

from logprob_store.schema import call_of_number
from logprob_store.store.tables import StoreTables

if TYPE_CHECKING:
    from logprob_store.importing.records import Record
    from logprob_store.store.writing import RunWriter

_DIGEST_BYTES: Final = 16


@dataclass(slots=True)
class Prompt:
    """A prompt that may get further records; `samples` counts the slots its answers and failures have taken."""

    index: int
    digest: bytes
    request: bytes | None
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a record goes; `prompt_digest` is None for a prompt of its own."""

    prompt_index: int
    sample_index: int
    is_new_prompt: bool
    answer_digest: bytes
    prompt_digest: bytes | None
    request_digest: bytes | None


class Ledger:
    """The answers and prompts of a run; it has to be told of failures that show only in decoding."""

    def __init__(self, writer: RunWriter) -> None:
        self.next_index = writer.manifest.prompts_read
        self._answers: set[bytes] = set()
        self._prompts: dict[bytes, Prompt] = {}
        self._open: dict[int, set[int]] = {}
        self._read(writer)

    def place(self, record: Record, request: bytes | None, body: bytes, copy: int) -> Slot | None:
        """The slot for a record, None if it is there already.

        Args:
            record: what to place.
            request: the digest of what was asked, if known.
            body: the digest of its body.
            copy: how many like it came before in the same file.
        """
        answer = _digest(record.id, body) if record.id else body
        if record.id is None and record.response_id is None:
            answer = _digest(request, body, str(copy))
        if answer in self._answers:
            return None
        self._answers.add(answer)
        key, prompt = self._find(record.id, request)
        if key is None:
            self.next_index += 1
            return Slot(
                self.next_index - 1,
                0,
                is_new_prompt=True,
                answer_digest=answer,
                prompt_digest=None,
                request_digest=request,
            )
        is_new = prompt is None
        if prompt is None:
            prompt = self._prompts[key] = Prompt(self.next_index, key, request)
            self.next_index += 1
        prompt.request = prompt.request or request
        sample = self._sample(prompt, failed=record.problem is not None)
        return Slot(
            prompt.index, sample, is_new_prompt=is_new, answer_digest=answer, prompt_digest=key, request_digest=request
        )

    def has(self, prompt_id: str, request: bytes | None) -> bool:
        """Whether there is any record for a prompt."""
        return self._find(prompt_id, request)[1] is not None

    def failed(self, prompt_index: int, sample_index: int) -> None:
        """Note that a placed answer could not be decoded: the next answer to its prompt takes its place."""
        self._open.setdefault(prompt_index, set()).add(sample_index)

    def _find(self, prompt_id: str | None, request: bytes | None) -> tuple[bytes | None, Prompt | None]:
        """The key of a prompt, None where nothing names it, and the prompt if there is one."""
        if prompt_id is None:
            return request, None if request is None else self._prompts.get(request)
        key = _digest("id", prompt_id)
        prompt = self._prompts.get(key)
        if prompt is not None and request is not None and prompt.request not in {None, request}:
            key = _digest("id", prompt_id, request)
            prompt = self._prompts.get(key)
        return key, prompt

    def _sample(self, prompt: Prompt, *, failed: bool) -> int:
        """The next sample; a failure stands in the first, where an answer makes good of it."""
        if failed:
            if not prompt.samples:
                prompt.samples = 1
                self.failed(prompt.index, 0)
            return 0
        if waiting := self._open.get(prompt.index):
            sample = min(waiting)
            waiting.discard(sample)
            return sample
        prompt.samples += 1
        return prompt.samples - 1

    def _read(self, writer: RunWriter) -> None:
        """Take up what earlier sessions committed."""
        rows = StoreTables(writer.store, (writer.manifest,)).imports
        last = rows.select(pl.col("prompt_index").max()).collect().item()
        # A repair may have taken out prompt rows and left answers: no index is given twice.
        self.next_index = max(self.next_index, 0 if last is None else last + 1)
        self._answers.update(rows.select("answer_digest").collect()["answer_digest"])
        named = rows.filter(pl.col("prompt_digest").is_not_null())
        merged = named.group_by("prompt_digest").agg(
            pl.col("prompt_index").first(),
            pl.col("request_digest").drop_nulls().first(),
            pl.col("sample_index").max() + 1,
        )
        for digest, index, request, samples in merged.collect().iter_rows():
            self._prompts[digest] = Prompt(index, digest, request, samples)
        again = {prompt.index for prompt in self._prompts.values()}
        for call in writer.open_failures:
            index, sample = call_of_number(call, writer.manifest.samples)
            if index in again:
                self.failed(index, sample)


def body_digest(content: bytes) -> tuple[bytes, str]:
    """Digest of a body, white space between values aside, for comparing; and its sha256 as hexadecimal digits.

    >>> body_digest(b'{"a": 1}') == body_digest(b'{"a":1}')
    True
    """
    # A stream of events, or what JSON has no numbers for, is taken as it stands.
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        content = msgspec.json.format(content, indent=-1)
    whole = hashlib.sha256(content)
    return whole.digest()[:_DIGEST_BYTES], whole.hexdigest()


def _digest(*parts: bytes | str | None) -> bytes:
    whole = hashlib.sha256(msgspec.json.encode(parts))
    return whole.digest()[:_DIGEST_BYTES]
