"""`logprobs rm`: what it shows, what it asks, and what it removes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from store.tried_runs import answered, open_tried

import logprob_store as ls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the runs a, b and c."""
    for run in ("a", "b", "c"):
        with open_tried(tmp_path, run) as writer:
            writer.commit(answered(0), settled=[0], prompts_read=1)
            writer.finish("finished")
    return tmp_path


def test_runs_are_removed(store: Path, logprobs: Any) -> None:
    """Each is described before it goes."""
    done = logprobs("rm", store, "a", "c", "--yes")

    assert done.code == 0
    assert "a: trial, begun " in done.out
    assert "1 prompt, 2 completions; 7 files, " in done.out
    assert done.out.splitlines()[-2:] == ["removed a", "removed c"]
    assert ls.open_store(store).run_names == ["b"]


def test_a_dry_run_removes_nothing(store: Path, logprobs: Any) -> None:
    """It says what would be removed."""
    done = logprobs("rm", store, "a", "--dry-run")

    assert (done.code, done.out.splitlines()[-1]) == (0, "nothing was removed")
    assert ls.open_store(store).run_names == ["a", "b", "c"]


def test_without_a_terminal_yes_is_needed(store: Path, logprobs: Any) -> None:
    """A script has to say that it means it."""
    done = logprobs("rm", store, "a")

    assert (done.code, "add --yes" in done.err) == (2, True)
    assert ls.open_store(store).run_names == ["a", "b", "c"]


@pytest.mark.parametrize(("answer", "left"), [("y", ["b", "c"]), ("n", ["a", "b", "c"])])
def test_in_a_terminal_it_asks(
    store: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    """No is no."""
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr("typer.confirm", lambda _: answer == "y")

    done = logprobs("rm", store, "a")

    assert done.code == (0 if answer == "y" else 1)
    assert ls.open_store(store).run_names == left


def test_one_wrong_name_removes_nothing(store: Path, logprobs: Any) -> None:
    """All names are checked before the first run goes."""
    done = logprobs("rm", store, "a", "d", "--yes")

    assert (done.code, "no run 'd' in this store; it has: a, b, c" in done.err) == (2, True)
    assert ls.open_store(store).run_names == ["a", "b", "c"]


def test_patterns_name_several_runs(store: Path, logprobs: Any) -> None:
    """As `--run` takes them elsewhere; one that nothing fits is an error."""
    done = logprobs("rm", store, "[ab]", "--yes")

    assert done.out.splitlines()[-2:] == ["removed a", "removed b"]
    assert logprobs("rm", store, "x*", "--yes").code == 2
