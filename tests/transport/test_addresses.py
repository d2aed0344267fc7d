"""The URL, the headers and the proxy of a call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from builders import chat_request

from logprob_store.transport.addresses import Addresses
from logprob_store.transport.live import live_transport

if TYPE_CHECKING:
    from pathlib import Path

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def address_of(endpoint: str, **service: Any) -> Any:
    """The address of one endpoint."""
    return asyncio.run(Addresses(api_key="sk-1", **service).of(endpoint))


def test_an_address_has_the_url_and_the_key() -> None:
    """The path of the base URL is kept, the key is a bearer token, and no header belongs to one call."""
    address = address_of("chat", base_url="https://example.org/some/v1/")

    assert str(address.url) == "https://example.org/some/v1/chat/completions"
    assert address.headers["authorization"] == "Bearer sk-1"
    assert address.headers["content-type"] == "application/json"
    assert not {"host", "connection", "content-length", "accept-encoding"} & address.headers.keys()


def test_azure_has_its_own_path_and_header() -> None:
    """Deployment and version are in the URL; the key is in the header `api-key`."""
    address = address_of(
        "completions", base_url="https://r.openai.azure.com", azure_api_version="2024-10-21", azure_deployment="d"
    )

    expected = "https://r.openai.azure.com/openai/deployments/d/completions?api-version=2024-10-21"
    assert str(address.url) == expected
    assert address.headers["api-key"] == "sk-1"


def test_an_address_is_made_once() -> None:
    """A second call to an endpoint uses the same address object."""

    async def twice() -> bool:
        addresses = Addresses(base_url="http://127.0.0.1:1/v1", api_key="sk-1")
        return await addresses.of("chat") is await addresses.of("chat")

    assert asyncio.run(twice())


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"http_proxy": "http://p:1"}, "http://p:1"),
        ({"http_proxy": "p:1"}, "http://p:1"),
        ({"https_proxy": "http://p:1"}, None),
        ({"all_proxy": "http://p:1"}, "http://p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "example.org"}, None),
    ],
)
def test_the_proxy_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    """The usual variables are read for the URL's scheme and host."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert address_of("chat", base_url="http://example.org/v1").proxy == proxy


def test_calls_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch, fault_server: Any) -> None:
    """A host without an address is reached through the proxy, which here is the fault server."""
    monkeypatch.setenv("http_proxy", fault_server.url.removesuffix("/v1"))

    async def ask() -> int:
        async with live_transport(base_url="http://nobody.invalid/v1", api_key="sk-1") as transport:
            return (await transport(chat_request())).status

    assert asyncio.run(ask()) == 200
    assert len(fault_server.calls) == 1


ENVIRONMENT = {
    "OPENAI_ORG_ID": "org-of-another",
    "OPENAI_PROJECT_ID": "project-of-another",
    "OPENAI_ADMIN_KEY": "admin-key-of-another",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: header-of-another\nAuthorization: Bearer key-of-another",
    "AZURE_OPENAI_AD_TOKEN": "token-of-another",
    "OPENAI_API_KEY": "sk-of-another",
    "AZURE_OPENAI_API_KEY": "azure-of-another",
}


@pytest.mark.parametrize("service", [{}, {"azure_api_version": "v1", "azure_deployment": "d"}], ids=["own", "azure"])
def test_a_server_of_the_job_s_own_gets_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, service: dict[str, str]
) -> None:
    """The key is the job's; no organisation, project or header that is meant for OpenAI goes along."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    address = address_of("chat", base_url="http://example.org/v1", headers={"X-Own": "mine"}, **service)

    assert [value for value in [str(address.url), *address.headers.values()] if "another" in value] == []
    assert "sk-1" in address.headers.get("authorization", "") + address.headers.get("api-key", "")
    assert address.headers["x-own"] == "mine"


def test_a_server_of_the_job_s_own_gets_what_the_job_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """`model.headers` may name an organisation."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another")

    address = address_of("chat", base_url="http://example.org/v1", headers={"OpenAI-Organization": "org-of-the-job"})

    assert address.headers["openai-organization"] == "org-of-the-job"


def test_openai_gets_what_is_meant_for_it_and_may_not_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The organisation and the headers of the environment are sent, and the headers' values are secrets."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    addresses = Addresses(api_key="sk-1")
    address = asyncio.run(addresses.of("chat"))

    assert address.headers["openai-organization"] == "org-of-another"
    assert address.headers["x-gateway"] == "header-of-another"
    assert {"sk-1", "header-of-another", "key-of-another"} <= set(addresses.secrets)


def test_secrets_are_what_no_answer_may_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key, headers, parameters of the URL that are named like a key, and the password of the proxy."""
    monkeypatch.setenv("http_proxy", "http://me:of-the-proxy@p:1")

    found = Addresses(
        base_url="http://example.org/v1",
        api_key="sk-1",
        headers={"X-Token": "Bearer of-a-header"},
        query={"api-key": "of-the-url", "api-version": "2026-10-21"},
    ).secrets

    assert {"sk-1", "Bearer of-a-header", "of-a-header", "of-the-url", "of-the-proxy"} <= set(found)
    assert "2026-10-21" not in found


def test_netrc_is_not_read(monkeypatch: pytest.MonkeyPatch, fault_server: Any, tmp_path: Path) -> None:
    """The password that it has for the server's host is not sent."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password of-another\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    async def ask() -> None:
        async with live_transport(base_url=fault_server.url, api_key="sk-1") as transport:
            await transport(chat_request())

    asyncio.run(ask())

    assert fault_server.calls[0].headers["authorization"] == "Bearer sk-1"
