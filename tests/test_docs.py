"""The documentation runs: every block of README and docs is executed as it stands, over the demo's store."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import typer

import logprob_store as ls
from logprob_store.cli import app
from logprob_store.job import override

REPO = Path(__file__).parents[1]
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]
PROGRAM = Path(sys.executable).with_name("logprobs")


def blocks(language: str) -> list[pytest.param]:
    """The fenced blocks of a language on all pages, named by page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{page.name}:{line}"))
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a fresh clone in which the demo has run."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("jobs", "fixtures"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".logprobs"))
    job = ls.load_job(folder / "jobs" / "demo.toml")
    ls.run_job(job, run="demo")
    for night in ("monday", "tuesday"):
        ls.run_job(override(job, store=folder / "out" / "nights"), run=night, limit=50)
    return folder


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block runs as it stands, from the repository's folder."""
    monkeypatch.chdir(demo)
    names = {"ls": ls, "store": ls.open_store("out/demo"), "__name__": "docs"}

    exec(compile(code, "docs", "exec"), names)  # noqa: S102  running the documentation is the point


@pytest.mark.parametrize("query", blocks("sql"))
def test_sql_blocks_run(query: str, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every SQL block runs in DuckDB and finds rows."""
    monkeypatch.chdir(demo)

    assert duckdb.sql(query).fetchall()


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_blocks_are_job_files(text: str, tmp_path: Path) -> None:
    """Every TOML block is a job file that loads."""
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")

    assert ls.load_job(path).name


def commands() -> list[pytest.param]:
    """The command lines on all pages that start our program."""
    lines = [line for param in blocks("sh") for line in param.values[0].splitlines()]
    return [pytest.param(line, id=line[:50]) for line in lines if "logprobs " in line.split("#")[0]]


@pytest.mark.parametrize("line", commands())
def test_commands_run(line: str, demo: Path) -> None:
    """Every `logprobs` command line works; one that needs a key says so when there is none."""
    words = shlex.split(line, comments=True)
    assert words.pop(0) == ".venv/bin/logprobs"
    done = subprocess.run(
        [PROGRAM, *words], cwd=demo, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )

    if "jobs/nightly.toml" in words:
        assert done.returncode == 2
        assert "OPENAI_API_KEY is not set" in done.stderr
    elif "out/nightly" in words:
        assert done.returncode == 2
        assert "no store at out/nightly" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_make_targets_exist() -> None:
    """Every `make` target that the pages name is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        match
        for page in PAGES
        for match in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", page.read_text("utf-8"), re.MULTILINE)
    }

    assert {first or second for first, second in named} <= targets


def test_every_command_is_documented() -> None:
    """A command that README does not show is not done."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
    readme = (REPO / "README.md").read_text(encoding="utf-8")

    assert [name for name in commands if f"logprobs {name}" not in readme] == []


def test_every_metric_is_documented() -> None:
    """A metric that is exported stands in docs/metrics.md."""
    from logprob_store import metrics

    page = (REPO / "docs" / "metrics.md").read_text(encoding="utf-8")

    assert [name for name in metrics.__all__ if f"`{name}" not in page and f"`ls.{name}" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Links between files of the repository lead to files that exist."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []
