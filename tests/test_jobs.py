"""The files of `jobs/`: job files load, schedules are well formed, and the README is complete."""

from __future__ import annotations

import configparser
import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
import yaml
from pydantic import BaseModel

from logprob_store.cli import app
from logprob_store.job import Job, load_job

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).resolve().parents[1]
JOBS = REPO / "jobs"
SCHEDULE = JOBS / "schedule"
FIXTURES = REPO / "fixtures"

JOB_FILES = sorted([*JOBS.glob("*.toml"), *JOBS.glob("cookbook/*.toml"), *FIXTURES.glob("*.toml")])
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group


# job files


@pytest.mark.parametrize("path", JOB_FILES, ids=lambda path: path.name)
def test_every_job_file_loads_and_finds_its_prompts(path: Path) -> None:
    """Each job file is valid and finds its prompts from any working directory."""
    job = load_job(path)
    # A second job of a recipe asks about the answers of its first, which the page writes to out/.
    prompts = job.resolve(job.prompts.path)

    assert prompts.is_file() or prompts.is_relative_to(REPO / "out")


def test_a_nightly_asks_anew() -> None:
    """The nightly job refreshes, so that each night has answers of its own."""
    assert load_job(JOBS / "nightly.toml").cache.mode == "refresh"


# schedules


def crontab_lines() -> list[str]:
    """The lines of the crontab that are not comments."""
    lines = (SCHEDULE / "crontab").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def unit(name: str) -> configparser.ConfigParser:
    """The sections of a systemd unit."""
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
    """Whether these are five fields, each a star or a number in its range."""
    ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
    return len(fields) == len(ranges) and all(
        field == "*" or (field.isdigit() and low <= int(field) <= high)
        for field, (low, high) in zip(fields, ranges, strict=True)
    )


def test_crontab_lines_are_settings_or_jobs() -> None:
    """Each line sets a variable, or is a schedule and a command without cron's newline, `%`."""
    for line in crontab_lines():
        if not re.match(r"[A-Z]+=", line):
            *when, command = line.split(maxsplit=5)
            assert is_cron(when)
            assert "%" not in command


def test_systemd_starts_again_after_a_limit_only() -> None:
    """Exit codes 3 and 130 count as success, 2 is not retried, and the timer starts the service of its own name."""
    service = unit("logprobs-nightly.service")["Service"]
    timer = unit("logprobs-nightly.timer")

    assert (service["Type"], service["Restart"]) == ("oneshot", "on-failure")
    assert service["SuccessExitStatus"].split() == ["3", "130"]
    assert service["RestartPreventExitStatus"].split() == ["2"]
    assert timer["Timer"]["Persistent"] == "true"
    assert "Unit" not in timer["Timer"]


def test_kubernetes_manifests_refer_to_each_other() -> None:
    """Names of ConfigMap, volume claim and Secret key agree, and nights do not overlap."""
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
    """Store and cache are restored before the run and saved after it, also after a failure, under fitting keys."""
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
def test_every_command_line_is_valid(page: str, line: str) -> None:
    """Each command, argument and option that is shown exists."""
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
    """Every key of a job file with dots, and its field."""
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
    """The README's table has each key of a job file once, in order, with its default."""
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\S+) \|", (JOBS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert rows == [(key, default(field)) for key, field in keys(Job)]


def test_every_file_of_jobs_is_explained() -> None:
    """The README links each file of jobs/, and every link of both READMEs exists."""
    links = {
        (page.parent / link).resolve()
        for page in (JOBS / "README.md", FIXTURES / "README.md")
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    }
    files = {path for path in [*JOBS.glob("*.toml"), *JOBS.glob("*.py"), *SCHEDULE.iterdir()] if path.is_file()}

    assert [link for link in links if not link.exists()] == []
    assert files <= links


def test_without_its_extra_the_local_server_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line is the sentence, before llama.cpp's log is silenced."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setattr(sys, "argv", ["local_server.py"])
    server = runpy.run_path(str(JOBS / "local_server.py"))
    with pytest.raises(SystemExit) as raised:
        server["main"]()

    assert raised.value.code == 2
    assert capsys.readouterr().err.endswith("pip install 'logprob-store[local]'\n")
