"""How many calls each row asks for, when that is not the same for all.

Holds `candidate_counts`. Leaves out what the candidates are (`rows`): only lists are measured here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.errors import PromptsError
from logprob_store.prompts.arrow_types import is_list
from logprob_store.prompts.columns import checked_schema
from logprob_store.prompts.scanning import scan
from logprob_store.schema import SAMPLES_PER_PROMPT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.prompts.columns import Columns
    from logprob_store.prompts.input_files import InputFile

_BATCH_ROWS: Final = 8192


def candidate_counts(inputs: Sequence[InputFile], columns: Columns) -> pl.Series | None:
    """For each row of all files the number of its continuations; None where each row has one call for sure.

    A row without any counts as one: it is the one failure that says so. Keeps 4 bytes a row.

    Raises:
        PromptsError: the column cannot be read, or a row has more continuations than a completion_id can number.
    """
    if columns.continuations is None or not inputs:
        return None
    schema = checked_schema(inputs, [("continuations", columns.continuations)])
    if not is_list(schema.field(0).type):
        return None
    counts = [pl.Series(dtype=pl.Int32)]
    for rows in scan(inputs, schema, batch_rows=_BATCH_ROWS):
        found = pc.fill_null(pc.list_value_length(rows.batch.column(0)), 0).cast(pa.int32())
        counts.append(pl.Series(values=found).clip(1))
        if (row := counts[-1].arg_max()) is not None and counts[-1][row] > SAMPLES_PER_PROMPT:
            raise PromptsError(
                f"{rows.file.path}, row {rows.row + row}: column {columns.continuations!r} holds {counts[-1][row]} "
                f"texts; at most {SAMPLES_PER_PROMPT} can be told apart. Write them into several rows"
            )
    return pl.concat(counts)
