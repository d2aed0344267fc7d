"""The prompts of a job, a batch at a time.

Holds `read_prompts` and `PromptBatch`. Leaves out finding files (`files`), scanning them (`scanning`), and what a row
asks (`rows`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from logprob_store.errors import PromptError, PromptsError
from logprob_store.prompts.columns import checked_schema
from logprob_store.prompts.ids import id_texts, null_rows, refuse_nulls
from logprob_store.prompts.prompt import Prompt, asked, asker, candidates_of
from logprob_store.prompts.scanning import scan
from logprob_store.prompts.values import column_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from logprob_store.prompts.columns import Columns
    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.prompt import Ask
    from logprob_store.prompts.scanning import Rows


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Consecutive prompts of one file, and the kept columns of the same rows, in the input's types."""

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
        inputs: what `find_inputs` found.
        columns: what the columns mean.
        endpoint: chat, responses or completions.
        skip: rows to pass over; whole files and row groups of them are not read.
        limit: the index to stop before, counted from row 0 whatever `skip` is.
        batch_rows: what bounds the memory; a batch never spans two files.

    Raises:
        PromptsError: as `kept_schema`; or the columns do not suit the endpoint; or, while reading, a file is
            damaged, an id is null, or a kept text is not UTF-8.

    >>> import tempfile, pyarrow.parquet as pq
    >>> from pathlib import Path
    >>> from logprob_store.prompts.columns import Columns
    >>> from logprob_store.prompts.input_files import find_inputs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pq.write_table(pa.table({"country": ["France", None]}), Path(folder) / "a.parquet")
    ...     about = Columns(template="Capital of {country}?")
    ...     found = find_inputs("*.parquet", base=Path(folder))
    ...     (batch,) = read_prompts(found, about, endpoint="chat")
    >>> [(prompt.id, prompt.messages) for prompt in batch.prompts]
    [('0', [{'role': 'user', 'content': 'Capital of France?'}]), ('1', None)]
    >>> batch.prompts[1].problem.error_type
    'null_prompt'
    """
    ask = asker(columns, endpoint)
    schema = checked_schema(inputs, columns.used())
    # Not `yield`, so that the checks above run now and not at the first row.
    return (_batch(rows, columns, ask) for rows in scan(inputs, schema, skip=skip, limit=limit, batch_rows=batch_rows))


def _batch(rows: Rows, columns: Columns, ask: Ask) -> PromptBatch:
    kept = _kept(rows, columns.keep)
    ids = id_texts(rows, columns.id)
    if columns.id is not None:
        refuse_nulls(null_rows(ids, rows), columns.id)
    used = dict.fromkeys(name for role, name in columns.used() if role not in {"id", "keep"})
    values = [column_values(rows.batch.column(name)) for name in used]
    prompts = []
    for number, (id_, *row) in enumerate(zip(ids.to_list(), *values, strict=True)):
        try:
            named = dict(zip(used, row, strict=True))
            messages, params = asked(named, columns.params, ask)
            candidates = candidates_of(named, columns.continuations)
            prompt = Prompt(rows.index + number, id_, messages, params, None, candidates)
        except PromptError as error:
            where = f"{rows.file.name}, row {rows.row + number}"
            problem = PromptError(f"{where}: {error}", error_type=error.error_type)
            prompt = Prompt(rows.index + number, id_, None, {}, problem)
        prompts.append(prompt)
    return PromptBatch(prompts, kept)


def _kept(rows: Rows, names: tuple[str, ...]) -> pa.Table:
    for name in names:
        try:
            rows.batch.column(name).validate(full=True)
        except pa.ArrowInvalid as error:
            raise PromptsError(
                f"{rows.where}: column {name!r} cannot be kept: {error}. Write its text as UTF-8, or do not keep it."
            ) from error
    return pa.Table.from_batches([rows.batch.select(list(names))])
