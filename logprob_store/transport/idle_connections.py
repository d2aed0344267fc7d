"""A check that a kept-alive connection holds no bytes that no request asked for.

A server, or a proxy in front of it, may write to an idle connection: a notice that it is about to close it, or a second
answer to the last request. A client that reuses the connection would take these bytes for the answer to its next
request, and one prompt would get another's answer. So no request is sent over such a connection; `live` then uses
another. Bytes that arrive after the next request was sent cannot be told from its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.connector import Connection


class StaleConnectionError(aiohttp.ClientError):
    """The connection holds bytes that no request asked for; nothing was sent over it, and it is closed."""


class CleanConnectionRequest(aiohttp.ClientRequest):
    """A request that is sent only over a connection on which nothing has arrived since its last answer."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send the request.

        Raises:
            StaleConnectionError: something has arrived on the connection.
        """
        if conn.protocol is not None and conn.protocol.should_close:
            raise StaleConnectionError("the server wrote without being asked")
        return await super().send(conn)
