"""Runs in batches against a real Batch API on loopback: each call ends once, and the ledger is the server's."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts
from e2e.batch_runs import KEY, answered, batch_job, check_ledger, failed, questions, spent_usd, start
from fault_answers import answer_to

import logprob_store as ls
from logprob_store.job import override
from logprob_store.run.batch_queue import BatchQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_server import BatchServer
    from conftest import CommandResult
    from fault_server import ServerThread


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_KEY", KEY)


PATIENT = {"poll_s": 0.1}
"""Files are fetched again for three seconds, also on a machine that has other things to do."""


def names(count: int) -> list[str]:
    """The ids of so many prompts."""
    return [f"p{place}" for place in range(count)]


def run(folder: Path, server: BatchServer, texts: list[str], **sections: Any) -> ls.RunSummary:
    """Run a job over these prompts."""
    return ls.run_job(batch_job(folder, server.url, texts, **sections), run="r")


def test_a_run_in_batches_has_the_rows_of_a_live_one(tmp_path: Path, batch_server: BatchServer) -> None:
    """Answers by batch are in the same tables as others, with `batch` as their source."""
    summary = run(tmp_path, batch_server, questions(6))

    store = ls.open_store(tmp_path / "store")
    assert (summary.state, summary.answered, summary.failed) == ("finished", 6, 0)
    assert answered(tmp_path / "store") == names(6)
    assert store.completions.select("source").collect()["source"].unique().to_list() == ["batch"]
    assert store.tokens.collect().height == 6 * 4


def test_dollars_are_those_of_the_server(tmp_path: Path, batch_server: BatchServer) -> None:
    """A batch costs its price, though each answer says that the standard tier served it."""
    run(tmp_path, batch_server, questions(6))

    check_ledger(batch_server, tmp_path / "store")


def test_cached_answers_are_in_no_batch(tmp_path: Path, batch_server: BatchServer) -> None:
    """A second run over the same prompts sends nothing."""
    job = batch_job(tmp_path, batch_server.url, questions(6))
    ls.run_job(job, run="r")
    summary = ls.run_job(job, run="s")

    assert (summary.from_cache, len(batch_server.batches)) == (6, 2)


def test_equal_prompts_are_sent_once(tmp_path: Path, batch_server: BatchServer) -> None:
    """Calls with one key share a line, and each has its row."""
    run(tmp_path, batch_server, ["same", "other", "same", "same"])

    assert answered(tmp_path / "store") == names(4)
    assert len(batch_server.executed) == 2
    check_ledger(batch_server, tmp_path / "store")


STORIES = {
    "expired": "expired=0.5",
    "cancelled": "cancelled=0.25",
    "nothing done before it expired": "expired=0",
    "a state that nobody knows": "paused=3",
    "an output that is late": "late_output=2",
    "no counts": "no_counts",
    "lines that come twice": "doubled=2",
    "a line of no call": "stranger",
    "NaN in a line": "odd",
    "a download that is cut without a word": "cut=2",
}


@pytest.mark.parametrize("script", STORIES.values(), ids=STORIES)
def test_a_batch_that_goes_otherwise_loses_nothing(tmp_path: Path, batch_server: BatchServer, script: str) -> None:
    """Each prompt has one answer, each answer was paid for once, and the dollars are the server's."""
    batch_server.scripts = [script]
    summary = run(tmp_path, batch_server, questions(6), batch=PATIENT)

    assert (summary.state, answered(tmp_path / "store")) == ("finished", names(6))
    check_ledger(batch_server, tmp_path / "store")


def test_lines_that_are_missing_are_asked_again_and_marked(tmp_path: Path, batch_server: BatchServer) -> None:
    """A call without a line may have been billed: its row says so, and what was spent counts it at its worst."""
    batch_server.scripts = ["missing=1"]
    run(tmp_path, batch_server, questions(4))

    rows = ls.open_store(tmp_path / "store").completions.select("maybe_billed").collect()["maybe_billed"]
    assert (answered(tmp_path / "store"), sorted(rows)) == (names(4), [False, False, False, True])
    assert spent_usd(tmp_path / "store")[0] >= batch_server.usd


def test_files_that_are_gone_are_asked_again_and_marked(tmp_path: Path, batch_server: BatchServer) -> None:
    """Services delete files after 30 days: the calls are asked again, and their rows say that it may be twice."""
    batch_server.scripts = ["gone"]
    run(tmp_path, batch_server, questions(4))

    rows = ls.open_store(tmp_path / "store").completions.select("maybe_billed").collect()["maybe_billed"]
    assert (answered(tmp_path / "store"), set(rows)) == (names(4), {True})


def test_a_batch_with_errors_alone_has_failures(tmp_path: Path, batch_server: BatchServer) -> None:
    """`completed` without an output file is no success: each line's error is a row."""
    batch_server.scripts = ["errors_only"]
    run(tmp_path, batch_server, questions(4))

    assert failed(tmp_path / "store") == dict.fromkeys(names(4), "invalid_request")
    assert spent_usd(tmp_path / "store") == (0.0, 0.0)


def test_a_line_that_failed_is_asked_in_another_batch(tmp_path: Path, batch_server: BatchServer) -> None:
    """Failures are told apart by class: one of the server goes into the next batch, a refusal is a row."""
    run(tmp_path, batch_server, ["a", "b FAIL500", "c FAIL400", "d"])

    attempts = ls.open_store(tmp_path / "store").completions.select("prompt_id", "attempts").collect()
    assert dict(attempts.iter_rows()) == {"p0": 1, "p1": 2, "p3": 1}
    assert failed(tmp_path / "store") == {"p2": "invalid_request"}
    check_ledger(batch_server, tmp_path / "store")


