"""Real recordings: each row equals the raw JSON, and the raw JSON can be rebuilt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import RECORDINGS, answer_with

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.rebuild import rebuild_logprobs

if TYPE_CHECKING:
    from pathlib import Path

FILES = [path for kind in ("chat", "completions", "responses") for path in sorted(RECORDINGS.glob(f"{kind}-*.json"))]
BATCHES = sorted(RECORDINGS.glob("batch-output-*.jsonl"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def recording(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    """The endpoint and the body of each recorded answer."""
    path: Path = request.param
    return path.name.split("-")[0], path.read_bytes()


def part_of(body: dict[str, Any]) -> Any:
    """The logprobs part of a recorded body, which has one choice."""
    if "output" not in body:
        [choice] = body["choices"]
        return choice["logprobs"]
    return [
        {"item": i, "part": j, "logprobs": part["logprobs"]}
        for i, item in enumerate(body["output"])
        for j, part in enumerate(item.get("content", []))
        if "logprobs" in part
    ]


def expected_rows(value: Any) -> list[tuple[Any, ...]]:
    """Section, position, rank (0 for the token itself), text, bytes and wire logprob of each token and alternative."""
    rows = []
    if isinstance(value, list):
        value = {"content": [token for part in value for token in part["logprobs"]]}
    for section in ("content", "refusal"):
        for position, token in enumerate(value.get(section) or []):
            for rank, one in enumerate([token, *token.get("top_logprobs", [])]):
                spelled = one.get("bytes")
                rows.append(
                    (section, position, rank, one["token"], None if spelled is None else bytes(spelled), one["logprob"])
                )
    tops = value.get("top_logprobs") or [{}] * len(value.get("tokens") or [])
    for position, text in enumerate(value.get("tokens") or []):
        pairs = [(text, value["token_logprobs"][position]), *tops[position].items()]
        rows.extend(("content", position, rank, one, None, logprob) for rank, (one, logprob) in enumerate(pairs))
    return sorted(rows, key=lambda row: row[:3])


def test_rows_equal_the_raw_json(recording: tuple[str, bytes]) -> None:
    """No value is changed, lost or moved."""
    endpoint, body = recording
    decoded = decode_answers([answer_with(body, endpoint=endpoint)])

    assert decoded.failures == []

    tokens, alternatives = pl.DataFrame(decoded.tokens), pl.DataFrame(decoded.alternatives)
    both = pl.concat([tokens.with_columns(rank=pl.lit(0, pl.Int16)), alternatives], how="diagonal")
    number = pl.coalesce("logprob", "logprob_wire")
    found = both.select(pl.col("section").cast(pl.String), "position", "rank", "token", "bytes", number).rows()

    assert sorted(found, key=lambda row: row[:3]) == expected_rows(part_of(json.loads(body)))


def test_the_raw_json_is_rebuilt(recording: tuple[str, bytes]) -> None:
    """It is rebuilt from Arrow tables and from polars frames, whether the body was pretty-printed or on one line."""
    endpoint, body = recording
    raw = json.loads(body)
    for content in (body, json.dumps(raw, separators=(",", ":")).encode()):
        decoded = decode_answers([answer_with(content, endpoint=endpoint)])
        tables = (decoded.completions, decoded.tokens, decoded.alternatives)

        assert rebuild_logprobs(*tables) == {0: part_of(raw)}
        assert rebuild_logprobs(*map(pl.DataFrame, tables)) == {0: part_of(raw)}


@pytest.mark.skipif(not BATCHES, reason="no recordings beside the repository")
def test_recorded_batch_bodies_without_logprobs_are_completions() -> None:
    """Their requests did not ask for logprobs."""
    lines = [json.loads(line) for path in BATCHES for line in path.read_text().splitlines()]
    bodies = [line["response"]["body"] for line in lines if line.get("response", {}).get("status_code") == 200]
    decoded = decode_answers([answer_with(body, prompt_index=n, logprobs=False) for n, body in enumerate(bodies)])

    assert decoded.failures == []
    assert decoded.completions.column("text").to_pylist() == [b["choices"][0]["message"]["content"] for b in bodies]
