"""The first calls of a run: when refusals alike stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import CallError, RetryableError
from logprob_store.run.first_refusals import FirstRefusals

if TYPE_CHECKING:
    from pathlib import Path


def refusal(status: int = 404, message: str = "HTTP 404: no such model") -> CallError:
    """A refusal that no retry mends."""
    return CallError(message, error_type="invalid_request", status=status)


def reasons(errors: list[CallError | None], *, watch: bool = True) -> list[bool]:
    """Whether each outcome is a reason to stop; None stands for an answer."""
    first = FirstRefusals(watch=watch)
    found = []
    for error in errors:
        if error is None:
            first.answered()
        found.append(error is not None and first.failed(error) is not None)
    return found


def test_five_alike_stop() -> None:
    """The fifth refusal with one status is the reason."""
    assert reasons([refusal()] * 5) == [False] * 4 + [True]


def test_five_answers_that_nobody_can_read_stop() -> None:
    """A website in the place of the API answers everything with a page and status 200."""
    page = RetryableError("the answer is no JSON object: '<html>'", error_type="malformed_answer", status=200)

    assert reasons([page] * 5) == [False] * 4 + [True]
    assert reasons([page] * 4 + [None, page, page]) == [False] * 7


@pytest.mark.parametrize(
    "errors",
    [
        [refusal(), None, *[refusal()] * 5],
        [refusal(), refusal(400), *[refusal()] * 5],
        [refusal(400, "HTTP 400 context_length_exceeded: maximum context length is 8192")] * 6,
        [CallError("HTTP 400", error_type="content_filter", status=400)] * 6,
        [RetryableError("HTTP 500", error_type="server_error", status=500)] * 6,
    ],
    ids=["an answer between", "another status", "too long prompts", "filtered prompts", "an outage"],
)
def test_what_does_not_concern_the_job_stops_nothing(errors: list[CallError | None]) -> None:
    """An answer or a different refusal shows that prompts differ; lengths, filters and outages are not the job's."""
    assert not any(reasons(errors))


def test_a_run_with_answers_is_not_watched() -> None:
    """A run that goes on may have only its bad prompts left."""
    assert not any(reasons([refusal()] * 6, watch=False))


def test_a_run_stops_after_a_handful(tmp_path: Path, fault_server: Any) -> None:
    """Of 300 prompts that are all refused, a dozen at most are asked, and the reason has the server's words."""
    fault_server.script("404*300")
    write_prompts(tmp_path, {"text": [f"q{n}" for n in range(300)]})
    job = write_job(tmp_path, fault_server.url, cache={"path": None, "mode": "off"})

    summary = ls.run_job(ls.load_job(job), run="r")

    assert summary.state == "stopped"
    assert "failed alike" in (summary.reason or "")
    assert 5 <= len(fault_server.calls) <= 16
