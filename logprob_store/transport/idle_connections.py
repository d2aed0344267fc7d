"""Connections that a server wrote to while nobody had asked: what they hold is nobody's answer.

Holds a request that refuses to go out over such a connection. Leaves out asking again over another one (`live`).

A server, or a proxy before it, may write on a connection that is kept open: that it is about to close it, or a second
answer to what it has answered. A client that reuses the connection takes that for the answer to its next request, and
one prompt gets another's answer. Bytes that come after the next request went out cannot be told from its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.connector import Connection


class StaleConnectionError(aiohttp.ClientError):
    """The connection holds bytes that nobody asked for. It is closed, and nothing was sent over it."""


class RequestOverQuiet(aiohttp.ClientRequest):
    """A request that goes out only over a connection that nothing has come in from since its last answer."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send it.

        Raises:
            StaleConnectionError: something has come in.
        """
        if conn.protocol is not None and conn.protocol.should_close:
            raise StaleConnectionError("the server wrote without being asked")
        return await super().send(conn)
