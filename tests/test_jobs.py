"""What `jobs/` and `fixtures/` ship: job files load, schedules are well formed, and their READMEs tell the truth."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import typer.main
import yaml
from pydantic import BaseModel

import logprob_store as ls
from logprob_store.cli import app
from logprob_store.job import Job, load_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

REPO = Path(__file__).resolve().parents[1]
JOBS = REPO / "jobs"
SCHEDULE = JOBS / "schedule"
FIXTURES = REPO / "fixtures"

JOB_FILES = sorted([*JOBS.glob("*.toml"), *JOBS.glob("cookbook/*.toml"), *FIXTURES.glob("*.toml")])
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group


# job files


@pytest.mark.parametrize("path", JOB_FILES, ids=lambda path: path.name)
def test_every_job_file_loads_and_finds_its_prompts(path: Path) -> None:
    """A job file that is shipped is valid, and its prompts are there, whatever the working directory."""
    job = load_job(path)
    # A second job of a recipe asks about the answers of its first, which the page writes to out/.
    prompts = job.resolve(job.prompts.path)

    assert prompts.is_file() or prompts.is_relative_to(REPO / "out")


def test_a_nightly_asks_anew() -> None:
    """Tonight's answers are wanted, not those of another night."""
    assert load_job(JOBS / "nightly.toml").cache.mode == "refresh"


# schedules


def crontab_lines() -> list[str]:
    """The lines of the crontab that are no comments."""
    lines = (SCHEDULE / "crontab").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def unit(name: str) -> configparser.ConfigParser:
    """A systemd unit's sections."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys are case-sensitive
    parser.read_string((SCHEDULE / name).read_text(encoding="utf-8"))
    return parser


def manifests() -> dict[str, Any]:
    """The Kubernetes manifests by kind."""
    text = (SCHEDULE / "cronjob.yaml").read_text(encoding="utf-8")
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}


def workflow() -> dict[str, Any]:
    """The GitHub Actions workflow."""
    loaded: dict[str, Any] = yaml.safe_load((SCHEDULE / "github-actions.yml").read_text(encoding="utf-8"))
    return loaded


def job_spec() -> dict[str, Any]:
    """The CronJob's Job."""
    spec: dict[str, Any] = manifests()["CronJob"]["spec"]["jobTemplate"]["spec"]
    return spec


def is_cron(fields: list[str]) -> bool:
    """Five fields, each a star or a number in its range."""
    ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
    return len(fields) == len(ranges) and all(
        field == "*" or (field.isdigit() and low <= int(field) <= high)
        for field, (low, high) in zip(fields, ranges, strict=True)
    )


def test_crontab_lines_are_settings_or_jobs() -> None:
    """A line sets a variable, or is five fields of time and a command without cron's newline, `%`."""
    for line in crontab_lines():
        if not re.match(r"[A-Z]+=", line):
            *when, command = line.split(maxsplit=5)
            assert is_cron(when)
            assert "%" not in command


def test_systemd_starts_again_after_a_limit_only() -> None:
    """3 and 130 are done, 2 is not tried again, and the timer starts the service of its own name."""
    service = unit("logprobs-nightly.service")["Service"]
    timer = unit("logprobs-nightly.timer")

    assert (service["Type"], service["Restart"]) == ("oneshot", "on-failure")
    assert service["SuccessExitStatus"].split() == ["3", "130"]
    assert service["RestartPreventExitStatus"].split() == ["2"]
    assert timer["Timer"]["Persistent"] == "true"
    assert "Unit" not in timer["Timer"]


def test_kubernetes_manifests_refer_to_each_other() -> None:
    """The CronJob's ConfigMap, volume claim and Secret key are those of the file, and nights do not overlap."""
    found = manifests()
    template = job_spec()["template"]["spec"]
    container = template["containers"][0]
    volumes = {volume["name"]: volume for volume in template["volumes"]}

    assert found["CronJob"]["spec"]["concurrencyPolicy"] == "Forbid"
    assert is_cron(found["CronJob"]["spec"]["schedule"].split())
    assert template["restartPolicy"] == "Never"
    assert volumes["job"]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == found["PersistentVolumeClaim"]["metadata"]["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert job_spec()["podFailurePolicy"]["rules"][1]["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": [2, 3],
    }


