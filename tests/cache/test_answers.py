"""The cache: answers come back byte for byte, and nothing planted in it is executed or used."""

from __future__ import annotations

import logging
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from builders import completions_answer
from hypothesis import given, settings
from hypothesis import strategies as st

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import CacheError, DiskError
from logprob_store.request import Answer

if TYPE_CHECKING:
    from pathlib import Path


def _row(path: Path, key: str) -> tuple[int, bytes]:
    with sqlite3.connect(path / "cache.db") as database:
        mode, value = database.execute("SELECT mode, value FROM Cache WHERE key = ?", (key,)).fetchone()
    database.close()
    return mode, bytes(value)


def _plant(path: Path, key: str, /, **columns: Any) -> None:
    """Overwrite columns of a row without the cache's code."""
    with sqlite3.connect(path / "cache.db") as database:
        assignments = ", ".join(f"{name} = ?" for name in columns)
        done = database.execute(f"UPDATE Cache SET {assignments} WHERE key = ?", (*columns.values(), key))  # noqa: S608
        assert done.rowcount == 1
    database.close()


@settings(max_examples=30)
@given(body=st.binary(max_size=300))
def test_round_trip(tmp_path: Path, body: bytes) -> None:
    """Any body comes back byte for byte, with the metadata of its call."""
    answer = completions_answer(
        "x",
        body,
        status=201,
        headers={"content-type": "text/plain", "server": "é"},
        attempts=3,
        latency_s=0.25,
        fetched_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        run="r1",
    )
    with AnswerCache(tmp_path) as cache:
        cache.put_many([answer])

        found = cache.get(answer.request.key)

    assert found is not None
    assert found.answer(answer.request) == Answer(
        answer.request,
        201,
        {"content-type": "text/plain", "server": "é"},
        body,
        "cache",
        attempts=3,
        latency_s=0.25,
        fetched_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        run="r1",
    )


@pytest.mark.parametrize(("run", "expected"), [("mine", True), ("other", False), (None, False)])
def test_maybe_billed_is_kept_for_the_run_that_paid(tmp_path: Path, run: str | None, expected: bool) -> None:  # noqa: FBT001
    """`maybe_billed` survives a crash between answer and commit; another run's answer cost this one nothing."""
    answer = completions_answer("a", run="mine", maybe_billed=True)
    with AnswerCache(tmp_path) as cache:
        cache.put_many([answer])
        found = cache.get(answer.request.key)

    assert found is not None
    assert found.answer(answer.request, run=run).maybe_billed is expected


def test_answers_survive_reopening(tmp_path: Path) -> None:
    """What was written is there after reopening."""
    with AnswerCache(tmp_path / "made" / "when missing") as cache:
        cache.put_many([completions_answer("a", b"1"), completions_answer("b", b"2")])
    with AnswerCache(tmp_path / "made" / "when missing") as cache:
        found = cache.get_many([completions_answer(name).request.key for name in "abc"])

        assert sorted(item.body for item in found.values()) == [b"1", b"2"]
        assert len(cache) == 2


def test_an_answer_paid_for_by_the_run_itself_counts_as_the_api_s(tmp_path: Path) -> None:
    """After a restart, an answer that the run itself paid for has the source `api`."""
    answer = completions_answer("a", run="mine")
    with AnswerCache(tmp_path) as cache:
        cache.put_many([answer])
        found = cache.get(answer.request.key)

    assert found is not None
    assert found.answer(answer.request, run="mine").source == "api"
    assert found.answer(answer.request, run="other").source == "cache"
    assert found.answer(answer.request).source == "cache"


def test_a_later_answer_replaces_an_earlier(tmp_path: Path) -> None:
    """A second answer replaces the first; the key has one."""
    with AnswerCache(tmp_path) as cache:
        cache.put_many([completions_answer("a", b"old")])
        cache.put_many([completions_answer("a", b"new")])
        found = cache.get(completions_answer("a").request.key)

        assert found is not None
        assert found.body == b"new"
        assert len(cache) == 1


