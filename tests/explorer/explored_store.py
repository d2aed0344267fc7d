"""Stores for the tests of the explorer, with values that are told at a glance."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from builders import full_table, open_writer

from logprob_store.schema import ALTERNATIVES, COMPLETIONS, FAILURES, PROMPTS, TOKENS, completion_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from logprob_store.store.commit import RunWriter


def answers_table(answers: Mapping[int, Any], **columns: Any) -> dict[str, pa.Table]:
    """The tables of a part with these answers, by the index of their prompt.

    Args:
        answers: for each prompt the tokens with their probabilities; the second likeliest is `~` with half the rest.
        columns: further columns of completions.
    """
    rows = {"completions": [], "tokens": [], "alternatives": [], "prompts": []}  # type: dict[str, list[dict[str, Any]]]
    for index, words in answers.items():
        own = completion_id(index)
        rows["completions"].append(
            {
                "completion_id": own,
                "prompt_id": f"p{index}",
                "prompt_index": index,
                "sample_index": 0,
                "choice_index": 0,
                "model": "m",
                "response_model": "m-1",
                "finish_reason": "stop",
                "text": "".join(token for token, _ in words),
                "token_count": len(words),
                "cost_usd": 0.25,
                "source": "api",
                **{name: values[index] for name, values in columns.items()},
            }
        )
        message = json.dumps([{"role": "user", "content": f"Question {index}"}])
        rows["prompts"].append({"prompt_id": f"p{index}", "prompt_index": index, "messages": message})
        for position, (token, share) in enumerate(words):
            place = {"completion_id": own, "section": "content", "position": position}
            rows["tokens"].append({**place, "token": token, "bytes": token.encode(), "logprob": math.log(share)})
            for rank, (other, p) in enumerate([(token, share), ("~", (1 - share) / 2)], start=1):
                logprob = math.log(p) if p else -math.inf
                raw = other.encode()
                rows["alternatives"].append({**place, "rank": rank, "token": other, "bytes": raw, "logprob": logprob})
    schemas = {"completions": COMPLETIONS, "tokens": TOKENS, "alternatives": ALTERNATIVES, "prompts": PROMPTS}
    return {
        table: full_table(schemas[table], {name: [row[name] for row in listed] for name in listed[0]})
        for table, listed in rows.items()
        if listed
    }


def failures_table(failures: Mapping[int, tuple[str, str]]) -> dict[str, pa.Table]:
    """The tables of a part with these failures: by the index of their prompt, the class and the message."""
    indices = list(failures)
    columns: dict[str, Any] = {
        "prompt_id": [f"p{index}" for index in indices],
        "prompt_index": indices,
        "sample_index": [0] * len(indices),
        "error_type": [failures[index][0] for index in indices],
        "message": [failures[index][1] for index in indices],
        "attempts": [1] * len(indices),
        "maybe_billed": [False] * len(indices),
    }
    return {"failures": full_table(FAILURES, columns)}


def with_kept(tables: dict[str, pa.Table], **columns: list[Any]) -> dict[str, pa.Table]:
    """The tables with columns kept of the prompts, one value for each row of prompts."""
    prompts = tables["prompts"]
    for name, values in columns.items():
        prompts = prompts.append_column(name, [values])
    return {**tables, "prompts": prompts}


def add_part(writer: RunWriter, tables: dict[str, pa.Table], *indices: int) -> None:
    """Commit a part that settles the calls of these prompts."""
    read = max(indices) + 1 if "prompts" in tables else 0
    writer.commit(tables, settled=list(indices), prompts_read=read)


FIRST = {0: [("Yes", 0.9), (".", 0.8)], 1: [("No", 0.5)], 2: [("It ", 0.2), ("Rains", 0.6)]}
SECOND = {0: [("Yes", 0.7), ("!", 0.4)], 1: [("No", 0.5)], 2: [("It ", 0.2), ("snows", 0.3)]}


def make_store(store: Path) -> Path:
    """A store with the runs `one`, which has three answers and a failure, and `two`, which answers the same prompts."""
    with open_writer(store, "one") as writer:
        add_part(writer, answers_table({index: FIRST[index] for index in (0, 1)}), 0, 1)
        add_part(writer, answers_table({2: FIRST[2]}), 2)
        add_part(writer, failures_table({3: ("timeout", "No answer in 60 s")}), 3)
        writer.finish("finished")
    with open_writer(store, "two") as writer:
        add_part(writer, answers_table(SECOND), 0, 1, 2)
        writer.finish("finished")
    return store


def make_kept_store(store: Path) -> Path:
    """A store whose run keeps a shop and its stars: of three answers, and of the failure of prompt 2."""
    kept: dict[str, list[Any]] = {"shop": ["north", "south", "south", "West"], "stars": [10, 0, 2, 100]}
    answers = answers_table({index: [("Yes", 0.5)] for index in range(4)})
    with open_writer(store, "kept", job={"model.name": "m", "prompts.keep": [*kept]}) as writer:
        tables = with_kept(answers, **kept)
        failed = failures_table({2: ("timeout", "No answer in 60 s")})
        for name in ("completions", "tokens", "alternatives"):
            table = tables[name]
            tables[name] = table.filter(pc.not_equal(table["completion_id"], completion_id(2)))
        add_part(writer, tables | failed, 0, 1, 2, 3)
        writer.finish("finished")
    return store
