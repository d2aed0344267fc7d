"""The fault server itself: its answers, its scripts and its ledger."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import fault_answers
import fault_script
import fault_server as faults
import pytest

if TYPE_CHECKING:
    from pathlib import Path


def _post(url: str, body: dict[str, Any]) -> bytes:
    call = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(call, timeout=5) as response:  # noqa: S310
        content = response.read()
    assert isinstance(content, bytes)
    return content


def test_answers_follow_from_the_question() -> None:
    """The same question gets the same bytes, and another question gets others."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "top_logprobs": 2}

    one = fault_answers.answer_to("/v1/chat/completions", body)

    assert one == fault_answers.answer_to("/v1/chat/completions", dict(reversed(body.items())))
    assert one != fault_answers.answer_to("/v1/chat/completions", {**body, "temperature": 1})


def test_answers_have_the_requested_numbers() -> None:
    """Choices, tokens and alternatives are as many as the request says."""
    body = {"model": "m", "prompt": "x", "logprobs": 3, "n": 2, "max_tokens": 4}

    choices = json.loads(fault_answers.answer_to("/v1/completions", body))["choices"]

    assert [len(choice["logprobs"]["tokens"]) for choice in choices] == [4, 4]
    assert {len(at) for choice in choices for at in choice["logprobs"]["top_logprobs"]} == {3}
    assert all("".join(choice["logprobs"]["tokens"]) == choice["text"] for choice in choices)


def test_a_misspelt_step_is_an_error() -> None:
    """A script with an unknown word is refused."""
    with pytest.raises(ValueError, match="rset"):
        fault_script.parse_script("ok, rset")


def test_the_ledger_says_what_was_billed(fault_server: Any) -> None:
    """Each call is noted with what was done; only computed answers are billed."""
    fault_server.script("429, ok")
    url = fault_server.url + "/chat/completions"

    with pytest.raises(urllib.error.HTTPError, match="429") as refused:
        _post(url, {"model": "m", "messages": []})
    refused.value.close()
    _post(url, {"model": "m", "messages": []})

    assert [(call.step, call.did, call.billed) for call in fault_server.calls] == [
        ("429", "answered", False),
        ("ok", "answered", True),
    ]


def test_faults_by_rate_depend_on_the_seed_alone() -> None:
    """Which call of a question fails does not depend on the order of arrival."""
    bodies = [f'{{"prompt":"{number}"}}'.encode() for number in range(40)]

    def outcomes(order: list[bytes]) -> dict[bytes, str]:
        behaviour = faults.Behaviour(rate=0.5, seed=7)
        return {body: behaviour._choose(body.decode(), body).name for body in order}

    assert outcomes(bodies) == outcomes(bodies[::-1])
    assert 5 < sum(name != "ok" for name in outcomes(bodies).values()) < 35


def test_it_runs_as_a_script(tmp_path: Path, fault_server: Any) -> None:
    """Started as a process, it prints its URL and leaves a ledger."""
    ledger = tmp_path / "calls.jsonl"
    command = [sys.executable, faults.__file__, "--script", "ok", "--ledger", str(ledger)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        _post(url + "/completions", {"model": "m", "prompt": "x"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0

    (line,) = ledger.read_text("utf-8").splitlines()
    assert json.loads(json.loads(line)["body"]) == {"model": "m", "prompt": "x"}
    assert fault_server.calls == []


def test_a_burst_comes_and_goes() -> None:
    """A burst begins after the first interval, lasts as long as it says, and comes again."""
    burst = fault_script.Burst.parse("60:5:0.3")

    at = [0, 4, 59, 60, 64.9, 65, 119, 120]

    assert [second for second in at if burst.is_on(second)] == [60, 64.9, 120]


def test_a_date_by_a_clock_that_is_off() -> None:
    """`retry-after` as a date follows the clock of the answer's `Date`."""
    (step,) = fault_script.parse_script("429:retry-after-date=2;clock-off=-86400")

    then, now = (parsedate_to_datetime(step.headers[name]) for name in ("retry-after", "date"))

    assert (then - now).total_seconds() == 2
    assert (datetime.now(UTC) - now).total_seconds() == pytest.approx(86400, abs=5)


@pytest.mark.parametrize(("script", "billed"), [("reset", False), ("reset:billed=yes", True), ("ok:billed=no", False)])
def test_a_script_may_say_what_is_billed(script: str, billed: bool) -> None:  # noqa: FBT001
    """The option overrides the step's own meaning, and is no header."""
    (step,) = fault_script.parse_script(script)

    assert (step.billed, step.headers) == (billed, {})
