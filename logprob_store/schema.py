"""The tables of a store: column names, types, enum values, ids and the schema version.

The partition column `run` is not part of a table's file; `logprob_store.store.tables` adds it. From the columns
`logprob_wire` and `wire` a response's logprobs can be rebuilt exactly; see docs/decisions/0003-lossless-columns.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION: Final = 2
"""Written into every manifest and every Parquet file's metadata; reading another version is an error.

A column that is only added needs no other version: it is null in the rows that have it not."""

SCHEMA_VERSION_METADATA: Final = b"logprob_store.schema_version"

KEYS: Final = ("run", "completion_id")
"""The columns that identify a completion in a store."""

SAMPLES_PER_PROMPT: Final = 100_000
CHOICES_PER_SAMPLE: Final = 1_000

Section: Final = pl.Enum(["prompt", "content", "refusal", "reasoning", "tool"])
LogprobFlag: Final = pl.Enum(["sentinel", "neg_inf", "positive", "missing"])
Source: Final = pl.Enum(["api", "cache", "batch", "fixture", "import"])
QuestionType: Final = pl.Enum(["predicate", "choice", "score"])
ValueType: Final = pl.Enum(["string", "boolean", "number"])
ProbabilityFlag: Final = pl.Enum(["missing", "not_finite", "negative", "above_one"])

SENTINEL_AT_MOST: Final = -9999.0
"""Servers write -9999.0, -1e30 or -3.4e38 for "not computed"; no real log-probability is that low."""

COMPLETIONS: Final = pl.Schema(
    {
        "completion_id": pl.Int64(),
        "prompt_id": pl.String(),
        "prompt_index": pl.Int64(),
        "sample_index": pl.Int32(),
        "choice_index": pl.Int32(),
        "request_key": pl.String(),
        "endpoint": pl.String(),
        "model": pl.String(),
        "response_model": pl.String(),
        "response_id": pl.String(),
        "system_fingerprint": pl.String(),
        "service_tier": pl.String(),
        "created": pl.Datetime("us", "UTC"),
        "finish_reason": pl.String(),
        "text": pl.String(),
        "refusal": pl.String(),
        "tool_calls": pl.String(),
        "prompt_tokens": pl.Int64(),
        "completion_tokens": pl.Int64(),
        "cost_usd": pl.Float64(),
        "token_count": pl.Int32(),
        "logprob_sum": pl.Float64(),
        "logprob_min": pl.Float64(),
        "source": Source,
        "attempts": pl.Int32(),
        "maybe_billed": pl.Boolean(),
        "latency_s": pl.Float64(),
        "wire": pl.String(),
    }
)

TOKENS: Final = pl.Schema(
    {
        "completion_id": pl.Int64(),
        "section": Section,
        "position": pl.Int32(),
        "token": pl.String(),
        "bytes": pl.Binary(),
        "token_id": pl.Int32(),
        "logprob": pl.Float64(),
        "logprob_flag": LogprobFlag,
        "logprob_wire": pl.Float64(),
    }
)

ALTERNATIVES: Final = pl.Schema(
    {
        "completion_id": pl.Int64(),
        "section": Section,
        "position": pl.Int32(),
        "rank": pl.Int16(),
        "token": pl.String(),
        "bytes": pl.Binary(),
        "token_id": pl.Int32(),
        "logprob": pl.Float64(),
        "logprob_flag": LogprobFlag,
        "logprob_wire": pl.Float64(),
    }
)

DECISIONS: Final = pl.Schema(
    {
        "completion_id": pl.Int64(),
        "question_index": pl.Int32(),
        "question": pl.String(),
        "question_type": QuestionType,
        "refused": pl.Boolean(),
        "option_index": pl.Int32(),
        "value": pl.String(),
        "value_type": ValueType,
        "label": pl.String(),
        "chosen": pl.Boolean(),
        "probability": pl.Float64(),
        "probability_flag": ProbabilityFlag,
        "confidence": pl.Float64(),
        "score": pl.Float64(),
    }
)

FAILURES: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "prompt_index": pl.Int64(),
        "sample_index": pl.Int32(),
        "request_key": pl.String(),
        "error_type": pl.String(),
        "status": pl.Int32(),
        "message": pl.String(),
        "attempts": pl.Int32(),
        "first_at": pl.Datetime("us", "UTC"),
        "last_at": pl.Datetime("us", "UTC"),
        "maybe_billed": pl.Boolean(),
    }
)

PROMPTS: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "prompt_index": pl.Int64(),
        "messages": pl.String(),
    }
)
"""A prompts table also has the kept columns, after these and with the types of the input."""

IMPORTS: Final = pl.Schema(
    {
        "prompt_index": pl.Int64(),
        "sample_index": pl.Int32(),
        "file": pl.String(),
        "place": pl.String(),
        "answer_digest": pl.Binary(),
        "prompt_digest": pl.Binary(),
        "request_digest": pl.Binary(),
    }
)
"""Where each imported row came from, and the digests by which a second import recognises it.

Only runs of imports have this table, so it is not in TABLES; see docs/decisions/0007-import-identity.md.
"""

TABLES: Final = {
    "prompts": PROMPTS,
    "completions": COMPLETIONS,
    "tokens": TOKENS,
    "alternatives": ALTERNATIVES,
    "decisions": DECISIONS,
    "failures": FAILURES,
}


def arrow_schema(schema: pl.Schema) -> pa.Schema:
    """The Arrow schema that polars reads back as `schema`, enums included.

    >>> arrow_schema(TOKENS).field("section").type
    DictionaryType(dictionary<values=large_string, indices=uint8, ordered=1>)
    """
    return pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema


def call_number(prompt_index: int, sample_index: int, samples: int) -> int:
    """The number of a call within its run, where each prompt has room for `samples` calls.

    `prompt_index * samples + sample_index`: manifests list the settled calls by it.

    >>> call_number(12, 3, samples=5), call_of_number(63, samples=5)
    (63, (12, 3))
    """
    return prompt_index * samples + sample_index


def call_numbers(rows: pl.DataFrame, samples: int) -> list[int]:
    """`call_number` of each row, from its columns prompt_index and sample_index."""
    return (rows["prompt_index"] * samples + rows["sample_index"].cast(pl.Int64)).to_list()


def call_of_number(number: int, samples: int) -> tuple[int, int]:
    """The prompt_index and the sample_index of a call: the inverse of `call_number`."""
    return divmod(number, samples)


def completion_id(prompt_index: int, sample_index: int = 0, choice_index: int = 0) -> int:
    """The id of a completion, in decimal digits that people can read and that sort by prompt.

    `prompt_index * 10**8 + sample_index * 10**3 + choice_index`. It does not depend on the order of answers, on how
    often a run was interrupted, or on how many choices a server sent.

    Raises:
        ValueError: sample_index or choice_index has too many digits.

    >>> completion_id(12, 3, 1)
    1200003001
    """
    if not (0 <= sample_index < SAMPLES_PER_PROMPT and 0 <= choice_index < CHOICES_PER_SAMPLE):
        raise ValueError(
            f"sample_index {sample_index} is not in 0..{SAMPLES_PER_PROMPT - 1}, "
            f"or choice_index {choice_index} not in 0..{CHOICES_PER_SAMPLE - 1}"
        )
    return (prompt_index * SAMPLES_PER_PROMPT + sample_index) * CHOICES_PER_SAMPLE + choice_index
