"""Status 403: when it is the failure of one prompt, and when it stops a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import StopRunError
from logprob_store.run.forbidden_calls import IN_A_ROW, ForbiddenCalls

if TYPE_CHECKING:
    from pathlib import Path

REFUSAL = StopRunError("the server refuses this key", reason="authentication", status=403, said="HTTP 403: no")


def test_several_in_a_row_stop() -> None:
    """A key that was taken back is refused from then on; an answer between shows that it was not."""
    forbidden = ForbiddenCalls(any_answer=True)
    failures = [forbidden.failure_of(REFUSAL) for _ in range(IN_A_ROW)]
    forbidden.answered()

    assert [failure is None for failure in failures] == [False] * (IN_A_ROW - 1) + [True]
    assert forbidden.failure_of(REFUSAL) is not None


@pytest.mark.parametrize(
    "error",
    [
        StopRunError("no key", reason="authentication", status=401),
        StopRunError("no credit", reason="quota", status=403),
        StopRunError("no logprobs", reason="logprobs_refused", status=403),
    ],
)
def test_other_refusals_stop_as_before(error: StopRunError) -> None:
    """They say what they are about."""
    assert ForbiddenCalls(any_answer=True).failure_of(error) is None


def test_one_forbidden_prompt_does_not_end_a_run(tmp_path: Path, fault_server: Any) -> None:
    """It is a failure row in the server's words, in this session and the next, and all others are answered."""
    write_prompts(tmp_path, {"text": [f"q{n}-" for n in range(40)]})
    job = ls.load_job(
        write_job(tmp_path, fault_server.url, cache={"path": None, "mode": "off"}, limits={"concurrency": 1})
    )
    fault_server.when("q30-", "403*2")

    sessions = [ls.run_job(job, run="r") for _ in range(2)]

    assert [(one.state, one.failures, one.completions) for one in sessions] == [("finished", 1, 39)] * 2
    failures = ls.open_store(tmp_path / "store").failures.collect()
    assert set(failures["message"]) == {"HTTP 403 unsupported_country: Country not supported"}


def test_a_run_without_an_answer_stops_at_the_first(tmp_path: Path, fault_server: Any) -> None:
    """Then it is the key that is refused."""
    write_prompts(tmp_path, {"text": [f"q{n}-" for n in range(40)]})
    job = write_job(tmp_path, fault_server.url, cache={"path": None, "mode": "off"}, limits={"concurrency": 1})
    fault_server.script("403*40")

    assert ls.run_job(ls.load_job(job), run="r").state == "stopped"
    assert len(fault_server.calls) == 1