def test_attempts_have_an_end(tmp_path: Path, batch_server: BatchServer) -> None:
    """A line that fails each time is a failure after `limits.attempts` batches."""
    run(tmp_path, batch_server, ["a FAIL500ALWAYS"], limits={"attempts": 3})

    assert (failed(tmp_path / "store"), len(batch_server.batches)) == ({"p0": "server_error"}, 3)
    rows = ls.open_store(tmp_path / "store").failures.collect()
    assert rows["attempts"].to_list() == [3]


def test_the_next_session_asks_failures_anew(tmp_path: Path, batch_server: BatchServer) -> None:
    """A failure that has its row counts no attempts of the next session."""
    job = batch_job(tmp_path, batch_server.url, ["a FAIL500", "b"], limits={"attempts": 1})
    first = ls.run_job(job, run="r")
    second = ls.run_job(job, run="r")

    assert (first.failures, second.failures, answered(tmp_path / "store")) == (1, 0, names(2))
    check_ledger(batch_server, tmp_path / "store")


@pytest.mark.parametrize("code", ["model_mismatch", "too_many_tasks", "url_mismatch", "empty_file"])
def test_a_file_that_is_refused_stops_the_run(tmp_path: Path, batch_server: BatchServer, code: str) -> None:
    """What is wrong with the whole file is wrong with the next one: the run stops with the service's words."""
    batch_server.scripts = [f"fail={code}"]
    summary = run(tmp_path, batch_server, questions(4))

    assert (summary.state, code in (summary.reason or "")) == ("stopped", True)
    assert spent_usd(tmp_path / "store") == (0.0, 0.0)


@pytest.mark.parametrize("code", ["invalid_json_line", "duplicate_custom_id"])
def test_a_line_that_is_refused_is_a_failure(tmp_path: Path, batch_server: BatchServer, code: str) -> None:
    """The other lines of the file go into another batch."""
    batch_server.scripts = [f"fail={code}@2"]
    run(tmp_path, batch_server, questions(4))

    assert failed(tmp_path / "store") == {"p1": "invalid_request"}
    assert answered(tmp_path / "store") == ["p0", "p2", "p3"]
    check_ledger(batch_server, tmp_path / "store")


def test_the_queue_limit_lets_one_batch_in_at_a_time(tmp_path: Path, batch_server: BatchServer) -> None:
    """A batch that the queue has no room for waits for the others, with its file as it is."""
    batch_server.queue_tokens = 400
    run(tmp_path, batch_server, questions(12))

    assert answered(tmp_path / "store") == names(12)
    assert batch_server.requests.count("upload") == 3
    check_ledger(batch_server, tmp_path / "store")


def test_a_batch_larger_than_the_queue_is_packed_anew(tmp_path: Path, batch_server: BatchServer) -> None:
    """A file that never fits under the limit is taken apart."""
    batch_server.queue_tokens = 150
    run(tmp_path, batch_server, questions(8))

    assert answered(tmp_path / "store") == names(8)
    check_ledger(batch_server, tmp_path / "store")


def test_a_file_that_is_too_large_is_packed_smaller(tmp_path: Path, batch_server: BatchServer) -> None:
    """Gateways take less than the service behind them."""
    batch_server.max_bytes = 500
    run(tmp_path, batch_server, questions(8))

    assert answered(tmp_path / "store") == names(8)
    check_ledger(batch_server, tmp_path / "store")


