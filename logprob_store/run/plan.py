"""The plan of a job: its prompts as requests, in order, without the calls that have an outcome.

Requests come in chunks, one for each batch of prompt rows, so that memory does not grow with the number of prompts.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from logprob_store.errors import InputError, PromptError, PromptsError, TemplateError
from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns, kept_schema
from logprob_store.prompts.ids import check_ids
from logprob_store.prompts.input_files import find_inputs
from logprob_store.prompts.prompt import prompt_json
from logprob_store.prompts.questions import QuestionTemplates
from logprob_store.prompts.row_digest import RowDigests
from logprob_store.prompts.scanning import candidate_counts
from logprob_store.request import BadCall, Request, build_body, make_request
from logprob_store.run.prompt_scoring import check_scoring, scoring_params
from logprob_store.schema import PROMPTS, arrow_schema, call_number
from logprob_store.spending.bounds import check_bounded
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.manifest import Input

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence

    import polars as pl

    from logprob_store.job import Job
    from logprob_store.prompts.batches import PromptBatch
    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.prompt import Prompt

    PassedOver = Callable[[int], str | None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A batch of prompts: their rows that the prompts table does not have yet, and the calls to make.

    Args:
        prompts: the new rows for the prompts table.
        prompts_read: how many prompts, from the first, have a row with this chunk.
        requests: the calls to make.
        bad: the calls that cannot be made.
        absent: half-open intervals of call numbers without a call: each prompt has as many numbers as the prompt with
            most candidates has calls. Calls that are passed over are among them.
        passed: calls that are passed over, by the reason.
        prompts_passed: prompts without a row, because all their calls are passed over.
    """

    prompts: pa.Table
    prompts_read: int
    requests: list[Request] = field(default_factory=list)
    bad: list[BadCall] = field(default_factory=list)
    absent: list[tuple[int, int]] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    prompts_passed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A job's prompts as numbered calls. Make one with `plan_job`.

    `calls_per_prompt` is the most calls that any prompt has, also one beyond the limit, so that the number of a call
    (`schema.call_number`) is the same in each session. `calls_of_each_prompt` has the number of calls of each prompt,
    and is None where every prompt has `calls_per_prompt`.
    """

    job: Job
    inputs: list[InputFile]
    columns: Columns
    rows: RowDigests
    limit: int | None
    calls_per_prompt: int
    calls_of_each_prompt: pl.Series | None = None

    @property
    def stored_inputs(self) -> list[Input]:
        """The prompts files as a manifest has them."""
        return [Input(file.name, file.rows, file.size, file.digest) for file in self.inputs]

    @property
    def prompt_count(self) -> int:
        """The number of prompts, within the limit."""
        rows = sum(item.rows for item in self.inputs)
        return rows if self.limit is None else min(rows, self.limit)

    @property
    def call_count(self) -> int:
        """The number of calls: prompts times samples, or the sum of the candidates."""
        if self.calls_of_each_prompt is None:
            return self.prompt_count * self.calls_per_prompt
        return int(self.calls_of_each_prompt.head(self.prompt_count).sum())

    def number_of(self, request: Request) -> int:
        """The number of a request's call within the run."""
        return call_number(request.prompt_index, request.sample_index, self.calls_per_prompt)

    def _calls_of(self, prompt_index: int) -> int:
        return (
            self.calls_per_prompt if self.calls_of_each_prompt is None else int(self.calls_of_each_prompt[prompt_index])
        )

    def chunks(
        self,
        *,
        settled: Container[int] = (),
        again: Collection[int] = (),
        skip: int = 0,
        prompts_read: int = 0,
        passed_over: PassedOver | None = None,
    ) -> Iterator[Chunk]:
        """The calls to make, in order, read from the prompts files as they are taken.

        Args:
            settled: the numbers of the calls that have an outcome already.
            again: the numbers of settled calls to make again.
            skip: how many prompts, from the first, need no call; they are not read.
            prompts_read: how many prompts, from the first, have a row in the prompts table already, or need none.
            passed_over: says why a call that is not settled is not made; None for one to make.

        Raises:
            PromptsError: a prompts file cannot be read.
        """
        with _named_job_file(self.job):
            endpoint = self.job.model.endpoint
            batches = read_prompts(self.inputs, self.columns, endpoint=endpoint, skip=skip, limit=self.limit)
        for batch in batches:
            chunk = self._chunk(batch, settled, again, prompts_read, passed_over)
            prompts_read = max(prompts_read, chunk.prompts_read)
            yield chunk

    def _chunk(
        self,
        batch: PromptBatch,
        settled: Container[int],
        again: Collection[int],
        prompts_read: int,
        passed_over: PassedOver | None,
    ) -> Chunk:
        samples, provider = self.calls_per_prompt, self.job.model.identity
        requests: list[Request] = []
        bad: list[BadCall] = []
        absent = IntervalSet()
        passed: Counter[str] = Counter()
        rowless: set[int] = set()  # the indexes of prompts without a row
        for prompt in batch.prompts:
            calls, passed_before = self._calls_of(prompt.index), passed.total()
            if calls < samples:
                start, stop = call_number(prompt.index, calls, samples), call_number(prompt.index + 1, 0, samples)
                absent.update_intervals([(start, stop)])
            for sample_index in range(calls):
                call = call_number(prompt.index, sample_index, samples)
                if call in settled:
                    if call not in again:
                        continue
                elif passed_over is not None and (reason := passed_over(call)) is not None:
                    passed[reason] += 1
                    absent.update([call])
                    continue
                try:
                    requests.append(self._request(prompt, sample_index, provider))
                except PromptError as problem:
                    bad.append(BadCall(prompt.index, prompt.id, sample_index, problem))
            if passed.total() - passed_before == calls and prompt.index >= prompts_read:
                rowless.add(prompt.index)
        rows = _prompt_rows(batch, prompts_read, rowless)
        last = batch.prompts[-1].index + 1
        return Chunk(rows, last, requests, bad, absent.intervals, passed, len(rowless))

    def _request(self, prompt: Prompt, sample_index: int, provider: str) -> Request:
        if prompt.problem is not None:
            raise prompt.problem
        text = prompt.messages
        if prompt.candidates is not None:
            text = f"{text}{prompt.candidates[sample_index]}"
        return request_of_job(
            self.job,
            text,
            questions=prompt.questions or (),
            params=prompt.params,
            provider=provider,
            prompt_index=prompt.index,
            prompt_id=prompt.id,
            sample_index=sample_index,
        )


