"""The documentation runs: every block of README and docs is executed as it stands, over the demo's store.

Pages of the cookbook are run from top to bottom, each in a folder of its own like a fresh clone, with the very commands
that it shows: they replay the committed fixtures into its store. A `text` block behind commands or Python is what they
print.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest
import typer

import logprob_store as ls
from logprob_store.cli import app, main
from logprob_store.job import override

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import CommandResult

REPO = Path(__file__).parents[1]
DOCS = REPO / "docs"
COOKBOOK = sorted((DOCS / "cookbook").glob("*.md"))
OTHERS = [page for page in sorted(DOCS.rglob("*.md")) if page not in COOKBOOK]
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *OTHERS]
GUIDES = [*PAGES, *COOKBOOK, REPO / "CHANGELOG.md", REPO / "jobs" / "README.md", REPO / "fixtures" / "README.md"]
RECIPES = [page for page in COOKBOOK if page.name != "README.md"]
MODEL_SERVERS = ("jobs/local_server.py", "jobs/decisions_server.py")


def fenced(page: Path) -> list[tuple[int, str, str]]:
    """The fenced blocks of a page: line, language and content."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start()].count("\n") + 1, match[1], match[2]) for match in found]


def blocks(language: str) -> list[pytest.param]:
    """The fenced blocks of a language on all pages except the cookbook's, named by page and line."""
    return [
        pytest.param(content, id=f"{page.relative_to(REPO)}:{line}")
        for page in PAGES
        for line, name, content in fenced(page)
        if name == language
    ]


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
    others = (
        "jobs/cookbook/classification.toml",
        "jobs/cookbook/structured-output.toml",
        "fixtures/capitals-chat.toml",
    )
    for path in others:
        ls.run_job(override(ls.load_job(folder / path), transport="replay"), run="chat")
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
def test_commands_run(
    line: str, demo: Path, logprobs: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every `logprobs` command line works; one that needs a key says so if there is none."""
    monkeypatch.chdir(demo)
    words = shlex.split(line, comments=True)
    assert words.pop(0) == ".venv/bin/logprobs"
    done = logprobs(*words)

    if "jobs/nightly.toml" in words:
        assert done.code == 2
        assert "OPENAI_API_KEY is not set" in done.err
    elif "out/nightly" in words:
        assert done.code == 2
        assert "no store at out/nightly" in done.err
    else:
        assert done.code == 0, done.err
        assert done.out


# the cookbook


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder like a fresh clone in which nothing has run yet."""
    shutil.copytree(REPO / "jobs", tmp_path / "jobs", ignore=shutil.ignore_patterns("__pycache__", ".logprobs"))
    shutil.copytree(REPO / "fixtures" / "cookbook", tmp_path / "fixtures" / "cookbook")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_commands(lines: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each `logprobs` line of a block in this process, except those that need a live server.

    A line ends with 0, or as its comment says: `# exit code 5`.
    """
    printed = io.StringIO()
    for line in lines.splitlines():
        words = shlex.split(line, comments=True)
        if not words or (words[0] == ".venv/bin/python" and words[1] in MODEL_SERVERS):
            continue
        assert words[0] == ".venv/bin/logprobs", line
        monkeypatch.setattr("sys.argv", words)
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
            main()
        said = re.search(r"# .*exit code (\d+)", line)
        assert ended.value.code == (int(said[1]) if said else 0), line
    return printed.getvalue()


def lines_of(text: str) -> list[str]:
    """The lines of an output without trailing white space and without blank lines around them."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n").splitlines()


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.name)
def test_a_recipe_runs_and_prints_what_it_shows(page: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of the cookbook, run block by block in a fresh clone, prints what it shows."""
    names: dict[str, Any] = {"__name__": "docs"}
    printed: str | None = None
    with pl.Config(restore_defaults=True):
        for line, language, content in fenced(page):
            where = f"{page.name}:{line}"
            if language == "sh":
                printed = run_commands(content, monkeypatch)
            elif language == "python":
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(content, where, "exec"), names)  # noqa: S102  running the documentation is the point
                printed = out.getvalue()
            elif language == "sql":
                printed = str(duckdb.sql(content))
            elif language == "text":
                assert printed is not None, f"{where}: no code that prints this stands before it"
                assert lines_of(printed) == lines_of(content), where
                printed = None
            else:
                assert language == "toml", f"{where}: a block is sh, python, sql, toml or, for what they print, text"
                name = re.search(r'^name = "(.*)"', content, re.MULTILINE)
                assert name, f"{where}: a job without a name"
                job = clone / "jobs" / "cookbook" / f"{name[1]}.toml"
                assert content == job.read_text(encoding="utf-8"), where


def test_the_cookbook_lists_its_recipes() -> None:
    """The table of the cookbook has every page."""
    index = (REPO / "docs" / "cookbook" / "README.md").read_text(encoding="utf-8")

    assert [page.name for page in RECIPES if f"]({page.name})" not in index] == []


def test_make_targets_exist() -> None:
    """Every `make` target that the pages name is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        match
        for page in [*PAGES, *COOKBOOK]
        for match in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", page.read_text("utf-8"), re.MULTILINE)
    }

    assert {first or second for first, second in named} <= targets


def test_every_command_is_documented() -> None:
    """README shows every command."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
    readme = (REPO / "README.md").read_text(encoding="utf-8")

    assert [name for name in commands if f"logprobs {name}" not in readme] == []


def test_generated_pages_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The docs say what the code says (`make docs` writes it), and have no page of a folder that is gone."""
    monkeypatch.syspath_prepend(DOCS)
    files = importlib.import_module("generate_reference").files()
    by_hand = {DOCS / "metrics" / "README.md"}

    assert [path.name for path, text in files.items() if path.read_text(encoding="utf-8") != text] == []
    assert set((DOCS / "metrics").glob("*.md")) - by_hand <= set(files)


@pytest.mark.parametrize("name", ["docstring_markdown", "generate_reference"])
def test_examples_of_the_generator_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctests of the modules in docs/ hold."""
    monkeypatch.syspath_prepend(DOCS)
    tried = doctest.testmod(importlib.import_module(name))

    assert tried.attempted
    assert not tried.failed


def test_the_index_names_every_page() -> None:
    """docs/README.md links every page of docs/."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [str(page.relative_to(DOCS)) for page in [*OTHERS, *COOKBOOK] if page != DOCS / "README.md"]

    assert [page for page in pages if f"]({page})" not in index and f"]({page}#" not in index] == []


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings: "## Two at once" is #two-at-once."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(REPO)))
def test_links_lead_somewhere(page: Path) -> None:
    """Links within the repository lead to files and headings that exist."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    targets = [(page.parent / link if link else page, anchor) for link, anchor in links]

    assert [str(target) for target, _ in targets if not target.exists()] == []
    assert [anchor for target, anchor in targets if anchor and anchor not in anchors(target)] == []
