"""Headers and a query of the job's own: what is sent, what is kept, and what is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import JobError
from logprob_store.request import provider_of
from logprob_store.store.manifest import manifest_path

if TYPE_CHECKING:
    from pathlib import Path

VALUE = "value-of-a-header-0123456789"


def job(folder: Path, url: str, **model: Any) -> ls.Job:
    """A job of one prompt with these keys in its model section."""
    write_prompts(folder, {"text": ["Hi"]})
    return ls.load_job(write_job(folder, url, model=model))


def test_headers_are_sent_and_never_stored(tmp_path: Path, fault_server: Any) -> None:
    """A literal and a value from the environment go out with the call; the value is in no file."""
    mine = job(tmp_path, fault_server.url, headers={"X-Project": "nightly", "X-Token": {"env": "T"}})

    summary = ls.run_job(mine, run="r", variables={"T": VALUE})

    sent = {name.lower(): value for name, value in fault_server.calls[0].headers.items()}
    assert (summary.state, sent["x-project"], sent["x-token"]) == ("finished", "nightly", VALUE)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if VALUE.encode() in path.read_bytes()] == []
    manifest = json.loads(manifest_path(tmp_path / "store", "r").read_bytes())
    assert [name for name in manifest["job"] if "headers" in name or "query" in name] == []


def test_headers_and_query_change_no_key(tmp_path: Path, fault_server: Any) -> None:
    """The answer of a job without them is found in the cache of the same job with them."""
    ls.run_job(job(tmp_path, fault_server.url), run="before")
    after = job(tmp_path, fault_server.url, headers={"X-A": "b"}, query={"v": "2"})

    summary = ls.run_job(after, run="after")

    assert (summary.from_cache, summary.calls) == (1, 0)
    assert after.model.identity == provider_of(fault_server.url)


def test_the_query_is_added_to_the_url(tmp_path: Path, fault_server: Any) -> None:
    """Each call goes to the endpoint's path with the parameters."""
    ls.run_job(job(tmp_path, fault_server.url, query={"api-version": "2026-10-01"}), run="r")

    assert fault_server.calls[0].path.endswith("/chat/completions?api-version=2026-10-01")


def test_a_variable_that_is_not_set(tmp_path: Path, fault_server: Any) -> None:
    """The error names header and variable, and nothing is asked."""
    with pytest.raises(JobError, match=r"headers\.X-Token: T is not set"):
        ls.run_job(job(tmp_path, fault_server.url, headers={"X-Token": {"env": "T"}}), run="r")

    assert fault_server.calls == []


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Length": "5"}, "headers.Content-Length cannot be set"),
        ({"X A": "5"}, "headers.X A cannot be set"),
        ({"X-A": "a\nb"}, "headers.X-A holds a line break"),
        ({"X-A": {"envv": "T"}}, "unknown key"),
    ],
)
def test_headers_that_cannot_be_sent(headers: dict[str, Any], message: str, tmp_path: Path) -> None:
    """They are errors of the job file."""
    with pytest.raises(JobError, match=message):
        job(tmp_path, "http://h/v1", headers=headers)


def test_a_server_that_says_a_header_back(tmp_path: Path, fault_server: Any) -> None:
    """A header's value is taken out of what the server says, as the key is."""
    said_back = "Incorrect API key provided."  # the words of the fault server's 401
    fault_server.script("401")
    mine = job(tmp_path, fault_server.url, headers={"X-Token": {"env": "T"}})

    summary = ls.run_job(mine, run="r", variables={"T": said_back})

    assert said_back.rstrip(".") not in (summary.reason or "")
    assert "[key]" in (summary.reason or "")
