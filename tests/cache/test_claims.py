"""Claims: one holder per key at a time, however holders end."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from builders import answer_to, completions_request

from logprob_store.cache.answers import AnswerCache
from logprob_store.cache.claims import Claims
from logprob_store.errors import CacheError, CallError
from logprob_store.pacing.pacer import Pacer
from logprob_store.request import Answer
from logprob_store.run.asker import Asker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from logprob_store.request import Request

KEY = "ab" * 32
OTHER = "cd" * 32

_HOLDER = """
    import sys
    from pathlib import Path
    from logprob_store.cache.claims import Claims
    held = Claims(Path(sys.argv[1]), open_file_locks=sys.argv[3] != "posix")
    print(held.take(sys.argv[2]), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that claim `KEY` and keep it until they end."""
    started: list[subprocess.Popen[str]] = []

    def start(locks: str = "of open files") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(_HOLDER), str(tmp_path), KEY, locks]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("locks", ["of open files", "posix"])
def test_a_claim_of_another_process_ends_with_it(
    tmp_path: Path, holder: Callable[..., subprocess.Popen[str]], locks: str
) -> None:
    """A holder killed with -9 releases its key; other keys were free all the time."""
    process = holder(locks)
    mine = Claims(tmp_path, open_file_locks=locks != "posix")

    assert (mine.take(KEY), mine.take(OTHER)) == (False, True)
    process.kill()
    process.wait()
    assert mine.take(KEY)
    mine.close()


def test_two_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    """Releasing or closing one `Claims` releases no key that another one holds."""
    one, two, three = Claims(tmp_path), Claims(tmp_path), Claims(tmp_path)
    assert one.take(KEY)

    assert not two.take(KEY)
    two.release(KEY)
    two.close()
    assert not three.take(KEY)
    one.release(KEY)
    assert three.take(KEY)
    one.close()
    three.close()


def test_waiting_ends_when_the_key_is_released(tmp_path: Path) -> None:
    """An asker that waits for a key holds the claim afterwards."""

    async def main() -> None:
        waiting = asyncio.create_task(two.wait(KEY))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        one.release(KEY)
        await asyncio.wait_for(waiting, 5)

    one, two = Claims(tmp_path), Claims(tmp_path)
    one.take(KEY)
    asyncio.run(main())

    assert not one.take(KEY)
    one.close()
    two.close()


def test_without_locks_every_claim_is_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without locks, as on some network file systems, every claim is granted, and one warning explains it."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    mine = Claims(tmp_path)

    assert mine.take(KEY)
    assert mine.take(OTHER)
    mine.release(KEY)
    mine.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "No locks available" in said
    assert "both may ask for the same answers" in said


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    """A file of locks that cannot be made is a CacheError."""
    with pytest.raises(CacheError, match="cannot be shared"):
        Claims(tmp_path / "nowhere")


class _Server:
    """A transport that fails a number of times, then answers, and counts calls."""

    def __init__(self, *, failures: int = 0) -> None:
        self.calls = 0
        self.begun = asyncio.Event()
        self._failures = failures

    async def __call__(self, request: Request) -> Answer:
        self.calls += 1
        self.begun.set()
        await asyncio.sleep(0.05)
        if self.calls <= self._failures:
            raise CallError("no", error_type="invalid_request")
        return answer_to(request, f"answer {self.calls}".encode())


def _two(
    folder: Path, server: _Server, ask: Callable[[Asker, Asker], Coroutine[object, object, None]], **settings: bool
) -> None:
    """Run `ask` with two askers that have a cache object each."""

    async def main() -> None:
        with AnswerCache(folder) as cache, AnswerCache(folder) as again:
            async with (
                Asker(server, pacer=Pacer(4), cache=cache, attempts=1, run="a", **settings) as one,
                Asker(server, pacer=Pacer(4), cache=again, attempts=1, run="b") as two,
            ):
                await ask(one, two)

    asyncio.run(main())


def test_two_askers_make_one_call(tmp_path: Path) -> None:
    """The second waits for the first's answer and takes it from the cache."""

    async def ask(one: Asker, two: Asker) -> None:
        answers.extend(await asyncio.gather(one.ask(completions_request()), two.ask(completions_request())))

    server, answers = _Server(), list[Answer]()
    _two(tmp_path, server, ask)

    assert server.calls == 1
    assert [answer.body for answer in answers] == [b"answer 1"] * 2
    assert sorted(answer.source for answer in answers) == ["api", "cache"]


def test_an_answer_since_the_look_up_is_found(tmp_path: Path) -> None:
    """An answer that another asker stored after the look-up is taken from the cache."""

    async def ask(one: Asker, two: Asker) -> None:
        assert await two.look_up([completions_request()]) == {}
        await one.ask(completions_request())
        assert (await two.ask(completions_request())).source == "cache"

    server = _Server()
    _two(tmp_path, server, ask)

    assert server.calls == 1


def test_a_failure_is_not_shared_between_askers(tmp_path: Path) -> None:
    """After the first asker's failure, the one that waited asks itself."""

    async def ask(one: Asker, two: Asker) -> None:
        results.extend(
            await asyncio.gather(one.ask(completions_request()), two.ask(completions_request()), return_exceptions=True)
        )

    server, results = _Server(failures=1), list[object]()
    _two(tmp_path, server, ask)

    assert server.calls == 2
    assert sorted(type(result).__name__ for result in results) == ["Answer", "CallError"]


@pytest.mark.parametrize("at", ["the server", "the other's claim"])
def test_a_cancelled_asker_releases_its_claim(tmp_path: Path, at: str) -> None:
    """An asker that is cancelled, at the server or while it waits for another, does not block the other."""

    async def ask(one: Asker, two: Asker) -> None:
        first = asyncio.create_task(one.ask(completions_request()))
        await server.begun.wait()
        second = asyncio.create_task(two.ask(completions_request()))
        await asyncio.sleep(0.01)
        gone, other = (first, second) if at == "the server" else (second, first)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert (await asyncio.wait_for(other, 5)).source == "api"

    server = _Server()
    _two(tmp_path, server, ask)

    assert server.calls == (2 if at == "the server" else 1)


def test_a_refreshing_asker_makes_its_own_call(tmp_path: Path) -> None:
    """A refreshing asker does not wait for another run's answer, and does not take it."""

    async def ask(one: Asker, two: Asker) -> None:
        other = asyncio.create_task(two.ask(completions_request()))
        await server.begun.wait()
        assert (await one.ask(completions_request())).source == "api"
        await other

    server = _Server()
    _two(tmp_path, server, ask, refresh=True)

    assert server.calls == 2


def test_a_reusing_asker_takes_what_a_refreshing_one_pays_for(tmp_path: Path) -> None:
    """A reusing asker takes the answer that a refreshing one pays for."""

    async def ask(one: Asker, two: Asker) -> None:
        refreshing = asyncio.create_task(one.ask(completions_request()))
        await server.begun.wait()
        assert (await two.ask(completions_request())).source == "cache"
        await refreshing

    server = _Server()
    _two(tmp_path, server, ask, refresh=True)

    assert server.calls == 1


def test_a_deleted_file_is_no_second_set_of_claims(
    tmp_path: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    """While a process has its claims in the deleted file, nobody begins a new one; afterwards anybody does."""
    process = holder()
    (tmp_path / "claims.lock").unlink()

    with pytest.raises(CacheError, match=f"was deleted while process {process.pid} "):
        Claims(tmp_path)
    process.kill()
    process.wait()
    mine = Claims(tmp_path)
    assert mine.take(KEY)
    mine.close()


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    """A file of locks that leads elsewhere was planted, and is replaced."""
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "claims.lock").symlink_to(tmp_path / "elsewhere")

    Claims(tmp_path).close()

    assert not (tmp_path / "claims.lock").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_a_release_after_the_end_harms_nobody(tmp_path: Path) -> None:
    """A task that is cancelled after the claims are closed unlocks no other file that has their number by then."""
    claims = Claims(tmp_path)
    claims.take(KEY)
    claims.close()

    claims.release(KEY)
