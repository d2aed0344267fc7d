"""Small recorded answers, the files that hold them, and a store to import them into, for the tests of this folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.importing.api import import_responses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from logprob_store.importing.importer import ImportSummary

Frames = dict[str, pl.DataFrame]


def chat_body(number: int = 0, *, own_id: bool = True, logprobs: bool = True) -> dict[str, Any]:
    """A chat answer of two tokens; `number` is in its text, its logprobs and its id, if it has one."""
    words = [f"n{number}", "!"]
    tokens = [
        {
            "token": word,
            "logprob": -(number + 1) / 1000 - place,
            "bytes": list(word.encode()),
            "top_logprobs": [{"token": word, "logprob": -(number + 1) / 1000 - place, "bytes": list(word.encode())}],
        }
        for place, word in enumerate(words)
    ]
    body: dict[str, Any] = {
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(words)},
                "logprobs": {"content": tokens, "refusal": None} if logprobs else None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    return {"id": f"chatcmpl-{number}", **body} if own_id else body


def chat_request(number: int = 0, **params: Any) -> dict[str, Any]:
    """A request for such an answer."""
    body = {"model": "m", "messages": [{"role": "user", "content": f"count to {number}"}], "logprobs": True}
    return {**body, "top_logprobs": 1, **params}


def chunks(number: int = 0) -> list[dict[str, Any]]:
    """The same answer as a stream: a role, a chunk for each token, an end."""
    whole = chat_body(number)
    [choice] = whole["choices"]
    head = {"id": whole["id"], "object": "chat.completion.chunk", "created": 1700000000, "model": "m-1"}

    def chunk(delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}]}

    return [
        chunk({"role": "assistant", "content": ""}),
        *(
            chunk({"content": token["token"]}, {"content": [token], "refusal": None})
            for token in choice["logprobs"]["content"]
        ),
        chunk({}, None, "stop"),
    ]


def output_line(custom_id: str, body: Any, *, status: int = 200) -> dict[str, Any]:
    """A line of a Batch API output file."""
    response = {"status_code": status, "request_id": "req", "body": body}
    return {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": response, "error": None}


def input_line(custom_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """A line of a Batch API input file."""
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def jsonl(*values: Any) -> str:
    """JSON Lines of these values; text is a line as it stands."""
    return "".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values)


class Importing:
    """A folder for files and a store to import them into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"

    def file(self, name: str, content: str | bytes) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def jsonl(self, name: str, *values: Any) -> Path:
        """Write a file of JSON Lines."""
        return self.file(name, jsonl(*values))

    def __call__(self, *paths: Path, **options: Any) -> ImportSummary:
        """Import files."""
        return import_responses(paths, self.store, **options)

    def content(self, content: str | bytes, name: str = "answers.jsonl", **options: Any) -> ImportSummary:
        """Import a file with this content."""
        return self(self.file(name, content), **options)

    def lines(self, *values: Any, name: str = "answers.jsonl", **options: Any) -> ImportSummary:
        """Import a file of JSON Lines."""
        return self(self.jsonl(name, *values), **options)

    def frames(self, run: str = "import") -> Frames:
        """All tables of a run."""
        opened = ls.open_store(self.store, runs=[run])
        tables = ("prompts", "completions", "tokens", "alternatives", "failures", "imports")
        return {name: getattr(opened, name).collect() for name in tables}

    @property
    def texts(self) -> list[str]:
        """The texts of all completions, by completion_id."""
        return self.frames()["completions"].sort("completion_id")["text"].to_list()

    @property
    def open_failures(self) -> list[tuple[str, str]]:
        """prompt_id and error_type of all failures, in order."""
        rows = self.frames()["failures"].sort("prompt_index", "sample_index")
        return list(rows.select("prompt_id", "error_type").iter_rows())


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    """A temporary folder and store."""
    return Importing(tmp_path)


@pytest.fixture
def make() -> Any:
    """The functions above, by name."""

    class Make:
        body: Callable[..., dict[str, Any]] = staticmethod(chat_body)
        request: Callable[..., dict[str, Any]] = staticmethod(chat_request)
        chunks: Callable[..., list[dict[str, Any]]] = staticmethod(chunks)
        output: Callable[..., dict[str, Any]] = staticmethod(output_line)
        input: Callable[..., dict[str, Any]] = staticmethod(input_line)
        jsonl: Callable[..., str] = staticmethod(jsonl)

    return Make
