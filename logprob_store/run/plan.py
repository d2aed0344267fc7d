"""What is still to be asked: prompts become requests, minus the calls that have an outcome.

Holds the way from a job to chunks of requests. Leaves out asking and storing. A chunk is a batch of prompt rows, so
memory does not grow with their number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from logprob_store.errors import PromptError
from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns, kept_schema
from logprob_store.prompts.ids import check_ids
from logprob_store.prompts.input_files import find_inputs
from logprob_store.prompts.prompt import prompt_json
from logprob_store.prompts.scanning import candidate_counts
from logprob_store.request import Request, build_body, make_request
from logprob_store.run.prompt_scoring import check_scoring, scoring_params
from logprob_store.schema import PROMPTS, arrow_schema
from logprob_store.spending.most_tokens import check_bounded

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator

    import polars as pl

    from logprob_store.job import Job
    from logprob_store.prompts.batches import PromptBatch
    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.prompt import Prompt


@dataclass(frozen=True, slots=True)
class BadCall:
    """A call that cannot be made, and why."""

    prompt_index: int
    prompt_id: str
    sample_index: int
    problem: PromptError


@dataclass(frozen=True, slots=True)
class Chunk:
    """A batch of prompts: the rows that are new to the prompts table, and the calls to make.

    `absent` are the numbers, as half-open intervals, of calls that there are not: of a prompt with fewer candidates
    than the one that has most.
    """

    prompts: pa.Table
    prompts_read: int
    requests: list[Request] = field(default_factory=list)
    bad: list[BadCall] = field(default_factory=list)
    absent: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """A job's prompts, checked: the files, their columns, the ids.

    Make one with `plan_job`. `stride` is how far the numbers of two prompts' first calls are apart: a call's number is
    prompt_index * stride + sample_index. It is the most calls that any prompt has, whatever the limit, so that a number
    means the same in each session. `counts` are the calls of each prompt, None where all have as many.
    """

    job: Job
    inputs: list[InputFile]
    columns: Columns
    limit: int | None
    stride: int
    counts: pl.Series | None = None

    @property
    def prompt_count(self) -> int:
        """How many prompts there are, within the limit."""
        rows = sum(item.rows for item in self.inputs)
        return rows if self.limit is None else min(rows, self.limit)

    @property
    def call_count(self) -> int:
        """How many calls these make: prompts times samples, or the sum of their candidates."""
        if self.counts is None:
            return self.prompt_count * self.stride
        return int(self.counts.head(self.prompt_count).sum())

    def _calls_of(self, prompt_index: int) -> int:
        return self.stride if self.counts is None else int(self.counts[prompt_index])

    def chunks(
        self,
        *,
        settled: Container[int] = (),
        again: Collection[int] = (),
        skip: int = 0,
        prompts_read: int = 0,
    ) -> Iterator[Chunk]:
        """The calls to make, in order.

        Args:
            settled: calls (prompt_index * stride + sample_index) that have an outcome already.
            again: those of them to make all the same.
            skip: prompts known to need nothing; they are passed over without being read.
            prompts_read: prompts, from the first, that have a row in the prompts table already.
        """
        batches = read_prompts(self.inputs, self.columns, endpoint=self.job.model.endpoint, skip=skip, limit=self.limit)
        for batch in batches:
            chunk = self._chunk(batch, settled, again, prompts_read)
            prompts_read = max(prompts_read, chunk.prompts_read)
            yield chunk

    def _chunk(self, batch: PromptBatch, settled: Container[int], again: Collection[int], prompts_read: int) -> Chunk:
        stride, provider = self.stride, self.job.model.identity
        last = batch.prompts[-1].index + 1
        chunk = Chunk(_prompt_rows(batch, prompts_read), last)
        for prompt in batch.prompts:
            calls = self._calls_of(prompt.index)
            if calls < stride:
                chunk.absent.append((prompt.index * stride + calls, (prompt.index + 1) * stride))
            for sample_index in range(calls):
                call = prompt.index * stride + sample_index
                if call in settled and call not in again:
                    continue
                try:
                    chunk.requests.append(self._request(prompt, sample_index, provider))
                except PromptError as problem:
                    chunk.bad.append(BadCall(prompt.index, prompt.id, sample_index, problem))
        return chunk

    def _request(self, prompt: Prompt, sample_index: int, provider: str) -> Request:
        if prompt.problem is not None:
            raise prompt.problem
        model = self.job.model
        text = prompt.messages
        if prompt.candidates is not None:
            text = f"{text}{prompt.candidates[sample_index]}"
        body = build_body(
            model.endpoint,
            model=model.name,
            prompt=text,
            logprobs=model.logprobs and model.score_by == "echo",
            top_logprobs=model.top_logprobs,
            params={**scoring_params(model), **model.params, **prompt.params},
        )
        if model.mode == "score":
            check_scoring(body)
        request = make_request(
            body,
            endpoint=model.endpoint,
            provider=provider,
            prompt_index=prompt.index,
            prompt_id=prompt.id,
            sample_index=sample_index,
        )
        if self.job.limits.ceilings.need_bounds:
            check_bounded(request)
        return request


def plan_job(job: Job, *, limit: int | None = None) -> Plan:
    """Find a job's prompts and check their columns, before anything is asked; ids are checked by `check_plan`.

    Raises:
        PromptsError: no file, an unreadable one, a missing or wrong column.
        TemplateError: the template is not usable.
    """
    section = job.prompts
    columns = Columns(
        id=section.id,
        prompt=section.prompt,
        system=section.system,
        messages=section.messages,
        template=section.template,
        params=section.params,
        continuations=section.continuations,
        keep=section.keep,
    )
    inputs = find_inputs(section.path, base=job.base)
    kept_schema(inputs, columns)
    counts = candidate_counts(inputs, columns)
    stride = job.model.samples if counts is None else max(counts.to_list(), default=1)
    return Plan(job, inputs, columns, limit, stride, counts)


def check_plan(plan: Plan) -> None:
    """Check that ids are unique, which takes a pass over the id column.

    Raises:
        PromptsError: ids are null or stand twice; they are named.
    """
    check_ids(plan.inputs, plan.columns)


def _prompt_rows(batch: PromptBatch, prompts_read: int) -> pa.Table:
    first = batch.prompts[0].index
    skip = min(max(prompts_read - first, 0), len(batch.prompts))
    new = batch.prompts[skip:]
    base = pa.table(
        [
            [prompt.id for prompt in new],
            [prompt.index for prompt in new],
            [None if prompt.messages is None else prompt_json(prompt.messages, prompt.candidates) for prompt in new],
        ],
        schema=arrow_schema(PROMPTS),
    )
    for name, column in zip(batch.kept.column_names, batch.kept.slice(skip).columns, strict=True):
        base = base.append_column(name, column)
    return base
