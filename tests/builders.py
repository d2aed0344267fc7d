"""Requests, answers, bodies, prompts files, job files and stores that tests build."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

import logprob_store as ls
from logprob_store.job import override
from logprob_store.request import Answer, Request, make_request
from logprob_store.run.plan import plan_job
from logprob_store.schema import arrow_schema
from logprob_store.store.opening import open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from logprob_store.decode.decoder import Decoded
    from logprob_store.store.commit import RunWriter

REPO = Path(__file__).parents[1]

RECORDINGS = REPO.parent / "shared" / "recordings"
"""Raw recorded responses, which lie beside the repository on some machines; tests over them are skipped elsewhere."""


# requests


def completions_request(
    text: str = "Hi", *, prompt_index: int = 0, prompt_id: str | None = None, sample_index: int = 0, **params: Any
) -> Request:
    """A request to the completions endpoint, with these parameters in its body."""
    return make_request(
        {"model": "m", "prompt": text, **params},
        endpoint="completions",
        provider="p",
        prompt_index=prompt_index,
        prompt_id=str(prompt_index) if prompt_id is None else prompt_id,
        sample_index=sample_index,
    )


def chat_request(
    text: Any = "Hi", *, prompt_index: int = 0, prompt_id: str | None = None, sample_index: int = 0, **params: Any
) -> Request:
    """A request to the chat endpoint with one user message, with these parameters in its body."""
    return make_request(
        {"model": "m", "messages": [{"role": "user", "content": text}], **params},
        endpoint="chat",
        provider="p",
        prompt_index=prompt_index,
        prompt_id=str(prompt_index) if prompt_id is None else prompt_id,
        sample_index=sample_index,
    )


def decisions_request(*questions: dict[str, Any], text: str = "Hi", prompt_index: int = 0) -> Request:
    """A request with these typed questions about a text."""
    return make_request(
        {"model": "m", "input": text, "questions": list(questions)},
        endpoint="decisions",
        provider="p",
        prompt_index=prompt_index,
        prompt_id=str(prompt_index),
    )


def predicate(name: str | None = "late", instructions: str = "It is late.") -> dict[str, Any]:
    """A question whether a statement is true."""
    return {"type": "predicate", "instructions": instructions, **({} if name is None else {"name": name})}


def choice_of(*values: Any, name: str = "topic") -> dict[str, Any]:
    """A question with these options."""
    return {"type": "choice", "name": name, "instructions": "Which?", "choices": [{"value": one} for one in values]}


# answers


def answer_to(request: Request, body: Any = b'{"choices":[]}', **details: Any) -> Answer:
    """A good answer to a request; a body of bytes is kept as it is, any other is written as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(request, **{"status": 200, "headers": {}, "body": content, "source": "api", **details})


def completions_answer(
    text: str = "Hi", body: Any = b'{"choices":[]}', *, sample_index: int = 0, **details: Any
) -> Answer:
    """A good answer to `completions_request(text)`."""
    return answer_to(completions_request(text, sample_index=sample_index), body, **details)


def answer_with(
    body: Any, *, endpoint: str = "chat", prompt_index: int = 0, source: str = "api", **params: Any
) -> Answer:
    """A good answer with this body to a request for logprobs, with these parameters in the request's body."""
    request = make_request(
        {"model": "m", "logprobs": True, **params},
        endpoint=endpoint,
        provider="p",
        prompt_index=prompt_index,
        prompt_id=f"p{prompt_index}",
    )
    return answer_to(request, body, source=source)


# bodies


def chat_token(
    text: str, logprob: float = -1.0, tops: Mapping[str, float] | None = None, *, raw: bytes | None = None
) -> dict[str, Any]:
    """A token of a chat answer with its alternatives; its bytes are those of its text unless they are given."""
    listed = [{"token": top, "logprob": value, "bytes": list(top.encode())} for top, value in (tops or {}).items()]
    spelled = list(text.encode() if raw is None else raw)
    return {"token": text, "logprob": logprob, "bytes": spelled, "top_logprobs": listed}


def chat_choice(tokens: Sequence[Mapping[str, Any]], text: str | None = None, *, index: int = 0) -> dict[str, Any]:
    """A choice of a chat answer; its text is that of its tokens unless it is given."""
    content = "".join(token["token"] for token in tokens) if text is None else text
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, "refusal": None},
        "logprobs": {"content": list(tokens), "refusal": None},
        "finish_reason": "stop",
    }


