"""The command `doctor`, against the fault server: each thing that a run needs, told apart."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from builders import REPO, write_job, write_prompts
from e2e.batch_runs import KEY, batch_job

import logprob_store as ls
from logprob_store.doctor import scanner
from logprob_store.store.lock import take_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Doctor = Callable[..., tuple[int, dict[str, tuple[str, str]]]]


@pytest.fixture
def doctor(logprobs: Any) -> Doctor:
    """Run `doctor --json`; gives the exit code, and the state and the words of each check by name."""

    def call(*words: object) -> tuple[int, dict[str, tuple[str, str]]]:
        done = logprobs("doctor", *words, "--json")
        said = json.loads(done.out)
        assert said["ok"] == (done.code == 0)
        return done.code, {check["name"]: (check["state"], check["said"]) for check in said["checks"]}

    return call


def a_job(folder: Path, url: str | None, **sections: Any) -> Path:
    """A job over two prompts."""
    write_prompts(folder, {"text": ["a", "b"]})
    return write_job(folder, url, **sections)


ALL = (
    *("job", "prompts", "key", "address", "connection", "model", "call", "logprobs", "clock"),
    *("cache", "store", "scanner", "open files", "ceilings"),
)


def test_a_job_that_can_run(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """Every check is ok, one call is made for one token, and nothing is left behind."""
    fault_server.behaviour.models = ["m"]
    job = a_job(tmp_path, fault_server.url, model={"params": {"max_tokens": 50, "n": 2}})
    before = sorted(tmp_path.iterdir())

    code, checks = doctor(job)

    assert (code, {state for name, (state, _) in checks.items() if name != "scanner"}) == (0, {"ok"})
    assert tuple(checks) == ALL
    (body,) = fault_server.bodies
    assert (body["messages"][0]["content"], body["max_tokens"], body["n"]) == ("a", 1, 1)
    assert sorted(tmp_path.iterdir()) == before


def test_a_line_for_each_check(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """Its state comes first, and the last line says what is next."""
    done = logprobs("doctor", a_job(tmp_path, fault_server.url))
    *lines, last = done.out.splitlines()

    assert (done.code, done.err) == (0, "")
    assert [line[:5] for line in lines if "scanner" not in line] == ["ok   "] * (len(ALL) - 1)
    assert "can run: `logprobs run" in last


def test_no_call(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """Nothing is asked that may cost something."""
    code, checks = doctor(a_job(tmp_path, fault_server.url), "--no-call")

    assert code == 0
    assert set(ALL) - set(checks) == {"call", "logprobs"}
    assert fault_server.calls == []


LIKE_LUNA = {"takes": {"like": "gpt-6-luna"}}


def test_parameters_that_the_model_takes(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """Where something is known of it; a model that may reason is not asked for one token, which it refuses."""
    params = {"reasoning_effort": "none", "max_completion_tokens": 50}
    code, checks = doctor(a_job(tmp_path, fault_server.url, model={**LIKE_LUNA, "params": params}))

    assert (code, checks["parameters"][0]) == (0, "ok")
    assert [body["max_completion_tokens"] for body in fault_server.bodies] == [16]


def test_parameters_that_the_model_refuses(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """The line to write is said, and no call is made."""
    code, checks = doctor(a_job(tmp_path, fault_server.url, model={**LIKE_LUNA, "params": {"max_tokens": 50}}))

    assert (code, failing(checks), fault_server.calls) == (2, ["parameters"], [])
    assert 'params = { reasoning_effort = "none", max_completion_tokens = 50 }' in checks["parameters"][1]


def test_a_model_that_shuts_down(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """By the table, and by the server's own word; a run can begin."""
    fault_server.behaviour.models = ["m"]
    fault_server.behaviour.shutdowns = {"m": "2026-02-01"}
    code, checks = doctor(a_job(tmp_path, fault_server.url, model={"takes": {"shutdown": "2026-01-01"}}))

    assert (code, checks["parameters"][0], checks["model"][0]) == (0, "warn", "warn")
    assert "m has shut down on 2026-01-01" in checks["parameters"][1]
    assert checks["model"][1] == "the server lists m, which shuts down on 2026-02-01"


@pytest.mark.parametrize("is_compiled", [True, False])
def test_the_scanner(
    tmp_path: Path,
    fault_server: Any,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    is_compiled: bool,  # noqa: FBT001
) -> None:
    """Without the compiled one a run is right and slow, and the line says what to do about it."""
    monkeypatch.setattr(scanner, "load_scan_loop", lambda: print if is_compiled else None)
    code, checks = doctor(a_job(tmp_path, fault_server.url))

    assert (code, checks["scanner"][0]) == (0, "ok" if is_compiled else "warn")
    assert is_compiled or "install a wheel for this kind of machine" in checks["scanner"][1]


def failing(checks: dict[str, tuple[str, str]]) -> list[str]:
    """The checks that failed."""
    return [name for name, (state, _) in checks.items() if state == "fail"]