def test_lines_that_come_twice_are_told(
    tmp_path: Path, batch_server: BatchServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The first one counts; a service that sends more is to be known."""
    batch_server.scripts = ["doubled=2"]
    run(tmp_path, batch_server, questions(4))

    assert "2 lines of its files are of no call, come twice or cannot be read" in caplog.text


def test_a_batch_without_metadata_is_found_by_its_file(tmp_path: Path, batch_server: BatchServer) -> None:
    """As behind some gateways, also where an earlier batch of the same file had no room in the queue."""
    batch_server.keeps_metadata = False
    batch_server.scripts = ["fail=token_limit_exceeded"]
    batch_server.faults = {"create": ["", "lost"]}
    run(tmp_path, batch_server, questions(4))

    assert (answered(tmp_path / "store"), len(batch_server.batches)) == (names(4), 2)
    check_ledger(batch_server, tmp_path / "store")


def test_a_call_larger_than_the_queue_is_a_failure(tmp_path: Path, batch_server: BatchServer) -> None:
    """It never fits, however few calls are beside it."""
    batch_server.queue_tokens = 20
    run(tmp_path, batch_server, questions(3))

    assert failed(tmp_path / "store") == dict.fromkeys(names(3), "over_limit")


def test_a_queue_that_others_fill_is_waited_for(tmp_path: Path, batch_server: BatchServer) -> None:
    """The file stays as it is: smaller ones would have no more room."""
    batch_server.is_held = 5
    run(tmp_path, batch_server, questions(4))

    assert (answered(tmp_path / "store"), batch_server.requests.count("upload")) == (names(4), 1)


def test_a_batch_that_is_listed_late_is_found(tmp_path: Path, batch_server: BatchServer) -> None:
    """A creation whose answer was lost is looked for more than once."""
    batch_server.faults = {"create": ["lost"]}
    batch_server.list_lag = 2
    run(tmp_path, batch_server, questions(4))

    assert len(batch_server.batches) == 1
    check_ledger(batch_server, tmp_path / "store")


@pytest.mark.slow
def test_a_batch_that_may_be_there_twice_is_marked(tmp_path: Path, batch_server: BatchServer) -> None:
    """One that no list ever shows is begun again in the end, and its rows say that it may be paid for twice."""
    batch_server.faults = {"create": ["lost"]}
    batch_server.list_lag = 10**6
    run(tmp_path, batch_server, questions(4))

    rows = ls.open_store(tmp_path / "store").completions.select("maybe_billed").collect()["maybe_billed"]
    assert (len(batch_server.batches), set(rows)) == (2, {True})
    assert spent_usd(tmp_path / "store")[0] >= batch_server.usd


def test_a_redirect_of_a_file_is_followed(tmp_path: Path, batch_server: BatchServer) -> None:
    """To where the service keeps its files."""
    batch_server.redirects = True
    run(tmp_path, batch_server, questions(4))

    assert answered(tmp_path / "store") == names(4)


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", lambda content: gzip.compress(content[:300]) + gzip.compress(content[300:])),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("", gzip.compress),
    ],
    ids=["two members", "x-gzip", "deflate", "a file that is gzip itself"],
)
def test_a_compressed_file_is_read(
    tmp_path: Path, batch_server: BatchServer, encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    """Whatever the store of files makes of it."""
    batch_server.encoding, batch_server.encode = encoding, encode
    run(tmp_path, batch_server, questions(4))

    assert (answered(tmp_path / "store"), len(batch_server.batches)) == (names(4), 1)


def test_a_damaged_file_is_fetched_later(tmp_path: Path, batch_server: BatchServer) -> None:
    """The run stops with a sentence, and collects once the file is whole."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    batch_server.encoding, batch_server.encode = "gzip", lambda content: gzip.compress(content)[:40] + b"#" * 99
    stopped = ls.run_job(job, run="r")
    batch_server.encode = gzip.compress

    assert (stopped.state, "the file is damaged" in (stopped.reason or "")) == ("stopped", True)
    assert (ls.run_job(job, run="r").state, len(batch_server.batches)) == ("finished", 1)


def test_a_signed_address_is_in_no_message(
    tmp_path: Path, batch_server: BatchServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Who has it has the file."""
    batch_server.redirects = True
    batch_server.faults = {"content": ["", "403"] * 1000}
    summary = run(tmp_path, batch_server, questions(4))

    said = (summary.reason or "") + caplog.text + "".join(map(Path.read_text, (tmp_path / "store").rglob("*.json")))
    assert "HTTP 403 from 127.0.0.1, where the service keeps its files" in said
    assert "SIGNATURE" not in said


def files_with_the_key(folder: Path) -> list[str]:
    """The names of the files that hold the key."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if KEY.encode() in path.read_bytes()]


def test_a_key_that_the_service_repeats_in_a_refusal_is_nowhere(tmp_path: Path, batch_server: BatchServer) -> None:
    """Neither in the journal nor in the manifest nor in the summary."""
    batch_server.scripts, batch_server.says = ["fail=empty_file"], f"for {KEY}"
    summary = run(tmp_path, batch_server, questions(2))

    assert "for [key]" in (summary.reason or "")
    assert files_with_the_key(tmp_path / "store") == []


def test_a_key_that_the_service_repeats_in_a_file_is_nowhere(tmp_path: Path, batch_server: BatchServer) -> None:
    """Not even in a file of answers that waits for the others."""
    batch_server.scripts = ["short=1"]
    batch_server.encode = lambda content: content.replace(b'"created"', f'"key": "{KEY}", "created"'.encode())
    run(tmp_path, batch_server, questions(4))

    assert len(list((tmp_path / "store").rglob("*.output"))) == 1
    assert files_with_the_key(tmp_path) == []


def test_a_call_larger_than_a_file_is_a_failure(tmp_path: Path, batch_server: BatchServer) -> None:
    """No file above the limit is sent."""
    run(tmp_path, batch_server, ["a", "b" * 2000], batch={"megabytes": 0.001})

    assert (answered(tmp_path / "store"), failed(tmp_path / "store")) == (["p0"], {"p1": "over_limit"})


def test_a_key_refused_on_one_line_is_that_lines_failure(tmp_path: Path, batch_server: BatchServer) -> None:
    """The key has just answered the others."""
    summary = run(tmp_path, batch_server, ["a", "b FAIL401"])

    assert (summary.state, failed(tmp_path / "store")) == ("finished", {"p1": "authentication"})


@pytest.mark.parametrize("words", [["rm", "STORE", "r", "--yes"], ["run", "JOB", "--run", "r", "--replace"]])
def test_a_run_with_batches_under_way_is_not_taken_out(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult], words: list[str]
) -> None:
    """Nobody would collect what is billed."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    ls.run_job(job, run="r", detach=True)
    named = {"STORE": str(tmp_path / "store"), "JOB": str(job)}
    done = logprobs(*(named.get(word, word) for word in words))

    assert (done.code, "which the service bills" in done.err) == (2, True)
    assert len(batch_server.batches) == 1


def test_a_batch_that_never_ends_is_left_at_the_deadline(tmp_path: Path, batch_server: BatchServer) -> None:
    """The morning has everything; what may be billed twice is marked."""
    batch_server.working = 10**6
    batch_server.scripts = ["stuck"]
    run(tmp_path, batch_server, questions(4), batch={"deadline": 1 / 3600, "fallback": "live"})

    rows = ls.open_store(tmp_path / "store").completions.select("maybe_billed").collect()["maybe_billed"]
    assert (answered(tmp_path / "store"), set(rows)) == (names(4), {True})


def test_a_cancel_that_fails_says_so(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4 and the reason, as of a run that stops."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    ls.run_job(job, run="r", detach=True)
    monkeypatch.setenv("BATCH_KEY", "sk-of-another-project")
    done = logprobs("batches", str(tmp_path / "store"), "--run", "r", "--job", str(job), "--cancel")

    assert (done.code, "under way" in done.err) == (4, True)


def test_a_row_that_its_model_refuses_is_not_sent(tmp_path: Path, batch_server: BatchServer) -> None:
    """It is a failure before anything is asked, as it is live."""
    job = batch_job(
        tmp_path,
        batch_server.url,
        questions(2),
        prompts={"params": "params"},
        model={
            "params": {"reasoning_effort": "none", "max_completion_tokens": 4},
            "takes": {"like": "gpt-6-luna"},
        },
    )
    write_prompts(tmp_path, {"id": names(2), "text": questions(2), "params": ["{}", '{"max_tokens": 5}']})
    ls.run_job(job, run="r")

    assert (len(batch_server.executed), failed(tmp_path / "store")) == (1, {"p1": "bad_prompt"})


def test_a_row_that_names_a_tier_is_not_sent(tmp_path: Path, batch_server: BatchServer) -> None:
    """A batch is a tier: what the row asks for would be ignored, or refused after a day."""
    job = batch_job(tmp_path, batch_server.url, questions(2), prompts={"params": "params"})
    write_prompts(tmp_path, {"id": names(2), "text": questions(2), "params": ["{}", '{"service_tier": "flex"}']})
    ls.run_job(job, run="r")

    assert (len(batch_server.executed), failed(tmp_path / "store")) == (1, {"p1": "bad_prompt"})


def test_a_file_that_azure_never_looks_at_is_begun_in_the_end(tmp_path: Path, batch_server: BatchServer) -> None:
    """It is waited for with growing pauses, and not for ever: what is wrong with it, the service says then."""
    batch_server.file_looks = 10**6
    run(tmp_path, batch_server, questions(4), batch={"service": "azure"})

    assert answered(tmp_path / "store") == names(4)


def test_a_long_wait_that_is_asked_for_is_cut(tmp_path: Path, batch_server: BatchServer) -> None:
    """A look costs nothing: it is made again after `batch.poll_s`, whatever the service says."""
    batch_server.faults = {"get": ["wait"]}
    run(tmp_path, batch_server, questions(4))

    assert answered(tmp_path / "store") == names(4)


def test_a_batch_whose_input_file_is_gone_is_packed_again(tmp_path: Path, batch_server: BatchServer) -> None:
    """Nothing of it was sent."""
    job = batch_job(tmp_path, batch_server.url, questions(8), batch={"queued_tokens": 100})
    batch_server.faults = {"upload": ["", "401"]}
    ls.run_job(job, run="r")
    for path in (tmp_path / "store").rglob("batch-00002.jsonl"):
        path.unlink()
    ls.run_job(job, run="r")

    assert answered(tmp_path / "store") == names(8)
    check_ledger(batch_server, tmp_path / "store")


def test_a_lost_list_of_calls_is_told(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult]
) -> None:
    """Without it nobody knows which calls the batch has; `verify` finds it too."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    ls.run_job(job, run="r", detach=True)
    [path] = (tmp_path / "store").rglob("batch-00001.lines")
    path.write_bytes(path.read_bytes()[:30])
    done, checked = logprobs("run", job, "--run", "r"), logprobs("verify", tmp_path / "store")

    assert (done.code, "batch-00001.lines cannot be read" in done.err) == (2, True)
    assert (checked.code, "batch-00001.lines cannot be read" in checked.out) == (2, True)


def test_azure_looks_at_a_file_first(tmp_path: Path, batch_server: BatchServer) -> None:
    """A batch of a file that is not looked at yet would fail there."""
    batch_server.file_looks = 2
    run(tmp_path, batch_server, questions(4), batch={"service": "azure"})

    first = batch_server.requests.index("create")
    assert batch_server.requests[:first].count("get_file") == 3
    check_ledger(batch_server, tmp_path / "store")


FAULTS: dict[str, dict[str, list[str]]] = {
    "an upload whose answer is lost": {"upload": ["lost"]},
    "an upload that breaks off": {"upload": ["reset", "500"]},
    "a creation whose answer is lost": {"create": ["lost"]},
    "a creation that fails": {"create": ["429", "429"]},
    "a creation that is done and answered 504": {"create": ["done504"]},
    "a creation that is done and answered 500, while the list is down": {
        "create": ["done500"],
        "list_batches": ["503"],
    },
    "a creation that is done and answered 408": {"create": ["done408"]},
    "a creation that is done and answered 409": {"create": ["done409"]},
    "a creation that is done and has no id": {"create": ["done_no_id"]},
    "a creation that is done and answered by a page": {"create": ["done_html"]},
    "a creation that is done and redirected": {"create": ["done_redirect"]},
    "an upload that is done and answered 500": {"upload": ["done500"]},
    "an upload that is done and has no id": {"upload": ["done_no_id"]},
    "an upload that is done and redirected": {"upload": ["done_redirect"]},
    "a creation before the file is known": {"create": ["no_file", "no_file"]},
    "a look that fails": {"get": ["500", "reset", "404", "429"]},
    "a download that fails": {"content": ["500", "reset", "404"]},
    "a file that is not there for long": {"content": ["404"] * 6},
    "a page in place of a file": {"content": ["done_html"] * 6},
    "nothing in place of a file": {"content": ["done_empty"] * 2},
    "a list that fails after a lost creation": {"create": ["lost"], "list_batches": ["500", "reset"]},
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_request_that_fails_is_made_again(
    tmp_path: Path, batch_server: BatchServer, faults: dict[str, list[str]]
) -> None:
    """No fault on the way leads to a second batch of the same calls."""
    batch_server.faults = faults
    run(tmp_path, batch_server, questions(4), batch=PATIENT)

    assert answered(tmp_path / "store") == names(4)
    assert len(batch_server.batches) == 1
    assert len([file for file in batch_server.files.values() if "filename" in file]) == 1
    check_ledger(batch_server, tmp_path / "store")


@pytest.mark.slow
def test_a_creation_that_failed_after_all_is_counted_once(tmp_path: Path, batch_server: BatchServer) -> None:
    """The list that shows the second one, and no first, proves that there was none."""
    batch_server.faults = {"create": ["500"]}
    run(tmp_path, batch_server, questions(4))

    rows = ls.open_store(tmp_path / "store").completions.select("maybe_billed").collect()["maybe_billed"]
    assert (len(batch_server.batches), set(rows)) == (1, {False})
    check_ledger(batch_server, tmp_path / "store")


@pytest.mark.slow
def test_a_twin_that_is_listed_too_late_is_ended_and_marked(tmp_path: Path, batch_server: BatchServer) -> None:
    """Two batches of one file are both paid for: the rows say so, and the one that nobody waits for is cancelled."""
    batch_server.faults = {"create": ["done500"]}
    batch_server.lists_from = 2
    run(tmp_path, batch_server, questions(4))

    rows = ls.open_store(tmp_path / "store").completions.select("maybe_billed").collect()["maybe_billed"]
    assert (len(batch_server.batches), set(rows)) == (2, {True})
    assert "cancel" in batch_server.requests


@pytest.mark.slow
def test_a_service_that_does_not_say_what_it_begins_is_asked_no_further(
    tmp_path: Path, batch_server: BatchServer
) -> None:
    """A redirect says nothing about what was begun: the run stops, and the next one looks for it first."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    batch_server.faults = {"create": ["done_redirect"]}
    batch_server.list_lag = 10**6
    first = ls.run_job(job, run="r")
    batch_server.list_lag = 0
    second = ls.run_job(job, run="r")

    assert (first.state, "does not say whether it has begun" in (first.reason or "")) == ("stopped", True)
    assert (second.state, len(batch_server.batches)) == ("finished", 1)
    check_ledger(batch_server, tmp_path / "store")


def test_a_refusal_with_the_letters_file_is_no_missing_file(tmp_path: Path, batch_server: BatchServer) -> None:
    """A creation is repeated for a file that is not known yet, and for no other refusal."""
    batch_server.faults = {"create": ["busy_profile"]}
    summary = run(tmp_path, batch_server, questions(4))

    assert (summary.state, batch_server.requests.count("create")) == ("stopped", 1)


def test_a_key_that_may_not_list_is_no_reason_to_stop(tmp_path: Path, batch_server: BatchServer) -> None:
    """Restricted keys begin batches and list none: the creation that is not found is begun again, and marked."""
    batch_server.faults = {"create": ["reset"], "list_batches": ["403"] * 1000}
    summary = run(tmp_path, batch_server, questions(4))

    assert (summary.state, answered(tmp_path / "store")) == ("finished", names(4))
    assert spent_usd(tmp_path / "store")[0] > batch_server.usd


def test_answers_that_the_service_keeps_back_are_not_bought_again(tmp_path: Path, batch_server: BatchServer) -> None:
    """The run stops and says how many it has; once the service gives them, the same command collects them."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    batch_server.faults = {"content": ["404"] * 1000}
    stopped = ls.run_job(job, run="r")
    batch_server.faults = {}
    summary = ls.run_job(job, run="r")

    assert stopped.state == "stopped"
    assert "gives 0 of 4 answers that it says to have" in (stopped.reason or "")
    assert (summary.state, answered(tmp_path / "store"), len(batch_server.batches)) == ("finished", names(4), 1)
    check_ledger(batch_server, tmp_path / "store")


def test_answers_that_never_come_are_let_go_by_a_cancel(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult]
) -> None:
    """What is there is taken; the next run asks the rest again, and marks it."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    batch_server.scripts = ["short=1"]
    assert ls.run_job(job, run="r").state == "stopped"
    done = logprobs("batches", str(tmp_path / "store"), "--run", "r", "--job", str(job), "--cancel")
    ls.run_job(job, run="r")

    rows = ls.open_store(tmp_path / "store").completions.select("maybe_billed").collect()["maybe_billed"]
    assert (done.code, answered(tmp_path / "store"), sorted(rows)) == (0, names(4), [False, False, False, True])


def test_answers_that_came_are_in_the_cache_before_all_came(tmp_path: Path, batch_server: BatchServer) -> None:
    """A run that stops for those that are missing has paid for the others, and a job that is another one finds them."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    batch_server.scripts = ["short=1"]
    ls.run_job(job, run="r")

    assert ls.run_job(override(ls.load_job(job), transport="live"), run="other").from_cache == 3


@pytest.mark.parametrize("text", ["FAIL429QUOTA", "FAIL401"])
def test_a_run_that_a_quota_stopped_goes_on(tmp_path: Path, batch_server: BatchServer, text: str) -> None:
    """What was refused for the account's sake is no failure of its prompt: the next session asks it."""
    job = batch_job(tmp_path, batch_server.url, [f"a {text}ONCE", f"b {text}ONCE"])
    first, second = ls.run_job(job, run="r"), ls.run_job(job, run="r")

    assert (first.state, first.failures) == ("stopped", 0)
    assert (second.state, answered(tmp_path / "store"), len(batch_server.batches)) == ("finished", names(2), 2)
    check_ledger(batch_server, tmp_path / "store")


def test_a_quota_that_ends_within_a_batch_stops_the_run(tmp_path: Path, batch_server: BatchServer) -> None:
    """The answers until then are kept, and the rest is asked when there is credit."""
    job = batch_job(tmp_path, batch_server.url, ["a", "b FAIL429QUOTAONCE"])
    first, second = ls.run_job(job, run="r"), ls.run_job(job, run="r")

    assert (first.state, first.answered, first.failures) == ("stopped", 1, 0)
    assert (second.state, answered(tmp_path / "store")) == ("finished", names(2))


def test_too_many_creations_are_waited_for(tmp_path: Path, batch_server: BatchServer) -> None:
    """The limit of creations an hour is a matter of time."""
    batch_server.max_creations = 1
    run(tmp_path, batch_server, questions(8))

    assert answered(tmp_path / "store") == names(8)
    check_ledger(batch_server, tmp_path / "store")


def test_the_key_of_another_project_does_not_see_the_batch(
    tmp_path: Path, batch_server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run stops and says so; with the right key it collects."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    ls.run_job(job, run="r", detach=True)
    monkeypatch.setenv("BATCH_KEY", "sk-of-another-project")
    stopped = ls.run_job(job, run="r")
    monkeypatch.setenv("BATCH_KEY", KEY)
    summary = ls.run_job(job, run="r")

    assert (stopped.state, "project" in (stopped.reason or "")) == ("stopped", True)
    assert (summary.state, answered(tmp_path / "store"), len(batch_server.batches)) == ("finished", names(4), 1)
    check_ledger(batch_server, tmp_path / "store")


def test_detached_batches_are_collected_later(tmp_path: Path, batch_server: BatchServer) -> None:
    """`detach` sends and ends; the same call collects."""
    job = batch_job(tmp_path, batch_server.url, questions(6))
    sent = ls.run_job(job, run="r", detach=True)
    collected = ls.run_job(job, run="r")

    assert (sent.state, sent.not_reached) == ("waiting", 6)
    assert (collected.state, answered(tmp_path / "store"), len(batch_server.batches)) == ("finished", names(6), 2)
    check_ledger(batch_server, tmp_path / "store")


def test_a_live_session_does_not_pay_for_what_is_under_way(tmp_path: Path, batch_server: BatchServer) -> None:
    """A run with batches under way is refused to a session that would ask the same calls live."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    ls.run_job(job, run="r", detach=True)
    live = override(ls.load_job(job), transport="live")

    with pytest.raises(ls.StoreError, match="under way"):
        ls.run_job(live, run="r")
    assert "live" not in batch_server.requests


def test_a_changed_job_collects_nothing(tmp_path: Path, batch_server: BatchServer) -> None:
    """A run without an answer may be changed, but not while batches of the old job are under way."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    ls.run_job(job, run="r", detach=True)
    changed = batch_job(tmp_path, batch_server.url, questions(4), model={"name": "other"})

    with pytest.raises(ls.RunChangedError, match="Collect its batches first"):
        ls.run_job(changed, run="r")


def test_failures_of_another_job_are_forgotten(tmp_path: Path, batch_server: BatchServer) -> None:
    """A job that was mended asks under the same name what its first try was refused."""
    batch_server.scripts = ["errors_only"]
    ls.run_job(batch_job(tmp_path, batch_server.url, questions(4)), run="r")
    mended = batch_job(tmp_path, batch_server.url, questions(4), model={"name": "other"})

    assert (ls.run_job(mended, run="r").failures, answered(tmp_path / "store")) == (0, names(4))


def test_the_deadline_asks_live_what_is_left(tmp_path: Path, batch_server: BatchServer) -> None:
    """At the deadline batches are cancelled, what they have is kept, and the rest is asked live: each call once."""
    batch_server.working = 10**6
    run(tmp_path, batch_server, questions(6), batch={"deadline": 1 / 3600, "fallback": "live"})

    assert answered(tmp_path / "store") == names(6)
    assert batch_server.requests.count("live") == 3  # of four and of two calls, half were done
    check_ledger(batch_server, tmp_path / "store")


def test_a_ceiling_is_kept(tmp_path: Path, batch_server: BatchServer) -> None:
    """Calls are sent as long as their worst case fits, and again when others have settled for less."""
    summary = run(tmp_path, batch_server, questions(12), limits={"max_cost_usd": 0.00013})

    assert batch_server.usd <= 0.00013
    assert (summary.state, 0 < len(answered(tmp_path / "store")) < 12) == ("stopped", True)
    assert len(batch_server.batches) > 1
    check_ledger(batch_server, tmp_path / "store")


REQUESTS = ("upload", "create", "get", "get again", "content")
"""The requests of a run of one batch."""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=REQUESTS)
def test_a_kill_at_any_request_leads_to_one_batch(
    tmp_path: Path, batch_server: BatchServer, number: int, when: str
) -> None:
    """A process that is killed before or after any request is followed by one that sends nothing twice."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    processes = []
    batch_server.kill = (number, when, lambda: processes[0].pid)
    processes.append(start(job))
    processes[0].communicate(timeout=60)
    last = start(job)
    said, _ = last.communicate(timeout=60)

    assert (processes[0].returncode, last.returncode) == (-9, 0), said.decode()
    assert (answered(tmp_path / "store"), len(batch_server.batches)) == (names(4), 1)
    check_ledger(batch_server, tmp_path / "store")


def test_ctrl_c_leaves_batches_under_way(tmp_path: Path, batch_server: BatchServer) -> None:
    """It ends at once, and says that the batches go on."""
    batch_server.working = 10**6
    process = start(batch_job(tmp_path, batch_server.url, questions(4), batch={"poll_s": 30}))
    until = time.monotonic() + 30
    while "get" not in batch_server.requests and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(15)
    asked = time.monotonic()
    said, _ = process.communicate(timeout=20)

    assert (process.returncode, time.monotonic() - asked < 5) == (130, True)
    assert "go on at the service" in said.decode()


def test_a_night_that_crosses_midnight_is_one_run(
    tmp_path: Path, batch_server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a name, the morning's command collects what the evening's has sent; the next evening has a new run."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    monkeypatch.setattr("logprob_store.run.naming.default_run_name", lambda _: "evening")
    ls.run_job(job, detach=True)
    monkeypatch.setattr("logprob_store.run.naming.default_run_name", lambda _: "morning")
    collected, another = ls.run_job(job), ls.run_job(job)

    assert (collected.run, collected.state, another.run) == ("evening", "finished", "morning")


@pytest.fixture
def evenings(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the name of today's run."""

    def set_name(name: str) -> None:
        monkeypatch.setattr("logprob_store.run.naming.default_run_name", lambda _: name)

    return set_name


def test_an_evening_collects_the_one_before_and_begins_its_own(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult], evenings: Callable[[str], None]
) -> None:
    """Where the morning's collection failed, tonight's calls are sent all the same."""
    job = batch_job(tmp_path, batch_server.url, questions(4), cache={"mode": "refresh"})
    evenings("monday")
    ls.run_job(job, detach=True)
    batch_server.validating = batch_server.working = 0
    evenings("tuesday")
    done = logprobs("run", job, "--detach")

    assert (done.code, len(batch_server.batches)) == (0, 2)
    assert [line.split(" ")[:3] for line in done.out.splitlines() if line.startswith("run ")] == [
        ["run", "monday", "finished"],
        ["run", "tuesday", "waiting"],
    ]


