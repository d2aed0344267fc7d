"""The first outcomes of a run: when those that are of no use in the same way stop it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_to, chat_body, chat_request, chat_token, write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.run.first_outcomes import ATTEMPTS_ALIKE, UNLIKE, FirstOutcomes
from logprob_store.run.record import record_job

if TYPE_CHECKING:
    from pathlib import Path

GOOD = chat_body([chat_token("Hi", -0.1)])
NO_LOGPROBS = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}, "logprobs": None}]}
ENVELOPE = {"status": "ok"}


def refusal(status: int = 404, message: str = "HTTP 404: no such model") -> CallError:
    """A refusal that no retry mends."""
    return CallError(message, error_type="invalid_request", status=status)


def page() -> CallError:
    """A page of a website in the place of an answer."""
    return RetryableError("the answer is no JSON object: '<html>'", error_type="malformed_answer", status=200)


def reasons(
    outcomes: list[Any], *, prompts: int = 100, watch: bool = True, source: str = "api", scores: bool = False
) -> list[str | None]:
    """The reason to stop after each outcome, which is an error or the body of an answer, of so many prompts."""
    first = FirstOutcomes(watch=watch, scores=scores)

    async def take() -> list[str | None]:
        found = []
        for number, outcome in enumerate(outcomes):
            place = number % prompts
            request = chat_request(f"prompt {place}", prompt_index=place, sample_index=number, logprobs=True)
            if source == "cache":
                await first.take_cached([answer_to(request, outcome, source=source)])
            elif isinstance(outcome, CallError):
                await first.take(request, outcome)
            else:
                await first.take(request, answer_to(request, outcome, source=source))
            found.append(None if first.stop_reason is None else first.stop_reason.reason)
        return found

    return asyncio.run(take())


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (refusal(), "all_refused"),
        (refusal(307, "HTTP 307. The server is elsewhere"), "all_refused"),
        (CallError("the answer is not finished (queued)", error_type="error_body", status=200), "error_body"),
        (CallError("more than 10 bytes", error_type="too_large", status=200), "too_large"),
        (NO_LOGPROBS, "no_logprobs"),
        (ENVELOPE, "malformed_answer"),
        ({"type": "message", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}, "no_logprobs"),
    ],
    ids=["refused", "redirected", "unfinished", "too large", "no logprobs", "an unknown envelope", "another API"],
)
def test_five_alike_stop(outcome: Any, expected: str) -> None:
    """The fifth outcome of one kind is the reason, if there was no other before."""
    assert reasons([outcome] * 5) == [None] * 4 + [expected]


def test_ten_that_differ_stop() -> None:
    """Statuses that take turns are told apart from prompts that differ by twice as many calls without one of use."""
    turns = [refusal(400, "HTTP 400: bad"), refusal(404, "HTTP 404: no such path")] * 5

    assert reasons(turns) == [None] * (UNLIKE - 1) + ["all_refused"]
    assert reasons([NO_LOGPROBS, *[refusal()] * 9])[-1] == "no_logprobs"


def test_the_reason_of_those_that_differ_has_the_words_of_each() -> None:
    """What to change may be said by either of them."""
    first = FirstOutcomes()

    async def look() -> None:
        for number in range(10):
            outcome = refusal(400, "HTTP 400: bad.") if number % 2 else refusal(404, "HTTP 404: no such path.")
            await first.take(chat_request(f"q{number}"), outcome)

    asyncio.run(look())

    expected = "none of the first 10 calls got an answer of use. HTTP 404: no such path; HTTP 400: bad. Change what"
    assert str(first.stop_reason).startswith(expected)


def test_the_reason_says_what_came_and_what_to_change() -> None:
    """Of an answer that nobody knows, its beginning is shown."""
    first = FirstOutcomes()

    async def look() -> None:
        for number in range(5):
            request = chat_request(f"q{number}", logprobs=True)
            await first.take(request, answer_to(request, ENVELOPE))

    asyncio.run(look())

    said = str(first.stop_reason)
    assert said.startswith("none of the first 5 answers is one that can be read. choices: missing or null")
    assert 'The answer begins: {"status": "ok"}. See that model.base_url' in said


@pytest.mark.parametrize(
    "outcomes",
    [
        [refusal(), GOOD, *[refusal()] * 5],
        [refusal(), refusal(400), *[refusal()] * 5],
        [refusal(400, "HTTP 400 context_length_exceeded: maximum context length is 8192")] * 6,
        [CallError("HTTP 400", error_type="content_filter", status=400)] * 6,
        [RetryableError("HTTP 500", error_type="server_error", status=500)] * 20,
        [*[NO_LOGPROBS] * 4, GOOD, *[NO_LOGPROBS] * 9],
        [NO_LOGPROBS, ENVELOPE, *[NO_LOGPROBS] * 7],
        [*[refusal(), refusal(400)] * 4, refusal(422), GOOD, *[refusal()] * 9],
        [*[page()] * (ATTEMPTS_ALIKE - 1), GOOD, page(), page()],
    ],
    ids=[
        "an answer between",
        "another status",
        "too long prompts",
        "filtered prompts",
        "an outage",
        "logprobs for some",
        "bad in two ways, nine times",
        "refused in three ways before an answer",
        "pages that pass",
    ],
)
def test_what_does_not_concern_the_job_stops_nothing(outcomes: list[Any]) -> None:
    """A usable or a different outcome shows that prompts differ; lengths, filters and outages are not the job's."""
    assert not any(reasons(outcomes))


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "content_filter", "message": {"content": "I can"}, "logprobs": None},
        {"finish_reason": "stop", "message": {"content": None, "refusal": "I cannot."}, "logprobs": None},
    ],
    ids=["cut off", "refused"],
)
def test_prompts_that_a_filter_answers_stop_nothing(choice: dict[str, Any]) -> None:
    """They have no logprobs because of what they ask, not because the model gives none."""
    assert reasons([{"choices": [choice]}] * 20) == [None] * 20