def test_the_kubernetes_job_file_loads(tmp_path: Path) -> None:
    """The ConfigMap holds a valid job whose cache and store are on the volume, and whose key is the Secret's."""
    path = tmp_path / "nightly.toml"
    path.write_text(manifests()["ConfigMap"]["data"]["nightly.toml"], encoding="utf-8")
    container = job_spec()["template"]["spec"]["containers"][0]

    job = load_job(path)

    assert {Path(job.cache.path).parent, Path(job.store.path).parent} == {Path("/data")}
    assert job.model.api_key_env == container["env"][0]["name"]
    assert container["command"][-1] == f"{container['volumeMounts'][0]['mountPath']}/nightly.toml"


def test_the_workflow_keeps_what_the_job_writes() -> None:
    """Store and cache are restored before and saved after the run, also when it failed; keys fit together."""
    steps = workflow()["jobs"]["nightly"]["steps"]
    restore, save, upload = (
        next(step for step in steps if name in step.get("uses", ""))
        for name in ("cache/restore", "cache/save", "upload-artifact")
    )
    job = load_job(JOBS / "nightly.toml")
    written = {str(job.resolve(path).relative_to(REPO)) for path in (job.store.path, job.cache.path)}

    assert is_cron(workflow()["on"]["schedule"][0]["cron"].split())
    assert set(save["with"]["path"].split()) == written
    assert save["with"] == {key: value for key, value in restore["with"].items() if key != "restore-keys"}
    assert save["with"]["key"].startswith(restore["with"]["restore-keys"])
    assert save["if"] == upload["if"] == "always()"


# commands


def command_lines() -> Iterator[tuple[str, str]]:
    """Every `logprobs ...` of the schedules, the READMEs and the comments of job files."""
    yield "cronjob.yaml", " ".join(job_spec()["template"]["spec"]["containers"][0]["command"])
    start = re.compile(r"(?:^[#\s]*|`|bin/|-- |toml )(logprobs [a-z][^\n`#|&;]*)", re.MULTILINE)
    for page in [*SCHEDULE.iterdir(), JOBS / "README.md", FIXTURES / "README.md", *JOB_FILES]:
        for match in start.finditer(page.read_text(encoding="utf-8")):
            # Two spaces end a command in a comment; what follows explains it.
            yield page.name, re.split(r"\s{2,}", match[1].strip())[0]


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_every_command_line_is_one(page: str, line: str) -> None:
    """Each command shown exists, with these arguments and options; a bare name in a text is one too."""
    name, *words = shlex.split(line)[1:]

    assert name in COMMANDS, page
    if words:
        COMMANDS[name].make_context(name, words)


def test_every_schedule_runs_a_job() -> None:
    """All schedules call `logprobs run`."""
    pages = {page for page, line in command_lines() if line.startswith("logprobs run ")}

    assert pages >= {"crontab", "logprobs-nightly.service", "cronjob.yaml", "github-actions.yml"}


# jobs/README.md


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a job file, dotted, with its field."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        elif not field.exclude:
            yield prefix + name, field


def default(field: Any) -> str:
    """A field's default as the table writes it: TOML, or a word."""
    value = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    return "none" if value is None else f"`{json.dumps(value)}`"


def test_the_key_reference_is_complete_and_right() -> None:
    """The table of the README has each key of a job file once, in order, with its default."""
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\S+) \|", (JOBS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert rows == [(key, default(field)) for key, field in keys(Job)]


