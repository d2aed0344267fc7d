"""A run of the job `tried`: opening it, rows to commit, and what a reader of its store sees."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import fault_answers
import pyarrow as pa
from builders import answer_to, completions_request, decoded_tables, open_writer

from logprob_store.analysis.opened_store import open_store
from logprob_store.decode.decoder import decode_answers
from logprob_store.schema import FAILURES, PROMPTS, TABLES, arrow_schema
from logprob_store.store.manifest import Input

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.store.commit import RunWriter

JOB = {"model.name": "m", "model.params.temperature": 0}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
INPUTS = [Input("prompts.parquet", 10, 1000, "abc")]


def open_tried(store: Path, run: str = "r", **changes: Any) -> RunWriter:
    """Open a run of the job `tried` for writing."""
    return open_writer(store, run, **{"job_name": "tried", "job": JOB, "inputs": INPUTS, **changes})


def answered(*numbers: int) -> dict[str, pa.Table]:
    """The rows of a part with an answer for each prompt."""
    requests = [
        completions_request(str(number), prompt_index=number, logprobs=2, n=2, max_tokens=3) for number in numbers
    ]
    decoded = decode_answers([answer_to(one, fault_answers.answer_to("/v1/completions", one.body)) for one in requests])
    prompts = [{"prompt_id": str(number), "prompt_index": number, "messages": "[]"} for number in numbers]
    return {"prompts": pa.Table.from_pylist(prompts, schema=arrow_schema(PROMPTS)), **decoded_tables(decoded)}


def failed(*numbers: int, error_type: str = "timeout") -> pa.Table:
    """The rows of a failure for each prompt."""
    rows = [
        {
            "prompt_id": str(number), "prompt_index": number, "sample_index": 0, "request_key": "k",
            "error_type": error_type, "status": None, "message": "", "attempts": 1, "first_at": NOW, "last_at": NOW,
            "maybe_billed": False,
        }
        for number in numbers
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=arrow_schema(FAILURES))


def shown(store: Path) -> dict[str, list[Any]]:
    """What a reader of the store sees: the prompt indices or completion ids in each table."""
    opened = open_store(store)
    seen = {
        table: opened._scan(table, TABLES[table]).collect()[column].unique().sort().to_list()
        for table, column in (
            ("prompts", "prompt_index"),
            ("completions", "prompt_index"),
            ("tokens", "completion_id"),
            ("alternatives", "completion_id"),
        )
    }
    return seen | {"failures": opened.failures.collect()["prompt_index"].sort().to_list()}


def part_files(store: Path) -> set[str]:
    """The Parquet files on the disk."""
    return {str(path.relative_to(store)) for table in TABLES for path in store.glob(f"{table}/**/*") if path.is_file()}


def listed_files(store: Path) -> set[str]:
    """The Parquet files that the manifests list."""
    opened = open_store(store)
    return {str(path.relative_to(store)) for table in TABLES for path in opened.files(table)}
