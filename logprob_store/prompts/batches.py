"""The prompts of a job, a batch at a time, each batch with the columns to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from logprob_store.errors import PromptError, PromptsError
from logprob_store.prompts.columns import checked_schema, columns_sent_as_json, stored_schema
from logprob_store.prompts.ids import id_texts, null_rows, refuse_nulls
from logprob_store.prompts.prompt import (
    Prompt,
    candidates_of,
    check_usable,
    message_builder,
    params_of,
    questions_of,
)
from logprob_store.prompts.scanning import scan_rows
from logprob_store.prompts.values import column_values
from logprob_store.stored_types import stored_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from logprob_store.prompts.columns import Columns
    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.prompt import MessageBuilder
    from logprob_store.prompts.scanning import RowBatch


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Consecutive prompts of one file, and the kept columns of the same rows with their types in the store."""

    prompts: list[Prompt]
    kept: pa.Table


def read_prompts(
    inputs: Sequence[InputFile],
    columns: Columns,
    *,
    endpoint: str,
    skip: int = 0,
    limit: int | None = None,
    batch_rows: int = 500,
) -> Iterator[PromptBatch]:
    """The prompts with `skip <= index < limit`, at most `batch_rows` at a time.

    Args:
        inputs: the files, as `find_inputs` returns them.
        columns: what the columns mean.
        endpoint: chat, responses, completions or decisions.
        skip: rows to pass over; files and row groups that end before it are not read.
        limit: the index to stop before, counted from row 0 whatever `skip` is.
        batch_rows: the most rows in a batch, which bounds the memory; a batch never spans two files.

    Raises:
        PromptsError: as `kept_schema`, or the columns do not suit the endpoint; while reading, a file is damaged, an
            id is null, or a kept text is not UTF-8.

    >>> import tempfile, pyarrow.parquet as pq
    >>> from pathlib import Path
    >>> from logprob_store.prompts.columns import Columns
    >>> from logprob_store.prompts.input_files import find_inputs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pq.write_table(pa.table({"country": ["France", None]}), Path(folder) / "a.parquet")
    ...     columns = Columns(template="Capital of {country}?")
    ...     inputs = find_inputs("*.parquet", base=Path(folder))
    ...     (batch,) = read_prompts(inputs, columns, endpoint="chat")
    >>> [(prompt.id, prompt.messages) for prompt in batch.prompts]
    [('0', [{'role': 'user', 'content': 'Capital of France?'}]), ('1', None)]
    >>> batch.prompts[1].problem.error_type
    'null_prompt'
    """
    build_messages = message_builder(columns, endpoint)
    schema = checked_schema(inputs, columns.roles())
    kept = stored_schema(schema, columns, inputs)
    # A generator expression and no `yield`, so that the checks above run now and not when the first batch is taken.
    return (
        _prompt_batch(rows, columns, kept, build_messages)
        for rows in scan_rows(inputs, schema, skip=skip, limit=limit, batch_rows=batch_rows)
    )


def _prompt_batch(rows: RowBatch, columns: Columns, kept: pa.Schema, build_messages: MessageBuilder) -> PromptBatch:
    ids = id_texts(rows, columns.id)
    if columns.id is not None:
        refuse_nulls(null_rows(ids, rows), columns.id)
    names = dict.fromkeys(name for role, name in columns.roles() if role not in {"id", "keep"})
    sent_as_json = columns_sent_as_json(columns)
    values = [column_values(rows.record_batch.column(name), as_json=name in sent_as_json) for name in names]
    prompts = []
    for number, (id_, *row_values) in enumerate(zip(ids.to_list(), *values, strict=True)):
        row = dict(zip(names, row_values, strict=True))
        try:
            check_usable(row)
            messages = build_messages(row)
            params = params_of(row, columns.params)
            candidates = candidates_of(row, columns.continuations)
            questions = questions_of(row, columns)
            prompt = Prompt(rows.first_index + number, id_, messages, params, None, candidates, questions)
        except PromptError as error:
            location = f"{rows.file.name}, row {rows.first_row + number}"
            problem = PromptError(f"{location}: {error}", error_type=error.error_type)
            prompt = Prompt(rows.first_index + number, id_, None, {}, problem)
        prompts.append(prompt)
    return PromptBatch(prompts, _kept_columns(rows, kept))


def _kept_columns(rows: RowBatch, schema: pa.Schema) -> pa.Table:
    stored = dict(zip(rows.record_batch.schema.names, rows.record_batch.columns, strict=True))
    columns = []
    for field in schema:
        column = stored[field.name]
        try:
            column.validate(full=True)
            columns.append(stored_column(column, field))
        except pa.ArrowInvalid as error:
            raise PromptsError(
                f"{rows.location}: column {field.name!r} cannot be kept: {error}. Correct the value (text has to "
                "be UTF-8), or do not keep the column."
            ) from error
    if not columns:
        return pa.Table.from_batches([rows.record_batch.select([])])
    return pa.Table.from_arrays(columns, schema=schema)
