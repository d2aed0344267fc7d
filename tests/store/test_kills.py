"""A process killed at any step to the disk: each part is there whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store.tried_runs import answered, failed, listed_files, open_tried, part_files, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logprob_store.store.commit import RunWriter


class _Killed(BaseException):
    """Stands for kill -9: no code of the program runs after it."""


@contextmanager
def _killed_before_step(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let the program die before its `number`-th step that reaches the disk; yields the steps taken."""
    steps: list[str] = []
    really = {"fsync": os.fsync, "replace": Path.replace, "unlink": Path.unlink, "write": pq.write_table}

    def step(name: str, what: object) -> None:
        if len(steps) == number:
            raise _Killed
        steps.append(f"{name} {what}")

    def fsync(descriptor: int) -> None:
        step("fsync", Path(f"/proc/self/fd/{descriptor}").readlink().name)
        really["fsync"](descriptor)

    def replace(self: Path, target: Path) -> Path:
        step("replace", target.name)
        return really["replace"](self, target)

    def unlink(self: Path, **options: Any) -> None:
        step("unlink", self.name)
        really["unlink"](self, **options)

    def write(table: pa.Table, path: Path, **options: Any) -> None:
        if len(steps) == number:
            Path(path).write_bytes(b"PAR1 half a file")
        step("write", path.name)
        really["write"](table, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        patched.setattr(Path, "replace", replace)
        patched.setattr(Path, "unlink", unlink)
        patched.setattr(pq, "write_table", write)
        yield steps


def _until_it_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: Any, act: Any) -> list[dict[str, Any]]:
    """Kill before step 0, 1, 2 ... of `act` until it gets through; returns what a reader saw each time."""
    seen = []
    for number in range(200):
        store = tmp_path / f"killed at {number}"
        writer = open_tried(store)
        begin(writer)
        alive = False
        with _killed_before_step(number, monkeypatch):
            try:
                act(writer)
                alive = True
            except _Killed:
                pass
        writer.close()  # as the kernel does
        seen.append(shown(store))
        with open_tried(store) as again:
            assert shown(store) == seen[-1]
            assert part_files(store) == listed_files(store)
            settled = [call for call in range(10) if call in again.settled]
            assert settled == sorted({*seen[-1]["completions"], *seen[-1]["failures"]})
            again.commit(answered(9), settled=[9])
        assert shown(store)["completions"] == sorted({*seen[-1]["completions"], 9})
        if alive:
            return seen
    raise AssertionError("it never got through")


@pytest.mark.slow
def test_a_commit_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader sees the old or the new state, whole in all tables; the next writer removes what is left over."""

    def begin(writer: RunWriter) -> None:
        writer.commit(answered(0), settled=[0])

    def act(writer: RunWriter) -> None:
        writer.commit({**answered(1, 2), "failures": failed(3)}, settled=[1, 2, 3])

    seen = _until_it_survives(tmp_path, monkeypatch, begin, act)

    old, new = seen[0], seen[-1]
    assert (old["completions"], old["failures"]) == ([0], [])
    assert (new["completions"], new["failures"]) == ([0, 1, 2], [3])
    assert all(state in (old, new) for state in seen)
    assert seen == sorted(seen, key=lambda state: state == new)
    assert len(seen) > 20


@pytest.mark.slow
def test_a_finish_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures with an answer by now are dropped; at no moment is an open one missing or an old one back."""

    def begin(writer: RunWriter) -> None:
        writer.commit({"failures": failed(1, 2)}, settled=[1, 2])
        writer.commit({**answered(1), "failures": failed(3)}, settled=[1, 3])

    seen = _until_it_survives(tmp_path, monkeypatch, begin, lambda writer: writer.finish("finished"))

    assert len(seen) > 8
    assert all(state == seen[0] for state in seen)
    assert (seen[0]["completions"], seen[0]["failures"]) == ([1], [2, 3])


@pytest.mark.slow
def test_the_first_commit_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed before its first part is an empty run."""
    seen = _until_it_survives(
        tmp_path, monkeypatch, lambda _: None, lambda writer: writer.commit(answered(4), settled=[4])
    )

    assert seen[0]["completions"] == []
    assert seen[-1]["completions"] == [4]


def test_the_order_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is synced, then renamed, then its folder synced; the manifest is replaced when all that is done."""
    with open_tried(tmp_path) as writer:
        writer.commit(answered(0), settled=[0])
        with _killed_before_step(10_000, monkeypatch) as steps:
            writer.commit(answered(1), settled=[1])

    new = ".part-00001.parquet.tmp"
    one_table = [f"unlink {new}", f"write {new}", f"fsync {new}", "replace part-00001.parquet"]
    manifest, copy = (
        [f"unlink .{name}.tmp", f"fsync .{name}.tmp", f"replace {name}", "fsync run=r"]
        for name in ("run.json", "run.json.copy")
    )
    assert steps == [*one_table * 4, *["fsync run=r"] * 4, *manifest, *copy, "unlink run.json.previous"]


def test_new_folders_are_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A synced file in a folder whose own name was lost is lost: every folder made is synced into the one above."""
    with _killed_before_step(10_000, monkeypatch) as steps:
        open_tried(tmp_path / "a" / "store").close()

    assert steps[:4] == [f"fsync {name}" for name in (tmp_path.name, "a", "store", "runs")]
