"""A disk that is full: a clear error, nothing corrupt, and the same command goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small file system takes root"
)


@pytest.fixture
def small(workplace: Any, full: str) -> Iterator[Path]:
    """A file system in the workplace's folder that a cache or a store of 400 answers does not fit into."""
    size = {"cache": "400k", "store": "100k"}[full]
    place = workplace.folder / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False)
    if made.returncode:
        pytest.skip("this machine does not allow mounting")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("full", ["cache", "store"])
def test_disk_full_then_room(workplace: Any, serve: Any, small: Path, full: str) -> None:
    """Whichever runs out of room, the run says so and exits with 4; with room it ends, and pays for no answer twice."""
    server = serve()
    job = workplace.job(server.url, prompts=400, part_bytes=200_000)
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