def test_an_evening_that_cannot_begin_says_so(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult], evenings: Callable[[str], None]
) -> None:
    """The exit code is not 0, so that a scheduler tells somebody."""
    batch_server.working = 10**6
    job = batch_job(tmp_path, batch_server.url, questions(4), cache={"mode": "refresh"})
    evenings("monday")
    ls.run_job(job, detach=True)
    evenings("tuesday")
    done = logprobs("run", job, "--detach")

    assert (done.code, "run tuesday, today's, is not begun: run monday is not over" in done.out) == (4, True)


def test_a_morning_begins_no_run(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult], evenings: Callable[[str], None]
) -> None:
    """Without --detach a command collects what is under way, and says that today's run is not begun."""
    job = batch_job(tmp_path, batch_server.url, questions(4), cache={"mode": "refresh"})
    evenings("monday")
    ls.run_job(job, detach=True)
    evenings("tuesday")
    done = logprobs("run", job, "--json")

    assert (done.code, len(batch_server.batches)) == (0, 1)
    assert [json.loads(done.out)[name] for name in ("run", "state", "not_begun")] == ["monday", "finished", "tuesday"]


def test_batches_that_wait_for_room_are_not_said_to_be_sent(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult]
) -> None:
    """Each further --detach sends the next one when one was collected."""
    job = batch_job(tmp_path, batch_server.url, questions(12), batch={"queued_tokens": 150})
    first = logprobs("run", job, "--run", "r", "--detach")
    begun = len(batch_server.batches)
    batch_server.validating = batch_server.working = 0
    second = logprobs("run", job, "--run", "r", "--detach", "--json")

    assert (first.code, begun, len(batch_server.batches)) == (0, 1, 2)
    assert "4 in batches, 8 not sent" in first.out
    assert "1 in_progress, 2 not begun; what is begun goes on at the service" in first.out
    assert "8 calls not sent" in first.out
    said = json.loads(second.out)
    assert (said["state"], said["unsent"], said["answered"], said["calls"]) == ("waiting", 4, 4, 4)


