"""Pitfalls of other tools: each line of that table names tests that exist, and some of these tests are here."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from builders import completions_request, write_job, write_prompts

import logprob_store as ls
from logprob_store.transport.live import live_transport

REPO = Path(__file__).parents[1]
PAGE = (REPO / "docs" / "reliability" / "promises.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## What went wrong elsewhere")[2].partition("\n## ")[0]
ROWS = [line.split(" | ") for line in TABLE.splitlines() if line.startswith("| ")][1:]


def test_every_line_has_a_test_or_a_reason() -> None:
    """Only headings and lines on batch jobs have no test."""
    bare = [what for what, tests in ROWS if "`tests/" not in tests]

    assert len(ROWS) - len(bare) >= 25
    assert [
        what for what in bare if not what.startswith("| **") and "Batch API" not in what and "batch jobs" not in what
    ] == []


@pytest.mark.parametrize("name", re.findall(r"`(tests/[^`]+)`", TABLE))
def test_the_test_is_there(name: str) -> None:
    """A test that is renamed or moved is renamed in the table too."""
    path, _, function = name.partition("::")
    tree = ast.parse((REPO / path).read_text(encoding="utf-8"))

    assert function in {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


@pytest.mark.usefixtures("fault_server")
def test_calls_share_as_many_connections_as_there_are_calls_at_once() -> None:
    """200 calls, 50 at a time, take at most 50 connections and are all answered."""
    accepted = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = re.search(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length[1]) if length else 0)
            await asyncio.sleep(0.01)
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"choices":[]}')

    async def main() -> int:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        room = asyncio.Semaphore(50)

        async def one(number: int, transport: Any) -> bytes:
            async with room:
                return bytes((await transport(completions_request(str(number)))).body)

        async with live_transport(base_url=url, api_key="k", concurrency=50) as transport:
            bodies = await asyncio.gather(*(one(number, transport) for number in range(200)))
        server.close()
        return len([body for body in bodies if body == b'{"choices":[]}'])

    assert asyncio.run(main()) == 200
    assert accepted <= 50


def test_equal_prompts_have_a_row_each_when_a_run_goes_on(fault_server: Any, tmp_path: Path) -> None:
    """40 prompts of 4 texts, 17 of them asked first, end as 40 rows, because settled calls are known by number."""
    texts = [f"text {number % 4}" for number in range(40)]
    write_prompts(tmp_path, {"text": texts})
    job = ls.load_job(write_job(tmp_path, fault_server.url))

    ls.run_job(job, run="r", limit=17)
    summary = ls.run_job(job, run="r")

    assert summary.state == "finished"
    rows = ls.open_store(tmp_path / "store").completions.sort("prompt_index").collect()
    assert rows["prompt_index"].to_list() == list(range(40))
    assert rows.group_by(pl.col("prompt_index") % 4).agg(pl.col("text").n_unique())["text"].to_list() == [1] * 4
    assert len(fault_server.calls) == 4
