"""From Parquet to prompts: which files, what their columns mean, and what each row asks.

`files` finds, `unifying` and `columns` check columns, `ids` checks ids, `counting` counts continuations, `scanning`
reads rows, `values` and `rows` turn them into what is asked, `reading` hands out batches. Left out: the body that is
sent (`request`).
"""

from __future__ import annotations

from logprob_store.prompts.columns import Columns, kept_schema
from logprob_store.prompts.counting import candidate_counts
from logprob_store.prompts.files import InputFile, find_inputs
from logprob_store.prompts.ids import check_ids
from logprob_store.prompts.reading import PromptBatch, read_prompts
from logprob_store.prompts.rows import Prompt, rendered

__all__ = [
    "Columns",
    "InputFile",
    "Prompt",
    "PromptBatch",
    "candidate_counts",
    "check_ids",
    "find_inputs",
    "kept_schema",
    "read_prompts",
    "rendered",
]
