"""A store that grows while it is explored, and one that may only be read."""

from __future__ import annotations

import http.client
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import open_writer
from explorer.explored_store import FIRST, add_part, answers_table

from logprob_store.analysis.opened_store import open_store
from logprob_store.errors import InputError, StoreError
from logprob_store.explorer import exporting
from logprob_store.explorer.exploring import Exploring, newest_runs
from logprob_store.explorer.server import serve_exploring
from logprob_store.explorer.sql import AskedQuery

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_is_new_is_offered_and_then_shown(tmp_path: Path) -> None:
    """A run under way brings answers, and another run begins."""
    store = tmp_path / "store"
    with open_writer(store) as writer:
        add_part(writer, answers_table({0: FIRST[0]}), 0)
        with Exploring(lambda: open_store(store)) as exploring:
            assert exploring.news() == {"new_answers": 0, "new_runs": [], "under_way": ["r"]}

            add_part(writer, answers_table({1: FIRST[1], 2: FIRST[2]}), 1, 2)
            with open_writer(store, "later") as later:
                add_part(later, answers_table({0: FIRST[0]}), 0)
            assert exploring.news() == {"new_answers": 2, "new_runs": ["later"], "under_way": ["r"]}

            exploring.refresh()
            assert exploring.questions.rows["prompt_id"].to_list() == ["p0", "p1", "p2", "p0"]
            assert exploring.news()["new_answers"] == 0
            assert exploring.sql.ask("select count(*) as n from scores")["rows"] == [[4]]


def test_a_store_that_may_only_be_read_is_prepared_elsewhere(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said; the store stays as it is, and what was prepared is removed at the end."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = sorted(store.rglob("*"))
    said: list[str] = []

    with Exploring(lambda: open_store(store), say=said.append) as exploring:
        rows = exploring.questions.rows.height
        scores = exploring.sql.ask("select count(*) as n from scores")["rows"]
        folder = Path(said[0].partition("goes into ")[2].partition(" until")[0])
        assert folder.is_dir()

    assert (rows, scores) == (7, [[6]])
    assert said[0].startswith(f"{store} may only be read")
    assert not folder.exists()
    assert sorted(store.rglob("*")) == before


def test_a_store_without_a_run_cannot_be_explored(tmp_path: Path) -> None:
    """The error says what makes one."""
    (tmp_path / "runs").mkdir()

    with pytest.raises(InputError, match=r"has no run yet; `logprobs run JOB\.toml` makes one"):
        Exploring(lambda: open_store(tmp_path))


@pytest.mark.parametrize(("most", "runs"), [(100, ["one", "two"]), (5, ["two"]), (1, ["two"])])
def test_older_runs_are_left_out_of_a_large_store(store: Path, most: int, runs: list[str]) -> None:
    """Each of the two has three answers; the newest run is there whatever its size."""
    assert newest_runs(open_store(store), most) == runs


def test_a_port_that_is_taken_is_said(explorer_server: Any) -> None:
    """With what to do."""
    with pytest.raises(InputError, match=f"--port {explorer_server.port}: cannot be listened on"):
        serve_exploring(explorer_server.exploring, port=explorer_server.port)


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("/api/completion?run=one&id=0", lambda answer: answer["text"] == "Yes."),
        ("/api/failure?run=one&prompt_index=3&sample_index=0", lambda answer: answer["error_type"] == "timeout"),
        ("/api/compare?a_run=one&a_id=0&b_run=two&b_id=0", lambda answer: answer["difference"] == ["content", 1]),
        ("/api/token?run=one&id=0&section=content&position=0", lambda answer: answer["prompt_id"] == "p0"),
        ("/api/rows?run=one&run=two&sort=confidence&size=1", lambda answer: answer["pages"] == 7),
        ("/api/histogram?score=confidence&run=one", lambda answer: answer["missing"] == 1),
        ("/api/values?column=error_type", lambda answer: answer == [["timeout", 1]]),
        ("/api/news", lambda answer: answer["new_answers"] == 0),
    ],
)
def test_the_server_answers_in_json(explorer_server: Any, path: str, ask: Callable[[Any], bool]) -> None:
    """Each question of the page."""
    answer = explorer_server.get(path)

    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert ask(answer.json)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/completion?run=one", "id is missing in the address"),
        ("/api/completion?run=one&id=x", "id=x: write a whole number"),
        ("/api/completion?run=one&id=9", "run one has no completion 9"),
        ("/api/histogram?run=one", "score is missing in the address"),
        ("/api/histogram?score=colour", "colour: there is no such score"),
        ("/export?format=xls", "format=xls: write csv or parquet"),
        ("/export?colour=red", "colour: there is no such filter"),
    ],
)
def test_a_wrong_question_is_answered_in_words(explorer_server: Any, path: str, said: str) -> None:
    """As JSON, with the status of a bad request."""
    answer = explorer_server.get(path)

    assert answer.status == 400
    assert answer.json["error"].startswith(said)


