"""What version 0.1.0 left on the disk (`tests/golden`) still reads, verifies, goes on and is found in the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import logprob_store as ls
from logprob_store.request import request_key
from logprob_store.schema import COMPLETIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import CommandResult

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden"
RUNS = [("store", "whole"), ("store", "half"), ("imported", "imported")]


def unpacked(folder: Path) -> Path:
    """A copy of the golden files that a test may change."""
    return Path(shutil.copytree(GOLDEN, folder, dirs_exist_ok=True))


def test_public_names() -> None:
    """Every public name of 0.1.0 is there."""
    names = (GOLDEN / "public_names.txt").read_text(encoding="utf-8").split()

    assert set(names) <= set(dir(ls))


def test_request_keys() -> None:
    """Requests have the keys that 0.1.0 gave them, so that its cache still answers them."""
    for line in (GOLDEN / "request_keys.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n"):
        case: dict[str, Any] = json.loads(line)
        expected = case.pop("key")

        assert request_key(case.pop("body"), **case) == expected


def test_help(logprobs: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--help` of each command prints what it printed in 0.1.0."""
    for name, value in {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    expected = (GOLDEN / "help.txt").read_text(encoding="utf-8")
    commands = [line.split()[2:] for line in expected.splitlines() if line.startswith("$ ")]

    actual = ""
    for words in commands:
        said = "\n".join(line.rstrip() for line in logprobs(*words).out.splitlines())
        actual += f"$ {' '.join(['logprobs', *words])}\n{said}\n\n"
    assert actual.rstrip("\n") + "\n" == expected


@pytest.mark.parametrize(("store", "run"), RUNS)
def test_reads(store: str, run: str, tmp_path: Path) -> None:
    """A run of 0.1.0 has its rows and its scores."""
    opened = ls.open_store(unpacked(tmp_path) / store, runs=[run])
    counts = json.loads((GOLDEN / "counts.json").read_text(encoding="utf-8"))[run]
    expected = pl.read_ndjson(GOLDEN / f"scores-{run}.jsonl", infer_schema_length=None)

    actual = opened.scores().collect().sort("completion_id").select(expected.columns)

    assert {name: getattr(opened, name).select(pl.len()).collect().item() for name in counts} == counts
    assert_frame_equal(actual, expected, check_dtypes=False, rel_tol=1e-12)


@pytest.mark.parametrize("store", ["store", "imported"])
def test_verifies(store: str, workplace: Any) -> None:
    """`verify` finds every file of 0.1.0 intact."""
    unpacked(workplace.folder)

    done = workplace.run("verify", store)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{store}: all is well")


def test_goes_on(workplace: Any, serve: Any) -> None:
    """A run that was killed under 0.1.0 goes on: cached answers are not asked for again, and all calls are answered."""
    unpacked(workplace.folder)
    server = serve()
    job = workplace.folder / "half.toml"
    job.write_text(job.read_text(encoding="utf-8").replace("http://127.0.0.1:1/v1", server.url), encoding="utf-8")

    done = workplace.run("run", job, "--run", "half", "--json")

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    # 14 answers were in parts and 12 more in the cache when the run was killed.
    assert (summary["already"], summary["calls"], len(server.calls())) == (14, 14, 14)
    assert (summary["total"], summary["completions"], summary["failures"]) == (40, 40, 0)
    rows = ls.open_store(workplace.folder / "store", runs=["half"]).completions.collect()
    assert rows.schema == {"run": pl.String(), **COMPLETIONS}  # of files with and without `service_tier`
    assert rows["completion_id"].n_unique() == 40
    assert rows["source"].value_counts().sort("count").rows() == [("api", 40)]
    assert workplace.run("verify", "store").returncode == 0


def test_failures_are_asked_again(workplace: Any, serve: Any) -> None:
    """Of a finished run of 0.1.0 the failed calls are made again, and no others."""
    unpacked(workplace.folder)
    server = serve()
    job = workplace.folder / "whole.toml"
    job.write_text(job.read_text(encoding="utf-8").replace("http://127.0.0.1:1/v1", server.url), encoding="utf-8")

    done = workplace.run("run", job, "--run", "whole", "--json")

    assert done.returncode == 0, done.stderr
    assert (len(server.calls()), json.loads(done.stdout)["completions"]) == (4, 16)


def test_cache_answers_another_run(workplace: Any, serve: Any) -> None:
    """Another run of the same job takes every answer from the cache of 0.1.0."""
    unpacked(workplace.folder)
    server = serve()
    job = workplace.folder / "whole.toml"
    job.write_text(job.read_text(encoding="utf-8").replace("http://127.0.0.1:1/v1", server.url), encoding="utf-8")

    done = workplace.run("run", job, "--run", "another", "--json")

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["from_cache"], summary["calls"]) == (12, 4)


def test_import_adds_nothing(workplace: Any) -> None:
    """Importing the same file into the store that 0.1.0 imported it into adds nothing."""
    unpacked(workplace.folder)

    done = workplace.run("import", "responses.jsonl", "--store", "imported", "--run", "imported")

    assert done.returncode == 0, done.stderr
    assert "0 added, 6 there already" in done.stdout