def test_nothing_is_evicted(tmp_path: Path) -> None:
    """Diskcache's default drops the oldest past its size limit; ours keeps them all, inside the database."""
    noise = random.Random(0)  # noqa: S311
    answers = [completions_answer(str(number), noise.randbytes(40_000)) for number in range(20)]
    with AnswerCache(tmp_path) as cache:
        assert (cache._disk.eviction_policy, cache._disk.cull_limit) == ("none", 0)
        cache._disk.reset("size_limit", 1000)  # as if 1 GiB had passed long ago
        for answer in answers:
            cache.put_many([answer])

        found = cache.get_many(answer.request.key for answer in answers)

    assert {key: item.body for key, item in found.items()} == {item.request.key: item.body for item in answers}
    assert {path.name.split(".db")[0] for path in tmp_path.iterdir()} == {"cache"}


def test_keys_come_in_order(tmp_path: Path) -> None:
    """Keys are listed in the order in which they came."""
    answers = [completions_answer(name) for name in "abcdef"]
    with AnswerCache(tmp_path) as cache:
        cache.put_many(answers)

        assert list(cache.keys()) == [answer.request.key for answer in answers]


def test_memory_does_not_grow_with_the_cache(tmp_path: Path) -> None:
    """A connection holds 2 MB of pages, of 4 kB each, and maps nothing; also of a cache from before."""
    with AnswerCache(tmp_path / "cache") as cache:
        cache._disk.reset("sqlite_mmap_size", 1 << 26)
    with AnswerCache(tmp_path / "cache") as cache:
        held, mapped, page = (
            cache._disk._sql(f"PRAGMA {name}").fetchone()[0] for name in ("cache_size", "mmap_size", "page_size")
        )

        assert (held * page, mapped) == (2 << 20, 0)


def test_writes_are_synced(tmp_path: Path) -> None:
    """Synchronous = FULL (2): an answer survives a power cut once `put_many` returned."""
    with AnswerCache(tmp_path) as cache:
        assert cache._disk._sql("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value[:-5],
        lambda value: value[:-5] + bytes([value[-5] ^ 1]) + value[-4:],
        lambda _: b"",
        lambda _: b"no zstd at all",
        lambda _: zstandard.compress(b"no line of JSON"),
        lambda _: zstandard.compress(b'{"version":1,"status":"two hundred"}\n{}'),
        lambda _: zstandard.compress(b'{"version":99}\n{}'),
        lambda _: zstandard.ZstdCompressor(write_content_size=False).compress(b"{}\n{}"),
    ],
    ids=["cut", "flipped bit", "empty", "other bytes", "no JSON", "wrong type", "other version", "unknown size"],
)
def test_a_damaged_value_counts_as_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any) -> None:
    """A damaged value is logged and missing; the values beside it are read."""
    bad, good = completions_answer("bad"), completions_answer("good")
    with AnswerCache(tmp_path) as cache:
        cache.put_many([bad, good])
        _, value = _row(tmp_path, bad.request.key)
        _plant(tmp_path, bad.request.key, value=damage(value))

        found = cache.get_many([bad.request.key, good.request.key])

    assert list(found) == [good.request.key]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert bad.request.key[:12] in record.message


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def test_a_planted_pickle_is_never_unpickled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A row in diskcache's pickle mode, which diskcache would load, is refused."""
    answer, touched = completions_answer("a"), tmp_path / "executed"
    with AnswerCache(tmp_path / "cache") as cache:
        cache.put_many([answer])
        _plant(tmp_path / "cache", answer.request.key, mode=4, value=pickle.dumps(_Bomb(touched)))

        assert cache.get(answer.request.key) is None

    assert not touched.exists()
    assert "damaged" in caplog.text


def test_a_planted_pickle_as_key_is_never_unpickled(tmp_path: Path) -> None:
    """A key in pickled form is neither loaded nor hides the keys beside it."""
    first, second, touched = completions_answer("a"), completions_answer("b"), tmp_path / "executed"
    with AnswerCache(tmp_path / "cache") as cache:
        cache.put_many([first])
        cache.put_many([second])
        _plant(tmp_path / "cache", first.request.key, raw=0, key=pickle.dumps(_Bomb(touched)))

        assert list(cache.keys()) == [second.request.key]
        assert cache.get(first.request.key) is None

    assert not touched.exists()