def test_calls_that_the_ceiling_has_no_room_for_are_not_said_to_be_sent(
    tmp_path: Path, batch_server: BatchServer
) -> None:
    """Of equal prompts, those that a batch has are not among them."""
    texts = ["a", "a", *questions(11)]
    job = batch_job(tmp_path, batch_server.url, texts, limits={"max_requests": 5})
    sent = ls.run_job(job, run="r", detach=True)

    assert (sent.state, sent.not_reached, sent.unsent) == ("waiting", 13, 7)


def test_the_calls_of_an_earlier_session_are_its_own(tmp_path: Path, batch_server: BatchServer) -> None:
    """A session counts the calls that it has made."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    first, second = ls.run_job(job, run="r", detach=True), ls.run_job(job, run="r")

    assert (first.calls, second.calls, second.answered) == (4, 0, 4)


@pytest.mark.slow
def test_two_schedulers_at_once_send_once(tmp_path: Path, batch_server: BatchServer) -> None:
    """The second process is refused while the first one writes the run."""
    batch_server.working = 50
    job = batch_job(tmp_path, batch_server.url, questions(4))
    processes = [start(job), start(job)]
    codes = sorted(process.wait(timeout=60) for process in processes)
    for process in processes:
        process.communicate()

    assert (codes, len(batch_server.batches)) == ([0, 2], 1)
    assert answered(tmp_path / "store") == names(4)


def test_files_for_a_program_are_written_and_read(tmp_path: Path) -> None:
    """For vLLM's `run-batch`: input files in a folder, and answers beside them, which another session collects."""
    folder = tmp_path / "vllm"
    job = batch_job(
        tmp_path,
        "http://127.0.0.1:1/v1",
        questions(6),
        model={"api_key_env": None, "provider": "vllm"},
        batch={"service": "vllm", "folder": "vllm"},
    )
    sent = ls.run_job(job, run="r", detach=True)
    assert (sent.state, "vllm run-batch -i" in sent.batches) == ("waiting", True)

    for path in folder.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        bodies = [(line["custom_id"], json.loads(answer_to(line["url"], line["body"]))) for line in lines]
        answers = [
            {"id": "vllm-1", "custom_id": name, "response": {"status_code": 200, "body": body}, "error": None}
            for name, body in bodies
        ]
        text = "".join(json.dumps(answer) + "\n" for answer in answers)
        path.with_suffix(".out.jsonl").write_text(text.rstrip("\n"))  # the last line may have no line feed
    assert ls.run_job(job, run="r").state == "finished"
    assert answered(tmp_path / "store") == names(6)


