"""The command line: exit codes, output, and errors for wrong input."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from threading import Timer
from typing import Any

import polars as pl
import pytest
from builders import open_writer
from store.tried_runs import answered, failed, open_tried
from typer.testing import CliRunner

import logprob_store as ls
from logprob_store import cli
from logprob_store.store.lock import is_being_written, take_lock
from logprob_store.store.manifest import manifest_path, read_manifest, run_folder, write_manifest

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's job and fixtures in a folder of their own, run once."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("jobs", "fixtures"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".logprobs"))
    ls.run_job(ls.load_job(folder / "jobs" / "demo.toml"), run="demo")
    return folder


def changed(clone: Path, tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The demo's job file with some text replaced, and paths that work from anywhere."""
    text = (clone / "jobs" / "demo.toml").read_text(encoding="utf-8")
    text = text.replace("../fixtures", str(clone / "fixtures")).replace("../out/demo", "store")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_run_and_run_again(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """A run stores all answers; started again it has nothing to ask."""
    job = changed(clone, tmp_path)

    first = logprobs("run", job, "--run", "r")
    second = logprobs("run", job, "--run", "r")

    assert (first.code, second.code) == (0, 0)
    assert "243 answers wanted: 0 from the server, 243 from fixtures, 0 failed" in first.out
    assert "nothing had to be asked again" in second.out


def test_run_json(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """`--json` prints one object for machines."""
    done = logprobs("run", changed(clone, tmp_path), "--run", "r", "--json", "--limit", "5")
    summary = json.loads(done.out)

    assert (summary["state"], summary["total"], summary["completions"]) == ("finished", 5, 5)


def test_limit_then_all(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """A run with a limit goes on without it, and each prompt has one row."""
    job = changed(clone, tmp_path)
    assert logprobs("run", job, "--run", "r", "--limit", "5").code == 0
    assert logprobs("run", job, "--run", "r").code == 0
    store = ls.open_store(tmp_path / "store")

    assert store.completions.collect()["prompt_index"].sort().to_list() == list(range(243))
    assert store.prompts.collect()["prompt_index"].sort().to_list() == list(range(243))


def test_store_and_fixtures_are_relative_to_the_working_directory(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logprobs: Any
) -> None:
    """Paths on the command line are relative to the working directory, those in the job file to the file."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(clone / "fixtures" / "capitals.jsonl", tmp_path / "mine.jsonl")
    done = logprobs("run", clone / "jobs" / "demo.toml", "--store", "here", "--fixtures", "mine.jsonl", "--limit", "2")

    assert done.code == 0, done.err
    assert ls.open_store(tmp_path / "here").completions.collect().height == 2


def test_replay_miss_is_a_failure_row(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """Prompts without a recording fail, name the nearest and what differs, and the exit code is 3."""
    job = changed(clone, tmp_path, ("temperature = 0", "temperature = 0.7"))
    done = logprobs("run", job, "--run", "r", "--limit", "2")
    failures = ls.open_store(tmp_path / "store").failures.collect()

    assert done.code == 3
    assert "2 failed" in done.out
    assert failures["error_type"].to_list() == ["replay_miss"] * 2
    assert "temperature: asked 0.7, recorded 0" in failures["message"][0]
    status = logprobs("status", tmp_path / "store")
    assert "replay_miss" in status.out


def test_changed_job_under_the_same_name(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """Another job cannot continue a run; the error names what changed."""
    assert logprobs("run", changed(clone, tmp_path), "--run", "r", "--limit", "2").code == 0
    done = logprobs("run", changed(clone, tmp_path, ("max_tokens = 12", "max_tokens = 9")), "--run", "r")

    assert done.code == 2
    assert "model.params.max_tokens is 9, was 12" in done.err
    assert "--run NAME" in done.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("top_logprobs", "top_logprob")], "model.top_logprob: unknown key; did you mean top_logprobs?"),
        ([("[prompts]", "[prompt]")], "prompt: unknown key; did you mean prompts?"),
        ([("{country}\nCapital:", "{contry}\nCapital:")], "contry"),
        ([("{country}\nCapital:", "{country.__class__}\nCapital:")], "country.__class__"),
        ([("capitals.parquet", "capital.parquet")], "capital.parquet"),
        ([('id = "iso"', 'id = "continent"')], "continent"),
        ([('keep = ["country"', 'keep = ["county"')], "county"),
        ([("capitals.jsonl", "none.jsonl")], "none.jsonl"),
        ([('name = "demo"', 'name = "a/b"')], "name"),
    ],
)
def test_wrong_jobs(clone: Path, tmp_path: Path, logprobs: Any, changes: list[tuple[str, str]], said: str) -> None:
    """A wrong job is exit code 2 and one message that names the place; no traceback, no store."""
    done = logprobs("run", changed(clone, tmp_path, *changes), "--run", "r")

    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "a b", "x" * 200])
def test_wrong_run_names(clone: Path, tmp_path: Path, logprobs: Any, name: str) -> None:
    """A run's name cannot leave the store."""
    done = logprobs("run", changed(clone, tmp_path), f"--run={name}")

    assert done.code == 2
    assert "run name" in done.err


def test_missing_job_file(tmp_path: Path, logprobs: Any) -> None:
    """A missing job file is exit code 2 and a message."""
    done = logprobs("run", tmp_path / "no.toml")

    assert (done.code, "cannot be read" in done.err) == (2, True)


def test_dry_run_counts_and_writes_nothing(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """`--dry-run` says what would be asked and leaves no store."""
    done = logprobs("run", changed(clone, tmp_path), "--dry-run")

    assert done.code == 0
    assert "243 prompts, 243 calls: 0 already in the run, 243 in the cache or fixtures" in done.out
    assert not (tmp_path / "store").exists()


def test_no_key(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """A live job without a key says which variable to set."""
    done = logprobs("run", changed(clone, tmp_path), "--transport", "live")

    assert done.code == 2
    assert "OPENAI_API_KEY is not set" in done.err


def test_status_json(clone: Path, logprobs: Any) -> None:
    """`status --json` has the counts of each run."""
    runs = json.loads(logprobs("status", clone / "out" / "demo", "--json").out)["runs"]

    assert [(run["run"], run["completions"], run["failures"], run["state"]) for run in runs] == [
        ("demo", 243, 0, "finished")
    ]


def test_no_store(tmp_path: Path, logprobs: Any) -> None:
    """`status`, `scores` and `show` say when a folder is no store."""
    for command in (["status"], ["scores"], ["show"]):
        words = [*command, tmp_path, *(["1"] if command == ["show"] else [])]
        done = logprobs(*words)
        assert (done.code, "no store at" in done.err) == (2, True)


def test_unknown_run(clone: Path, logprobs: Any) -> None:
    """The error for an unknown run lists the runs of the store."""
    done = logprobs("scores", clone / "out" / "demo", "--run", "dem")

    assert done.code == 2
    assert "no run 'dem' in this store; it has: demo" in done.err


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "jsonl"])
def test_scores_written(clone: Path, tmp_path: Path, logprobs: Any, suffix: str) -> None:
    """`scores -o` writes every completion in the form its name says."""
    path = tmp_path / f"scores.{suffix}"
    assert logprobs("scores", clone / "out" / "demo", "-o", path).code == 0
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "json": pl.read_json, "jsonl": pl.read_ndjson}[suffix]

    assert read(path).height == 243


def test_scores_refuses_an_unknown_form(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """A file name with an unknown suffix is an error that lists the known ones."""
    done = logprobs("scores", clone / "out" / "demo", "-o", tmp_path / "scores.xlsx")

    assert (done.code, ".parquet" in done.err) == (2, True)


def test_scores_sorted(clone: Path, logprobs: Any) -> None:
    """The least confident come first, or what `--sort` says."""
    rows = json.loads(logprobs("scores", clone / "out" / "demo", "--json", "-n", "5").out)
    by_margin = json.loads(logprobs("scores", clone / "out" / "demo", "--json", "--sort", "mean_margin").out)

    assert [row["prompt_id"] for row in rows] == ["PN", "AW", "MH", "IO", "GQ"]
    margins = [row["mean_margin"] for row in by_margin]
    assert margins == sorted(margins)
    assert logprobs("scores", clone / "out" / "demo", "--sort", "nothing").code == 2


def test_show_by_prompt_and_by_completion(clone: Path, logprobs: Any) -> None:
    """`show` takes a prompt's id or a completion_id, and lists alternatives."""
    by_prompt = logprobs("show", clone / "out" / "demo", "PN")
    completion = by_prompt.out.split("completion ")[1].split()[0]
    by_completion = logprobs("show", clone / "out" / "demo", completion)

    assert by_prompt.out == by_completion.out
    assert "New Zealand" in by_prompt.out
    assert "' York'" in by_prompt.out
    assert logprobs("show", clone / "out" / "demo", "nobody").code == 2


def test_show_says_why_a_prompt_has_no_answer(tmp_path: Path, logprobs: Any) -> None:
    """Though it has no completion: the class, and how often it was tried."""
    with open_tried(tmp_path) as writer:
        writer.commit({**answered(0), "failures": failed(2)}, settled=[0, 2])
        writer.finish("finished")

    shown = logprobs("show", tmp_path, "2")
    assert (shown.code, "prompt 2 failed: timeout after" in shown.out) == (0, True)
    assert json.loads(logprobs("show", tmp_path, "2", "--json").out)[0]["failure"]["error_type"] == "timeout"


def test_show_obeys_no_terminal_codes(tmp_path: Path, logprobs: Any, clone: Path) -> None:
    """Escape sequences in a model's answer are printed as visible characters."""
    line = (clone / "fixtures" / "capitals.jsonl").read_text(encoding="utf-8").splitlines()[0]
    evil = line.replace('" Kabul"', r'"\u001b[2J\u001b]0;owned\u0007"').replace(
        "[32,75,97,98,117,108]", "[27,91,50,74]"
    )
    assert evil != line
    (tmp_path / "evil.jsonl").write_text(evil + "\n", encoding="utf-8")
    job = changed(clone, tmp_path, (str(clone / "fixtures" / "capitals.jsonl"), "evil.jsonl"))
    assert logprobs("run", job, "--run", "r", "--limit", "1").code == 0

    for words in (["show", tmp_path / "store", "AF"], ["scores", tmp_path / "store"]):
        shown = logprobs(*words)
        assert shown.code == 0
        assert "\x1b" not in shown.out
        assert "␛[2J" in shown.out


def test_help_names_every_command() -> None:
    """`--help` lists the commands, each with a sentence."""
    shown = CliRunner().invoke(cli.app, ["--help"]).output

    assert all(command in shown for command in ("run", "record", "status", "scores", "show"))


def test_status_tells_a_running_run_from_a_crashed_one(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """A manifest that says `running` is believed only while a process holds the run's lock."""
    store = tmp_path / "store"
    for name in ("live", "dead", "again"):
        assert logprobs("run", changed(clone, tmp_path), "--run", name, "--limit", "1").code == 0
    for name in ("live", "dead"):
        manifest = read_manifest(path := manifest_path(store, name))
        manifest.state = "running"
        write_manifest(path, manifest)
    with take_lock(store, "live"), take_lock(store, "again"):
        runs = json.loads(logprobs("status", store, "--json").out)["runs"]
        shown = logprobs("status", store).out

    rows = [line.split()[:2] for line in shown.splitlines()]

    assert {run["run"]: run["state"] for run in runs} == {"live": "running", "dead": "crashed", "again": "running"}
    assert all([run["run"], run["state"]] in rows for run in runs)
    assert "dead crashed: it ended without a last word: it was killed, the power failed, or the disk was full" in shown


def test_status_of_many_runs_shows_the_newest(clone: Path, tmp_path: Path, logprobs: Any) -> None:
    """Of many runs the newest 20 are shown, and the older ones counted; --json has all."""
    job, store = changed(clone, tmp_path, ("temperature = 0", "temperature = 0.7")), tmp_path / "store"
    for night in range(22):
        ls.run_job(ls.load_job(job), run=f"night-{night:02d}", limit=1)
    shown = logprobs("status", store).out
    all_of_them = json.loads(logprobs("status", store, "--json").out)["runs"]

    # Each run has one failure, because there is no recording with temperature 0.7.
    assert "22 runs\nthe newest 20; 2 older, with 2 failures, left out" in shown
    assert "night-01" not in shown
    assert "night-02" in shown
    assert len(all_of_them) == 22


def test_status_keeps_no_writer_out(tmp_path: Path) -> None:
    """A writer gets the run even if `status` holds the lock at that moment."""
    with open_writer(tmp_path):
        pass
    descriptor = os.open(run_folder(tmp_path, "r") / "lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    Timer(0.02, os.close, [descriptor]).start()

    with open_writer(tmp_path):
        assert is_being_written(tmp_path, "r")
    assert not is_being_written(tmp_path, "r")
