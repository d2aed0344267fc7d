"""URL, headers and proxy of each endpoint, as the SDK makes them.

`Addresses` lets the SDK build one request for each endpoint and keeps all of it but the body. The SDK knows base URLs,
paths, Azure's deployments and versions, authentication and its own headers. Building a request takes it 1 ms of CPU,
and the result is the same for every call. Calls are sent by `live`.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx2
import openai
import yarl

from logprob_store.errors import JobError
from logprob_store.request import OPENAI_BASE_URL, PATHS
from logprob_store.transport.environment import SOCKS_SCHEMES, proxy_of
from logprob_store.transport.url_and_key import check_key

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECRET_NAME: Final = re.compile("key|token|secret|password|auth|sig|code", re.IGNORECASE)
"""Names of URL parameters whose values are no names or versions."""
_CONTENT_TYPE: Final = {"Content-Type": "application/json"}
_PER_CALL_HEADERS: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})

_KEY_HEADERS: Final = frozenset({"authorization", "api-key"})
"""In which the SDK sends a key, to OpenAI's API and to Azure."""


class Address(NamedTuple):
    """The URL of an endpoint, the headers of each call to it, and the HTTP proxy on the way; None for no such proxy."""

    url: yarl.URL
    headers: dict[str, str]
    proxy: str | None


class Addresses:
    """The addresses of a service's endpoints.

    Args:
        base_url: URL of the API, OpenAI's when None. The SDK's environment variable for it is ignored, because request
            keys do not include it.
        api_key: the key; when None, the SDK reads its own environment variable, for OpenAI's address only; an empty
            text sends none.
        azure_api_version: `base_url` is an Azure resource.
        azure_deployment: which of its deployments.
        headers: sent with each call, beside the SDK's own and over them.
        query: added to each URL.

    Raises:
        JobError: there is no API key, it cannot be sent, or this machine's proxy cannot be used.

    What the SDK reads from the environment beside a key (an organisation, a project, headers) goes to OpenAI's address
    alone: a job with a base URL says what that server gets. `socks_proxy` is the SOCKS proxy on the way, which takes a
    connector of its own; None if there is none. `secrets` are the texts that no answer may repeat.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        azure_api_version: str | None = None,
        azure_deployment: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        query: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        if base_url is not None and api_key is None:
            raise JobError(
                "there is no API key for model.base_url: give one, or an empty text to a server that wants none"
            )
        self._http = _CapturingClient()
        # The SDK takes no empty key: it gets a word, whose header is taken out again.
        self._without_key = api_key == ""
        settings: dict[str, Any] = {
            "api_key": "none" if self._without_key else api_key,
            "max_retries": 0,
            "http_client": self._http,
        }
        settings |= {"default_headers": dict(headers) or None, "default_query": dict(query) or None}
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
        except (openai.OpenAIError, httpx2.InvalidURL) as error:
            raise JobError(f"the API client cannot be made: {error}") from error
        check_key(self._client.api_key)
        if base_url is not None:
            _forget_environment(self._client, headers)
        self._own_headers = {name.lower() for name in headers}
        self._by_endpoint: dict[str, Address] = {}
        proxy = proxy_of(base_url or OPENAI_BASE_URL)
        is_socks = proxy is not None and urlsplit(proxy).scheme.lower() in SOCKS_SCHEMES
        self.socks_proxy = proxy if is_socks else None
        self._http_proxy = None if is_socks else proxy
        sent = [*self._client._custom_headers.values(), *headers.values()]  # noqa: SLF001
        named = [value for name, value in query.items() if _SECRET_NAME.search(name)]
        password = urlsplit(proxy or "").password or ""
        # A header's value also without the scheme that stands before a key, as in `Bearer KEY`.
        self.secrets = [self._client.api_key, *sent, *(value.rpartition(" ")[2] for value in sent), *named, password]

    async def of(self, endpoint: str) -> Address:
        """The address of an endpoint, one of `request.PATHS`."""
        if endpoint not in self._by_endpoint:
            await self._client.post(
                PATHS[endpoint], cast_to=httpx2.Response, content=b"{}", options={"headers": _CONTENT_TYPE}
            )
            self._by_endpoint[endpoint] = self._captured()
        return self._by_endpoint[endpoint]

    async def of_models(self) -> Address:
        """The address at which the service lists its models."""
        return await self.of_path("/models")

    async def of_path(self, path: str) -> Address:
        """The address of any other path of the service, as of its files and batches."""
        await self._client.get(path, cast_to=httpx2.Response)
        return self._captured()

    def _captured(self) -> Address:
        """The address of the request that the SDK has built last."""
        request = self._http.captured
        url = yarl.URL(str(request.url), encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _PER_CALL_HEADERS}
        if self._without_key:
            headers = {
                name: value
                for name, value in headers.items()
                if name.lower() not in _KEY_HEADERS or name.lower() in self._own_headers
            }
        return Address(url, headers, self._http_proxy)


def _forget_environment(client: openai.AsyncOpenAI, headers: Mapping[str, str]) -> None:
    """Take out of a client what it read from the environment; its constructor has no argument for that."""
    client.organization = client.project = client.admin_api_key = None
    client._custom_headers = dict(headers)  # noqa: SLF001


class _CapturingClient(httpx2.AsyncClient):
    """Keeps the last request that the SDK has built, and sends nothing."""

    captured: httpx2.Request

    def __init__(self) -> None:
        # It needs neither proxies nor certificates, and those of the environment may be unusable.
        super().__init__(trust_env=False, verify=False)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ARG002  chosen by the SDK
        self.captured = request
        return httpx2.Response(200, request=request, json={})
