"""`make wheel`: what a release consists of.

    python release/wheels.py

`dist/` then holds the source and a wheel for this kind of machine, with the compiled scanner: for every Python and
every Linux of this processor, be its libc glibc or musl. `dist/any/` holds a wheel for any machine, without it, built
from the source that was packed. An installer that finds both takes the first where it fits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

REPO: Final = Path(__file__).resolve().parents[1]


class Built(NamedTuple):
    """The files of a release; `wheel` is for any machine, too, where there is no C compiler."""

    wheel: Path
    wheel_for_any: Path
    source: Path


def build(repo: Path) -> Built:
    """Build all three anew."""
    dist = repo / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    _hatchling(repo, "-t", "wheel", "-t", "sdist", "-d", dist)
    [wheel], [source] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(source) as packed:
            packed.extractall(folder, filter="data")
        [unpacked] = Path(folder).iterdir()
        _hatchling(unpacked, "-t", "wheel", "-d", dist / "any", LOGPROB_STORE_COMPILE="no")
    [wheel_for_any] = dist.glob("any/*.whl")
    return Built(wheel, wheel_for_any, source)


def _hatchling(repo: Path, *options: object, **environment: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", *map(str, options)]
    subprocess.run(command, check=True, cwd=repo, env=os.environ | environment)


if __name__ == "__main__":
    build(REPO)
