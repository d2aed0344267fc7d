"""The table of completions: one row for each choice, with counts and sums over its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.decode.token_rows import SECTIONS, enum_array
from logprob_store.schema import COMPLETIONS, Source, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logprob_store.decode.decoding_task import DecodingTask

    TokenSums = tuple[int, float | None, float | None]
    """`token_count`, `logprob_sum` (nats), `logprob_min` (nats)."""

SCHEMA: Final = arrow_schema(COMPLETIONS)
_SOURCES: Final[tuple[str, ...]] = tuple(Source.categories)
_NO_TOKENS: Final = (0, None, None)


def completions_table(tasks: Sequence[DecodingTask], wire_texts: Mapping[int, str], tokens: pa.Table) -> pa.Table:
    """The rows of COMPLETIONS for the choices, in their order.

    Args:
        tasks: the choices.
        wire_texts: by completion_id, the text of the column `wire`.
        tokens: the table of their tokens.
    """
    sums = generated_sums(tokens)
    rows = [_row(task, wire_texts[task.completion_id], sums.get(task.completion_id, _NO_TOKENS)) for task in tasks]
    columns = []
    for field in SCHEMA:
        values = [row[field.name] for row in rows]
        if field.name == "source":
            columns.append(enum_array(pa.array([_SOURCES.index(name) for name in values], pa.uint8()), _SOURCES))
        else:
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def generated_sums(tokens: pa.Table) -> dict[int, TokenSums]:
    """By completion_id: count, sum and minimum over the tokens that the model wrote, without those of the prompt.

    On one thread: the last bit of a sum must not depend on what else is in the batch.
    """
    prompt = pa.scalar(SECTIONS.index("prompt"), pa.uint8())
    columns: dict[str, list[pa.Array]] = {"id": [], "logprob": []}
    for batch in tokens.to_batches():
        generated = pc.not_equal(batch.column("section").indices, prompt)  # bool[tokens]
        all_generated = pc.all(generated, min_count=0).as_py()
        for name, key in (("id", "completion_id"), ("logprob", "logprob")):
            column = batch.column(key)
            columns[name].append(column if all_generated else column.filter(generated))
    if not columns["id"]:
        return {}
    table = pa.table({name: pa.chunked_array(chunks) for name, chunks in columns.items()})
    summed = table.group_by("id", use_threads=False).aggregate(
        [
            ("logprob", "count", pc.CountOptions(mode="all")),
            ("logprob", "sum", pc.ScalarAggregateOptions(min_count=1)),
            ("logprob", "min", pc.ScalarAggregateOptions(min_count=1)),
        ]
    )
    names = ("id", "logprob_count", "logprob_sum", "logprob_min")
    return {row[0]: row[1:] for row in zip(*(summed.column(n).to_pylist() for n in names), strict=True)}


def _row(task: DecodingTask, wire_text: str, sums: TokenSums) -> dict[str, Any]:
    answer, reply, choice = task.answer, task.reply, task.choice
    request = answer.request
    token_count, logprob_sum, logprob_min = sums
    return {
        "completion_id": task.completion_id,
        "prompt_id": request.prompt_id,
        "prompt_index": request.prompt_index,
        "sample_index": request.sample_index,
        "choice_index": choice.index,
        "request_key": request.key,
        "endpoint": request.endpoint,
        "model": request.model,
        "response_model": reply.model,
        "response_id": reply.response_id,
        "system_fingerprint": reply.system_fingerprint,
        "service_tier": reply.service_tier,
        "created": reply.created,
        "finish_reason": choice.finish_reason,
        "text": choice.text,
        "refusal": choice.refusal,
        "tool_calls": choice.tool_calls,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "cost_usd": _cost_usd(task),
        "token_count": token_count,
        "logprob_sum": logprob_sum,
        "logprob_min": logprob_min,
        "source": answer.source,
        "attempts": answer.attempts,
        "maybe_billed": answer.maybe_billed,
        "latency_s": answer.latency_s,
        "wire": wire_text,
    }


def _cost_usd(task: DecodingTask) -> float | None:
    """The answer's cost in US dollars for its first choice, 0 for the others: the column's sum is what was paid."""
    cost_usd = task.answer.cost_usd
    return cost_usd if cost_usd is None or task.choice is task.reply.choices[0] else 0.0