def test_samples_of_one_prompt_are_one_request() -> None:
    """What is wrong with one prompt shows in each of its samples, and says nothing of the others."""
    assert not any(reasons([refusal()] * 20, prompts=4))
    assert not any(reasons([NO_LOGPROBS] * 20, prompts=4))


def test_refusals_that_are_tried_again_are_counted_by_attempt() -> None:
    """A server that asks for another try of what it refuses every time costs no six attempts for each prompt."""
    refused = RetryableError("HTTP 409: conflict", error_type="server_error", status=409)

    found = reasons([refused] * 20, prompts=5)
    assert found[ATTEMPTS_ALIKE - 2 : ATTEMPTS_ALIKE] == [None, "all_refused"]
    assert reasons([RetryableError("slow down", error_type="rate_limit", status=429)] * 40) == [None] * 40


def test_pages_are_counted_by_attempt() -> None:
    """Fourteen attempts of at least three prompts stop the run, though no prompt has used up its attempts."""
    assert reasons([page()] * ATTEMPTS_ALIKE, prompts=8) == [None] * (ATTEMPTS_ALIKE - 1) + ["malformed_answer"]
    assert not any(reasons([page()] * 30, prompts=2))


def test_after_pages_that_passed_refusals_count() -> None:
    """A page that was there for a moment says nothing about what comes after it."""
    assert reasons([page(), page(), *[refusal()] * 5])[-2:] == [None, "all_refused"]


def test_a_run_with_answers_is_not_watched() -> None:
    """A run that goes on may have only its bad prompts left."""
    assert not any(reasons([refusal()] * 6, watch=False))
    assert not any(reasons([NO_LOGPROBS] * 6, watch=False))


def test_what_costs_nothing_is_no_reason() -> None:
    """Recorded answers without logprobs stop no replay, and an old one in the cache stops no run."""
    assert not any(reasons([NO_LOGPROBS] * 6, source="fixture"))
    assert not any(reasons([NO_LOGPROBS] * 6, source="cache"))


def test_a_good_answer_in_the_cache_shows_that_the_job_can_be_answered() -> None:
    """Only the prompts that fail may be left to ask."""
    first = FirstOutcomes()
    asyncio.run(first.take_cached([answer_to(chat_request(logprobs=True), GOOD, source="cache")]))

    assert not first.watching


def ask_300(folder: Path, server: Any, steps: str, **sections: Any) -> ls.RunSummary:
    """The run of 300 prompts that a server answers by script."""
    server.script(steps)
    write_prompts(folder, {"text": [f"q{n}" for n in range(300)]})
    job = write_job(folder, server.url, cache={"path": None, "mode": "off"}, **sections)
    return ls.run_job(ls.load_job(job), run="r")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("404*300", "failed alike"),
        (", ".join(["400, 404"] * 150), "none of the first 10 calls got an answer of use"),
        ("null*300", "none of the first 5 answers has the logprobs asked for"),
        ("envelope*300", "none of the first 5 answers is one that can be read"),
    ],
)
def test_a_run_stops_after_a_handful(tmp_path: Path, fault_server: Any, steps: str, expected: str) -> None:
    """Of 300 prompts that all fail, few are asked (ten, and seven under way), and the reason has the server's words."""
    fault_server.behaviour.delay_ms = 20
    summary = ask_300(tmp_path, fault_server, steps)

    assert summary.state == "stopped"
    assert expected in (summary.reason or "")
    assert 5 <= len(fault_server.calls) <= 17
    assert 5 <= summary.failures <= 17


