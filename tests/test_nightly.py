"""`jobs/nightly.py`: what it prints, and its exit codes."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import REPO

import logprob_store as ls

if TYPE_CHECKING:
    from types import ModuleType

JOBS = REPO / "jobs"


@pytest.fixture
def nightly() -> ModuleType:
    """`jobs/nightly.py`, imported."""
    spec = importlib.util.spec_from_file_location("nightly", JOBS / "nightly.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The demo's job file in a folder that a test may write to."""
    shutil.copytree(REPO / "fixtures", tmp_path / "fixtures", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (tmp_path / "jobs").mkdir()
    return Path(shutil.copy(JOBS / "demo.toml", tmp_path / "jobs"))


def test_nightly_runs_a_job(nightly: ModuleType, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It runs the given job, prints the ten least confident answers, and exits with 0."""
    code = nightly.main(demo)

    printed = capsys.readouterr().out
    least = ls.open_store(demo.parents[1] / "out" / "demo").scores().sort("confidence").head(10).collect()
    assert code == 0
    assert re.findall(r"^│ (\w\w) +┆", printed, re.MULTILINE) == least["prompt_id"].to_list()
    assert "finished, 243 answers, 0 failed" in printed


def test_nightly_exits_with_3_when_prompts_failed(
    nightly: ModuleType, demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt without a recording is a failure; the others are answered."""
    recordings = demo.parents[1] / "fixtures" / "capitals.jsonl"
    recordings.write_bytes(b"\n".join(recordings.read_bytes().splitlines()[1:]))

    code = nightly.main(demo)

    assert code == 3
    assert "finished, 242 answers, 1 failed" in capsys.readouterr().out


def test_nightly_exits_with_4_when_a_limit_stops_it(
    nightly: ModuleType, demo: Path, fault_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused key stops the run, and the same run can go on later."""
    fault_server.script("401")
    text = demo.read_text(encoding="utf-8").replace('kind = "replay"', 'kind = "live"')
    demo.write_text(text.replace("[model]", f'[model]\nbase_url = "{fault_server.url}"'), encoding="utf-8")

    code = nightly.main(demo)

    assert code == 4
    assert "stopped" in capsys.readouterr().out


def test_nightly_exits_with_2_when_the_job_is_wrong(nightly: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing job file is one line on standard error."""
    code = nightly.main("no-such.toml")

    assert code == 2
    assert capsys.readouterr().err.startswith("nightly: no-such.toml: cannot be read")


def test_nightly_exits_with_130_when_interrupted(
    nightly: ModuleType, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C is an exit code, not a traceback."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ls, "run_job", interrupted, raising=False)

    assert nightly.main(demo) == 130
