"""Interrupted and killed runs go on: the tables are the same in the end, and no answer is asked for twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fault_accounts import differences
from hypothesis import settings

from logprob_store.cache.answers import AnswerCache
from logprob_store.request import request_key
from logprob_store.store.verifying import verify_store

PROMPTS = 300


def key_of(call: dict[str, Any]) -> str:
    """The request key of a call in the ledger."""
    return request_key(json.loads(call["body"]), endpoint="chat", provider="test")


def cached(folder: Path) -> set[str]:
    """The keys in the workplace's cache."""
    if not (folder / "cache").exists():
        return set()
    with AnswerCache(folder / "cache") as cache:
        return set(cache.keys())


@pytest.mark.slow
def test_killed_at_twenty_random_moments(workplace: Any, serve: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Killed with -9 twenty times, a job ends with the tables of a calm run and asks for no cached answer."""
    server = serve("--delay-ms", "60")
    calm = type(workplace)(tmp_path_factory.mktemp("calm"))
    assert calm.run("run", calm.job(server.url, prompts=PROMPTS, part_bytes=200_000), "--run", "r").returncode == 0
    before = len(server.calls())
    job = workplace.job(server.url, prompts=PROMPTS, part_bytes=200_000)
    had: list[tuple[int, set[str]]] = []
    chance = random.Random(7)  # noqa: S311  no secret

    for _ in range(20):
        process = workplace.start("run", job, "--run", "r")
        time.sleep(chance.uniform(0.3, 1.6))
        process.kill()
        process.communicate()
        had.append((len(server.calls()), cached(workplace.folder)))
    last = workplace.run("run", job, "--run", "r")

    assert last.returncode == 0, last.stderr
    expected, actual = calm.tables(), workplace.tables()
    marked = set(actual["completions"].filter("maybe_billed")["request_key"])
    for name, rows in expected.items():
        without = actual[name].drop("maybe_billed", strict=False)
        assert without.equals(rows.drop("maybe_billed", strict=False)), name
    calls = server.calls()
    for count, keys in had:
        assert [call["body"] for call in calls[count:] if key_of(call) in keys] == []
    # Each kill loses at most the calls that were under way: 8 at once.
    asked = Counter(call["body"] for call in calls[before:])
    assert {key_of({"body": body}) for body, times in asked.items() if times > 1} <= marked
    assert len(asked) == PROMPTS
    assert sum(asked.values()) <= PROMPTS + 20 * 8


@pytest.mark.slow
def test_an_answer_in_place_of_a_useless_one_survives_a_kill(workplace: Any, serve: Any) -> None:
    """A prompt that is asked anew, and killed before its part is written, is not asked a third time."""
    server = serve("--when", "word-3 =null,ok", "--when", "word-5 =null,hang,ok")
    job = workplace.job(server.url, prompts=6)
    assert workplace.run("run", job, "--run", "r").returncode == 3
    (key,) = workplace.tables()["failures"].filter(prompt_id="p3")["request_key"]
    process = workplace.start("run", job, "--run", "r")
    until, renewed = time.monotonic() + 30, False
    while not renewed and time.monotonic() < until:
        with AnswerCache(workplace.folder / "cache") as cache:
            renewed = cache.get(key).meta.maybe_billed
        time.sleep(0.05)
    process.kill()
    process.communicate()

    last = workplace.run("run", job, "--run", "r")

    assert renewed
    assert last.returncode == 0, last.stderr
    assert sum("word-3 " in call["body"] for call in server.calls()) == 2
    rows = workplace.tables()["completions"]
    assert set(rows.filter("maybe_billed")["prompt_id"]) == {"p3", "p5"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["ctrl-c", "sigterm", "sighup"])
def test_interrupt_commits_and_tells_how_to_go_on(workplace: Any, serve: Any, number: signal.Signals) -> None:
    """An interrupt waits for calls under way, commits their answers and exits with 130; the same command finishes."""
    server = serve("--delay-ms", "100")
    job = workplace.job(server.url, prompts=200, concurrency=4)
    process = workplace.start("run", job, "--run", "r")
    while len(server.calls()) < 20:
        time.sleep(0.02)
    process.send_signal(number)
    started = time.monotonic()
    out, _ = process.communicate(timeout=30)

    assert process.returncode == 130
    assert time.monotonic() - started < 15
    assert "the same command goes on from here" in out
    stored = workplace.tables()["completions"].height
    calls = server.calls()
    assert stored == len(calls)  # whatever was answered is stored

    assert workplace.run("run", job, "--run", "r").returncode == 0
    assert workplace.tables()["completions"].height == 200
    assert max(Counter(call["body"] for call in server.calls()).values()) == 1


@pytest.mark.slow
def test_interrupt_of_a_hanging_server_is_maybe_billed(workplace: Any, serve: Any) -> None:
    """Calls still at the server after the grace period are failures that may have been billed."""
    server = serve("--script", "hang*3")
    job = workplace.job(server.url, prompts=3, concurrency=3)
    process = workplace.start("run", job, "--run", "r")
    workplace.wait_until_sent(3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 130
    failures = workplace.tables()["failures"]
    assert failures["error_type"].to_list() == ["interrupted"] * 3
    assert failures["maybe_billed"].to_list() == [True] * 3
    assert workplace.run("run", job, "--run", "r").returncode == 0
    assert workplace.tables()["failures"].height == 0


@pytest.mark.slow
def test_second_run_asks_nothing(workplace: Any, serve: Any) -> None:
    """Started again, a finished run makes no call; another run takes all answers from the cache."""
    server = serve()
    job = workplace.job(server.url, prompts=20)
    assert workplace.run("run", job, "--run", "r").returncode == 0

    again = workplace.run("run", job, "--run", "r")
    other = workplace.run("run", job, "--run", "s")

    assert "nothing had to be asked again" in again.stdout
    assert "0 from the server, 20 from the cache" in other.stdout
    assert len(server.calls()) == 20


@pytest.mark.slow
def test_faults_become_rows_and_are_asked_again(workplace: Any, serve: Any) -> None:
    """Failed prompts are failure rows and exit code 3; the next session asks only these, and the rows go."""
    server = serve(
        "--when", "word-3 =400", "--when", "word-5 =truncated,malformed,empty,400", "--script", "429:retry-after=0"
    )
    job = workplace.job(server.url, prompts=10)
    first = workplace.run("run", job, "--run", "r")
    failures = workplace.tables()["failures"]

    assert first.returncode == 3, first.stderr
    assert failures["prompt_id"].to_list() == ["p3", "p5"]
    assert failures["error_type"].to_list() == ["invalid_request", "invalid_request"]
    assert failures["attempts"].to_list() == [1, 4]
    before = len(server.calls())
    assert workplace.run("run", job, "--run", "r").returncode == 0
    assert len(server.calls()) == before + 2
    assert workplace.tables()["failures"].height == 0
    assert workplace.tables()["completions"]["prompt_id"].to_list() == [f"p{n}" for n in range(10)]


@pytest.mark.slow
def test_two_processes_one_run(workplace: Any, serve: Any) -> None:
    """A second process on the same run is refused at once and harms nothing."""
    server = serve("--delay-ms", "200")
    job = workplace.job(server.url, prompts=2000, concurrency=4)
    first = workplace.start("run", job, "--run", "r")
    while not server.calls():
        time.sleep(0.02)
    second = workplace.run("run", job, "--run", "r")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)

    assert second.returncode == 2
    assert f"being written by process {first.pid} " in second.stderr
    assert first.returncode == 130
    assert workplace.tables()["completions"].height == len(server.calls())


@pytest.mark.slow
def test_killed_at_each_change_of_the_disk(
    workplace: Any, serve: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Killed before its first change of the disk, its second, its third ...: each time the store is whole.

    Before each of them in the profile `soak`, before every 31st in the usual suite.
    """
    prompts = 90
    step = 1 if settings.get_current_profile_name() == "soak" else 31
    server = serve("--when", "word-1=400", "--when", "word-2=truncated")
    job = workplace.job(server.url, prompts=prompts, part_bytes=1, concurrency=1)
    code, deaths, limit = -signal.SIGKILL, 1 - step, 0
    while code == -signal.SIGKILL:
        limit = min(limit + step, prompts)  # each session has something to ask, to commit and to end
        deaths += step
        command = [sys.executable, Path(__file__).with_name("dying.py"), str(deaths), "run", job, "--run", "r"]
        done = subprocess.run(
            [*command, "--limit", str(limit)], cwd=workplace.folder, capture_output=True, text=True, check=False
        )
        code = done.returncode
        if (workplace.folder / "store" / "runs" / "run=r" / "run.json").exists():
            assert verify_store(workplace.folder / "store") == [], f"killed before change {deaths}"
    assert code in {0, 3}, done.stderr
    assert deaths > 25  # a session changes the disk at least as often as that
    for _ in range(2):
        last = workplace.run("run", job, "--run", "r")

    calm = type(workplace)(tmp_path_factory.mktemp("calm"))
    assert calm.run("run", calm.job(serve().url, prompts=prompts), "--run", "r").returncode == 0
    assert last.returncode == 0, last.stderr
    assert differences(workplace.folder / "store", calm.folder / "store") == []


@pytest.mark.slow
def test_answers_that_a_crash_took_from_the_cache_are_marked(workplace: Any, serve: Any) -> None:
    """Killed, and the tail of the cache damaged: what is asked a second time says so in its row."""
    server = serve("--delay-ms", "20")
    job = workplace.job(server.url, prompts=200)
    process = workplace.start("run", job, "--run", "r")
    while len(server.calls()) < 60:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    (workplace.folder / "cache" / "cache.db-wal").unlink()

    done = workplace.run("run", job, "--run", "r")

    asked = Counter(call["body"] for call in server.calls())
    rows = workplace.tables()["completions"].sort("prompt_index")
    marked = rows.filter("maybe_billed")["prompt_id"].to_list()
    twice = {f"p{json.loads(body)['messages'][-1]['content'].split()[1].removeprefix('word-')}" for body in asked
             if asked[body] > 1}  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(twice) > 8
    assert twice <= set(marked)
    assert rows.height == 200
    assert "are gone from the cache" in done.stderr