def test_every_file_of_jobs_is_explained() -> None:
    """The README links each file of jobs/, and every link of both READMEs leads somewhere."""
    links = {
        (page.parent / link).resolve()
        for page in (JOBS / "README.md", FIXTURES / "README.md")
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    }
    files = {path for path in [*JOBS.glob("*.toml"), *JOBS.glob("*.py"), *SCHEDULE.iterdir()] if path.is_file()}

    assert [link for link in links if not link.exists()] == []
    assert files <= links


# nightly.py


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
    """The demo's job file in a folder where it may write."""
    shutil.copytree(FIXTURES, tmp_path / "fixtures", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (tmp_path / "jobs").mkdir()
    return Path(shutil.copy(JOBS / "demo.toml", tmp_path / "jobs"))


def test_nightly_runs_a_job(nightly: ModuleType, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It runs the job it is given, prints the ten least confident answers, and exits with 0."""
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
    """A refused key stops the run, which can go on later."""
    fault_server.script("401")
    text = demo.read_text(encoding="utf-8").replace('kind = "replay"', 'kind = "live"')
    demo.write_text(text.replace("[model]", f'[model]\nbase_url = "{fault_server.url}"'), encoding="utf-8")

    code = nightly.main(demo)

    assert code == 4
    assert "stopped" in capsys.readouterr().out


def test_nightly_exits_with_2_when_the_job_is_wrong(nightly: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing job file is said in one line on standard error."""
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


# fixtures/README.md


def recorded(name: str) -> list[dict[str, Any]]:
    """The answers of a fixtures file."""
    return [json.loads(line)["body"] for line in (FIXTURES / name).read_bytes().splitlines()]


def rich() -> dict[str, dict[str, Any]]:
    """The answers of rich.jsonl by prompt id; a recording's request ends in the prompt's text."""
    ids = dict(pl.read_parquet(FIXTURES / "rich.parquet").select("text", "id").iter_rows())
    lines = [json.loads(line) for line in (FIXTURES / "rich.jsonl").read_bytes().splitlines()]
    return {ids[line["request"]["messages"][-1]["content"]]: line["body"] for line in lines}


def tokens(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The tokens of all choices of an answer."""
    return [token for choice in body["choices"] for token in choice["logprobs"]["content"]]


def text(body: dict[str, Any]) -> str:
    """The text of an answer's first choice."""
    content: str = body["choices"][0]["message"]["content"]
    return content


def spelt(body: dict[str, Any]) -> str:
    """What an answer's tokens spell."""
    return b"".join(bytes(token["bytes"]) for token in tokens(body)).decode()


def whole(listed: dict[str, Any]) -> bool:
    """Whether the bytes of a token or alternative are its text."""
    try:
        return bool(bytes(listed["bytes"]).decode() == listed["token"])
    except UnicodeDecodeError:
        return False


def unlisted(body: dict[str, Any]) -> int:
    """How many tokens are not among their own alternatives, by id."""
    return sum(token["id"] not in [other["id"] for other in token["top_logprobs"]] for token in tokens(body))


def test_every_prompt_of_rich_is_described() -> None:
    """The table in fixtures/README.md has each prompt of rich.parquet, in order."""
    table = re.findall(
        r"^\| `([a-z-]+)` \|", (FIXTURES / "README.md").read_text("utf-8").split("by `id`:")[1], re.MULTILINE
    )

    assert table[:11] == pl.read_parquet(FIXTURES / "rich.parquet")["id"].to_list() == list(rich())


@pytest.mark.parametrize("name", ["capitals.jsonl", "capitals-chat.jsonl", "rich.jsonl"])
def test_what_all_recordings_show(name: str) -> None:
    """Tokens and alternatives have ids, nothing has a `refusal`, every listed token is whole, and keys are many."""
    for body in recorded(name):
        assert {"timings", "system_fingerprint"} <= set(body)
        assert "prompt_tokens_details" in body["usage"]
        assert all("id" in listed for token in tokens(body) for listed in (token, *token["top_logprobs"]))
        assert all(list(choice["logprobs"]) == ["content"] for choice in body["choices"])
        assert all("refusal" not in choice.get("message", {}) for choice in body["choices"])
        assert all(whole(token) for token in tokens(body))


def test_what_the_capitals_show() -> None:
    """A stop string's token is counted by `usage` and not listed; an answer cut by length counts right."""
    legacy, chat = recorded("capitals.jsonl"), recorded("capitals-chat.jsonl")
    more = [body["usage"]["completion_tokens"] - len(tokens(body)) for body in chat]
    cut = [body["choices"][0]["finish_reason"] == "length" for body in chat]

    assert len(legacy) == len(chat) == 243
    assert {body["object"] for body in legacy} == {"text_completion"}
    assert all("text" in body["choices"][0] for body in legacy)
    assert {body["usage"]["completion_tokens"] - len(tokens(body)) for body in legacy} == {1}
    assert [extra == 0 for extra in more] == cut
    assert (cut.count(False), set(more)) == (241, {0, 1})


def test_what_the_rich_recordings_show() -> None:
    """Each row of the second table, one group of lines a row."""
    found = rich()

    emoji = found["emoji"]
    assert {"❤️", " ❤️"} <= {listed["token"] for token in tokens(emoji) for listed in (token, *token["top_logprobs"])}
    assert {" ❤️", "☀️"} <= {token["token"] for token in tokens(emoji)}

    split = found["emoji-split"]
    assert (len(tokens(split)), split["usage"]["completion_tokens"], unlisted_bytes(split)) == (4, 16, 4)
    beside = [other for token in tokens(split) for other in token["top_logprobs"]]
    assert {(other["token"], len(other["bytes"])) for other in beside} == {("\ufffd", 1)}
    assert all(token["id"] == token["top_logprobs"][0]["id"] for token in tokens(split))
    assert all(token["logprob"] == token["top_logprobs"][0]["logprob"] for token in tokens(split))
    assert all(token["bytes"][-1:] == token["top_logprobs"][0]["bytes"] for token in tokens(split))

    flags = found["emoji-flags"]
    assert [token["token"] for token in tokens(flags)][1:3] == ["🇫", "🇷"]
    assert [whole(other) for token in tokens(flags) for other in token["top_logprobs"]].count(False) == 1

    assert {len(token["token"]) for token in tokens(found["japanese"])} == {1, 2, 3, 5}
    assert [token["token"] for token in tokens(found["arabic"])][:2] == [" بار", "يس"]
    assert "्यो" in [token["token"] for token in tokens(found["hindi"])]

    choices = found["choices"]
    assert [len(choice["logprobs"]["content"]) for choice in choices["choices"]] == [8, 8]
    assert (choices["usage"]["completion_tokens"], unlisted(choices)) == (8, 2)

    bound = found["json"]
    unlikely = [token["logprob"] < token["top_logprobs"][0]["logprob"] for token in tokens(bound)]
    assert (len(unlikely), sum(unlikely), unlisted(bound)) == (50, 13, 6)
    assert json.loads(text(bound))["city"] == "Paris"
    assert text(bound) == spelt(bound).strip()
    assert spelt(bound) not in {spelt(bound).lstrip(), spelt(bound).rstrip()}
    assert (tokens(bound)[-1]["token"], tokens(bound)[-1]["bytes"]) == ("", [])

    long = found["long"]
    assert {len(token["top_logprobs"]) for token in tokens(long)} == {20}
    assert (len(tokens(long)), long["choices"][0]["finish_reason"]) == (200, "length")

    assert text(found["stopped"]) == spelt(found["stopped"]) + " "
    cut = found["cut"]
    assert (len(tokens(cut)), cut["usage"]["completion_tokens"], cut["choices"][0]["finish_reason"]) == (3, 3, "length")


def unlisted_bytes(body: dict[str, Any]) -> int:
    """How many tokens are not among their own alternatives, by bytes."""
    return sum(token["bytes"] not in [other["bytes"] for other in token["top_logprobs"]] for token in tokens(body))
