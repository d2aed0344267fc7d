"""Endpoints and services beside plain chat: the Responses API, and Azure."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

import logprob_store as ls

pytestmark = pytest.mark.slow

RESPONSES = {"endpoint": "responses", "params": {"temperature": 0, "max_output_tokens": 6}}
AZURE = {"azure_api_version": "2026-01-01", "azure_deployment": "mine", "provider": None}


def test_responses(workplace: Any, serve: Any) -> None:
    """A job with endpoint "responses" asks for logprobs as that API wants it, and stores them."""
    server = serve()
    job = workplace.job(server.url, prompts=3, model=RESPONSES)

    done = workplace.run("run", job, "--run", "r")
    assert done.returncode == 0, done.stderr
    call = next(call for call in server.calls() if "word-0" in call["body"])
    tables = workplace.tables()

    asked = json.loads(call["body"])
    assert call["path"] == "/v1/responses"
    assert asked["include"] == ["message.output_text.logprobs"]
    assert asked["top_logprobs"] == 3
    assert asked["input"] == [{"role": "user", "content": "Say word-0 please"}]
    assert tables["tokens"].height == 18
    assert tables["alternatives"].height == 54
    assert tables["completions"]["finish_reason"].to_list() == ["max_output_tokens"] * 3
    assert tables["completions"]["completion_tokens"].to_list() == [6] * 3


def test_responses_without_logprobs_are_failures(workplace: Any, serve: Any) -> None:
    """A server that ignores the request for logprobs gives `no_logprobs` failures, not empty answers."""
    server = serve("--script", "null*2")
    job = workplace.job(server.url, prompts=2, model=RESPONSES)

    assert workplace.run("run", job, "--run", "r").returncode == 3
    assert workplace.tables()["failures"]["error_type"].to_list() == ["no_logprobs"] * 2


def test_azure(workplace: Any, serve: Any) -> None:
    """An Azure job uses the deployment's path, the API version, and Azure's header for the key."""
    server = serve()
    job = workplace.job(server.url.removesuffix("/v1"), prompts=2, model=AZURE)
    done = subprocess.run(
        [str(workplace.program), "run", str(job), "--run", "r"],
        cwd=workplace.folder,
        env={**os.environ, "AZURE_OPENAI_API_KEY": "azure-key"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    call = server.calls()[0]
    assert call["path"] == "/openai/deployments/mine/chat/completions?api-version=2026-01-01"
    assert call["headers"]["api-key"] == "azure-key"
    manifest = json.loads((workplace.folder / "store" / "runs" / "run=r" / "run.json").read_text())
    assert manifest["job"]["model.provider"].endswith("/openai/deployments/mine")
    assert ls.open_store(workplace.folder / "store").completions.collect().height == 2


def test_azure_without_a_key(workplace: Any, serve: Any) -> None:
    """Without its key an Azure job names the variable to set."""
    server = serve()
    job = workplace.job(server.url.removesuffix("/v1"), prompts=1, model=AZURE)
    done = workplace.run("run", job, "--run", "r")

    assert done.returncode == 2
    assert "AZURE_OPENAI_API_KEY is not set" in done.stderr
    assert server.calls() == []
