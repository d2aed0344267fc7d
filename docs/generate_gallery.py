"""Draws the pictures of docs/gallery.md, each by the code that stands above it on the page.

    make docs    # or: .venv/bin/python docs/generate_gallery.py

The stores are made from the committed recordings, in a folder that is thrown away. The layout depends on no font of
this machine, and a test compares the files with what is drawn anew.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import logprob_store as ls
from logprob_store.charts.svg import as_svg
from logprob_store.job import override

DOCS: Final = Path(__file__).parent
REPO: Final = DOCS.parent
PAGE: Final = DOCS / "gallery.md"
PICTURES: Final = DOCS / "gallery"

_STEPS: Final = re.compile(
    r"^```python\n(?P<code>.*?)^```$|^!\[(?P<words>[^\]]*)\]\((?P<path>[^)]*)\)$", re.MULTILINE | re.DOTALL
)
_NIGHTS: Final = {"monday": 0, "tuesday": 60, "wednesday": 0, "thursday": 20, "friday": 0}
"""Which recordings are taken away, so that calls fail: one in so many; 0 for none."""


def make_stores(folder: Path) -> None:
    """Replay the recordings into the stores that the page opens, below `folder`."""
    demo = ls.load_job(REPO / "jobs" / "demo.toml")
    ls.run_job(override(demo, store=folder / "out" / "demo"), run="demo")
    recordings = (REPO / "fixtures" / "capitals.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    for night, missing in _NIGHTS.items():
        kept = [line for place, line in enumerate(recordings, 1) if not missing or place % missing]
        path = folder / f"{night}.jsonl"
        path.write_text("".join(kept), encoding="utf-8")
        ls.run_job(override(demo, store=folder / "out" / "nights", fixtures=path), run=night)
    others = {
        "fixtures/capitals-chat.toml": ("capitals-chat", "chat"),
        "jobs/cookbook/classification.toml": ("cookbook/classification", "first"),
        "jobs/cookbook/structured-output.toml": ("cookbook/structured-output", "first"),
    }
    for job, (store, run) in others.items():
        ls.run_job(override(ls.load_job(REPO / job), store=folder / "out" / store, transport="replay"), run=run)


def pictures() -> dict[Path, str]:
    """What each picture has to hold, by path; the code of the page runs in the folder of the stores."""
    drawn: dict[Path, str] = {}
    names: dict[str, Any] = {}
    chart: Any = None
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        make_stores(Path(folder))
        for step in _STEPS.finditer(PAGE.read_text(encoding="utf-8")):
            if step["code"] is not None:
                chart = _last_value(step["code"], names)
            else:
                drawn[DOCS / step["path"]] = as_svg(chart, step["words"], standalone=True) + "\n"
    return drawn


def _last_value(code: str, names: dict[str, Any]) -> Any:
    """Run a block, and give the value of its last line if that is an expression."""
    *before, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        before, last = [*before, last], None
    exec(compile(ast.Module(before, []), PAGE.name, "exec"), names)  # noqa: S102  the page's own code
    return None if last is None else eval(compile(ast.Expression(last.value), PAGE.name, "eval"), names)  # noqa: S307


def main() -> None:
    """Write the files."""
    PICTURES.mkdir(exist_ok=True)
    for path, text in pictures().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{os.path.relpath(path, REPO)} {len(text)}\n")


if __name__ == "__main__":
    main()
