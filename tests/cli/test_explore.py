"""`logprobs explore`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from builders import run_demo, write_job

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).with_name("logprobs")
REPO = Path(__file__).parents[2]


def test_it_prints_its_address_and_ends_in_a_word(tmp_path: Path) -> None:
    """With Ctrl-C, and the exit code of what is done."""
    run_demo(tmp_path / "store")
    started = subprocess.Popen(
        [PROGRAM, "explore", "store", "--no-open", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    said = json.loads(started.stdout.readline())
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=30)

    assert said["url"].startswith(f"http://127.0.0.1:{said['port']}/?token=")
    assert err.splitlines()[0] == "run demo: 243 of 243 answers prepared"
    assert err.splitlines()[-1] == "ended"
    assert started.returncode == 0


def test_it_ends_at_once_though_a_query_is_under_way(tmp_path: Path) -> None:
    """Without a word about how."""
    run_demo(tmp_path / "store")
    query = {"query": "with recursive t as (select 1 as n union all select n + 1 from t) select count(*) from t"}
    (tmp_path / "ask.py").write_text(
        "import re, sys, urllib.request\n"
        "url = sys.argv[1]\n"
        "entered = urllib.request.urlopen(url)\n"
        "secret = re.search('name=.secret. content=.([^\"]+)', entered.read().decode())[1]\n"
        "headers = {'cookie': entered.headers['set-cookie'].partition(';')[0], 'x-logprobs-secret': secret}\n"
        "headers['content-type'] = 'application/json'\n"
        f"body = {json.dumps(query)!r}.encode()\n"
        "url = url.partition('?')[0] + 'api/sql'\n"
        "print(urllib.request.urlopen(urllib.request.Request(url, body, headers)).read().decode())\n",
        encoding="utf-8",
    )
    command = [PROGRAM, "explore", "store", "--no-open", "--json"]
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)
    assert started.stdout is not None
    url = json.loads(started.stdout.readline())["url"]
    asking = subprocess.Popen([sys.executable, tmp_path / "ask.py", url], stdout=pipe, text=True)
    time.sleep(2)
    began = time.monotonic()
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=30)
    took = time.monotonic() - began
    said, _ = asking.communicate(timeout=30)

    assert "the explorer was ended" in said
    assert err.splitlines()[-2:] == ["open this address in your browser, once; Ctrl-C ends the explorer", "ended"]
    assert took < 6  # a query has ten seconds


def start_with_browser(folder: Path, browser: str) -> subprocess.Popen[str]:
    """Explore a store on a desktop whose browser is a command, to which the address is given."""
    return subprocess.Popen(
        [PROGRAM, "explore", "store", "--json"],
        cwd=folder,
        env={**os.environ, "BROWSER": browser, "DISPLAY": ":0", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SAYS_WHAT_IT_GOT = """import os, pathlib, sys, urllib.parse, urllib.request
path = pathlib.Path(urllib.parse.urlsplit(sys.argv[1]).path)
mode = oct(path.stat().st_mode & 0o777)
address = path.read_text().partition("url=")[2].partition('"')[0]
body = urllib.request.urlopen(address, timeout=20).read().decode()
pathlib.Path("got").write_text("\\n".join([sys.argv[1], mode, str("secret" in body)]))
pathlib.Path("got").rename("browser-was-given")
"""


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", ["%s", "%s &"])
def test_the_browser_is_given_a_file_that_leads_on(tmp_path: Path, ends: signal.Signals, how: str) -> None:
    """No token on its command line; it is answered though it runs in the terminal, and the file is removed."""
    run_demo(tmp_path / "store")
    (tmp_path / "browser.py").write_text(SAYS_WHAT_IT_GOT, encoding="utf-8")
    started = start_with_browser(tmp_path, f"{sys.executable} browser.py {how}")
    given = tmp_path / "browser-was-given"
    wait_for(given)
    started.send_signal(ends)
    out, err = started.communicate(timeout=30)
    address, mode, answered = given.read_text(encoding="utf-8").splitlines()

    assert "/?token=" in out
    assert (address.startswith("file:///"), "token" in address, mode, answered) == (True, False, "0o600", "True")
    assert (started.returncode, err.splitlines()[-1]) == (0, "ended")
    assert list(tmp_path.glob("*.html")) == []


def wait_for(path: Path) -> None:
    """Wait until there is a file."""
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And prepares nothing."""
    run_demo(tmp_path / "store")
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    ended = logprobs("explore", tmp_path / "store", "--no-open")

    assert (ended.code, ended.out) == (2, "")
    assert "pip install 'logprob-store[view]'" in ended.err
    assert not (tmp_path / "store" / "runs" / "run=demo" / "explorer").exists()


def test_a_missing_store_is_said(tmp_path: Path, logprobs: Any) -> None:
    """As by the other commands."""
    ended = logprobs("explore", tmp_path / "nowhere", "--no-open")

    assert ended.code == 2
    assert "no store at" in ended.err


def test_a_job_by_which_nothing_can_be_asked_is_said(tmp_path: Path, logprobs: Any) -> None:
    """Before anything is prepared."""
    run_demo(tmp_path / "store")

    ended = logprobs("explore", tmp_path / "store", "--no-open", "--job", REPO / "jobs" / "nightly.toml")

    assert (ended.code, ended.out) == (2, "")
    assert "OpenAI's chat begins a new message after one of the assistant" in ended.err
    assert not (tmp_path / "store" / "runs" / "run=demo" / "explorer").exists()


def test_a_job_without_its_key_is_said(tmp_path: Path, logprobs: Any) -> None:
    """Before anybody presses a button that needs it."""
    run_demo(tmp_path / "store")
    job = write_job(tmp_path, "http://127.0.0.1:9/v1", model={"api_key_env": "MY_KEY"})

    ended = logprobs("explore", tmp_path / "store", "--no-open", "--job", job)

    assert ended.code == 2
    assert "there is no API key: MY_KEY is not set" in ended.err


def test_without_a_desktop_no_browser_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser of text would take the terminal, and use up the address."""
    from logprob_store.cli.explore import _has_desktop

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    without = _has_desktop()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")

    assert (without, _has_desktop()) == (False, True)
