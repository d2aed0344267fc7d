"""What holds for every command: help, letters, JSON, the version, `python -m`, completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from builders import REPO, chat_body, chat_token, run_demo, write_job, write_prompts

from logprob_store.cli import app
from logprob_store.cli.common import echo

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP: Any = typer.main.get_command(app)
PROGRAM = Path(sys.executable).with_name("logprobs")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's store, with the run `demo`."""
    folder = tmp_path_factory.mktemp("store") / "out"
    run_demo(folder)
    return folder


def options() -> Iterator[tuple[str, Any]]:
    """Each option of each command, with the command's name; "" is the program itself."""
    for name, command in {"": GROUP, **GROUP.commands}.items():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                yield name, parameter


@pytest.mark.parametrize("command", ["", *GROUP.commands])
def test_h_is_help(command: str, logprobs: Any) -> None:
    """`-h` prints what `--help` prints."""
    words = [command] if command else []

    assert logprobs(*words, "-h") == logprobs(*words, "--help")


def letters() -> dict[str, set[str]]:
    """Each letter, and the long options that it stands for."""
    found: dict[str, set[str]] = {"-h": {"--help"}}
    for _, option in options():
        long = next(name for name in option.opts if name.startswith("--"))
        for short in (name for name in option.opts if not name.startswith("--")):
            found.setdefault(short, set()).add(long)
    return found


def test_a_letter_means_one_thing() -> None:
    """No two commands use a letter for different options, and the page on the command line lists them all."""
    page = (REPO / "docs" / "command-line.md").read_text(encoding="utf-8")
    listed = {short: {long} for short, long in re.findall(r"^\| `(-\w)` \| `(--[a-z-]+)` \|", page, re.MULTILINE)}

    assert letters() == listed


def test_every_command_has_json() -> None:
    """A program can read the result of each."""
    with_json = {name for name, option in options() if "--json" in option.opts}

    assert with_json == set(GROUP.commands)


def strictly(text: str) -> Any:
    """The value of a JSON text; NaN and Infinity are no JSON."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["scores"],
        ["scores", "-o", "scores.csv"],
        ["labels", "--labels", "London,Paris", "--shared", "bound"],
        ["labels", "--labels", "London,Paris", "--shared", "bound", "-o", "labels.parquet"],
        ["calibrate", "--expected", "capital"],
        ["calibrate", "--expected", "capital", "-o", "table.csv"],
        ["show", "PN"],
        ["verify"],
    ],
    ids=" ".join,
)
def test_json_is_all_that_is_printed(
    words: list[str], store: Path, tmp_path: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output is one JSON value, also where rows go to a file."""
    monkeypatch.chdir(tmp_path)

    done = logprobs(words[0], store, *words[1:], "--json")

    assert done.code == 0
    assert isinstance(strictly(done.out), dict | list)


def test_json_of_compare(store: Path, tmp_path: Path, logprobs: Any) -> None:
    """One JSON value too, where the pairs go to a file."""
    run_demo(tmp_path / "other")
    words = ["compare", store, "demo", "demo", "--other", tmp_path / "other", "-o", tmp_path / "pairs.csv"]

    done = logprobs(*words, "--json")

    assert done.code == 0
    assert strictly(done.out)["pairs"] == 243


OPTIONS_NEEDED = {"import": ["--store", "there"], "record": ["--fixtures", "made"], "calibrate": ["--expected", "x"]}


@pytest.mark.parametrize("command", [name for name in GROUP.commands if name != "doctor"])
def test_an_error_is_json_for_every_command(
    command: str, tmp_path: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is there: standard output is one JSON value with the message that standard error has.

    What is wrong is a check of the doctor, which is in its own JSON.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    words = {"models": ["--live", "--base-url", "no address"], "init": ["nowhere.parquet"], "show": ["nowhere", "p"]}
    given = words.get(command, ["nowhere", *OPTIONS_NEEDED.get(command, [])])

    done = logprobs(command, *given, "--json")
    told = strictly(done.out)["error"]

    assert (done.code, told["exit_code"]) == (2, 2)
    assert told["message"].splitlines()[0] in done.err


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["status", "nowhere", "--run", "x"], "StoreNotFoundError"),
        (["status"], "MissingParameter"),
        (["status", "nowhere", "--rn"], "NoSuchOption"),
        (["scores", "nowhere", "-n", "0"], "BadParameter"),
        (["statsu", "nowhere"], "UsageError"),
    ],
)
def test_an_error_names_its_class(words: list[str], kind: str, logprobs: Any) -> None:
    """Also where the words of the command line are wrong; without `--json` standard output is empty."""
    as_json = logprobs(*words, "--json")

    assert strictly(as_json.out)["error"]["kind"] == kind
    assert as_json.err
    assert logprobs(*words).out == ""


