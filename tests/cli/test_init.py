"""The command `init`: by options, by questions, and the demo."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from builders import REPO, write_prompts

import logprob_store as ls
from logprob_store.new_job import creating
from logprob_store.replay.fixtures import Recordings

PROGRAM = Path(sys.executable).with_name("logprobs")
REVIEWS = {"review_id": [1, 2], "text": ['Great "stuff"', "Bad"], "stars": [5, 1]}
MODEL = ("--model", "m", "--base-url", "http://127.0.0.1:1/v1")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a prompts file; standard input is no terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    write_prompts(tmp_path, REVIEWS, "reviews.parquet")
    return tmp_path


def test_columns_are_shown_and_guessed(logprobs: Any) -> None:
    """Each with its type and its first value; the job has them in the roles that their names say."""
    done = logprobs("init", "--prompts", "reviews.parquet", *MODEL)
    job = ls.load_job("job.toml")

    assert done.code == 0, done.err
    shown = [line.split() for line in done.out.splitlines()]
    assert ["stars", "int64", "5"] in shown
    assert ["text", "text", "Great", '"stuff"'] in shown
    assert (job.name, job.prompts.prompt, job.prompts.id, job.prompts.keep) == (
        "reviews",
        "text",
        "review_id",
        ("stars",),
    )


def test_the_job_passes_a_dry_run(logprobs: Any) -> None:
    """Each of the commands that it names next works, but for those that need a server."""
    done = logprobs("init", "--prompts", "reviews.parquet", *MODEL)
    following = done.out.partition("next:\n")[2].split("\n")

    assert "  logprobs run job.toml --dry-run" in following
    assert "2 prompts, 2 calls" in logprobs("run", "job.toml", "--dry-run").out


@pytest.mark.parametrize("place", ["jobs/deep/mine.toml", "jobs/deep"])
def test_the_path_of_the_prompts_is_relative_to_the_job(place: str, here: Path, logprobs: Any) -> None:
    """Prompts are named from the working directory, and the job lies elsewhere, in a folder that is made."""
    (here / "data").mkdir()
    write_prompts(here / "data", REVIEWS, "a.parquet")

    assert logprobs("init", place, "--prompts", "data/*.parquet", *MODEL).code == 0
    job = here / place if place.endswith(".toml") else here / place / "job.toml"
    assert ls.load_job(job).prompts.path == "../../data/*.parquet"
    assert "2 prompts" in logprobs("run", job, "--dry-run").out


def test_names_with_commas_are_kept(here: Path, logprobs: Any) -> None:
    """All columns are, whatever they are called."""
    write_prompts(here, {"text": ["a"], "city, country": ["b"]}, "odd.parquet")

    assert logprobs("init", "--prompts", "odd.parquet", *MODEL).code == 0
    assert ls.load_job("job.toml").prompts.keep == ("city, country",)


def test_a_template(logprobs: Any) -> None:
    """With a system text; columns are kept as asked, and no id is taken."""
    words = ["--template", "Is this good?\n\n{text}", "--system", "Say Yes or No.", "--keep", "stars,text", "--id", "-"]

    assert logprobs("init", "--prompts", "reviews.parquet", *words, *MODEL).code == 0
    prompts = ls.load_job("job.toml").prompts
    assert (prompts.template, prompts.system) == ("Is this good?\n\n{text}", "Say Yes or No.")
    assert (prompts.keep, prompts.id) == (("stars", "text"), None)


def test_options_that_are_missing_are_named(logprobs: Any) -> None:
    """Nobody is asked where standard input is no terminal."""
    done = logprobs("init")

    assert (done.code, done.out) == (2, "")
    assert "--prompts and --model are missing" in done.err
    assert not Path("job.toml").exists()


def test_several_columns_that_could_be_the_prompt(here: Path, logprobs: Any) -> None:
    """The error names the columns and the options."""
    write_prompts(here, {"country": ["France"], "capital": ["Paris"]}, "capitals.parquet")
    done = logprobs("init", "--prompts", "capitals.parquet", *MODEL)

    assert done.code == 2
    assert "There are country, capital: say --prompt COLUMN" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompts", "no.parquet"], "nothing matches 'no.parquet'"),
        (["--prompts", "reviews.parquet", "--prompt", "txt"], "no column 'txt'"),
        (["--prompts", "reviews.parquet", "--template", "{txt}"], "no column 'txt'"),
        (["--prompts", "reviews.parquet", "--keep", "star"], "there is no column 'star'"),
        (["--prompts", "reviews.parquet", "--id", "stars,text", "--keep", "-"], "no column 'stars,text'"),
        (["--prompts", "reviews.parquet", "--base-url", "127.0.0.1"], "base_url"),
        (["--prompts", "reviews.parquet", "--name", "a b"], "name"),
        (["--prompts", "reviews.parquet", "--messages", "text", "--endpoint", "completions"], "completions"),
        (["--prompts", "*.parquet"], "no column in common"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(words: list[str], said: str, here: Path, logprobs: Any) -> None:
    """As a dry run would, before there is a file."""
    write_prompts(here, {"other": [1]}, "other.parquet")
    done = logprobs("init", *MODEL, *words)

    assert done.code == 2
    assert said in done.err
    assert not Path("job.toml").exists()


def test_a_file_is_replaced_with_force_only(logprobs: Any) -> None:
    """What was there stays as it was."""
    Path("job.toml").write_text("mine", encoding="utf-8")
    words = ["init", "--prompts", "reviews.parquet", *MODEL]

    refused = logprobs(*words)
    kept = Path("job.toml").read_text(encoding="utf-8")
    forced = logprobs(*words, "--force")

    assert (refused.code, kept, forced.code) == (2, "mine", 0)
    assert "job.toml is there already" in refused.err
    assert ls.load_job("job.toml").name == "reviews"


def test_force_writes_through_no_link(here: Path, logprobs: Any) -> None:
    """The link is replaced, and what it leads to stays."""
    Path("precious").write_text("mine", encoding="utf-8")
    Path("job.toml").symlink_to("precious")

    assert logprobs("init", "--prompts", "reviews.parquet", *MODEL, "--force").code == 0
    assert (here / "precious").read_text(encoding="utf-8") == "mine"


def test_json(logprobs: Any) -> None:
    """What was found and written, for programs."""
    made = json.loads(logprobs("init", "--prompts", "reviews.parquet", *MODEL, "--json").out)

    assert (made["job"], made["prompts"], made["calls"]) == ("job.toml", 2, 2)
    assert made["columns"][0] == {"name": "review_id", "type": "int64", "first": "1"}
    assert made["next"][0] == "logprobs doctor job.toml"


@pytest.mark.parametrize(
    ("model", "endpoint", "params"),
    [
        ("gpt-6-luna", "chat", {"reasoning_effort": "none", "temperature": 0, "max_completion_tokens": 9}),
        ("gpt-6-luna", "responses", {"reasoning": {"effort": "none"}, "temperature": 0, "max_output_tokens": 16}),
        ("gpt-5.4-mini", "chat", {"temperature": 0, "max_completion_tokens": 9}),
        ("gpt-7", "chat", {"temperature": 0, "max_completion_tokens": 9}),
    ],
)
def test_parameters_that_the_model_takes(model: str, endpoint: str, params: dict[str, Any], logprobs: Any) -> None:
    """Of OpenAI's models what is known is written; others are asked as all are."""
    words = ["--prompts", "reviews.parquet", "--model", model, "--endpoint", endpoint, "--max-tokens", "9"]

    assert logprobs("init", *words).code == 0
    assert ls.load_job("job.toml").model.params == params
    assert "2 prompts, 2 calls" in logprobs("run", "job.toml", "--dry-run").out


