"""What would have followed another token: one call of the job's server, or none."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import merge_sections, write_job, write_prompts
from explorer.conftest import serving_store

import logprob_store as ls
from logprob_store.schema import completion_id
from logprob_store.what_if.asking import WhatIf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from explorer.conftest import Answered, ExplorerServer

pytestmark = pytest.mark.slow

PRICES = {"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 10}


def job_of(folder: Path, url: str, **sections: Mapping[str, Any]) -> ls.Job:
    """A job of two prompts at a server, with a cache."""
    write_prompts(folder, {"text": ["Where is Kabul?", "Where is Bonn?"]})
    usual: dict[str, Mapping[str, Any]] = {"model": {"top_logprobs": 3, "params": {"temperature": 0, "max_tokens": 4}}}
    return ls.load_job(write_job(folder, url, **merge_sections(usual, sections)))


@contextlib.contextmanager
def explored(job: ls.Job) -> Iterator[ExplorerServer]:
    """The explorer of a job's store, with the job to ask by."""
    with WhatIf(job) as what_if, serving_store(job.store_folder, what_if) as server:
        yield server


def token_at(position: int, **changes: Any) -> dict[str, Any]:
    """A token of the answer to the first prompt."""
    return {"run": "r", "id": str(completion_id(0)), "section": "content", "position": str(position), **changes}


def offered(server: ExplorerServer, position: int, **changes: Any) -> Any:
    """What the page is told of the alternatives of a token."""
    query = "&".join(f"{name}={value}" for name, value in token_at(position, **changes).items())
    return server.get(f"/api/what_if?{query}").json


def go_on(server: ExplorerServer, position: int, rank: int = 2, **changes: Any) -> Answered:
    """Ask what follows the alternative of a rank."""
    return server.post("/api/go_on", {**token_at(position, **changes), "rank": str(rank)})


def written(job: ls.Job) -> tuple[list[str], list[list[str]]]:
    """The tokens of the answer to the first prompt, and their alternatives in the order of their ranks."""
    store = ls.open_store(job.store_folder)
    first = (pl.col("completion_id") == completion_id(0)) & (pl.col("section").cast(pl.String) == "content")
    tokens = store.tokens.filter(first).sort("position").collect()
    others = store.alternatives.filter(first).sort("position", "rank").collect()
    ranked = others.group_by("position", maintain_order=True).agg("token")["token"].to_list()
    return tokens["token"].to_list(), ranked


def texts(view: Any) -> list[str]:
    """The tokens of a view."""
    return [token[1] for section in view["sections"] for _, tokens in section["spans"] for token in tokens]


@pytest.fixture
def chat_job(tmp_path: Path, fault_server: Any) -> ls.Job:
    """A chat job whose run `r` is finished."""
    job = job_of(tmp_path, fault_server.url)
    ls.run_job(job, run="r")
    return job


def test_chat_goes_on_with_the_message_of_the_assistant(chat_job: ls.Job, fault_server: Any) -> None:
    """One call, with the text so far, the alternative, and the flags by which servers continue a message."""
    tokens, others = written(chat_job)
    with explored(chat_job) as server:
        answered = go_on(server, 2)

    (body,) = fault_server.bodies[2:]
    assert answered.status == 200
    assert body["messages"] == [
        {"role": "user", "content": "Where is Kabul?"},
        {"role": "assistant", "content": f"{tokens[0]}{tokens[1]}{others[2][1]}"},
    ]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert (body["temperature"], body["max_tokens"], body["top_logprobs"]) == (0, 4, 3)


def test_completions_go_on_with_the_prompt(tmp_path: Path, fault_server: Any) -> None:
    """The text so far and the alternative stand behind it; one choice is asked for, and the prompt not echoed."""
    params = {"max_tokens": 4, "n": 2, "echo": True}
    job = job_of(tmp_path, fault_server.url, model={"endpoint": "completions", "params": params})
    ls.run_job(job, run="r")
    tokens, others = written(job)
    with explored(job) as server:
        answered = go_on(server, 1)

    (body,) = fault_server.bodies[2:]
    assert answered.status == 200, answered.json
    assert body["prompt"] == f"Where is Kabul?{tokens[0]}{others[1][1]}"
    assert (body["n"], body["echo"]) == (1, False)


def test_the_answer_stands_beside_the_original(chat_job: ls.Job) -> None:
    """Both have what they share; then the one has the alternative and what followed it."""
    tokens, others = written(chat_job)
    with explored(chat_job) as server:
        answered = go_on(server, 2).json

    original, instead = answered["sides"]
    assert answered["position"] == 2
    assert texts(original) == tokens
    assert texts(instead)[:3] == [*tokens[:2], others[2][1]]
    assert len(texts(instead)) == 3 + 4  # max_tokens
    assert [token[0] for _, held in instead["sections"][0]["spans"] for token in held] == list(range(7))
    assert answered["source"] == "api"