def test_an_interrupt_is_said_to_a_program(logprobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the command had printed nothing yet; people know what they pressed."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("logprob_store.cli.check_environment", interrupt)

    told = logprobs("status", "nowhere", "--json")

    assert (told.code, strictly(told.out)["error"]) == (
        130,
        {"message": "interrupted", "kind": "KeyboardInterrupt", "exit_code": 130},
    )
    assert logprobs("status", "nowhere") == (130, "", "")


def test_json_behind_two_dashes_is_no_option(logprobs: Any) -> None:
    """It is the name of a store there, so people read the error."""
    assert logprobs("status", "--", "--json").out == ""


def test_json_of_fields(tmp_path: Path, logprobs: Any) -> None:
    """Over an answer that is JSON, to a terminal and to a file."""
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(chat_body([chat_token('{"a": '), chat_token("1}")])), encoding="utf-8")
    assert logprobs("import", answer, "--store", tmp_path / "out").code == 0

    printed = strictly(logprobs("fields", tmp_path / "out", "--json").out)
    written = strictly(logprobs("fields", tmp_path / "out", "-o", tmp_path / "fields.csv", "--json").out)

    assert [(row["path"], row["value"]) for row in printed] == [("/a", "1")]
    assert written == {"output": str(tmp_path / "fields.csv"), "rows": 1}


def test_show_json_has_tokens_and_alternatives(store: Path, logprobs: Any) -> None:
    """A completion with its own tokens and alternatives; bytes are numbers, as the APIs send them."""
    (shown,) = strictly(logprobs("show", store, "PN", "--json").out)

    assert shown["text"] == " New Zealand"
    assert [bytes(token["bytes"]).decode() for token in shown["tokens"]] == [" New", " Zealand"]
    assert {row["completion_id"] for row in shown["alternatives"]} == {shown["completion_id"]}


def test_record_json(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """`record --json` counts what was asked and names the file."""
    write_prompts(tmp_path, {"text": ["a", "b"]})
    job = write_job(tmp_path, fault_server.url)

    recorded = strictly(logprobs("record", job, "--fixtures", tmp_path / "made", "--json").out)

    assert (recorded["lines"], recorded["calls"], recorded["problems"]) == (2, 2, [])
    assert recorded["path"] == str(tmp_path / "made" / "job.jsonl")


def test_a_recording_that_is_stopped_is_one_sentence(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """A refused key ends it with exit code 4, as it ends a run, and without a traceback."""
    write_prompts(tmp_path, {"text": ["a"]})
    job = write_job(tmp_path, fault_server.url)
    fault_server.script("401")

    done = logprobs("record", job, "--fixtures", tmp_path / "made", "--json")

    assert (done.code, len(done.err.splitlines())) == (4, 1)
    assert strictly(done.out)["error"]["exit_code"] == 4
    assert "HTTP 401 invalid_api_key" in done.err


def test_verify_json_lists_problems_and_repairs(tmp_path: Path, logprobs: Any) -> None:
    """Each problem has its file; the exit codes are those of text."""
    run_demo(tmp_path)
    part = next((tmp_path / "tokens").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-100])

    found = logprobs("verify", tmp_path, "--json")
    mended = logprobs("verify", tmp_path, "--repair", "--json")

    assert (found.code, mended.code) == (2, 0)
    assert [problem["path"] for problem in strictly(found.out)["problems"]] == [str(part)]
    assert (strictly(found.out)["repairs"], len(strictly(mended.out)["repairs"])) == ([], 1)


def test_numbers_that_json_lacks_are_null(capfd: pytest.CaptureFixture[str]) -> None:
    """Python would write -Infinity and NaN, which no other reader of JSON takes."""
    echo({"a": [float("-inf"), 1.5], "b": (float("nan"),)})

    assert strictly(capfd.readouterr().out) == {"a": [None, 1.5], "b": [None]}


def test_version(logprobs: Any) -> None:
    """`--version` is one line, and ends well without a command."""
    done = logprobs("--version")

    assert done.code == 0
    assert re.fullmatch(r"logprob-store \d+\.\d+\.\d+\S*\n", done.out)


def test_python_m_is_the_program() -> None:
    """`python -m logprob_store` prints what `logprobs` prints, with its exit codes."""
    words = ["scores", "/no/such/store"]
    ours = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False)
    theirs = subprocess.run(
        [sys.executable, "-m", "logprob_store", *words], capture_output=True, text=True, check=False
    )

    assert (
        (theirs.returncode, theirs.stdout, theirs.stderr) == (ours.returncode, ours.stdout, ours.stderr) != (0, "", "")
    )


def completed(*words: str, folder: Path) -> list[str]:
    """What a shell is told to offer for the last word."""
    line = {"COMP_WORDS": " ".join(["logprobs", *words]), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [PROGRAM],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "_LOGPROBS_COMPLETE": "complete_bash", **line},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.slow
def test_shells_complete_runs(store: Path) -> None:
    """Names of runs, from the store that the command line names, or from its job file."""
    folder = store.parent
    write_job(folder, store={"path": store.name})

    assert completed("scores", "out", "--run", "d", folder=folder) == ["demo"]
    assert completed("scores", "out", "--run", "x", folder=folder) == []
    assert completed("scores", "nowhere", "--run", "d", folder=folder) == []
    assert completed("compare", "out", "d", folder=folder) == ["demo"]
    assert completed("run", "job.toml", "--run", "d", folder=folder) == ["demo"]


def test_shells_complete_commands(tmp_path: Path) -> None:
    """A command's first letters are enough."""
    assert completed("sc", folder=tmp_path) == ["scores"]


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
@pytest.mark.parametrize("command", ["", *GROUP.commands])
def test_help_crops_no_option(command: str, columns: int, logprobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of an option is there to be typed, however narrow the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    said = logprobs(*[command] * bool(command), "-h").out

    for name, option in options():
        if name == command:
            assert max(option.opts, key=len) in said
    assert "…" not in said
