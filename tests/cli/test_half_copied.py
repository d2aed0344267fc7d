"""Stores in which a run cannot be read, or that were copied in part: a sentence, and the other runs go on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import REPO

import logprob_store as ls
from logprob_store.job import override
from logprob_store.store.manifest import manifest_path
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Callable

DEMO = REPO / "jobs" / "demo.toml"
PROGRAM = Path(sys.executable).with_name("logprobs")
LABELS = ["--labels", "Paris,London,Madrid", "--shared", "bound"]
READING = (
    ["scores"],
    ["labels", *LABELS],
    ["fields"],
    ["samples"],
    ["choices"],
    ["show", "AF"],
    ["calibrate", "--expected", "capital"],
    ["sql", "select count(*) from tokens"],
    ["sql", "select count(*) from scores"],
    ["compare", "a", "b"],
    ["status"],
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the runs `a`, `b` and `c`, alike but for their names."""
    store = tmp_path_factory.mktemp("whole") / "store"
    for run in ("a", "b", "c"):
        ls.run_job(override(ls.load_job(DEMO), store=store), run=run)
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """A copy of that store."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


def damage_manifest(store: Path, run: str = "c") -> None:
    """Damage a manifest and its copy."""
    for name in ("run.json", "run.json.copy"):
        manifest_path(store, run).with_name(name).write_text("{")


def forget_manifest(store: Path, run: str = "c") -> None:
    """Leave the rows of a run alone."""
    shutil.rmtree(manifest_path(store, run).parent)


UNREADABLE: dict[str, Callable[..., None]] = {"damaged": damage_manifest, "gone": forget_manifest}


def ran(*words: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with its log on standard error."""
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, check=False, timeout=60)


def words_of(command: list[str], store: Path, run: str | None = None) -> list[object]:
    """A command over a store, with `--run` where it takes a run."""
    return [command[0], store, *command[1:], *(["--run", run] if run and command[0] != "compare" else [])]


@pytest.mark.filterwarnings("default::logprob_store.StoreWarning")
@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("command", READING, ids=lambda command: " ".join(command[:2]))
def test_a_run_that_cannot_be_read_keeps_no_other_from_it(
    store: Path, logprobs: Any, caplog: pytest.LogCaptureFixture, command: list[str], kind: str
) -> None:
    """Each command prints what it prints without that run, and warns once, with the line to type."""
    words = words_of(command, store, run="a")
    expected = logprobs(*words)
    UNREADABLE[kind](store)
    caplog.clear()

    actual = logprobs(*words)

    assert (actual.code, actual.out) == (expected.code, expected.out)
    (warning,) = caplog.messages
    assert f"run c of {store} cannot be read" in warning
    assert f"`logprobs rm {store} c`" in warning


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_person_sees_the_warning_as_one_line(store: Path, kind: str) -> None:
    """Without the line of code that Python shows with a warning."""
    UNREADABLE[kind](store)

    done = ran("status", store)

    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "WARNING run c of" in line
    assert f"`logprobs rm {store} c`" in line


@pytest.mark.filterwarnings("default::logprob_store.StoreWarning")
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_run_that_is_asked_for_by_name_is_an_error(store: Path, logprobs: Any, kind: str) -> None:
    """It is not said that the store has no such run."""
    UNREADABLE[kind](store)

    done = logprobs("scores", store, "--run", "c")

    assert done.code == 2
    assert str(manifest_path(store, "c")) in done.err
    assert f"`logprobs rm {store} c`" in done.err
    assert len(ran("scores", store, "--run", "c").stderr.splitlines()) == 1


@pytest.mark.filterwarnings("default::logprob_store.StoreWarning")
def test_status_names_unreadable_runs_for_machines(store: Path, logprobs: Any) -> None:
    """The JSON has them beside the runs."""
    damage_manifest(store)

    said = json.loads(logprobs("status", store, "--json").out)

    assert [run["run"] for run in said["runs"]] == ["a", "b"]
    assert list(said["unreadable"]) == ["c"]