def test_asked_again_it_comes_from_the_cache(chat_job: ls.Job, fault_server: Any) -> None:
    """The second time asks nothing, in this explorer and in the next, and the key is the cache's."""
    with explored(chat_job) as server:
        first = go_on(server, 2).json
        calls = len(fault_server.calls)
        again = go_on(server, 2).json
    with explored(chat_job) as server:
        later = go_on(server, 2).json

    assert len(fault_server.calls) == calls
    assert first["request_key"] == again["request_key"] == later["request_key"]
    assert first["sides"] == again["sides"] == later["sides"]
    assert (first["source"], again["source"], later["source"]) == ("api", "cache", "cache")


def test_without_a_job_no_call_can_be_made(chat_job: ls.Job, fault_server: Any) -> None:
    """Nothing is offered, and who asks all the same is told how to start the explorer."""
    calls = len(fault_server.calls)
    with serving_store(chat_job.store_folder) as server:
        nothing, answered = offered(server, 2), go_on(server, 2)

    assert nothing is None
    assert (answered.status, "--job JOB.toml" in answered.json["error"]) == (404, True)
    assert len(fault_server.calls) == calls


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site"}])
def test_another_site_makes_no_call(chat_job: ls.Job, fault_server: Any, headers: dict[str, str]) -> None:
    """Though its request brings the cookie."""
    calls = len(fault_server.calls)
    with explored(chat_job) as server:
        refused = server.post("/api/go_on", {**token_at(2), "rank": "2"}, **headers)
        form = server.post("/api/go_on", {**token_at(2), "rank": "2"}, content_type="text/plain")

    assert (refused.status, form.status) == (403, 415)
    assert len(fault_server.calls) == calls


def test_a_get_makes_no_call(chat_job: ls.Job, fault_server: Any) -> None:
    """As a link or a picture would send it."""
    calls = len(fault_server.calls)
    with explored(chat_job) as server:
        offered(server, 2)
        refused = server.get("/api/go_on?run=r&id=0&section=content&position=2&rank=2")

    assert refused.status == 405
    assert len(fault_server.calls) == calls


def test_what_can_be_asked_is_listed_as_the_token_s_page_lists_it(chat_job: ls.Job) -> None:
    """An alternative's place in both lists is the same, and its rank leads to it."""
    with explored(chat_job) as server:
        query = "&".join(f"{name}={value}" for name, value in token_at(1).items())
        shown = server.get(f"/api/token?{query}").json["tokens"]["sections"][0]["spans"][0][1][0][6]
        listed = offered(server, 1)["alternatives"]
        instead = [texts(go_on(server, 1, rank=one["rank"]).json["sides"][1])[1] for one in listed]

    assert instead == [text for text, _, _ in shown]


# budget


def test_a_ceiling_refuses_before_any_call(tmp_path: Path, fault_server: Any) -> None:
    """A sentence says which; no call is made."""
    ls.run_job(job_of(tmp_path, fault_server.url), run="r")
    calls = len(fault_server.calls)
    job = job_of(tmp_path, fault_server.url, limits={"max_cost_usd": 1e-9}, prices=PRICES)
    with explored(job) as server:
        refused = go_on(server, 2)

    assert refused.status == 502
    assert refused.json["error"].startswith("limits.max_cost_usd = 1e-09 allows no further call")
    assert len(fault_server.calls) == calls


def test_a_ceiling_holds_for_all_calls_of_an_explorer(tmp_path: Path, fault_server: Any) -> None:
    """The second call is refused under a ceiling of one, and the first may be seen again from the cache."""
    ls.run_job(job_of(tmp_path, fault_server.url), run="r")
    calls = len(fault_server.calls)
    with explored(job_of(tmp_path, fault_server.url, limits={"max_requests": 1})) as server:
        answered = [go_on(server, position) for position in (1, 2, 1)]

    assert [one.status for one in answered] == [200, 502, 200]
    assert "limits.max_requests = 1" in answered[1].json["error"]
    assert len(fault_server.calls) == calls + 1


def test_a_ceiling_of_the_job_counts_its_runs(tmp_path: Path, fault_server: Any) -> None:
    """What the run spent leaves room for one call, which the shared ledger counts for the next explorer too."""
    job = job_of(tmp_path, fault_server.url, limits={"job_max_requests": 3})
    ls.run_job(job, run="r")
    with explored(job) as server:
        first = go_on(server, 1)
    with explored(job) as server:
        second = go_on(server, 2)

    assert (first.status, second.status) == (200, 502)
    assert "limits.job_max_requests = 3" in second.json["error"]
    assert len(fault_server.calls) == 3


def test_runs_from_before_a_ceiling_of_the_job_count(tmp_path: Path, fault_server: Any) -> None:
    """The ledger did not know of them."""
    ls.run_job(job_of(tmp_path, fault_server.url), run="r")
    with explored(job_of(tmp_path, fault_server.url, limits={"job_max_requests": 2})) as server:
        refused = go_on(server, 1)

    assert refused.status == 502
    assert len(fault_server.calls) == 2


