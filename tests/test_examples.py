"""Examples will be alive next year, and work: each model that one names is looked up in the table of models."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import logprob_store as ls
from logprob_store.cli import init
from logprob_store.models.table import shipped_table
from logprob_store.run.preflight import ModelCheck

REPO = Path(__file__).parents[1]
TABLE = shipped_table()
NAMED = re.compile(r"""(?:^name = |\bmodel=|--model )["']?(?P<name>[\w./:-]+)["']?""", re.MULTILINE)
"""How an example names its model: in a job file, in Python and on the command line."""
AT_LEAST = timedelta(days=180)


def texts() -> dict[str, str]:
    """The examples: pages, jobs, schedules, and what the code itself offers."""
    paths = [
        REPO / "README.md",
        *(REPO / "docs").glob("*.md"),
        *(REPO / "docs" / "reliability").glob("*.md"),
        *(REPO / "docs" / "cookbook").glob("*.md"),
        *(REPO / "jobs").rglob("*.*"),
    ]
    found = {str(path.relative_to(REPO)): path.read_text(encoding="utf-8") for path in paths if path.suffix != ".pyc"}
    found["ls.complete"] = inspect.getdoc(ls.complete) or ""
    found["logprobs init"] = re.sub(r'default=.*?"([^"]+)"', r'model="\1"', inspect.getsource(init))
    return {where: re.sub(r"^ +name = ", "name = ", text, flags=re.MULTILINE) for where, text in found.items()}


TEXTS = texts()


def models_of(text: str) -> set[str]:
    """The names in a text that the table knows."""
    return {match["name"] for match in NAMED.finditer(text) if TABLE.find(match["name"]) is not None}


def test_examples_name_models() -> None:
    """They are found where they are known to be."""
    named = {where for where, text in TEXTS.items() if models_of(text)}

    assert {
        *("README.md", "docs/reliability/budget.md", "jobs/nightly.toml", "jobs/schedule/cronjob.yaml"),
        *("ls.complete", "logprobs init"),
    } <= named


@pytest.mark.parametrize("where", [where for where, text in TEXTS.items() if models_of(text)])
def test_no_example_dies_within_half_a_year(where: str) -> None:
    """Whoever copies one has that long, at least; name the successor there when this fails."""
    until = datetime.now(UTC).date() + AT_LEAST
    shutdowns = {name: takes.shutdown for name in models_of(TEXTS[where]) if (takes := TABLE.find(name)) is not None}

    assert {name: day for name, day in shutdowns.items() if day is not None and day < until} == {}


@pytest.mark.parametrize("path", sorted((REPO / "jobs").rglob("*.toml")), ids=lambda path: path.name)
def test_no_job_is_refused_for_its_model(path: Path) -> None:
    """Each would be asked as it stands."""
    assert not ModelCheck(ls.load_job(path)).is_suspect()


def blocks() -> list[str]:
    """The job files that pages show."""
    fenced = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [block for text in TEXTS.values() for block in fenced.findall(text)]


@pytest.mark.parametrize("text", blocks(), ids=range(len(blocks())))
def test_no_job_on_a_page_is_refused_for_its_model(text: str, tmp_path: Path) -> None:
    """Nor would these be."""
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")

    assert not ModelCheck(ls.load_job(path)).is_suspect()
