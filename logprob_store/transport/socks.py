"""Connections through a SOCKS proxy, with the extra `socks`; why this package: docs/decisions/0021-socks-proxies.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from logprob_store.extras import import_extra

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


def socks_connector(proxy: str, prepare: Callable[[socket.socket], None], **options: Any) -> aiohttp.TCPConnector:
    """A connector whose connections go through a proxy; the proxy looks names up, except for `socks4`.

    Args:
        proxy: its URL; `socks` and `socks5h` mean SOCKS 5, and the default port is 1080.
        prepare: called with the socket of each connection.
        options: as for `aiohttp.TCPConnector`.

    Raises:
        ImportError: the extra is not installed.
    """
    package = import_extra("aiohttp_socks")

    class Connector(package.ProxyConnector):  # type: ignore[name-defined,misc]  # known only when it is installed
        """Raises aiohttp's error when the proxy or the way behind it fails: nothing was sent to the server then."""

        async def _wrap_create_connection(self, *args: Any, req: aiohttp.ClientRequest, **kwargs: Any) -> Any:
            try:
                transport, protocol = await super()._wrap_create_connection(*args, req=req, **kwargs)
            except (package.ProxyConnectionError, package.ProxyTimeoutError, package.ProxyError) as error:
                failed = ConnectionError(0, f"the SOCKS proxy: {error}")
                raise aiohttp.ClientProxyConnectionError(req.connection_key, failed) from failed
            prepare(transport.get_extra_info("socket"))
            return transport, protocol

    parts = urlsplit(proxy)
    scheme = parts.scheme.lower()
    netloc = parts.netloc if parts.port is not None else f"{parts.netloc}:1080"
    url = f"{'socks4' if scheme.startswith('socks4') else 'socks5'}://{netloc}"
    connector: aiohttp.TCPConnector = Connector.from_url(url, rdns=scheme != "socks4", **options)
    return connector
