"""`make image`: builds the Dockerfile with the tool that is here, and runs the demo in the image without a network.

    python release/image.py [--tag logprobs]

The tool is docker, podman or buildah, whichever works first. It needs the base image, Debian's packages and PyPI. What
else a machine needs to reach these stands in the variable IMAGE_OPTIONS, as options of the tool's build.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPO: Final = Path(__file__).resolve().parents[1]
TOOLS: Final = ("docker", "podman", "buildah")
DEMO: Final = ("--version", "init --demo", "run demo/demo.toml", "scores demo/out", "doctor demo/demo.toml")
_ENTRY_POINT: Final = "logprobs"  # buildah runs commands and no entry points


def find_tool() -> str | None:
    """The first of `TOOLS` that works: docker may be installed without its daemon."""
    return next((tool for tool in filter(shutil.which, TOOLS) if _works(tool, "info")), None)


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def build(tool: str, tag: str) -> None:
    """Build the image and name it; the tool says on standard error what it does."""
    options = shlex.split(os.environ.get("IMAGE_OPTIONS", ""))
    command = [tool, "bud" if tool == "buildah" else "build", *options, "-t", tag, str(REPO)]
    subprocess.run(command, check=True, stdout=sys.stderr)


@contextmanager
def running(tool: str, tag: str, folder: Path) -> Iterator[Callable[..., str]]:
    """A function that runs `logprobs` with some words in the image and returns its output.

    Args:
        tool: from `find_tool`.
        tag: of the image.
        folder: is mounted where the image works, and written as its owner.
    """
    owner = f"{os.getuid()}:{os.getgid()}"
    mounted = ("--user", owner, "-v", f"{folder}:/jobs")
    if tool != "buildah":
        yield lambda *words: _call(tool, "run", "--rm", "--network", "none", *mounted, tag, *words)
        return
    container = _call(tool, "from", tag).split()[-1]
    try:
        yield lambda *words: _call("unshare", "--net", tool, "run", *mounted, container, _ENTRY_POINT, *words)
    finally:
        _call(tool, "rm", container)


def _call(*command: str) -> str:
    """What a command writes to standard output, and its messages as they come."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Build, and run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default="logprobs", help="the image's name")
    given = parser.parse_args()
    tool = find_tool()
    if tool is None:
        sys.exit(f"image: none of {', '.join(TOOLS)} works here: an image needs one of them")
    try:
        build(tool, given.tag)
        with tempfile.TemporaryDirectory() as folder, running(tool, given.tag, Path(folder)) as logprobs:
            for words in DEMO:
                print(f"$ logprobs {words}\n{logprobs(*words.split())}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"image: {shlex.join(error.cmd)} ended with exit code {error.returncode}")


if __name__ == "__main__":
    main()
