"""Proxies and certificates that the environment names: honoured, or refused in one sentence that names the variable."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from logprob_store.errors import JobError
from logprob_store.request import make_request
from logprob_store.transport.environment import check_environment, proxy_of
from logprob_store.transport.live import live_transport

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://api.example.org/v1"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Set environment variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("no_proxy", "excepted"),
    [
        ("api.example.org", True),
        ("example.org", True),
        (".example.org", True),
        ("*.example.org", True),
        ("API.Example.ORG", True),
        ("localhost, example.org", True),
        ("localhost example.org", True),
        ("*", True),
        ("api.example.org:80", True),
        ("api.example.org:8080", False),
        ("http://api.example.org", True),
        ("https://api.example.org", False),
        ("ample.org", False),
        ("example.com", False),
        ("10.0.0.0/8", False),
        ("api.example.org:x", False),
        ("", False),
    ],
)
def test_no_proxy_names_hosts_and_domains(monkeypatch: pytest.MonkeyPatch, no_proxy: str, *, excepted: bool) -> None:
    """As curl reads it, with or without a port; an entry that makes no sense is passed over."""
    set_all(monkeypatch, {"HTTP_PROXY": "http://p:1", "NO_PROXY": no_proxy})

    assert (proxy_of(URL) is None) == excepted


@pytest.mark.parametrize(
    ("host", "no_proxy", "excepted"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("127.0.0.1:9", "127.0.0.1", True),
        ("[::1]", "::1", True),
        ("[::1]:9", "[::1]", True),
        ("[fd00::1]", "fd00::/8", True),
    ],
)
def test_no_proxy_names_addresses_and_networks(
    monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str, *, excepted: bool
) -> None:
    """Of both versions of IP."""
    set_all(monkeypatch, {"HTTP_PROXY": "http://p:1", "NO_PROXY": no_proxy})

    assert (proxy_of(f"http://{host}/v1") is None) == excepted


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("gopher://p:1", "is gopher://p:1, and proxies are spoken to over http, https or SOCKS"),
        ("http://us er@p:1", "is no URL of a proxy"),
        ("http://p:99999", "is no URL of a proxy"),
        ("http://p:x", "is no URL of a proxy"),
        ("http://:1", "is no URL of a proxy"),
        ("http://[::1", "is no URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str, said: str) -> None:
    """The message names the variable, and no password."""
    monkeypatch.setenv("ALL_PROXY", proxy)

    with pytest.raises(JobError, match=f"^ALL_PROXY in the environment {said}"):
        check_environment(URL)


@pytest.mark.parametrize("scheme", ["socks", "socks4", "socks4a", "socks5", "socks5h", "SOCKS5"])
def test_a_socks_proxy_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """The password of the proxy is not shown."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:secret@127.0.0.1:7891/")

    with pytest.raises(
        JobError, match=r"^ALL_PROXY .*://127\.0\.0\.1:7891, .*pip install 'logprob-store\[socks\]'"
    ) as error:
        check_environment(URL)

    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"ALL_PROXY": "gopher://p:1", "HTTP_PROXY": "http://p:1"},
        {"HTTPS_PROXY": "gopher://p:1"},
        {"ALL_PROXY": "gopher://p:1", "NO_PROXY": "example.org"},
        {"HTTP_PROXY": "gopher://p:1", "http_proxy": ""},
    ],
)
def test_a_proxy_that_does_not_apply_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Another variable goes first, it is for https, the host is excepted, or the lower-case form unsets it."""
    set_all(monkeypatch, variables)

    check_environment(URL)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SSL_CERT_FILE", "/no/such/file", "cannot be used: No such file or directory"),
        ("SSL_CERT_FILE", "empty", "holds no certificates in PEM form"),
        ("SSL_CERT_DIR", "/no/such/folder", "cannot be used: no such folder"),
        ("SSLKEYLOGFILE", "/no/such/folder/log", "cannot be used: No such file or directory"),
    ],
)
def test_certificates_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, said: str
) -> None:
    """They were tracebacks, or failures of every call."""
    if value == "empty":
        (tmp_path / value).write_text("nothing", encoding="utf-8")
        value = str(tmp_path / value)
    monkeypatch.setenv(variable, value)

    with pytest.raises(JobError, match=f"^{variable} in the environment is {value}, which {said}"):
        check_environment("https://api.example.org/v1")


def test_certificates_do_not_matter_to_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on this machine is asked without any."""
    set_all(monkeypatch, {"SSL_CERT_FILE": "/no/such/file", "SSL_CERT_DIR": "/no/such/folder"})

    check_environment(URL)


def test_the_file_of_certificates_goes_before_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the SDK's client reads them; one folder of several is enough."""
    set_all(monkeypatch, {"SSL_CERT_DIR": f"/no/such/folder:{tmp_path}"})

    check_environment("https://api.example.org/v1")


def ask(base_url: str) -> int:
    """The status of one call."""
    request = make_request({"model": "m", "messages": []}, endpoint="chat", provider="p")

    async def call() -> int:
        async with live_transport(base_url=base_url, api_key="sk-1") as transport:
            return (await transport(request)).status

    return asyncio.run(call())


def test_a_server_that_is_excepted_is_asked_whatever_the_proxy(
    monkeypatch: pytest.MonkeyPatch, fault_server: Any
) -> None:
    """The SDK's own client would not even be made."""
    set_all(monkeypatch, {"ALL_PROXY": "gopher://p:1", "NO_PROXY": "127.0.0.1", "SSL_CERT_FILE": "/no/such/file"})

    assert ask(fault_server.url) == 200


@pytest.mark.parametrize("variable", ["SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "ALL_PROXY"])
def test_a_run_ends_with_one_sentence_and_leaves_no_store(tmp_path: Path, variable: str) -> None:
    """Exit code 2, and the sentence names the variable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"q": ["x"]}), tmp_path / "p.parquet")
    (tmp_path / "job.toml").write_text(
        'name = "j"\nprompts = { path = "p.parquet", prompt = "q" }\nstore = { path = "out" }\n'
        'model = { name = "m", base_url = "https://127.0.0.1:9/v1" }\n',
        encoding="utf-8",
    )
    command = "import sys; sys.argv = ['logprobs', 'run', 'job.toml']; from logprob_store.cli import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", variable: "gopher://no/such"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith(f"logprobs: {variable} in the environment is ")
    assert not (tmp_path / "out").exists()
