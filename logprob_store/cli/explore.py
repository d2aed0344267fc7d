"""The command `explore`: a store in the browser, served on this machine alone.

The server is in `logprob_store.explorer`.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.chosen_runs import ALL_RUNS, select_runs
from logprob_store.cli.common import JsonOption, StorePath, echo
from logprob_store.cli.completion import complete_run
from logprob_store.counted import counted

if TYPE_CHECKING:
    from logprob_store.analysis.opened_store import Store
    from logprob_store.what_if.asking import WhatIf


def explore(
    store: StorePath,
    *,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            autocompletion=complete_run,
            help="The runs: names, patterns such as 'nightly-*', newest or all, with commas between. Default: the "
            "newest, up to three million answers.",
        ),
    ] = None,
    expected: Annotated[
        str | None, typer.Option(help="A column kept with the prompts: what the answer should be, to filter by.")
    ] = None,
    job: Annotated[
        Path | None,
        typer.Option(
            "--job",
            help="The job file whose server is asked what would have followed another token, within its ceilings. "
            "Without it no call can be made.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 0,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open the address in the browser.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Explore a store in the browser: filter, sort, compare, ask in SQL, down to a single token.

    The page is for this machine alone, and its address opens one browser, once. What the page asks again and again is
    prepared first, and kept beside the store. Ctrl-C ends it.
    """
    from logprob_store.errors import InputError
    from logprob_store.explorer.exploring import Exploring
    from logprob_store.explorer.opening import opened_in_browser
    from logprob_store.explorer.server import serve_exploring
    from logprob_store.extras import import_extra

    try:
        for module in ("uvicorn", "starlette", "jinja2"):
            import_extra(module)
    except ImportError as error:
        raise InputError(str(error)) from error
    what_if = None if job is None else _what_if(job)
    said: list[int] = []

    def open_runs() -> Store:
        opened = _opened(store, run)
        if not said and run is None and (left_out := _left_out(store, opened)):
            _say(f"{counted(left_out, 'older run')} left out (--run all: all of them)")
            said.append(left_out)
        return opened

    # What is temporary is removed at SIGTERM, too.
    before = {signal.SIGINT: signal.getsignal(signal.SIGINT)}
    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        exploring_runs = Exploring(open_runs, expected=expected, leave_out_damaged=run in {None, ALL_RUNS}, say=_say)
        with what_if or nullcontext(), exploring_runs as exploring:
            served = serve_exploring(exploring, port=port, what_if=what_if)
            for ending in before:  # an exception could come while the server is being set up, or taken down
                signal.signal(ending, lambda *_: served.stop())
            echo({"url": served.url, "port": served.port} if as_json else served.url)
            _say("open this address in your browser, once; Ctrl-C ends the explorer")
            with opened_in_browser(served.url) if opens and _has_desktop() else nullcontext():
                served.run()
    except KeyboardInterrupt:
        pass
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)
    _say("ended")


def _what_if(job: Path) -> WhatIf:
    from logprob_store.job import load_job
    from logprob_store.what_if.asking import WhatIf

    return WhatIf(load_job(job))


def _opened(store: Path, run: str | None) -> Store:
    """The runs that are wanted, as they are now."""
    from logprob_store.explorer.exploring import newest_runs

    if run is not None:
        return select_runs(store, run)
    every = select_runs(store, ALL_RUNS)
    return every.only(*newest_runs(every)) if every.manifests else every


def _left_out(store: Path, opened: Store) -> int:
    return len(select_runs(store, ALL_RUNS).manifests) - len(opened.manifests)


def _has_desktop() -> bool:
    """Whether there is a window to open; a browser of text would use up the address in the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _say(words: str) -> None:
    from logprob_store.view.safe_text import printable

    typer.echo(printable(words), err=True)
