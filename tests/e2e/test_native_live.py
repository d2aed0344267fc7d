"""llama.cpp's own endpoint with a real model: the rows hold what it sends, and its JSON is rebuilt."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import answer_with

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.rebuild import rebuild_logprobs

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[2]

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    """The root URL of one server for all tests of this file."""
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    command = [sys.executable, REPO / "jobs" / "local_server.py", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().strip().rpartition(" ")[2]
        yield url.removesuffix("/v1")
        process.kill()


def ask(root: str, **body: Any) -> bytes:
    """The raw answer of /completion."""
    asked = {"prompt": "The capital of France is", "n_predict": 6, "n_probs": 4, "seed": 1, **body}
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{root}/completion", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        content: bytes = response.read()
    return content


def decode(content: bytes) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, dict[int, Any]]:
    """The completions, tokens and alternatives of an answer, and the value rebuilt from them."""
    decoded = decode_answers([answer_with(content, endpoint="completions", source="import")])
    assert decoded.failures == []
    tables = (decoded.completions, decoded.tokens, decoded.alternatives)
    return *map(pl.DataFrame, tables), rebuild_logprobs(*tables)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("asked", "number", "tops"),
    [({}, "logprob", "top_logprobs"), ({"post_sampling_probs": True, "temperature": 0.9}, "prob", "top_probs")],
    ids=["logprobs", "post_sampling_probs"],
)
def test_rows_are_what_the_server_sent(root: str, asked: dict[str, Any], number: str, tops: str) -> None:
    """Each row equals the raw JSON; probabilities are stored as logarithms and rebuilt without a patch."""
    content = ask(root, **asked)
    raw = json.loads(content)
    completions, tokens, alternatives, rebuilt = decode(content)
    both = pl.concat([tokens.with_columns(rank=pl.lit(0, pl.Int16)), alternatives], how="diagonal")
    value = pl.coalesce("logprob", "logprob_wire")
    found = both.sort("position", "rank").select("position", "token", "token_id", "bytes", value).rows()

    assert number in raw["completion_probabilities"][0]

    expected = [
        (position, one["token"], one["id"], bytes(one["bytes"]), one[number] if number == "logprob" else logarithm)
        for position, token in enumerate(raw["completion_probabilities"])
        for one in (token, *token[tops])
        for logarithm in [math.log(one[number]) if number == "prob" and one[number] else None]
    ]

    assert found == expected
    assert rebuilt == {0: raw["completion_probabilities"]}
    assert "patch" not in completions["wire"][0]
    assert completions.select("text", "response_model", "finish_reason", "prompt_tokens", "completion_tokens").row(
        0
    ) == (
        raw["content"],
        raw["model"],
        raw["stop_type"],
        raw["tokens_evaluated"],
        raw["tokens_predicted"],
    )


def test_several_prompts_in_one_call_are_choices(root: str) -> None:
    """The server answers several prompts with a list."""
    content = ask(root, prompt=["One two", "Three"], n_predict=2)
    completions, _, _, rebuilt = decode(content)
    raw = json.loads(content)

    assert completions["text"].to_list() == [item["content"] for item in raw]
    assert rebuilt == {n: item["completion_probabilities"] for n, item in enumerate(raw)}
    assert completions["prompt_tokens"].to_list() == [sum(item["tokens_evaluated"] for item in raw)] * 2
