"""`logprobs explore`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builders import run_demo

if TYPE_CHECKING:
    import pytest

PROGRAM = Path(sys.executable).with_name("logprobs")


def test_it_prints_its_address_and_ends_in_a_word(tmp_path: Path) -> None:
    """With Ctrl-C, and the exit code of what is done."""
    run_demo(tmp_path / "store")
    started = subprocess.Popen(
        [PROGRAM, "explore", "store", "--no-open", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    said = json.loads(started.stdout.readline())
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=30)

    assert said["url"].startswith(f"http://127.0.0.1:{said['port']}/?token=")
    assert err.splitlines()[0] == "run demo: 243 of 243 answers prepared"
    assert err.splitlines()[-1] == "ended"
    assert started.returncode == 0


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And prepares nothing."""
    run_demo(tmp_path / "store")
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    ended = logprobs("explore", tmp_path / "store", "--no-open")

    assert (ended.code, ended.out) == (2, "")
    assert "pip install 'logprob-store[view]'" in ended.err
    assert not (tmp_path / "store" / "runs" / "run=demo" / "explorer").exists()


def test_a_missing_store_is_said(tmp_path: Path, logprobs: Any) -> None:
    """As by the other commands."""
    ended = logprobs("explore", tmp_path / "nowhere", "--no-open")

    assert ended.code == 2
    assert "no store at" in ended.err


def test_without_a_desktop_no_browser_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser of text would take the terminal, and use up the address."""
    from logprob_store.cli.explore import _has_desktop

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    without = _has_desktop()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")

    assert (without, _has_desktop()) == (False, True)