@pytest.mark.parametrize("kind", UNREADABLE)
def test_exactly_the_unreadable_run_is_removed(store: Path, logprobs: Any, kind: str) -> None:
    """Then the store is as it was without it."""
    UNREADABLE[kind](store)

    assert logprobs("rm", store, "c", "--yes").code == 0

    assert ls.open_store(store).run_names == ["a", "b"]
    assert verify_store(store) == []


@pytest.mark.parametrize("kind", UNREADABLE)
def test_another_run_of_the_store_is_made_and_gone_on_with(store: Path, kind: str) -> None:
    """One that cannot be read is no obstacle, nor for an import."""
    UNREADABLE[kind](store)
    for run in ("a", "d"):
        assert ran("run", DEMO, "--store", store, "--run", run).returncode == 0
    assert ran("import", REPO / "fixtures" / "rich.jsonl", "--store", store, "--run", "imported").returncode == 0


def test_a_run_that_selects_by_earlier_ones_goes_on_without_an_unreadable_one(store: Path) -> None:
    """What that one answered is asked again, and the warning says that it is left out."""
    damage_manifest(store)

    done = ran("run", DEMO, "--store", store, "--run", "d", "--select", "new")

    assert done.returncode == 0
    assert done.stderr.count("run c of") == 1


@pytest.mark.parametrize("kind", UNREADABLE)
def test_verify_names_an_unreadable_run_and_mends_the_others(store: Path, logprobs: Any, kind: str) -> None:
    """The run that cannot be mended is said to be so, with exit code 2."""
    UNREADABLE[kind](store)
    manifest_path(store, "b").with_name("run.json.copy").write_text("{")

    found = logprobs("verify", store)
    mended = logprobs("verify", store, "--repair")

    assert (found.code, mended.code) == (2, 2)
    assert "run b: the copy of the manifest was written anew" in mended.out
    assert "run c cannot be mended" in mended.out
    assert f"`logprobs rm {store} c`" in mended.out
    assert [problem.run for problem in verify_store(store)] == ["c"]


@pytest.mark.parametrize("kind", UNREADABLE)
def test_python_warns_and_leaves_the_run_out(store: Path, kind: str) -> None:
    """The warning is that of the caller's line."""
    UNREADABLE[kind](store)

    with pytest.warns(ls.StoreWarning, match="run c of .* cannot be read") as caught:
        opened = ls.open_store(store)

    assert opened.run_names == ["a", "b"]
    assert list(opened.unreadable) == ["c"]
    assert caught[0].filename == __file__


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_store_without_a_readable_run_is_an_error(store: Path, kind: str) -> None:
    """There is nothing to go on with."""
    for run in ("a", "b", "c"):
        UNREADABLE[kind](store, run)

    with pytest.raises(ls.StoreError, match="logprobs rm"):
        ls.open_store(store)


def test_many_unreadable_runs_are_one_warning(store: Path) -> None:
    """It names them, and what says more."""
    damage_manifest(store, "b")
    damage_manifest(store, "c")

    with pytest.warns(ls.StoreWarning, match="2 runs of .*: b, c.*logprobs verify") as caught:
        ls.open_store(store)

    assert len(caught) == 1


@pytest.mark.parametrize("command", READING, ids=lambda command: " ".join(command[:2]))
def test_a_store_without_its_runs_folder_is_no_unknown_folder(store: Path, logprobs: Any, command: list[str]) -> None:
    """Its rows are there: the copy lacks the manifests."""
    shutil.rmtree(store / "runs")

    done = logprobs(*words_of(command, store))

    assert done.code == 2
    assert f"3 runs of {store} cannot be read: a, b, c. {manifest_path(store, 'a')} is missing" in done.err
    assert "copy the file again" in done.err
    assert len(done.err.splitlines()) == 1


def test_runs_are_removed_from_a_store_without_its_runs_folder(store: Path, logprobs: Any) -> None:
    """Their rows are all that there is of them."""
    shutil.rmtree(store / "runs")

    assert logprobs("rm", store, "a", "b", "c", "--yes").code == 0

    assert not list(store.glob("*/run=*"))