def chat_body(tokens: Sequence[Mapping[str, Any]], text: str | None = None, **keys: Any) -> dict[str, Any]:
    """A chat answer of one choice as OpenAI sends it."""
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m-1",
        "choices": [chat_choice(tokens, text)],
        **keys,
    }


def decisions_body(*answers: Any, **keys: Any) -> dict[str, Any]:
    """An answer to typed questions as OpenAI sends it."""
    usage = {"input_tokens": 40, "output_tokens": 0, "total_tokens": 40}
    return {"model": "m-1", "answers": list(answers), "usage": usage, **keys}


def chosen(name: str | None, shares: Mapping[Any, Any] | Sequence[tuple[Any, Any]], **keys: Any) -> dict[str, Any]:
    """An answer to a choice: its first option, and the probability of each."""
    pairs = list(shares.items()) if isinstance(shares, dict) else list(shares)
    listed = [{"value": value, "probability": p} for value, p in pairs]
    return {"type": "choice", "name": name, "choice": pairs[0][0], "confidence": 0.5, "probabilities": listed, **keys}


# prompts files and job files


def write_prompts(folder: Path, columns: Mapping[str, Any], name: str = "prompts.parquet") -> Path:
    """Write a prompts file with these columns."""
    path = folder / name
    pl.DataFrame(columns).write_parquet(path)
    return path


def merge_sections(
    usual: Mapping[str, Mapping[str, Any]], given: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The sections of a job file: the usual keys, with the given ones added or in their place."""
    return {part: {**usual.get(part, {}), **given.get(part, {})} for part in {**usual, **given}}


def write_job(folder: Path, url: str | None = None, *, name: str = "job", **sections: Mapping[str, Any]) -> Path:
    """Write `job.toml`: the smallest job over the column `text`, with the given keys added; None removes a key."""
    smallest: dict[str, Mapping[str, Any]] = {
        "prompts": {"path": "prompts.parquet", "prompt": "text"},
        "model": {"name": "m", "base_url": url},
        "cache": {"path": "cache"},
        "store": {"path": "store"},
    }
    lines = [f"name = {_toml(name)}"]
    for part, keys in merge_sections(smallest, sections).items():
        lines.append(f"[{part}]")
        lines += [f"{_key(key)} = {_toml(value)}" for key, value in keys.items() if value is not None]
    path = folder / "job.toml"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def requests_of(job: ls.Job) -> list[Request]:
    """All requests of a job, in order."""
    return [request for chunk in plan_job(job).chunks() for request in chunk.requests]


def _key(name: str) -> str:
    """A key as TOML: quoted if it has other characters than letters, digits, `_` and `-`."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _toml(value: Any) -> str:
    """A value as TOML: text, numbers, booleans and lists are written as in JSON, tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(held)}" for key, held in value.items()) + " }"
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


# stores


def run_demo(store: Path) -> None:
    """Run the demo's job, which replays its fixtures, into a store, as the run `demo`."""
    ls.run_job(override(ls.load_job(REPO / "jobs" / "demo.toml"), store=store), run="demo")


def full_table(schema: Mapping[str, Any], columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """A table of a store with these columns; the other columns of its schema are null."""
    rows = len(next(iter(columns.values())))
    frame = pl.DataFrame({name: columns.get(name, [None] * rows) for name in schema}, schema=dict(schema))
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(arrow_schema(schema))


def decoded_tables(decoded: Decoded) -> dict[str, pa.Table]:
    """The tables of decoded answers by name."""
    return {name: getattr(decoded, name) for name in ("completions", "tokens", "alternatives", "decisions")}


def open_writer(store: Path, run: str = "r", **settings: Any) -> RunWriter:
    """Open a run of a store for writing; the job's settings, its inputs and its samples may be given."""
    return open_run(store, run, **{"job_name": "j", "job": {"model.name": "m"}, "inputs": [], "samples": 1, **settings})


def write_run(
    store: Path, run: str, parts: Sequence[tuple[Mapping[str, pa.Table], Sequence[int]]], **settings: Any
) -> None:
    """Write a finished run: for each part its tables and the call numbers that it settles."""
    with open_writer(store, run, **settings) as writer:
        for tables, settled in parts:
            writer.commit(dict(tables), settled=settled)
        writer.finish("finished")
