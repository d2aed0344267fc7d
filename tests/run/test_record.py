"""Recording a job: known answers are not asked for again, and a recording replays to the same rows."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import FixtureError, StopRunError
from logprob_store.job import override
from logprob_store.replay.fixtures import Recordings
from logprob_store.run.record import Recorded, record_job

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.job import Job


@pytest.fixture
def job(tmp_path: Path, fault_server: Any) -> Job:
    """Four prompts, two of them alike, to the fault server."""
    write_prompts(tmp_path, {"text": ["one", "two", "two", "three"]})
    model = {"provider": "p", "top_logprobs": 2}
    return ls.load_job(write_job(tmp_path, fault_server.url, name="tried", model=model, limits={"attempts": 2}))


def _record(job: Job, fixtures: Path, **settings: Any) -> Recorded:
    return asyncio.run(record_job(job, fixtures, api_key="sk-test", **settings))


def test_recording_asks_each_question_once(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """Equal requests share a line; the file has the server's bytes."""
    done = _record(job, tmp_path / "fixtures")

    assert (done.calls, done.from_cache, done.kept, done.problems) == (3, 0, 0, [])
    assert len(fault_server.calls) == 3
    assert done.lines == len(Recordings(tmp_path / "fixtures" / "tried.jsonl")) == 3