@pytest.mark.slow
def test_a_run_of_pages_stops_after_a_handful(tmp_path: Path, fault_server: Any) -> None:
    """Nine calls at most are made at once; then one at a time, until the page has stood there for a while."""
    summary = ask_300(tmp_path, fault_server, "html*300")

    assert summary.state == "stopped"
    assert "none of the first 14 answers is one that can be read" in (summary.reason or "")
    assert "Bad gateway" in (summary.reason or "")
    assert len(fault_server.calls) == ATTEMPTS_ALIKE


@pytest.mark.slow
def test_a_page_that_passes_stops_nothing(tmp_path: Path, fault_server: Any) -> None:
    """A proxy that shows a page until its service has started costs some attempts."""
    summary = ask_300(tmp_path, fault_server, "html*11")

    assert (summary.state, summary.failures, summary.completions) == ("finished", 0, 300)
    assert len(fault_server.calls) == 311


def test_prompts_that_get_a_page_each_time_hold_nothing_up(tmp_path: Path, fault_server: Any) -> None:
    """With one call at a time, two bad prompts at the front use up their attempts, and all others are answered."""
    for text in ('q0"', 'q1"'):
        fault_server.when(text, "html*9")
    summary = ask_300(tmp_path, fault_server, "", limits={"concurrency": 1, "attempts": 2})

    assert (summary.state, summary.failures, summary.completions) == ("finished", 2, 298)


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    ["500*900", "429*900", "429:retry-after-ms=20*900", ", ".join(["500, 429"] * 450), "reset*900"],
    ids=["500", "429 without a time", "429 with one", "in turns", "connections"],
)
def test_a_server_that_never_answers_stops_a_run(tmp_path: Path, fault_server: Any, steps: str) -> None:
    """It is asked once at a time for as long as `limits.retry_for_s`: it may be down or overloaded until then."""
    summary = ask_300(tmp_path, fault_server, steps, limits={"retry_for_s": 3})

    assert summary.state == "stopped"
    assert re.search("the server has answered no call for [345] s", summary.reason or "")
    assert 11 <= len(fault_server.calls) <= 24  # eight, and up to eight under way; then after 0.25, 0.5, 1, 2 s


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["500*12", "429*12", "429:retry-after-ms=20*12"])
def test_a_server_that_recovers_stops_nothing(tmp_path: Path, fault_server: Any, steps: str) -> None:
    """No prompt has used up its attempts, though it has two."""
    summary = ask_300(tmp_path, fault_server, steps, limits={"attempts": 2})

    assert (summary.state, summary.failures, summary.completions) == ("finished", 0, 300)


def test_first_prompts_that_break_the_server_stop_nothing(tmp_path: Path, fault_server: Any) -> None:
    """The probes of an outage are also for prompts that were not asked yet, so that one of them is answered."""
    for number in range(10):
        fault_server.when(f'q{number}"', "500*99")
    summary = ask_300(tmp_path, fault_server, "", limits={"retry_for_s": 20, "attempts": 2})

    assert (summary.state, summary.failures, summary.completions) == ("finished", 10, 290)


def test_logprobs_for_some_prompts_only(tmp_path: Path, fault_server: Any) -> None:
    """A model that leaves them out now and then is asked for every prompt."""
    summary = ask_300(tmp_path, fault_server, ", ".join(["null*3, ok"] * 75))

    assert (summary.state, summary.completions, summary.failures) == ("finished", 75, 225)


@pytest.mark.parametrize("steps", ["null*300", "404*300"])
def test_a_recording_stops_likewise(tmp_path: Path, fault_server: Any, steps: str) -> None:
    """`record` makes the same calls as a run."""
    fault_server.script(steps)
    write_prompts(tmp_path, {"text": [f"q{n}" for n in range(300)]})
    job = write_job(tmp_path, fault_server.url, cache={"path": None, "mode": "off"})

    with pytest.raises(StopRunError):
        asyncio.run(record_job(ls.load_job(job), tmp_path / "recorded"))

    assert len(fault_server.calls) <= 20


def test_the_next_session_asks_again_and_goes_on(tmp_path: Path, fault_server: Any) -> None:
    """What failed before the stop is asked once more, and all others for the first time."""
    ask_300(tmp_path, fault_server, "null*12")
    fault_server.behaviour._script.clear()
    again = ls.run_job(ls.load_job(tmp_path / "job.toml"), run="r")

    assert (again.state, again.failures, again.completions) == ("finished", 0, 300)
