"""A full disk: the error is clear, nothing is damaged, and the same command finishes once there is room."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from builders import run_demo
from store.tried_runs import answered, open_tried

import logprob_store as ls
from logprob_store.cache.answers import AnswerCache
from logprob_store.cache.claims import Claims
from logprob_store.errors import DiskError
from logprob_store.replay.fixtures import write_fixtures
from logprob_store.spending.shared_ledger import open_shared_ledger
from logprob_store.store.removal import remove_run
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small file system takes root"
)


@pytest.fixture
def small(workplace: Any, full: str) -> Iterator[Path]:
    """A file system in the workplace that has no room for the cache, or for the store, of 400 answers."""
    size = {"cache": "400k", "store": "100k"}[full]
    place = workplace.folder / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False)
    if made.returncode:
        pytest.skip("this machine does not allow mounting")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("full", ["cache", "store"])
def test_disk_full_then_room(workplace: Any, serve: Any, small: Path, full: str) -> None:
    """On a full disk the run exits with 4; once there is room it finishes and pays for no answer twice."""
    server = serve()
    job = workplace.job(server.url, prompts=400, part_bytes=800_000)
    job.write_text(job.read_text().replace(f'path = "{full}"', f'path = "small/{full}"'))

    first = workplace.run("run", job, "--run", "r")
    assert first.returncode == 4, first.stderr
    assert "Make room" in first.stderr
    assert "Traceback" not in first.stderr
    store = small / "store" if full == "store" else workplace.folder / "store"
    assert verify_store(store) == []
    before = Counter(call["body"] for call in server.calls())

    subprocess.run(["mount", "-o", "remount,size=50M", small], check=True)
    again = workplace.run("run", job, "--run", "r")

    assert again.returncode == 0, again.stderr
    assert verify_store(store) == []
    after = Counter(call["body"] for call in server.calls())
    assert len(after) == 400
    if full == "store":
        assert after.total() == 400  # all answers were in the cache
    else:
        # Those under way when the disk filled up were answered and could not be kept.
        assert after.total() - 400 <= 16 + 8
    assert before.total() > 0


@pytest.fixture
def place(workplace: Any) -> Iterator[Path]:
    """A file system of its own in the workplace, with room."""
    place = workplace.folder / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50M", "tmpfs", place], check=False).returncode:
        pytest.skip("this machine does not allow mounting")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def on_small_disk(job: Path, *names: str) -> Path:
    """Move the cache or the store of a job, or both, to the small file system."""
    for name in names:
        job.write_text(job.read_text().replace(f'path = "{name}"', f'path = "small/{name}"'))
    return job


@pytest.mark.slow
@pytest.mark.parametrize("what", ["cache", "store"])
def test_read_only_then_writable(workplace: Any, serve: Any, place: Path, what: str) -> None:
    """With a read-only cache or store a run fails before it asks; made writable, it goes on."""
    server = serve()
    job = on_small_disk(workplace.job(server.url, prompts=40), what)
    assert workplace.run("run", job, "--run", "r", "--limit", "10").returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)

    refused = workplace.run("run", job, "--run", "r")
    calls = len(server.calls())
    subprocess.run(["mount", "-o", "remount,rw", place], check=True)
    again = workplace.run("run", job, "--run", "r")

    assert refused.returncode == 4, refused.stderr
    assert str(place / what) in refused.stderr
    assert "make it writable" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert calls == 10
    assert again.returncode == 0, again.stderr
    assert verify_store(workplace.folder / ("small/store" if what == "store" else "store")) == []
    assert Counter(call["body"] for call in server.calls()).total() == 40


@pytest.mark.slow
def test_no_room_from_the_start(workplace: Any, serve: Any, place: Path) -> None:
    """With cache and store on a disk that is already full nothing is asked; with room the same command finishes."""
    server = serve()
    job = on_small_disk(workplace.job(server.url, prompts=20), "cache", "store")
    filler = fill(place)

    refused = workplace.run("run", job, "--run", "r")
    calls = len(server.calls())
    filler.unlink()
    again = workplace.run("run", job, "--run", "r")

    assert refused.returncode == 4, refused.stderr
    assert "o space left" in refused.stderr or "disk is full" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert calls == 0
    assert again.returncode == 0, again.stderr
    assert verify_store(place / "store") == []
    assert len(server.calls()) == 20


@pytest.mark.slow
def test_one_small_disk_for_all(workplace: Any, serve: Any, place: Path) -> None:
    """Cache and store share a disk that fills up three times; each time the run ends and says why, then it finishes."""
    server = serve()
    job = on_small_disk(workplace.job(server.url, prompts=400, part_bytes=200_000), "cache", "store")
    codes = []
    for size in ("200k", "600k", "900k", "50M"):
        subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)
        done = workplace.run("run", job, "--run", "r")
        codes.append(done.returncode)
        assert "Traceback" not in done.stderr, done.stderr
        if (place / "store" / "runs" / "run=r" / "run.json").exists():
            assert verify_store(place / "store") == []
            said = workplace.run("status", place / "store").stdout
            assert done.returncode == 0 or "Make room" in said, said

    assert codes == [4, 4, 4, 0]
    assert workplace_rows(place) == 400
    # Lost are those that were under way when the disk filled up: 8 at once and as many in the buffer.
    assert len(server.calls()) - 400 <= 3 * (16 + 8)


def workplace_rows(place: Path) -> int:
    """The number of completions in the store on the small disk."""
    return ls.open_store(place / "store").completions.collect().height


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "jsonl"])
def test_no_room_for_rows(workplace: Any, place: Path, suffix: str) -> None:
    """A file of `-o` on a full disk is exit code 4 as well, whichever writer finds out."""
    run_demo(workplace.folder / "store")
    fill(place)

    done = workplace.run("scores", workplace.folder / "store", "-o", place / f"out.{suffix}")

    assert done.returncode == 4, done.stderr
    assert f"the rows could not be written to {place / f'out.{suffix}'}" in done.stderr


def held_run(place: Path) -> None:
    """A run that has a part."""
    with open_tried(place / "store") as writer:
        writer.commit(answered(0), settled=[0], prompts_read=1)


WRITERS: dict[str, Callable[[Path], object]] = {
    "cache": lambda place: AnswerCache(place / "new"),
    "cache that is there": lambda place: AnswerCache(place / "cache"),
    "claims": lambda place: Claims(place / "cache"),
    "ledger": lambda place: open_shared_ledger(place / "new", run="r", job="j", ceilings={}),
    "ledger that is there": lambda place: open_shared_ledger(place / "cache", run="r", job="j", ceilings={}),
    "run": lambda place: open_tried(place / "store"),
    "new run": lambda place: open_tried(place / "store", "new"),
    "removal": lambda place: remove_run(place / "store", "r"),
    "recordings": lambda place: write_fixtures(place / "fixtures.jsonl", []),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_whatever_is_written_first_finds_a_read_only_disk(place: Path, writer: str) -> None:
    """It is the same error everywhere, which says that the same command goes on once the disk can be written."""
    held_run(place)
    AnswerCache(place / "cache").close()
    open_shared_ledger(place / "cache", run="r", job="j", ceilings={}).close()
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)

    with pytest.raises(DiskError, match="make it writable, then run the same command again"):
        WRITERS[writer](place)


def fill(place: Path) -> Path:
    """Leave no room on a small file system; returns the file that fills it."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    return filler
