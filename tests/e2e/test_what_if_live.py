"""What would have followed another token, by the real llama.cpp server with a real model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from e2e.test_live import LlamaServer, job_file
from explorer.conftest import serving_store

import logprob_store as ls
from logprob_store.what_if.asking import WhatIf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    """One server for all tests of this file."""
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    server = LlamaServer()
    yield server
    server.kill()


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_the_server_goes_on_with_the_alternative(llama: LlamaServer, tmp_path: Path, endpoint: str) -> None:
    """` Kabul` has the alternative ` Kand`, from which the model writes ` Kandahar`; after ` Kabul` it ends at once."""
    job = ls.load_job(job_file(tmp_path, llama.url, endpoint=endpoint, limit=1))
    ls.run_job(job, run="r")
    with WhatIf(job) as what_if, serving_store(job.store_folder, what_if) as server:
        followed = [_go_on(server, rank) for rank in (2, 1)]

    assert [text for text, _ in followed] == [" Kandahar", " Kabul"]
    assert [reason for _, reason in followed] == ["stop", "stop"]


def _go_on(server: Any, rank: int) -> tuple[str, str]:
    """The text with the alternative of the first token, and why it ended."""
    place = {"run": "r", "id": "0", "section": "content", "position": "0", "rank": str(rank)}
    answered = server.post("/api/go_on", place)
    assert answered.status == 200, answered.json
    (section,) = answered.json["sides"][1]["sections"]
    return "".join(text for text, _ in section["spans"]), answered.json["finish_reason"]