def test_a_job_file_that_is_wrong(tmp_path: Path, doctor: Doctor) -> None:
    """It is the one check that can be made."""
    code, checks = doctor(a_job(tmp_path, None, limits={"concurency": 4}))

    assert (code, failing(checks)) == (2, ["job"])
    assert "did you mean concurrency?" in checks["job"][1]


def test_prompts_that_are_not_there(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """All that does not depend on them is still looked at."""
    job = a_job(tmp_path, fault_server.url, prompts={"path": "prompt.parquet"})

    code, checks = doctor(job)

    assert (code, failing(checks)) == (2, ["prompts"])
    assert {"address", "connection", "cache", "store"} <= set(checks)
    assert fault_server.calls == []


def test_prompts_of_which_some_cannot_be_asked(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """They would be failures of the run."""
    job = a_job(tmp_path, fault_server.url)
    write_prompts(tmp_path, {"text": [None, "b", None]})

    code, checks = doctor(job)

    assert (code, checks["prompts"][0], checks["call"][0]) == (0, "warn", "ok")
    assert "2 of the first 3 prompts cannot be asked, such as '0'" in checks["prompts"][1]


def test_no_prompt_at_all(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """A run would do nothing."""
    job = a_job(tmp_path, fault_server.url)
    write_prompts(tmp_path, {"text": []})

    assert failing(doctor(job)[1]) == ["prompts"]


def test_a_key_that_is_not_set(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """The server can be looked for, and is not asked."""
    job = a_job(tmp_path, fault_server.url, model={"api_key_env": "OPENAI_DOCTOR_KEY"})

    code, checks = doctor(job)

    assert (code, failing(checks)) == (2, ["key"])
    assert "OPENAI_DOCTOR_KEY is not set" in checks["key"][1]
    assert (checks["connection"][0], "model" in checks, fault_server.calls) == ("ok", False, [])


def test_a_base_url_without_a_path(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """Its answer to the call is that there is no such path; /v1 is suggested."""
    bare = fault_server.url.removesuffix("/v1")
    fault_server.script("404*2")

    _, checks = doctor(a_job(tmp_path, bare))

    assert f'try model.base_url = "{bare}/v1"' in checks["call"][1]


def test_a_key_that_is_refused(
    tmp_path: Path, fault_server: Any, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call shows it where the list of models does not; that none was sent is told from it."""
    monkeypatch.setenv("OPENAI_DOCTOR_KEY", "sk-secret-0123456789")
    fault_server.script("401*2")

    code, checks = doctor(a_job(tmp_path, fault_server.url, model={"api_key_env": "OPENAI_DOCTOR_KEY"}))
    without = doctor(a_job(tmp_path, fault_server.url))[1]

    assert (code, failing(checks), failing(without)) == (2, ["call"], ["call"])
    assert "the server refuses this key" in checks["call"][1]
    assert "none was sent" in without["call"][1]


def test_a_server_that_is_not_started(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """It is said at once, and the machine is still looked at."""
    job = a_job(tmp_path, fault_server.url)
    fault_server.stop()

    code, checks = doctor(job)

    assert (code, failing(checks)) == (2, ["connection"])
    assert "refuses connections" in checks["connection"][1]
    assert checks["store"][0] == "ok"


def test_a_model_that_the_server_does_not_list(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """The nearest name comes first; a server that answers all the same is a warning."""
    fault_server.behaviour.models = ["zzz", "m-large"]

    code, checks = doctor(a_job(tmp_path, fault_server.url))

    assert (code, checks["model"][0]) == (0, "warn")
    assert "it lists 'm-large', 'zzz'" in checks["model"][1]


@pytest.mark.parametrize(
    ("step", "name", "state", "said"),
    [
        ("null", "logprobs", "fail", "Choose a model and server that give them"),
        ("no_logprobs", "call", "fail", "does not give logprobs"),
        ("404", "call", "fail", "HTTP 404"),
        ("quota", "call", "fail", "quota"),
        ("429", "call", "warn", "a run waits"),
        ("503", "call", "fail", "HTTP 503"),
        ("html", "call", "fail", "is no JSON"),
        ("reset", "call", "fail", "broke off"),
    ],
)
def test_what_the_call_shows(  # noqa: PLR0917  a case
    step: str, name: str, state: str, said: str, tmp_path: Path, fault_server: Any, doctor: Doctor
) -> None:
    """One attempt is made, whatever comes."""
    fault_server.script(step)

    code, checks = doctor(a_job(tmp_path, fault_server.url))

    assert checks[name][0] == state
    assert said in checks[name][1]
    assert (code, len(fault_server.calls)) == (2 if state == "fail" else 0, 1)


def test_a_clock_that_is_off(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """By the Date of the server's answer."""
    fault_server.script("ok:clock-off=3600")

    state, said = doctor(a_job(tmp_path, fault_server.url))[1]["clock"]

    assert state == "warn"
    assert " s behind the server's" in said


def test_todays_run_is_of_another_job(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """A run would refuse to go on, and says what changed."""
    ls.run_job(a_job(tmp_path, fault_server.url))

    code, checks = doctor(a_job(tmp_path, fault_server.url, model={"params": {"max_tokens": 9}}))

    assert (code, failing(checks)) == (2, ["store"])
    assert "model.params.max_tokens is 9, was None" in checks["store"][1]


def test_todays_run_is_being_written(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """A second writer would be refused."""
    job = a_job(tmp_path, fault_server.url)
    ls.run_job(job)

    with take_lock(tmp_path / "store", f"job-{date.today().isoformat()}"):  # noqa: DTZ011  as runs are called
        state, said = doctor(job)[1]["store"]

    assert (state, "being written" in said) == ("warn", True)


def test_answers_and_runs_are_counted(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """What an earlier run left is there to be used."""
    job = a_job(tmp_path, fault_server.url)
    ls.run_job(job)

    checks = doctor(job)[1]

    assert checks["cache"][1].endswith("it holds 2 answers")
    assert checks["store"][1].endswith("runs in it: 1")


def test_a_damaged_cache(tmp_path: Path, fault_server: Any, doctor: Doctor) -> None:
    """A run could not begin."""
    job = a_job(tmp_path, fault_server.url)
    ls.run_job(job)
    (tmp_path / "cache" / "cache.db").write_bytes(b"no database" * 1000)

    assert failing(doctor(job)[1]) == ["cache"]


def test_a_service_with_a_key_and_no_ceiling(
    tmp_path: Path, fault_server: Any, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is paid for should have a bound."""
    monkeypatch.setenv("OPENAI_DOCTOR_KEY", "sk-1")
    model = {"api_key_env": "OPENAI_DOCTOR_KEY"}

    bare = doctor(a_job(tmp_path, fault_server.url, model=model))[1]
    bounded = doctor(a_job(tmp_path, fault_server.url, model=model, limits={"max_requests": 5}))[1]

    assert bare["key"] == ("ok", "OPENAI_DOCTOR_KEY is set")
    assert (bare["ceilings"][0], bounded["ceilings"][0]) == ("warn", "ok")


def test_keys_are_not_shown(tmp_path: Path, fault_server: Any, logprobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are the values of headers."""
    monkeypatch.setenv("OPENAI_DOCTOR_KEY", "sk-secret-0123456789")
    monkeypatch.setenv("OPENAI_DOCTOR_TOKEN", "token-0123456789")
    model = {"api_key_env": "OPENAI_DOCTOR_KEY", "headers": {"X-Token": {"env": "OPENAI_DOCTOR_TOKEN"}}}
    done = logprobs("doctor", a_job(tmp_path, fault_server.url, model=model))

    assert "OPENAI_DOCTOR_KEY and OPENAI_DOCTOR_TOKEN are set" in done.out
    assert "0123456789" not in done.out + done.err


def test_a_replay_asks_no_server(doctor: Doctor) -> None:
    """Its recordings are looked at instead."""
    code, checks = doctor(REPO / "jobs" / "demo.toml")

    assert (code, list(checks)) == (0, ["job", "prompts", "recordings", "logprobs", "store", "scanner"])


def test_a_replay_without_a_recording_of_its_first_prompt(tmp_path: Path, doctor: Doctor) -> None:
    """The nearest one is named, as in a run."""
    (tmp_path / "r.jsonl").write_text("", encoding="utf-8")
    job = a_job(tmp_path, None, transport={"kind": "replay", "fixtures": "r.jsonl"})

    assert failing(doctor(job)[1]) == ["recordings"]


BATCHES = {
    "a service with batches": ({}, "ok", "lists them to this key"),
    "a server without": ({"list_files": ["404"]}, "fail", "no Batch API is there"),
    "a key that may list no batches": ({"list_batches": ["403"]}, "warn", "may not list"),
    "a service that is down": ({"list_batches": ["503"]}, "fail", "HTTP 503"),
}


@pytest.mark.parametrize("story", BATCHES.values(), ids=BATCHES)
def test_a_job_in_batches_needs_a_service_that_has_them(
    tmp_path: Path, batch_server: Any, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, story: Any
) -> None:
    """A chat server that answers calls may take no files; nothing is sent to find that out."""
    batch_server.faults, state, said = story
    monkeypatch.setenv("BATCH_KEY", KEY)
    _, checks = doctor(batch_job(tmp_path, batch_server.url, ["a"]), "--no-call")

    assert (checks["batches"][0], said in checks["batches"][1]) == (state, True)
    assert (batch_server.files, batch_server.batches) == ({}, {})


def test_a_job_for_a_folder_of_batches_asks_no_server(tmp_path: Path, doctor: Doctor) -> None:
    """What is looked at is the folder."""
    model = {"api_key_env": None, "provider": "vllm"}
    job = batch_job(tmp_path, "http://127.0.0.1:1/v1", ["a"], model=model, batch={"service": "vllm", "folder": "vllm"})
    code, checks = doctor(job)

    assert (code, checks["batches"][0], "connection" in checks) == (0, "ok", False)
