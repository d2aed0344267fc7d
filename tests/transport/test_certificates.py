"""Servers whose certificate is not trusted."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from builders import chat_request

from logprob_store.errors import StopRunError
from logprob_store.pacing.pacer import Pacer
from logprob_store.run.attempts import ask_until_answered
from logprob_store.transport.live import live_transport
from logprob_store.transport.reach import reach

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.transport.reach import Step


@pytest.fixture
def own_certificate(tmp_path: Path) -> ssl.SSLContext:
    """The side of a server with a certificate that it signed itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    made = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


@pytest.mark.live
def test_a_certificate_that_is_not_trusted_stops_the_run_at_once(own_certificate: ssl.SSLContext) -> None:
    """One connection, one sentence with what to do, and no key sent."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        assert await reader.read() == b""
        writer.close()

    async def ask() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=own_certificate)
        port = server.sockets[0].getsockname()[1]
        async with server, live_transport(base_url=f"https://127.0.0.1:{port}/v1", api_key="sk-1") as transport:
            await ask_until_answered(chat_request(), transport, pacer=Pacer(1), attempts=6)

    with pytest.raises(StopRunError, match=r"the server cannot prove who it is.*self-signed.*SSL_CERT_FILE") as caught:
        asyncio.run(ask())

    assert caught.value.reason == "certificate"
    assert connections == 0


@pytest.mark.live
def test_a_certificate_that_is_not_trusted_is_the_last_step_to_a_server(own_certificate: ssl.SSLContext) -> None:
    """The connection is told from TLS, and what is wrong with the certificate is said."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def collect() -> list[Step]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=own_certificate)
        async with server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            return [step async for step in reach(url)]

    steps = asyncio.run(collect())

    assert [(step.name, step.reached) for step in steps] == [("address", True), ("connection", True), ("tls", False)]
    assert "self-signed" in steps[-1].said
    assert "SSL_CERT_FILE" in steps[-1].said