def test_cancelling_keeps_what_is_done(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult]
) -> None:
    """`batches --cancel` ends what is under way, and its answers get their rows."""
    batch_server.working = 10**6
    job = batch_job(tmp_path, batch_server.url, questions(4))
    ls.run_job(job, run="r", detach=True)
    done = logprobs("batches", str(tmp_path / "store"), "--run", "r", "--job", str(job), "--cancel")

    assert done.code == 0, done.err
    assert len(answered(tmp_path / "store")) == 2
    assert "cancelled" in logprobs("batches", str(tmp_path / "store"), "--json").out
    check_ledger(batch_server, tmp_path / "store")


def test_a_cancel_says_so_in_json(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult]
) -> None:
    """Nothing stands before it."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    ls.run_job(job, run="r", detach=True)
    done = logprobs("batches", tmp_path / "store", "--run", "r", "--job", job, "--cancel", "--json")

    said = json.loads(done.out)
    assert (said["run"]["run"], [batch["collected"] for batch in said["batches"]]) == ("r", [True])


def test_a_cancel_that_comes_too_late_finishes_the_run(
    tmp_path: Path, batch_server: BatchServer, logprobs: Callable[..., CommandResult]
) -> None:
    """Nothing was interrupted where every call has its answer."""
    job = batch_job(tmp_path, batch_server.url, questions(4))
    ls.run_job(job, run="r", detach=True)
    batch_server.validating = batch_server.working = 0
    for batch in batch_server.batches.values():
        batch.looks = 5
    logprobs("batches", tmp_path / "store", "--run", "r", "--job", job, "--cancel")

    [manifest] = ls.open_store(tmp_path / "store").manifests
    assert (manifest.state, answered(tmp_path / "store")) == ("finished", names(4))
    assert "4 by batch" in logprobs("status", tmp_path / "store").out


def test_collecting_warns_of_no_other_run(
    tmp_path: Path, batch_server: BatchServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What a run has under way itself, or has already, is paid for once."""
    job = batch_job(tmp_path, batch_server.url, questions(4), cache={"mode": "refresh"})
    ls.run_job(job, run="a", detach=True)
    ls.run_job(job, run="b", detach=True)
    warned = caplog.text.count("is paid for again")
    ls.run_job(job, run="a")
    ls.run_job(job, run="a")

    assert (warned, caplog.text.count("is paid for again")) == (1, 1)


