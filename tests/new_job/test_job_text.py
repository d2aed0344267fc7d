"""The text of a new job file: valid, whole, and with keys to switch on."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.job import load_job
from logprob_store.new_job.job_text import NewJob, job_text

if TYPE_CHECKING:
    from pathlib import Path


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_is_written_as_toml(text: str) -> None:
    """A template, a column or a path may hold quotes, line breaks and control characters."""
    new = NewJob(name="n", path=text, model=text, template=text, system=text, keep=(text,), base_url=text)

    table = tomllib.loads(job_text(new, text))

    assert table["prompts"] == {"path": text, "template": text, "system": text, "keep": [text]}
    assert (table["model"]["name"], table["model"]["base_url"]) == (text, text)


@pytest.mark.parametrize("endpoint", ["chat", "completions", "responses"])
@pytest.mark.parametrize("base_url", [None, "http://127.0.0.1:8000/v1"])
def test_keys_that_are_switched_off_can_be_switched_on(tmp_path: Path, endpoint: str, base_url: str | None) -> None:
    """Without the # each is a valid line of the job."""
    new = NewJob(name="n", path="p.parquet", model="m", prompt="text", endpoint=endpoint, base_url=base_url)
    text = job_text(new, "job.toml")
    off = re.findall(r"^# ([a-z_]+) = ", text, re.MULTILINE)
    path = tmp_path / "job.toml"
    path.write_text(re.sub(r"^# ([a-z_]+ = )", r"\1", text, flags=re.MULTILINE), encoding="utf-8")

    job = load_job(path)

    assert {"id", "concurrency", "requests_per_minute", "max_requests", "mode"} <= set(off)
    assert (job.limits.max_requests, job.cache.mode, job.prompts.id) == (10_000, "refresh", "id")


def test_each_key_has_a_comment() -> None:
    """A newcomer reads what a line is for where it stands."""
    text = job_text(NewJob(name="n", path="p.parquet", model="m", prompt="text", id="id"), "job.toml")

    assert [line for line in text.splitlines() if " = " in line and " # " not in line] == []


@pytest.mark.parametrize(
    ("endpoint", "base_url", "name"),
    [
        ("chat", None, "max_completion_tokens"),  # OpenAI's reasoning models refuse the older name
        ("chat", "http://127.0.0.1:8000/v1", "max_tokens"),
        ("completions", None, "max_tokens"),
        ("responses", None, "max_output_tokens"),
    ],
)
def test_the_most_tokens_by_the_name_that_the_server_knows(endpoint: str, base_url: str | None, name: str) -> None:
    """Each endpoint has a name of its own for it."""
    new = NewJob(name="n", path="p", model="m", prompt="t", endpoint=endpoint, base_url=base_url, max_tokens=7)

    assert tomllib.loads(job_text(new, "job.toml"))["model"]["params"] == {"temperature": 0, name: 7}