@pytest.mark.parametrize(
    ("body", "status"), [(b"no JSON", 400), (b"[]", 400), (b'{"query":"' + b"x" * 100_001 + b'"}', 413)]
)
def test_a_wrong_body_is_refused(explorer_server: Any, body: bytes, status: int) -> None:
    """Before anybody reads it whole."""
    assert explorer_server.post_raw("/api/sql", body).status == status


def test_a_slip_in_a_query_is_no_failed_request(explorer_server: Any) -> None:
    """A browser would log that as an error of the page; the answer says what is wrong."""
    answer = explorer_server.post("/api/sql", {"query": "select nothing from scores"})

    assert answer.status == 200
    assert answer.json["error"].startswith('unable to find column "nothing"')


def test_a_file_is_downloaded_under_a_name(explorer_server: Any) -> None:
    """As an attachment, which no page shows."""
    answer = explorer_server.get("/export?format=csv&run=one")

    assert answer.headers["content-disposition"] == 'attachment; filename="selection.csv"'
    assert len(answer.body.splitlines()) == 5


def test_a_part_that_is_gone_is_said(own_explorer_server: Any, store: Path) -> None:
    """The page stays, and names the command that looks for damage."""
    (store / "tokens" / "run=one" / "part-00000.parquet").unlink()

    answer = own_explorer_server.get("/api/completion?run=one&id=0")

    assert answer.status == 500
    assert "`logprobs verify STORE`" in answer.json["error"]


def test_a_server_that_is_stopped_before_it_runs_ends_at_once(explored: Exploring) -> None:
    """As by Ctrl-C as soon as its address is there. Its port is free then."""
    served = serve_exploring(explored)
    served.stop()
    served.run()

    again = serve_exploring(explored, port=served.port)
    again.stop()
    again.run()


ENDLESS = {"query": "with recursive t as (select 1 as n union all select n + 1 from t) select count(*) from t"}


def test_slow_queries_hold_up_no_other_question(explorer_server: Any) -> None:
    """However many there are: each ends the one before, and the last one waits in a thread of its own."""
    explorer_server.enter()
    with ThreadPoolExecutor(45) as clients:
        asked = [clients.submit(explorer_server.post, "/api/sql", ENDLESS) for _ in range(45)]
        began = time.monotonic()
        rows = explorer_server.get("/api/rows").status
        took = time.monotonic() - began
        answer = explorer_server.post("/api/sql", {"query": "select count(*) as n from failures"}).json
        ended = [one.result().json["error"] for one in asked]

    assert (rows, answer.get("rows")) == (200, [[1]])
    assert took < 5
    assert set(ended) == {"a newer query was asked before this one was answered; one is answered at a time"}


