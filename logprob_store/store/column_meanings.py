"""What each table and column of a store means, written once: `store.describe()`, `help(store)` and docs/store.md.

The types are those of `schema`; a column that a job keeps of its prompts has the type of the input.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import polars as pl

from logprob_store.schema import IMPORTS, TABLES
from logprob_store.store.tables import RUNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Meaning(NamedTuple):
    """What a column holds, and its unit; a text, an id or a share has none."""

    text: str
    unit: str = ""


class TableMeaning(NamedTuple):
    """What a row of a table is, and what its columns mean."""

    row: str
    columns: dict[str, Meaning]


Row: TypeAlias = tuple[str, str, str, str]
"""Name, type, unit and meaning of a column."""

_WIDTH: Final = 80
"""Columns of a terminal, of a text that `help` and `print` show."""

RUN: Final = Meaning("the run's name; the partition in the folders")
KEPT: Final = Meaning("kept of the prompts, as the job's `prompts.keep` says")

_CALL: Final = {
    "prompt_id": Meaning("the id column's value as text, or the row index"),
    "prompt_index": Meaning("the row's index over all input files in order"),
    "sample_index": Meaning("which of the job's `samples`"),
}
_TOKEN: Final = {
    "completion_id": Meaning("the completion that it belongs to"),
    "section": Meaning("`prompt`, `content`, `refusal`, `reasoning` or `tool`"),
    "position": Meaning("from 0 in each section"),
    "token": Meaning(
        "the token's text as given; wrong for tokens that split a character, so use `bytes`; null where the server "
        "names the token by its id alone (SGLang without `return_text_in_logprobs`, mlx-lm), or not at all"
    ),
    "bytes": Meaning("the wire's bytes; null when it gave none"),
    "token_id": Meaning("null when the wire gave none"),
    "logprob": Meaning(
        "natural logarithm of the probability; where the server sends probabilities (llama.cpp's "
        "`post_sampling_probs`), their logarithm; null when the wire's value is no log-probability",
        "nats",
    ),
    "logprob_flag": Meaning("why it is null: `sentinel` (-9999.0 and below), `neg_inf`, `positive`, `missing`"),
    "logprob_wire": Meaning("the wire's value where it was flagged `sentinel` or `positive`", "nats"),
}
_RANK: Final = Meaning("1 is the first as delivered, which is not always the likeliest or the chosen token")

MEANINGS: Final[Mapping[str, TableMeaning]] = {
    "prompts": TableMeaning(
        "one row per prompt that a run has read",
        {
            "prompt_id": _CALL["prompt_id"],
            "prompt_index": _CALL["prompt_index"],
            "messages": Meaning(
                "what was asked as JSON: a list of messages, a text, "
                '`{"context": ..., "continuations": [...]}` where candidates were scored, or '
                '`{"input": ..., "questions": [...]}`'
            ),
        },
    ),
    "completions": TableMeaning(
        "one row per choice of an answer",
        {
            "completion_id": Meaning("unique in a run: `prompt_index * 10**8 + sample_index * 10**3 + choice_index`"),
            **_CALL,
            "choice_index": Meaning(
                "which of the response's `n` choices; by its place where the server gives no usable index, or one twice"
            ),
            "request_key": Meaning("sha256 of everything that shapes the answer"),
            "endpoint": Meaning(
                "`chat`, `completions`, `responses` or `decisions`; of an import, also the name of a server's own API"
            ),
            "model": Meaning("the model that was asked for"),
            "response_model": Meaning("the model that answered, as the server says"),
            "response_id": Meaning("the server's id of the answer"),
            "system_fingerprint": Meaning("the server's name for its configuration"),
            "service_tier": Meaning(
                "the tier that served the call, as the server says; null where it says none, and in rows of 0.1.0"
            ),
            "created": Meaning("when, by the server's clock"),
            "finish_reason": Meaning("`stop`, `length`, ..."),
            "text": Meaning("the answer as the server gave it; a stop string of the tokens may be cut off"),
            "refusal": Meaning("the refusal, if the model refused"),
            "tool_calls": Meaning("JSON, a list of calls; the call of a `function_call` too"),
            "prompt_tokens": Meaning("usage as reported, by response: with `n` > 1 it is on each choice", "tokens"),
            "completion_tokens": Meaning("usage as reported, as `prompt_tokens`", "tokens"),
            "cost_usd": Meaning(
                "what this run paid for the answer, by its usage, the tier that served it and the prices. It stands on "
                "the answer's first choice, and on one of several equal prompts, so that the sum is the cost of all "
                "answers. 0 for answers from cache or fixtures; null without prices or usage. Lost calls and useless "
                "answers cost money, too: see `spent_usd` in `store.runs`",
                "US dollars",
            ),
            "token_count": Meaning("token rows that are not of the prompt", "tokens"),
            "logprob_sum": Meaning("the sum over those with a logprob", "nats"),
            "logprob_min": Meaning("the least of those with a logprob", "nats"),
            "source": Meaning("`api`, `cache` (an earlier run paid), `batch`, `fixture`, `import`"),
            "attempts": Meaning("number of calls it took", "calls"),
            "maybe_billed": Meaning(
                "an earlier call for this answer was sent and its answer was lost, in this session or by a crash: that "
                "call may have been paid for as well"
            ),
            "latency_s": Meaning("how long the call took that succeeded", "seconds"),
            "wire": Meaning("the rest of what is needed to rebuild the `logprobs` part of the response exactly"),
        },
    ),
    "tokens": TableMeaning("one row per token", _TOKEN),
    "alternatives": TableMeaning(
        "one row per token and rank: the tokens that were considered at a position",
        {
            name: meaning
            for column, of_token in _TOKEN.items()
            for name, meaning in ([("rank", _RANK)] if column == "token" else []) + [(column, of_token)]
        },
    ),
    "decisions": TableMeaning(
        'one row per option of each typed question (`endpoint = "decisions"`)',
        {
            "completion_id": _TOKEN["completion_id"],
            "question_index": Meaning(
                "the question's place in the request, from 0; answers that nobody asked for stand behind"
            ),
            "question": Meaning("its name; null if it has none"),
            "question_type": Meaning("`predicate`, `choice` or `score`"),
            "refused": Meaning("whether the server declined to answer this question, which then has one row"),
            "option_index": Meaning(
                "the option's place in the answer; null for a question that was refused, or has no answer that can be "
                "read"
            ),
            "value": Meaning("the option: a choice's value, a level's number, `true` and `false` of a predicate"),
            "value_type": Meaning("`string`, `boolean` or `number`: the text `true` and the boolean are two options"),
            "label": Meaning("the words of a score's level"),
            "chosen": Meaning("whether the server chose this option; null but for choices"),
            "probability": Meaning(
                "as the server gave it; of a predicate's `false`, 1 minus that of `true`; null where the value is no "
                "probability"
            ),
            "probability_flag": Meaning("why it is null: `missing`, `not_finite` (NaN), `negative`, `above_one`"),
            "confidence": Meaning("the server's own, of the question: it stands on each of its rows"),
            "score": Meaning("the expected score that the server gives, likewise"),
        },
    ),
    "failures": TableMeaning(
        "one row per call without an answer; it is removed when the call later succeeds",
        {
            **_CALL,
            "request_key": Meaning("sha256 of everything that shapes the answer"),
            "error_type": Meaning("the class of the failure"),
            "status": Meaning("the HTTP status, if an answer came"),
            "message": Meaning("what happened, in the server's words where there are any"),
            "attempts": Meaning("calls made", "calls"),
            "first_at": Meaning("when it was first tried"),
            "last_at": Meaning("when it was last tried"),
            "maybe_billed": Meaning(
                "a call was sent and its answer was lost, or it was refused in a way that services bill: it may have "
                "been paid for"
            ),
        },
    ),
    "imports": TableMeaning(
        "one row per imported record; only runs of `logprobs import` have it",
        {
            "prompt_index": Meaning("with `sample_index`: the answer or failure that the record became"),
            "sample_index": Meaning("see `prompt_index`"),
            "file": Meaning("the file's name; for a file in a folder that was given, its path below that folder"),
            "place": Meaning(
                "the line, from 1; `3[0]` is element 0 of a list that begins on line 3; `a.json:3` is in an archive"
            ),
            "answer_digest": Meaning("identifies the record"),
            "prompt_digest": Meaning("identifies the record's prompt"),
            "request_digest": Meaning("identifies the record's request"),
        },
    ),
    "runs": TableMeaning(
        "one row per run: how it stands, its counts, and what it has spent",
        {
            "state": Meaning("`finished`, `stopped`, `interrupted` or `running` when it was last written"),
            "partial": Meaning("whether it was a trial of some of its prompts (`--limit`)"),
            "created_at": Meaning("when it began"),
            "updated_at": Meaning("when it was last written"),
            "job": Meaning("the job's `name`"),
            "model": Meaning("the model that was asked for"),
            "provider": Meaning("the server, as request keys name it"),
            "prompts": Meaning("prompts read", "rows"),
            "completions": Meaning("rows of `completions`", "rows"),
            "tokens": Meaning("rows of `tokens`", "rows"),
            "alternatives": Meaning("rows of `alternatives`", "rows"),
            "decisions": Meaning("rows of `decisions`", "rows"),
            "failures": Meaning("calls without an answer", "rows"),
            "flagged": Meaning("tokens and alternatives whose wire value is no log-probability, see `logprob_flag`"),
            "chosen_missing": Meaning(
                "tokens with alternatives that are not among them: sampling at a temperature, or constrained decoding"
            ),
            "text_differs": Meaning(
                "completions whose tokens spell another text than the server gave: stripped white space, a stop string "
                "cut off"
            ),
            "lossy_bytes": Meaning(
                "tokens whose bytes hold U+FFFD: the server replaced what was not yet a whole character"
            ),
            "without_tokens": Meaning(
                "completions without a token though logprobs were asked for, as they have no text: tool calls alone, a "
                "limit that reasoning used up, a text that a content filter held back"
            ),
            "choices_differ": Meaning("answers with fewer or more choices than `n`, or other numbers than 0 to n - 1"),
            "model_differs": Meaning(
                "completions by another model than was asked for; a date, a number or a tag behind the name is the "
                "same model"
            ),
            "tier_differs": Meaning(
                "answers that another service tier gave than `service_tier` asked for, at another price; where it was "
                "left to the server (`auto`), those of `priority`, which costs more"
            ),
            "refused_questions": Meaning("typed questions that the server refused"),
            "unanswered_questions": Meaning("typed questions without an answer that can be read"),
            "sums_differ": Meaning(
                "typed questions with an option without a probability, or whose probabilities do not sum to 1 by more "
                "than 0.02"
            ),
            "from_api": Meaning("answers from the server", "answers"),
            "from_batches": Meaning("answers that a batch at a service brought", "answers"),
            "from_cache": Meaning("answers that an earlier run paid for", "answers"),
            "from_fixtures": Meaning("answers from recordings", "answers"),
            "calls": Meaning("calls made, also those that failed", "calls"),
            "prompt_tokens": Meaning("usage as reported", "tokens"),
            "completion_tokens": Meaning("usage as reported", "tokens"),
            "spent_requests": Meaning("calls over all sessions, lost ones too", "calls"),
            "spent_tokens": Meaning("of prompts and answers, lost answers at their worst case", "tokens"),
            "spent_usd": Meaning("at the job's latest prices; null without prices", "US dollars"),
            "spent_usd_by_tier": Meaning(
                "the same by service tier, where several served the run: a list of `service_tier` and `usd`; of "
                "`lost` answers nobody knows the tier",
                "US dollars",
            ),
        },
    ),
}
"""Of each table but for its first column, `run`, in the order of the columns."""


def type_name(kind: pl.DataType) -> str:
    """A type as people write it.

    >>> type_name(pl.Datetime("us", "UTC")), type_name(pl.Enum(["a"])), type_name(pl.Int64())
    ('Datetime(UTC)', 'Enum', 'Int64')
    """
    if isinstance(kind, pl.Datetime):
        return f"Datetime({kind.time_zone})" if kind.time_zone else "Datetime"
    return "Enum" if isinstance(kind, pl.Enum) else str(kind)


def described_columns(table: str, schema: Mapping[str, pl.DataType]) -> list[Row]:
    """Name, type, unit and meaning of the columns of a table."""
    known = {"run": RUN, **MEANINGS[table].columns}
    meanings = {name: known.get(name, KEPT) for name in schema}
    return [(name, type_name(schema[name]), meaning.unit, meaning.text) for name, meaning in meanings.items()]


def meanings_as_text() -> str:
    """Every table and column with its type, unit and meaning, for `help(store)`."""
    return described({table: described_columns(table, schema) for table, schema in schemas().items()})


def described(tables: Mapping[str, Sequence[Row]], *, width: int = _WIDTH) -> str:
    """Tables and the rows of `described_columns`, as text of so many columns of a terminal.

    >>> rows = [("job", "String", "", "the job's `name`"), ("calls", "Int64", "calls", "calls made")]
    >>> print(described({"runs": rows}))
    runs: one row per run: how it stands, its counts, and what it has spent
      job (String): the job's `name`
      calls (Int64, calls): calls made
    """
    blocks = []
    for table, rows in tables.items():
        lines = [_wrapped(f"{table}: {MEANINGS[table].row}", "  ", width)]
        for name, kind, unit, meaning in rows:
            of_column = f"  {name} ({', '.join(filter(None, [kind, unit]))}): {meaning}"
            lines.append(_wrapped(of_column, "      ", width))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _wrapped(text: str, indent: str, width: int) -> str:
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def schemas() -> dict[str, pl.Schema]:
    """The columns of every table as `logprob_store.schema` has them, in the order of `MEANINGS`."""
    return {**TABLES, "imports": IMPORTS, "runs": RUNS}


def columns_as_markdown(table: str) -> str:
    """The columns of a table, for docs/store.md."""
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(cells)} |" for cells in described_columns(table, schemas()[table])]
    return "\n".join(lines) + "\n"
