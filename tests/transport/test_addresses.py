"""The URL, the headers and the proxy of a call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from builders import chat_request

from logprob_store.transport.addresses import Addresses
from logprob_store.transport.live import live_transport

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