def test_the_most_that_a_call_can_cost_is_said_before(tmp_path: Path, fault_server: Any) -> None:
    """A token for each byte of the request at the input's price, and the maximum of output tokens at the output's."""
    ls.run_job(job_of(tmp_path, fault_server.url), run="r")
    with explored(job_of(tmp_path, fault_server.url, prices=PRICES)) as server:
        (_, second, *_) = offered(server, 2)["alternatives"]
        go_on(server, 2, rank=second["rank"])

    sent = len(fault_server.calls[-1].body.encode())
    assert second["most_usd"] == pytest.approx((sent * 1 + 4 * 10) / 1e6)


def test_nothing_is_written_into_the_runs(chat_job: ls.Job) -> None:
    """The files of the store are as they were."""

    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in chat_job.store_folder.rglob("*") if path.is_file()}

    with explored(chat_job) as server:
        before = files()
        go_on(server, 2)

        assert files() == before


# failures


def test_a_second_call_is_refused_while_one_is_under_way(chat_job: ls.Job, fault_server: Any) -> None:
    """The explorer answers other questions meanwhile, and the first call gets its answer."""
    fault_server.script("drip:seconds=1")
    with explored(chat_job) as server:
        offered(server, 2)
        answers: list[Answered] = []
        thread = threading.Thread(target=lambda: answers.append(go_on(server, 2)))
        thread.start()
        _wait_for(lambda: fault_server.behaviour.in_flight)
        refused, began = go_on(server, 1), time.monotonic()
        overview = server.get("/api/overview")
        took = time.monotonic() - began
        thread.join()

    assert (refused.status, "under way" in refused.json["error"]) == (400, True)
    assert overview.status == 200
    assert took < 0.5
    assert answers[0].status == 200
    assert len(fault_server.calls) == 3


def test_the_explorer_ends_while_a_call_is_under_way(chat_job: ls.Job, fault_server: Any) -> None:
    """It does not wait for the server, and says so to who waits for the answer."""
    fault_server.script("hang")
    with explored(chat_job) as server:
        server.enter()
        answers: list[Answered] = []
        thread = threading.Thread(target=lambda: answers.append(go_on(server, 2)))
        thread.start()
        _wait_for(lambda: fault_server.behaviour.in_flight)
        began = time.monotonic()
    took = time.monotonic() - began
    thread.join()

    assert (answers[0].status, answers[0].json["error"]) == (503, "the explorer was ended before the answer came")
    assert took < 2  # seconds, after which the server would cut it off


def test_a_failed_call_is_tried_again(chat_job: ls.Job, fault_server: Any) -> None:
    """By the job's retry."""
    fault_server.script("500")
    with explored(chat_job) as server:
        answered = go_on(server, 2)

    assert answered.status == 200
    assert len(fault_server.calls) == 4


def test_a_refusal_of_the_server_is_said(chat_job: ls.Job, fault_server: Any) -> None:
    """In its words, and the next call is made all the same."""
    fault_server.script("400")
    with explored(chat_job) as server:
        refused, answered = go_on(server, 2), go_on(server, 2)

    assert (refused.status, "unwell" in refused.json["error"]) == (502, True)
    assert answered.status == 200


def test_an_answer_without_logprobs_is_said(chat_job: ls.Job, fault_server: Any) -> None:
    """It has nothing to show."""
    fault_server.script("null")
    with explored(chat_job) as server:
        refused = go_on(server, 2)

    assert refused.status == 502
    assert "though asked for" in refused.json["error"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": 9}, "token 2 has no alternative of rank 9"),
        ({"rank": "x"}, "write a whole number"),
        ({"position": "77"}, "no token 77"),
        ({"section": "tool"}, "no token 2 in its section 'tool'"),
        ({"run": "other"}, "is not open here"),
    ],
)
def test_what_is_not_there_is_not_asked(chat_job: ls.Job, fault_server: Any, changes: Any, words: str) -> None:
    """The answer says what is wrong."""
    with explored(chat_job) as server:
        refused = server.post("/api/go_on", {**token_at(2), "rank": "2", **changes})

    assert (refused.status, words in refused.json["error"]) == (400, True)
    assert len(fault_server.calls) == 2


@pytest.mark.usefixtures("chat_job")
def test_another_model_is_not_asked(tmp_path: Path, fault_server: Any) -> None:
    """What it would have gone on with says nothing about the one that wrote the answer."""
    job = job_of(tmp_path, fault_server.url, model={"name": "other"})
    with explored(job) as server:
        listed = offered(server, 2)["alternatives"]

    assert {one["refused"] for one in listed} == {"the answer is by m, and the job asks other: name a job that asks it"}


def test_a_job_that_asks_otherwise_is_said(chat_job: ls.Job, tmp_path: Path, fault_server: Any) -> None:
    """With other parameters another answer might have followed anyway."""
    otherwise = job_of(tmp_path, fault_server.url, model={"params": {"temperature": 1, "max_tokens": 4}})
    notes = []
    for job in (chat_job, otherwise):
        with explored(job) as server:
            notes.append(offered(server, 2)["note"])

    assert notes[0] is None
    assert notes[1].startswith("The job asks otherwise than this answer was asked")


def _wait_for(condition: Any) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