def test_a_query_ends_when_its_client_is_gone(own_explorer_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes on computing for nobody."""
    whys: list[str] = []
    monkeypatch.setattr(AskedQuery, "end", lambda _, why: whys.append(why))
    own_explorer_server.enter()
    connection = http.client.HTTPConnection("127.0.0.1", own_explorer_server.port)
    headers = {"content-type": "application/json", "cookie": own_explorer_server.cookie}
    body = json.dumps(ENDLESS)
    connection.request("POST", "/api/sql", body, {**headers, "x-logprobs-secret": own_explorer_server.secret})
    time.sleep(0.5)
    connection.close()
    time.sleep(1)
    monkeypatch.undo()
    own_explorer_server.exploring.sql.close()

    assert whys[:1] == ["nobody waits for the answer any more"]


@pytest.mark.parametrize("body", [b"[" * 99_000, b'{"query":' * 10_000])
def test_a_body_of_brackets_is_refused(explorer_server: Any, body: bytes) -> None:
    """In words, though a reader of JSON gives up otherwise than at a slip."""
    answer = explorer_server.post_raw("/api/sql", body)

    assert (answer.status, answer.json) == (400, {"error": "send a JSON object"})


def cut_answers(store: Path, part: int) -> None:
    """Damage the answers of a part of run `one` after it was opened."""
    (store / "completions" / "run=one" / f"part-0000{part}.parquet").write_bytes(b"PAR1")


def test_a_download_that_cannot_begin_is_refused(own_explorer_server: Any, store: Path) -> None:
    """In words, with no empty file."""
    cut_answers(store, 0)

    answer = own_explorer_server.get("/export?format=csv")

    assert answer.status == 500
    assert "`logprobs verify STORE`" in answer.json["error"]


def test_a_download_that_cannot_go_on_is_broken_off(
    own_explorer_server: Any, store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The browser sees no end, and the terminal has a sentence and no traceback."""
    monkeypatch.setattr(exporting, "_ROWS_AT_ONCE", 2)
    said: list[str] = []
    monkeypatch.setattr(own_explorer_server.exploring, "say", said.append)
    cut_answers(store, 1)

    with pytest.raises(http.client.IncompleteRead):
        own_explorer_server.get("/export?format=csv")

    assert said[0].startswith("a download was broken off: ")
    assert "Traceback" not in capfd.readouterr().err


def damage(store: Path, run: str) -> None:
    """Cut a file of a run short."""
    file = store / "tokens" / f"run={run}" / "part-00000.parquet"
    file.write_bytes(file.read_bytes()[:100])


def test_a_damaged_run_is_left_out_and_said(store: Path) -> None:
    """In a sentence that says what to do, and on the page; it is no new run."""
    damage(store, "two")
    said: list[str] = []

    with Exploring(lambda: open_store(store), leave_out_damaged=True, say=said.append) as exploring:
        overview = exploring.questions.overview
        news = exploring.news()
        tables = exploring.sql.ask("select distinct run from tokens")["rows"]

    assert [run["run"] for run in overview["runs"]] == ["one"]
    assert list(overview["left_out"]) == ["two"]
    assert f"run two is left out, as it is damaged: {overview['left_out']['two']}" in said
    assert f"`logprobs verify {store} --repair`" in overview["left_out"]["two"]
    assert (news["new_runs"], tables) == ([], [["one"]])


def test_a_damaged_run_that_is_named_is_an_error(store: Path) -> None:
    """Which says how the others are opened."""
    damage(store, "two")

    with pytest.raises(StoreError, match=r"run two is damaged: .*part-00000.* Without --run, the other runs are ope"):
        Exploring(lambda: open_store(store, runs="two"))


def test_a_store_of_damaged_runs_cannot_be_explored(store: Path) -> None:
    """Nothing is left to show."""
    damage(store, "one")
    damage(store, "two")

    with pytest.raises(StoreError, match="run two is damaged: "):
        Exploring(lambda: open_store(store), leave_out_damaged=True)