def request_of_job(
    job: Job,
    prompt: Any,
    *,
    provider: str,
    questions: Sequence[Mapping[str, Any]] = (),
    params: Mapping[str, Any] = MappingProxyType({}),
    prompt_index: int = 0,
    prompt_id: str = "0",
    sample_index: int = 0,
) -> Request:
    """The request that a job makes of a prompt.

    Args:
        job: has the model and its parameters.
        prompt: a text, or messages.
        provider: `job.model.identity`, computed once by the caller.
        questions: the typed questions about it, for decisions.
        params: body parameters of this prompt; they override the job's.
        prompt_index: the prompt's row.
        prompt_id: the prompt's id.
        sample_index: which sample of the prompt.

    Raises:
        PromptError: the request cannot be written as JSON, scores nothing, or has no bound that a ceiling needs.
    """
    model = job.model
    body = build_body(
        model.endpoint,
        model=model.name,
        prompt=prompt,
        logprobs=model.logprobs and model.score_by == "echo",
        top_logprobs=model.top_logprobs,
        params={**scoring_params(model), **model.params, **params},
        questions=questions,
    )
    if model.mode == "score":
        check_scoring(body)
    request = make_request(
        body,
        endpoint=model.endpoint,
        provider=provider,
        prompt_index=prompt_index,
        prompt_id=prompt_id,
        sample_index=sample_index,
    )
    if job.limits.need_bounds:
        if request.model != model.name:
            raise PromptError(
                f"the row's params ask for the model {request.model!r}, of which a ceiling of tokens or cost knows no "
                "price: give it a job of its own"
            )
        check_bounded(request, harmless=job.limits.harmless_params, prices=job.prices_at_service)
    return request


def plan_job(job: Job, *, limit: int | None = None) -> Plan:
    """Find a job's prompts files and check their columns; `check_plan` checks the ids.

    Raises:
        InputError: the limit is below 1.
        PromptsError: no file, an unreadable one, a missing or wrong column.
        TemplateError: the template is not usable.
    """
    if limit is not None and limit < 1:
        raise InputError(
            f"limit {limit} asks nothing: give 1 or more, or none to ask all prompts; `--dry-run` says what would be "
            "asked, and asks nothing"
        )
    questions = job.question_tables
    with _named_job_file(job):
        templates = QuestionTemplates.of_job(questions) if questions else None
        columns = Columns(**job.prompts.model_dump(exclude={"path", "select"}), question_templates=templates)
        if all(role in {"id", "keep"} for role, _ in columns.roles()):
            raise TemplateError(
                "prompts.template names no column, so that all prompts would be one and the same: write a column in "
                "braces, as {text}. Doubled braces, {{text}}, are braces of the text"
            )
        inputs = find_inputs(job.prompts.path, base=job.base)
        kept_schema(inputs, columns)
        counts = candidate_counts(inputs, columns)
    samples = job.model.samples if counts is None else max(counts.to_list(), default=1)
    return Plan(job, inputs, columns, RowDigests(inputs, columns), limit, samples, counts)


@contextmanager
def _named_job_file(job: Job) -> Iterator[None]:
    """Puts the name of the job file before what is wrong with its prompts."""
    try:
        yield
    except (PromptsError, TemplateError) as error:
        if job.file is None:
            raise
        raise type(error)(f"{job.file}: {error}") from error


def check_plan(plan: Plan) -> None:
    """Check that each prompt has an id of its own, which takes a pass over the id column.

    Raises:
        PromptsError: ids are null or repeated; the error names them.
    """
    with _named_job_file(plan.job):
        check_ids(plan.inputs, plan.columns)


def _prompt_rows(batch: PromptBatch, prompts_read: int, rowless: Collection[int]) -> pa.Table:
    """The rows of a batch for the prompts table, without the prompts that have one already or get none."""
    first = batch.prompts[0].index
    skip = min(max(prompts_read - first, 0), len(batch.prompts))
    new = [prompt for prompt in batch.prompts[skip:] if prompt.index not in rowless]
    base = pa.table(
        [
            [prompt.id for prompt in new],
            [prompt.index for prompt in new],
            [
                None if prompt.messages is None else prompt_json(prompt.messages, prompt.candidates, prompt.questions)
                for prompt in new
            ],
        ],
        schema=arrow_schema(PROMPTS),
    )
    kept = batch.kept.slice(skip)
    if rowless:
        kept = kept.filter(pa.array([prompt.index not in rowless for prompt in batch.prompts[skip:]]))
    fields = [pa.field(field.name, field.type) for field in kept.schema]
    return pa.Table.from_arrays([*base.columns, *kept.columns], schema=pa.schema([*base.schema, *fields]))