def test_recording_from_the_cache_makes_no_call(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """Cache and fixtures hold the same bytes, so one fills the other."""
    _record(job, tmp_path / "first")
    asked = len(fault_server.calls)

    done = _record(job, tmp_path / "second.jsonl", cached_only=True)

    assert len(fault_server.calls) == asked
    assert (done.calls, done.from_cache) == (0, 4)
    assert (tmp_path / "second.jsonl").read_bytes() == (tmp_path / "first" / "tried.jsonl").read_bytes()


def test_cached_only_names_what_is_missing(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """A prompt without an answer in the cache is a problem, not a call."""
    _record(job, tmp_path / "first", limit=1)

    done = _record(job, tmp_path / "second", cached_only=True)

    assert len(fault_server.calls) == 1
    assert done.lines == 1
    assert done.problems == [f"prompt '{number}': not in the cache" for number in (1, 2, 3)]


def test_what_the_file_has_is_kept(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """Recording again asks only what is new, even without a cache."""
    without = job.model_copy(update={"cache": job.cache.model_copy(update={"mode": "off"})})
    _record(without, tmp_path / "fixtures", limit=1)

    done = _record(without, tmp_path / "fixtures")

    assert (done.kept, done.lines) == (1, 3)
    prompts = [body["messages"][0]["content"] for body in fault_server.bodies]
    assert prompts[0] == "one"
    assert "one" not in prompts[1:]


def test_refreshing_replaces(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """With the cache in mode `refresh` everything is asked again, and no line stands twice."""
    _record(job, tmp_path / "fixtures")
    anew = job.model_copy(update={"cache": job.cache.model_copy(update={"mode": "refresh"})})

    done = _record(anew, tmp_path / "fixtures")

    assert len(fault_server.calls) == 6
    assert (done.calls, done.kept, done.lines) == (3, 0, 3)


def test_a_failed_prompt_is_named_and_the_rest_recorded(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """A prompt that cannot be asked is a problem, and the others are recorded."""
    fault_server.when('"one"', "400")

    done = _record(job, tmp_path / "fixtures")

    assert done.lines == 2
    (problem,) = done.problems
    assert problem.startswith("prompt '0': HTTP 400")


@pytest.mark.parametrize("steps", ["400", "429:retry-after=0*9", "html*9"])
def test_refusals_are_recorded_when_asked_for(job: Job, tmp_path: Path, fault_server: Any, steps: str) -> None:
    """What the server last said is a recording like any other, with the headers that a client acts on."""
    fault_server.when('"one"', steps)
    quick = job.model_copy(update={"limits": job.limits.model_copy(update={"attempts": 2})})

    done = _record(quick, tmp_path / "fixtures", refusals=True)

    assert (done.lines, done.refused, done.problems) == (3, 1, [])
    refused = [recorded for recorded in Recordings(done.path) if b"one" in json.dumps(recorded.request).encode()]
    assert [recorded.status for recorded in refused] == [200 if "html" in steps else int(steps[:3])]
    assert ("retry-after" in refused[0].headers) is steps.startswith("429")


def test_a_refusal_that_stops_is_recorded(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """The recording stops all the same, and the file holds why."""
    fault_server.script("quota*9")

    with pytest.raises(StopRunError):
        _record(job, tmp_path / "fixtures", refusals=True)

    (recorded,) = {recorded.status for recorded in Recordings(tmp_path / "fixtures")}
    assert recorded == 429


def test_recorded_refusals_replay_to_the_same_failures(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """A replay has the failures that the run had, without waiting to try again."""
    fault_server.when('"one"', "400*2")
    fault_server.when('"two"', "429:retry-after=0*9")
    quick = job.model_copy(update={"limits": job.limits.model_copy(update={"attempts": 2})})
    recorded = _record(quick, tmp_path / "fixtures", refusals=True)
    transport = job.transport.model_copy(update={"kind": "replay", "fixtures": recorded.path})

    summary = ls.run_job(job.model_copy(update={"transport": transport}), run="replayed")

    failures = ls.open_store(job.resolve(job.store.path)).failures.collect().sort("status").unique(["status"])
    assert summary.state == "finished"
    assert sorted(failures.select("error_type", "status", "attempts").rows()) == [
        ("invalid_request", 400, 1),
        ("rate_limit", 429, 1),
    ]


def test_a_stop_ends_the_calls_and_keeps_what_was_paid_for(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """Once the quota is used up no further call is made; earlier answers are in the cache."""
    write_prompts(tmp_path, {"text": [str(number) for number in range(30)]})
    one_by_one = job.model_copy(update={"limits": job.limits.model_copy(update={"concurrency": 1})})
    fault_server.script("ok, quota")

    with pytest.raises(StopRunError, match="quota"):
        _record(one_by_one, tmp_path / "fixtures")

    assert len(fault_server.calls) == 2
    assert _record(job, tmp_path / "later", cached_only=True).lines == 1


@pytest.mark.parametrize("mode", ["reuse", "off"])
def test_a_stop_writes_what_was_got(job: Job, tmp_path: Path, fault_server: Any, mode: str) -> None:
    """With a cache or without, answers from before the stop are in the file, and the next recording goes on."""
    changes = {"limits": {"concurrency": 1}, "cache": {"mode": mode}}
    one_by_one = job.model_copy(
        update={name: getattr(job, name).model_copy(update=change) for name, change in changes.items()}
    )
    fault_server.script("ok*2, quota")

    with pytest.raises(StopRunError, match="quota"):
        _record(one_by_one, tmp_path / "fixtures")
    done = _record(one_by_one, tmp_path / "fixtures")

    assert (done.kept, done.lines) == (3, 3)  # of the four prompts two are equal
    assert len(fault_server.calls) == 4


def test_a_recording_keeps_to_the_job_s_ceilings(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """The ceiling counts the calls of each recording alone."""
    limits = job.limits.model_copy(update={"max_requests": 2})

    with pytest.raises(StopRunError, match="max_requests = 2 allows no further call"):
        _record(job.model_copy(update={"limits": limits}), tmp_path / "fixtures")

    assert len(fault_server.calls) == 2


def test_a_damaged_file_is_not_overwritten(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """Recording into a file that cannot be read is an error before anything is asked."""
    (tmp_path / "mine.jsonl").write_text("my notes\n")

    with pytest.raises(FixtureError, match="line 1"):
        _record(job, tmp_path / "mine.jsonl")

    assert fault_server.calls == []
    assert (tmp_path / "mine.jsonl").read_text() == "my notes\n"


def test_what_is_recorded_replays_to_the_same_rows(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """The live run's tables and the replayed run's are equal, but for where the answers came from."""
    _record(job, tmp_path / "fixtures")
    live = ls.run_job(job, run="live", api_key="sk-test")
    asked = len(fault_server.calls)
    replayed = ls.run_job(
        override(job, transport="replay", fixtures=tmp_path / "fixtures", store=tmp_path / "other"), run="replayed"
    )

    assert (live.completions, live.from_cache) == (4, 4)
    assert (replayed.completions, replayed.from_fixtures, replayed.failures) == (4, 4, 0)
    assert len(fault_server.calls) == asked == 3
    one, other = ls.open_store(tmp_path / "store"), ls.open_store(tmp_path / "other")
    for table in ("tokens", "alternatives", "prompts"):
        rows = [getattr(store, table).drop("run").collect() for store in (one, other)]
        assert rows[0].height > 0
        assert rows[0].equals(rows[1])
    drop = ["run", "source", "attempts", "latency_s"]
    assert one.completions.drop(drop).collect().equals(other.completions.drop(drop).collect())


def test_a_recording_holds_what_the_server_sent(job: Job, tmp_path: Path, fault_server: Any) -> None:
    """Request and answer stand in the line as they went over the wire."""
    _record(job, tmp_path / "f.jsonl", limit=1)

    line = json.loads((tmp_path / "f.jsonl").read_bytes())

    assert line["request"] == fault_server.bodies[0]
    assert line["body"]["object"] == "chat.completion"
    assert (line["provider"], line["endpoint"], line["sample_index"]) == ("p", "chat", 0)
