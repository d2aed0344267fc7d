"""Where calls go and what they say who they are: address and headers, as the SDK makes them.

Holds `Addresses`, which lets the SDK build one request for each endpoint and keeps all of it but the body. The SDK
knows base URLs, paths, Azure's deployments and versions, authentication and its own headers; building a request anew
for each call costs it 1 ms of CPU, and is the same each time. Leaves out sending (`live`).
"""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx2
import openai
import yarl

from logprob_store.errors import JobError
from logprob_store.request import OPENAI_BASE_URL, PATHS
from logprob_store.transport.url_and_key import check_key

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADERS: Final = {"Content-Type": "application/json"}
_OF_ONE_CALL: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})


class Address(NamedTuple):
    """Where an endpoint is, the headers of each call there, and the proxy on the way, if there is one."""

    url: yarl.URL
    headers: dict[str, str]
    proxy: str | None


class Addresses:
    """The addresses of a service.

    Args:
        base_url: where the API is, OpenAI's own when None. The SDK's environment variable for it is not heeded:
            request keys would not know.
        api_key: the key, the SDK's default (its own environment variable) when None.
        azure_api_version: `base_url` is an Azure resource.
        azure_deployment: which of its deployments.

    Raises:
        JobError: there is no API key, or it cannot be sent.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        azure_api_version: str | None = None,
        azure_deployment: str | None = None,
    ) -> None:
        self._keeping = _Keeping()
        settings: dict[str, Any] = {"api_key": api_key, "max_retries": 0, "http_client": self._keeping}
        try:
            if azure_api_version is None:
                self._client: openai.AsyncOpenAI = openai.AsyncOpenAI(base_url=base_url or OPENAI_BASE_URL, **settings)
            else:
                self._client = openai.AsyncAzureOpenAI(
                    azure_endpoint=base_url or "",
                    azure_deployment=azure_deployment,
                    api_version=azure_api_version,
                    **settings,
                )
        except openai.OpenAIError as error:
            raise JobError(f"the API client cannot be made: {error}") from error
        self.api_key = self._client.api_key
        check_key(self.api_key)
        self._made: dict[str, Address] = {}

    async def of(self, endpoint: str) -> Address:
        """The address of an endpoint: `chat`, `completions` or `responses`."""
        if endpoint not in self._made:
            await self._client.post(
                PATHS[endpoint], cast_to=httpx2.Response, content=b"{}", options={"headers": _HEADERS}
            )
            request = self._keeping.kept
            url = yarl.URL(str(request.url), encoded=True)
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_ONE_CALL}
            self._made[endpoint] = Address(url, headers, _proxy_of(url, urllib.request.getproxies()))
        return self._made[endpoint]


class _Keeping(httpx2.AsyncClient):
    """Takes the request that the SDK has built, and sends nothing."""

    kept: httpx2.Request

    async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:  # noqa: ARG002  the SDK's to choose
        self.kept = request
        return httpx2.Response(200, request=request, json={})


def _proxy_of(url: yarl.URL, proxies: Mapping[str, str]) -> str | None:
    """The proxy that this machine's settings name for a URL; they are read once, not for every call."""
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy is None or urllib.request.proxy_bypass(url.host or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
