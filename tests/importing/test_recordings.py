"""Real recordings from many servers: each is imported, and its token rows equal the raw JSON, value by value."""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import RECORDINGS

if TYPE_CHECKING:
    from pathlib import Path

FILES = sorted(RECORDINGS.glob("*.json"))
BATCHES = sorted(RECORDINGS.glob("*.jsonl"))

Row = tuple[Any, ...]


def of_chat(tokens: list[dict[str, Any]]) -> list[list[Row]]:
    """Text, bytes and logprob of each token and of its alternatives, in the chat shape."""

    def one(item: dict[str, Any]) -> Row:
        spelled = item.get("bytes")
        return item["token"], None if spelled is None else bytes(spelled), item["logprob"]

    return [[one(item), *map(one, item.get("top_logprobs") or [])] for item in tokens]


def of_lists(value: dict[str, Any]) -> list[list[Row]]:
    """The same for parallel lists, the shape of legacy completions and of Together."""
    tops = value.get("top_logprobs") or [{}] * len(value["tokens"])
    chosen = zip(value["tokens"], value["token_logprobs"], strict=True)
    return [
        [(text, None, number), *((other, None, one) for other, one in top.items())]
        for (text, number), top in zip(chosen, tops, strict=True)
    ]


def of_choices(body: dict[str, Any]) -> list[list[Row]]:
    """The tokens of all choices."""
    found = []
    for choice in body["choices"]:
        value = choice["logprobs"]
        lists = value.get("tokens") is not None
        found += of_lists(value) if lists else of_chat((value.get("content") or []) + (value.get("refusal") or []))
    return found


def of_responses(body: dict[str, Any]) -> list[list[Row]]:
    """The tokens of all parts of all items."""
    parts = [part for item in body["output"] for part in item.get("content") or []]
    return [token for part in parts for token in of_chat(part.get("logprobs") or [])]


def of_gemini(body: dict[str, Any]) -> list[list[Row]]:
    """The tokens of all candidates."""
    found = []
    for candidate in body["candidates"]:
        result = candidate["logprobsResult"]
        chosen = result["chosenCandidates"]
        tops = [top["candidates"] for top in result.get("topCandidates") or [{"candidates": []}] * len(chosen)]
        found += [
            [(item["token"], None, item["logProbability"]) for item in (token, *top)]
            for token, top in zip(chosen, tops, strict=True)
        ]
    return found


def of_sglang(body: dict[str, Any]) -> list[list[Row]]:
    """The tokens of `meta_info`, whose text may be null; a shortened recording has fewer alternatives than tokens."""
    meta = body["meta_info"]
    pairs = zip_longest(meta["output_token_logprobs"], meta.get("output_top_logprobs") or [])
    return [[(text, None, number) for number, _, text in (token, *(top or []))] for token, top in pairs]


def of_tgi(body: dict[str, Any]) -> list[list[Row]]:
    """The tokens of `details`."""
    details = body["details"]
    tops = details.get("top_tokens") or [[]] * len(details["tokens"])
    return [
        [(item["text"], None, item["logprob"]) for item in (token, *top)]
        for token, top in zip(details["tokens"], tops, strict=True)
    ]


def expected(body: dict[str, Any]) -> list[list[Row]]:
    """The tokens in the raw JSON, by the keys of its format."""
    if "choices" in body:
        return of_choices(body)
    if "output" in body:
        return of_responses(body)
    if "candidates" in body:
        return of_gemini(body)
    if "meta_info" in body:
        return of_sglang(body)
    return of_tgi(body) if "details" in body else of_chat(body["logprobs"])


def imported(rows: dict[str, pl.DataFrame]) -> list[list[Row]]:
    """The same tokens from the tables, in order."""
    key = ["completion_id", "section", "position"]
    tokens = rows["tokens"].with_columns(rank=pl.lit(0, pl.Int16))
    both = pl.concat([tokens, rows["alternatives"]], how="diagonal").sort(*key, "rank", maintain_order=True)
    number = pl.coalesce("logprob", "logprob_wire")
    grouped = both.group_by(key, maintain_order=True).agg(pl.struct("token", "bytes", number).alias("all"))
    return [[tuple(one.values()) for one in items] for items in grouped["all"].to_list()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rows_equal_the_raw_json(importing: Any, path: Path) -> None:
    """No token, alternative, byte or digit is changed, lost or moved."""
    done = importing(path)
    rows = importing.frames()
    wanted = expected(json.loads(path.read_bytes()))

    assert (done.records, done.failures) == (1, 0)
    assert wanted
    assert imported(rows) == wanted


@pytest.mark.parametrize("path", BATCHES, ids=lambda path: path.stem)
def test_batches_without_logprobs(importing: Any, path: Path) -> None:
    """Each line of Batch API output without logprobs is a failure, not an empty completion."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    done = importing(path)

    assert done.records == len(lines)
    assert importing.open_failures == [(line["custom_id"], "no_logprobs") for line in lines]


@pytest.mark.skipif(not FILES, reason="no recordings beside the repository")
def test_all_at_once_and_again(importing: Any) -> None:
    """The whole folder is imported, and a second import adds nothing."""
    first, second = importing(RECORDINGS), importing(RECORDINGS)

    assert (first.files, first.added) == (len(FILES) + len(BATCHES), len(FILES))
    assert second.already == second.records == first.records