def test_a_model_that_gives_no_logprobs(logprobs: Any) -> None:
    """It is said before there is a file."""
    done = logprobs("init", "--prompts", "reviews.parquet", "--model", "gpt-6-astra")

    assert (done.code, Path("job.toml").exists()) == (2, False)
    assert "gpt-6-astra gives no logprobs" in done.err


def talk(*words: str, answers: list[str]) -> tuple[int, str]:
    """Run `logprobs` at a terminal and answer what it asks; returns the exit code and what was to be seen."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([PROGRAM, *words], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen, left = b"", iter(answers)
    while select.select([ours], [], [], 30)[0]:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the child has ended
            break
        if seen.endswith(b": "):
            os.write(ours, f"{next(left)}\n".encode())
    os.close(ours)
    return child.wait(30), seen.decode()


def test_a_person_is_asked(here: Path) -> None:
    """A wrong answer is asked again; an empty one takes the default in brackets."""
    write_prompts(here, {"country": ["France"], "capital": ["Paris"]}, "capitals.parquet")
    answers = ["no.parquet", "capitals.parquet", "contry", "Capital of {country}?", "", "capital"]
    server = ["nowhere", "http://127.0.0.1:1/v1", "", "m", "many", "9"]

    code, seen = talk("init", answers=[*answers, *server])
    job = ls.load_job("job.toml")

    assert code == 0, seen
    assert "nothing matches 'no.parquet'" in seen
    assert "there is no column 'contry'; there are country, capital" in seen
    assert (job.prompts.template, job.prompts.id, job.prompts.keep) == ("Capital of {country}?", None, ("capital",))
    assert (job.model.base_url, job.model.name) == ("http://127.0.0.1:1/v1", "m")
    assert job.model.params == {"temperature": 0, "max_tokens": 9}


def test_a_person_is_asked_for_what_no_option_says() -> None:
    """The only file, its columns and the OpenAI API are offered."""
    code, seen = talk("init", "--id", "-", "--keep", "-", answers=["", "", "", "", ""])
    job = ls.load_job("job.toml")

    assert code == 0, seen
    assert "or a glob [reviews.parquet]:" in seen
    assert (job.prompts.prompt, job.prompts.id, job.prompts.keep) == ("text", None, ())
    assert (job.model.base_url, job.model.name) == (None, "gpt-6-luna")


def test_a_person_who_leaves_has_no_job() -> None:
    """The end of the input, as Ctrl-D gives it, is an interrupt and no error."""
    code, seen = talk("init", answers=["reviews.parquet", "\x04"])

    assert (code, "Traceback" in seen) == (130, False)
    assert not Path("job.toml").exists()


# the demo


def test_the_demo_runs_offline(logprobs: Any) -> None:
    """Every command that it names next works, without a server and without the repository."""
    done = logprobs("init", "--demo")
    following = [line.split()[1:] for line in done.out.partition("next:\n")[2].splitlines()]

    assert [words[0] for words in following] == ["run", "scores", "show", "calibrate"]
    assert [logprobs(*words).code for words in following] == [0, 0, 0, 0]
    assert ls.open_store("demo/out").completions.collect().height == 61


def test_the_demo_replaces_nothing(logprobs: Any) -> None:
    """One file that is there, and none is written."""
    Path("demo").mkdir()
    Path("demo/capitals.parquet").write_text("mine", encoding="utf-8")

    refused = logprobs("init", "--demo")

    assert refused.code == 2
    assert [path.name for path in Path("demo").iterdir()] == ["capitals.parquet"]
    assert logprobs("init", "demo", "--demo", "--force").code == 0
    assert logprobs("run", "demo/demo.toml", "--dry-run").code == 0


def test_the_demo_wants_a_folder(logprobs: Any) -> None:
    """It has several files."""
    assert "name a folder" in logprobs("init", "job.toml", "--demo").err


def test_the_demo_is_made_of_the_fixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fixtures/build_demo.py` would write what the package has."""
    monkeypatch.syspath_prepend(REPO / "fixtures")
    import build_demo

    folder = Path(creating.__file__).parent / "demo"

    assert sorted(path.name for path in folder.iterdir()) == sorted(creating.DEMO_FILES)
    assert pl.read_parquet(folder / "capitals.parquet").equals(build_demo.demo_prompts())
    packed = (folder / "capitals.jsonl.zst").read_bytes()
    assert zstandard.decompress(packed, max_output_size=1 << 24).decode() == build_demo.demo_recordings()
    assert len(Recordings(folder / "capitals.jsonl.zst")) == 61


def test_the_job_says_what_its_cache_means_for_nights(tmp_path: Path, logprobs: Any) -> None:
    """Without `refresh`, a second night is a copy of the first."""
    path = tmp_path / "p.csv"
    path.write_text("id,text\n1,a\n", encoding="utf-8")
    assert logprobs("init", tmp_path / "j.toml", "--prompts", path, "--model", "m").code == 0

    text = (tmp_path / "j.toml").read_text(encoding="utf-8")
    assert "# To compare nights (`logprobs compare`), switch the next line on" in text
    assert text.index("To compare nights") < text.index("refresh") < text.index("[store]")
