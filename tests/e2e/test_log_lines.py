"""Log lines for people, from outside."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_equal_failures_are_shown_a_few_times(workplace: Any, serve: Any) -> None:
    """Three by name, then once that there are more; another failure is shown by itself."""
    words = [word for n in (3, 4, 5, 6, 7) for word in ("--when", f"word-{n} =400")]
    server = serve(*words, "--when", "word-8 =451")

    done = workplace.run("run", workplace.job(server.url, prompts=9, concurrency=1), "--run", "r")

    lines = [line.partition("WARNING ")[2] for line in done.stderr.splitlines() if "HTTP 4" in line]
    assert lines == [
        *(f"prompt 'p{n}': HTTP 400 server_error: unwell" for n in (3, 4, 5)),
        "more prompts fail so; the summary counts them: HTTP 400 server_error: unwell",
        "prompt 'p8': HTTP 451 server_error: unwell",
    ]