READING_TOKENS = [command for command in READING if command[0] not in {"fields", "samples", "choices", "status"}]
"""Those that read tokens of the demo, whose answers are no JSON and one to a prompt."""
MISSING: dict[str, Callable[[Path], object]] = {
    "a table": lambda store: shutil.rmtree(store / "tokens"),
    "a run's table": lambda store: shutil.rmtree(store / "tokens" / "run=a"),
    "a part": lambda store: (store / "tokens" / "run=a" / "part-00000.parquet").unlink(),
}


@pytest.mark.parametrize("kind", MISSING)
@pytest.mark.parametrize("command", READING_TOKENS, ids=lambda command: " ".join(command[:2]))
def test_files_that_are_not_there_are_one_sentence(store: Path, logprobs: Any, command: list[str], kind: str) -> None:
    """It says which run lacks them, and to copy the store again."""
    MISSING[kind](store)

    done = logprobs(*words_of(command, store, run="a"))

    assert done.code == 2
    assert "run a lacks 1 file of its rows" in done.err
    assert str(store / "tokens" / "run=a" / "part-00000.parquet") in done.err
    assert "copy it again" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("kind", MISSING)
def test_status_says_that_files_are_not_there(store: Path, logprobs: Any, kind: str) -> None:
    """It reads none of them, and knows by their names."""
    MISSING[kind](store)

    assert "run a lacks 1 file of its rows" in logprobs("status", store).out


def test_a_run_that_goes_on_says_that_files_are_not_there(store: Path) -> None:
    """All its calls have an outcome, so that nothing else would say it."""
    shutil.rmtree(store / "tokens" / "run=a")

    done = ran("run", DEMO, "--store", store, "--run", "a")

    assert "run a lacks 1 file of its rows" in done.stderr


@pytest.mark.parametrize("words", [["scores"], ["scores", "--run", "c"], ["compare", "b", "c"]])
def test_what_is_missing_is_of_the_runs_that_are_read(store: Path, logprobs: Any, words: list[str]) -> None:
    """An older run that lacks a file too is not what keeps a command from reading this one."""
    for run in ("a", "c"):
        (store / "tokens" / f"run={run}" / "part-00000.parquet").unlink()

    done = logprobs(words[0], store, *words[1:])

    assert done.code == 2
    assert "run c lacks 1 file of its rows" in done.err


def lose_answers(store: Path, logprobs: Any) -> None:
    """Take the answers of run `b` out, as a repair of a damaged file does."""
    (store / "completions" / "run=b" / "part-00000.parquet").unlink()
    assert logprobs("verify", store, "--repair").code == 0


@pytest.mark.parametrize("command", ["verify", "status"])
def test_what_a_repair_took_out_is_said_until_it_is_back(store: Path, logprobs: Any, command: str) -> None:
    """The store is whole, and a run in it is not."""
    answers = len(ls.open_store(store).only("b").completions.collect())
    lose_answers(store, logprobs)

    said = logprobs(command, store)

    assert said.code == 0
    assert f"run b lost {answers} answers to damage" in said.out
    assert "all is well" not in said.out


def test_verify_counts_lost_answers_of_the_runs_that_it_was_asked_for(store: Path, logprobs: Any) -> None:
    """Run `a` lost none."""
    lose_answers(store, logprobs)

    assert logprobs("verify", store, "--run", "a").out == f"{store}: all is well\n"


def test_verify_without_manifests_promises_no_repair(store: Path, logprobs: Any) -> None:
    """A store of which runs/ was not copied has nothing to mend from; each sentence stands once."""
    shutil.rmtree(store / "runs")

    found = logprobs("verify", store)
    mended = logprobs("verify", store, "--repair")

    assert (found.code, mended.code) == (2, 2)
    assert found.out.splitlines()[-1] == "3 problems; --repair mends none of them"
    assert mended.out.count(str(manifest_path(store, "b"))) == 1
    assert mended.out.splitlines()[-3:] == [f"run {run} cannot be mended" for run in "abc"]


def test_verify_says_how_many_problems_a_repair_mends(store: Path, logprobs: Any) -> None:
    """One run has a copy of its manifest, the other has none."""
    forget_manifest(store)
    manifest_path(store, "b").with_name("run.json.copy").write_text("{")

    last = logprobs("verify", store).out.splitlines()[-1]

    assert last == f"2 problems; `logprobs verify {store} --repair` mends 1 of them"