ADVICE = {
    "model_mismatch": "model.name",
    "too_many_tasks": "Lower batch.lines",
    "empty_file": "did not arrive whole",
    "duplicate_custom_id": "did not arrive as it was sent",
    "brand_new": "Change what the job asks",
}


@pytest.mark.parametrize(("code", "advice"), ADVICE.items())
def test_a_refused_file_says_what_helps(tmp_path: Path, batch_server: BatchServer, code: str, advice: str) -> None:
    """Each code has its own remedy."""
    batch_server.scripts = [f"fail={code}"]
    reason = run(tmp_path, batch_server, questions(4)).reason or ""

    assert advice in reason
    assert ". The server: " in reason


@pytest.mark.parametrize(
    ("status", "advice"), [("400", "See what is in the way"), ("404", "Use the key of the project")]
)
def test_a_look_that_is_refused_says_what_helps(
    tmp_path: Path, batch_server: BatchServer, status: str, advice: str
) -> None:
    """Another project's key is not what every refusal means."""
    batch_server.faults = {"get": [status] * 1000}

    assert advice in (run(tmp_path, batch_server, questions(4)).reason or "")


def test_a_file_that_is_fetched_again_is_told_once(
    tmp_path: Path, batch_server: BatchServer, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is fetched."""
    batch_server.faults = {"content": ["404"] * 6}
    run(tmp_path, batch_server, questions(4), batch=PATIENT)

    assert caplog.text.count("its files are fetched again") == 1


def test_a_full_queue_is_asked_less_and_less_often(
    tmp_path: Path, batch_server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refused batch stays in the account's list."""
    waits: list[float] = []

    async def wait(_: BatchQueue, seconds: float | None) -> None:
        waits.append(seconds or 0.0)
        await asyncio.sleep(0)

    monkeypatch.setattr(BatchQueue, "wait_for_change", wait)
    batch_server.is_held = 5
    run(tmp_path, batch_server, questions(4))

    assert waits == pytest.approx([0.02 * 1.25**n for n in range(1, 6)])


def test_a_store_without_batches_says_so(
    tmp_path: Path, fault_server: ServerThread, logprobs: Callable[..., CommandResult]
) -> None:
    """The command is about runs that sent some."""
    write_prompts(tmp_path, {"text": ["a"]})
    ls.run_job(write_job(tmp_path, fault_server.url), run="r")

    assert "no batch" in logprobs("batches", str(tmp_path / "store")).out


@pytest.mark.parametrize(
    "sections",
    [
        {"cache": {"mode": "off"}},
        {"transport": {"tier": "flex"}},
        {"model": {"params": {"stream": True}}},
        {"batch": {"deadline": "06:00"}},
        {"batch": {"fallback": "live"}},
        {"batch": {"deadline": "25:00", "fallback": "live"}},
        {"batch": {"service": "vllm"}},
        {"batch": {"folder": "x"}},
        {"batch": {"service": "aws"}},
        {"batch": {"service": "groq"}, "model": {"endpoint": "responses"}},
        {"model": {"azure_api_version": "v1", "azure_deployment": "other"}},
        {"batch": {"lines": 0}},
        {"batch": {"megabytes": math.inf}},
        {"batch": {"poll_s": math.nan}},
        {"batch": {"deadline": math.nan, "fallback": "live"}},
        {"batch": {"service": "together"}},
        {"model": {"params": {"service_tier": "flex"}}},
    ],
)
def test_a_job_that_makes_no_sense_is_refused(tmp_path: Path, sections: dict[str, Any]) -> None:
    """Before anything is sent."""
    with pytest.raises(ls.JobError, match=r"batch|fallback|deadline|folder|service|lines"):
        ls.load_job(batch_job(tmp_path, "http://127.0.0.1:1/v1", questions(1), **sections))


def test_a_live_job_cannot_be_detached(tmp_path: Path) -> None:
    """There is nothing that would go on."""
    write_prompts(tmp_path, {"text": ["a"]})

    with pytest.raises(ls.JobError, match="only batches"):
        ls.run_job(write_job(tmp_path, "http://127.0.0.1:1/v1"), detach=True)