def test_a_planted_file_is_neither_read_nor_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A row that points to a file outside the cache is refused, and replacing it leaves the file alone."""
    answer, mine = completions_answer("a", b"paid"), tmp_path / "mine.txt"
    mine.write_text("precious")
    with AnswerCache(tmp_path / "cache") as cache:
        cache.put_many([answer])
        _plant(tmp_path / "cache", answer.request.key, mode=2, filename="../mine.txt", value=None)

        assert cache.get(answer.request.key) is None
        cache.put_many([answer])
        found = cache.get(answer.request.key)

    assert found is not None
    assert found.body == b"paid"
    assert mine.read_text() == "precious"
    assert "damaged" in caplog.text


def test_a_bomb_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A frame that claims to unpack to more than 1 GiB is not unpacked."""
    answer = completions_answer("a")
    # A frame header by hand: magic, descriptor 0xE0 (8 bytes of size, single segment), 2 GiB, one last empty raw block.
    bomb = b"\x28\xb5\x2f\xfd" + b"\xe0" + (2 << 30).to_bytes(8, "little") + b"\x01\x00\x00"
    assert zstandard.frame_content_size(bomb) == 2 << 30
    with AnswerCache(tmp_path) as cache:
        cache.put_many([answer])
        _plant(tmp_path, answer.request.key, value=bomb)

        assert cache.get(answer.request.key) is None

    assert "2147483648" in caplog.text


def test_put_many_is_all_or_nothing(tmp_path: Path) -> None:
    """If one answer of a batch cannot be written, none is, and the cache goes on working."""
    noise = random.Random(0).randbytes(100_000)  # noqa: S311
    batch = [completions_answer("a"), completions_answer("b"), completions_answer("large", noise)]
    with AnswerCache(tmp_path) as cache:
        (pages,) = cache._disk._sql("PRAGMA page_count").fetchone()
        cache._disk._sql(f"PRAGMA max_page_count = {pages + 5}")  # 20 kB more: room for the first two
        with pytest.raises(
            DiskError, match=r"3 answers could not be written.*: answers that could not be written are asked again"
        ):
            cache.put_many(batch)

        assert len(cache) == 0
        cache.put_many(batch[:2])
        assert len(cache) == 2
        cache._disk._sql(f"PRAGMA max_page_count = {pages + 1000}")
        cache.put_many(batch)
        assert len(cache) == 3


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """An answer that does not fit is a DiskError; what was written before stays readable."""
    noise = random.Random(0)  # noqa: S311
    small = completions_answer("small")
    with AnswerCache(tmp_path) as cache:
        cache.put_many([small])
        (pages,) = cache._disk._sql("PRAGMA page_count").fetchone()
        cache._disk._sql(f"PRAGMA max_page_count = {pages + 5}")

        with pytest.raises(DiskError, match="full"):
            cache.put_many([completions_answer("large", noise.randbytes(1_000_000))])

        assert cache.get(small.request.key) is not None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Where a file stands in the way, the error names the path."""
    (tmp_path / "file").write_text("")

    with pytest.raises(CacheError, match="file/cache cannot be opened"):
        AnswerCache(tmp_path / "file" / "cache")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A damaged database is an error, not an empty cache."""
    (tmp_path / "cache.db").write_bytes(b"what is this" * 1000)

    with pytest.raises(CacheError, match="cannot be opened"):
        AnswerCache(tmp_path)


_WRITER = """
    import sys
    from pathlib import Path
    from logprob_store.cache.answers import AnswerCache
    from logprob_store.request import Answer, make_request

    def answer(name):
        request = make_request({"model": "m", "prompt": name}, endpoint="completions", provider="p")
        return Answer(request, 200, {}, name.encode() * 100, "api")

    with AnswerCache(Path(sys.argv[1])) as cache:
        for number in range(60):
            cache.put_many([answer(f"{sys.argv[2]} {number}"), answer(f"shared {number}")])
        print("done", flush=True)
        sys.stdin.read()
"""


def _start_writer(path: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(_WRITER), str(path), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_share_a_cache_and_may_be_killed(tmp_path: Path) -> None:
    """Two processes write at once and are killed: everything that was reported as written is there, whole."""
    with _start_writer(tmp_path, "one") as one, _start_writer(tmp_path, "two") as two:
        for process in (one, two):
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
            process.send_signal(signal.SIGKILL)

    with AnswerCache(tmp_path) as cache:
        expected = [f"{name} {number}" for name in ("one", "two", "shared") for number in range(60)]
        found = cache.get_many(completions_answer(name).request.key for name in expected)

    assert sorted(item.body for item in found.values()) == sorted(name.encode() * 100 for name in expected)
