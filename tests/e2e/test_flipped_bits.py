"""One bit of the cache or of a part changes: it is found, or it does no harm. No prompt gets another one's answer."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts
from hypothesis import settings

import logprob_store as ls
from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import CacheError, DiskError, RunNotFoundError
from logprob_store.store.removal import remove_run
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = 40


def flips() -> int:
    """How many bits are tried: ten times as many in the profile `soak`."""
    return 1000 if settings.get_current_profile_name() == "soak" else 100


def flip(path: Path, rng: random.Random) -> int:
    """Change one random bit of a file; returns its number."""
    raw = bytearray(path.read_bytes())
    bit = rng.randrange(len(raw) * 8)
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    return bit


@pytest.fixture
def answered(tmp_path: Path, fault_server: Any) -> ls.Job:
    """A job whose answers are all in the cache, in the database file itself, and in a finished run."""
    write_prompts(tmp_path, {"text": [f"prompt {number}" for number in range(PROMPTS)]})
    job = ls.load_job(write_job(tmp_path, fault_server.url, model={"provider": "test", "params": {"max_tokens": 5}}))
    ls.run_job(job, run="r")
    database = sqlite3.connect(tmp_path / "cache" / "cache.db")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return job


def answers(job: ls.Job, run: str) -> dict[str, str]:
    """The text of each prompt's answer."""
    rows = ls.open_store(job.resolve(job.store.path), runs=[run]).completions.collect()
    return dict(zip(rows["prompt_id"], rows["text"], strict=True))


@pytest.mark.slow
def test_bits_of_the_cache(answered: ls.Job, tmp_path: Path) -> None:
    """Each answer is the one to its own prompt; what was damaged is asked again, or the error says what to do."""
    expected = answers(answered, "r")
    whole, rng = tmp_path / "whole", random.Random(1)  # noqa: S311
    shutil.copytree(tmp_path / "cache", whole)
    refused = 0

    for number in range(flips()):
        shutil.rmtree(tmp_path / "cache")
        shutil.copytree(whole, tmp_path / "cache")
        bit = flip(tmp_path / "cache" / "cache.db", rng)
        try:
            summary = ls.run_job(answered, run=f"bit-{number}")
        except (CacheError, DiskError) as error:
            refused += 1
            assert "Its file is damaged: move" in str(error), bit  # noqa: PT017  most bits raise nothing
        else:
            assert summary.state == "finished", bit
            assert answers(answered, f"bit-{number}") == expected, bit
        with contextlib.suppress(RunNotFoundError):  # it was refused before it began
            remove_run(tmp_path / "store", f"bit-{number}")

    assert refused < flips() / 5


def test_two_answers_that_change_places(answered: ls.Job, tmp_path: Path) -> None:
    """Both count as damaged: neither prompt gets the other's answer."""
    database = sqlite3.connect(tmp_path / "cache" / "cache.db")
    (one, a), (other, b) = database.execute("SELECT rowid, value FROM Cache LIMIT 2").fetchall()
    database.executemany("UPDATE Cache SET value = ? WHERE rowid = ?", [(b, one), (a, other)])
    database.commit()
    database.close()

    with AnswerCache(tmp_path / "cache") as cache:
        assert len(cache.get_many(list(cache.keys()))) == PROMPTS - 2
    summary = ls.run_job(answered, run="again")

    assert (summary.calls, summary.from_cache) == (2, PROMPTS - 2)
    assert answers(answered, "again") == answers(answered, "r")


def test_an_index_that_leads_to_another_answer(answered: ls.Job, tmp_path: Path) -> None:
    """The answer to another prompt is none, so that this one is asked again; so it is with each place of the index."""
    expected, file = answers(answered, "r"), tmp_path / "cache" / "cache.db"
    whole = file.read_bytes()
    database = sqlite3.connect(file)
    ((root,),) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'Cache_key_raw'")
    keys = [key for (key,) in database.execute("SELECT key FROM Cache ORDER BY key")]
    database.close()
    # One page, which begins with 8 bytes and the places of its rows in 2 bytes each, in the order of the keys.
    first = (root - 1) * 4096 + 8
    places = [whole[at : at + 2] for at in range(first, first + 2 * PROMPTS, 2)]
    misled = []

    for number in range(PROMPTS - 1):
        damaged = [*places[:number], places[-1], *places[number + 1 :]]
        file.write_bytes(whole[:first] + b"".join(damaged) + whole[first + 2 * PROMPTS :])
        with AnswerCache(file.parent) as opened:
            now = [key for key in keys[:-1] if any(row[0] != key for row in opened._rows([key]))]
            assert all(opened.get_many([key]).keys() <= {key} for key in now)
        misled += now
        if now and misled == now:
            assert answers(answered, ls.run_job(answered, run="again").run) == expected

    assert misled


@pytest.mark.slow
def test_bits_of_the_parts(answered: ls.Job) -> None:
    """Every one is found, and the file is named."""
    store, rng = answered.resolve(answered.store.path), random.Random(2)  # noqa: S311
    files = sorted(store.glob("*/run=r/part-*.parquet"))

    for _ in range(flips()):
        victim = rng.choice(files)
        whole = victim.read_bytes()
        bit = flip(victim, rng)
        assert [problem.path for problem in verify_store(store)] == [victim], bit
        victim.write_bytes(whole)

    assert verify_store(store) == []
