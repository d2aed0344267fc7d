"""Status 403: when it is the failure of one prompt, and when it stops a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import chat_request, write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import StopRunError
from logprob_store.run.forbidden_calls import IN_A_ROW, ForbiddenCalls

if TYPE_CHECKING:
    from pathlib import Path

REFUSAL = StopRunError("the server refuses this key", reason="authentication", status=403, said="HTTP 403: no")


def _refused(forbidden: ForbiddenCalls, texts: list[str], error: StopRunError = REFUSAL) -> list[bool]:
    """Whether the refusal of each of these prompts is the run's."""
    return [forbidden.failure_of(chat_request(text), error) is None for text in texts]


def test_several_in_a_row_stop() -> None:
    """A key that is refused, or was taken back, is refused from then on; an answer between shows that it was not."""
    forbidden = ForbiddenCalls()

    assert _refused(forbidden, list("abcde")) == [False] * (IN_A_ROW - 1) + [True]
    forbidden.answered()
    assert _refused(forbidden, ["f"]) == [False]


def test_samples_of_one_prompt_are_one() -> None:
    """A prompt that is refused in each of its samples says nothing about the others."""
    assert not any(_refused(ForbiddenCalls(), ["a"] * 20))


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
    assert _refused(ForbiddenCalls(), ["a"], error) == [True]


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


@pytest.mark.parametrize("samples", [1, 6])
def test_the_first_prompt_alone_ends_no_run(tmp_path: Path, fault_server: Any, samples: int) -> None:
    """That nothing was answered before it says nothing about the key, however often it is asked."""
    write_prompts(tmp_path, {"text": [f"q{n}-" for n in range(40)]})
    job = write_job(tmp_path, fault_server.url, cache={"path": None, "mode": "off"}, model={"samples": samples})
    fault_server.when("q0-", f"403*{samples}")

    summary = ls.run_job(ls.load_job(job), run="r")

    assert (summary.state, summary.failures, summary.completions) == ("finished", samples, 39 * samples)


def test_a_run_without_an_answer_stops_after_five(tmp_path: Path, fault_server: Any) -> None:
    """Then it is the key that is refused."""
    write_prompts(tmp_path, {"text": [f"q{n}-" for n in range(40)]})
    job = write_job(tmp_path, fault_server.url, cache={"path": None, "mode": "off"}, limits={"concurrency": 1})
    fault_server.script("403*40")

    summary = ls.run_job(ls.load_job(job), run="r")

    assert (summary.state, len(fault_server.calls)) == ("stopped", IN_A_ROW)
    assert "refuses this key" in (summary.reason or "")


def test_a_few_prompts_that_are_all_refused_say_the_same(tmp_path: Path, fault_server: Any) -> None:
    """A run of two prompts cannot wait for five refusals."""
    write_prompts(tmp_path, {"text": ["q0-", "q1-"]})
    job = write_job(tmp_path, fault_server.url, cache={"path": None, "mode": "off"})
    fault_server.script("403*2")

    summary = ls.run_job(ls.load_job(job), run="r")

    assert summary.state == "stopped"
    assert "refuses this key" in (summary.reason or "")


def test_a_few_prompts_that_failed_in_two_ways_say_nothing_of_the_key(tmp_path: Path, fault_server: Any) -> None:
    """Another outcome says that it may have been the prompt, or something else that the job asks."""
    write_prompts(tmp_path, {"text": ["q0-", "q1-"]})
    job = write_job(tmp_path, fault_server.url, cache={"path": None, "mode": "off"})
    fault_server.script("403, 400")

    summary = ls.run_job(ls.load_job(job), run="r")

    assert summary.state == "stopped"
    assert "refuses this key" not in (summary.reason or "")


def test_one_prompt_asked_by_itself(fault_server: Any) -> None:
    """`ls.complete` says that the key is refused."""
    fault_server.script("403")

    with pytest.raises(StopRunError, match="refuses this key"):
        ls.complete("q", model="m", base_url=fault_server.url)
