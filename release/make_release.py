"""`make release VERSION=0.2.0`: a version, from a clean tree to a tag.

    python release/make_release.py 0.2.0 [--dry-run] [--tests "make test"]

Needs a clean tree. Runs the tests, sets the version in pyproject.toml, gives the changelog's "Unreleased" the version
and the date, builds the wheels and the source, installs each wheel into a fresh environment and runs the demo there,
commits and tags. Where anything fails nothing is committed, and the two files are as they were. `--dry-run` does all of
that but the commit and the tag. Nothing is pushed or published.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import wheels

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSION_LINE: Final = re.compile(r'^version = "(.*)"$', re.MULTILINE)
_UNRELEASED: Final = re.compile(r"^## Unreleased\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_PROJECT: Final = "pyproject.toml"
_CHANGELOG: Final = "CHANGELOG.md"


class ReleaseError(Exception):
    """What has to be done before there can be a release."""


def check(repo: Path, version: str) -> None:
    """Whether this version can be released from this tree.

    Raises:
        ReleaseError: it cannot.
    """
    if re.fullmatch(r"\d+\.\d+\.\d+", version) is None:
        raise ReleaseError(f"{version!r} is no version: write three numbers, such as 0.2.0")
    project = (repo / _PROJECT).read_text(encoding="utf-8")
    found = _VERSION_LINE.findall(project)
    if len(found) != 1:
        raise ReleaseError(f'{_PROJECT} has {len(found)} lines `version = "..."`: write one')
    if _numbers(version) <= _numbers(found[0]):
        raise ReleaseError(f"{version} is not above {found[0]}, which {_PROJECT} has: choose a higher one")
    if changed := _git(repo, "status", "--porcelain"):
        raise ReleaseError(f"the tree is not clean: commit or remove these first:\n{changed}")
    if _git(repo, "tag", "--list", _tag(version)):
        raise ReleaseError(f"there is a tag {_tag(version)} already: choose another version")
    unreleased = _UNRELEASED.search((repo / _CHANGELOG).read_text(encoding="utf-8"))
    if unreleased is None or not unreleased[1].strip():
        raise ReleaseError(f'{_CHANGELOG} has nothing under "## Unreleased": write what changed for users')


def set_version(repo: Path, version: str, day: date) -> None:
    """Write the version into the project, and the version with its date into the changelog."""
    for name, pattern, replacement in (
        (_PROJECT, _VERSION_LINE, f'version = "{version}"'),
        (_CHANGELOG, re.compile(r"^## Unreleased\n", re.MULTILINE), f"## Unreleased\n\n## {version} ({day})\n"),
    ):
        path = repo / name
        path.write_text(pattern.sub(replacement, path.read_text(encoding="utf-8"), count=1), encoding="utf-8")


def put_back(repo: Path) -> None:
    """Put the two files back as they were committed."""
    _git(repo, "checkout", "--quiet", "--", _PROJECT, _CHANGELOG)


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel with its dependencies into a fresh environment; returns the folder of its commands."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", wheel], check=True)
    return folder / "bin"


def try_demo(wheel: Path, version: str) -> None:
    """Install a wheel, ask for its version, and run the demo, outside the repository.

    Raises:
        ReleaseError: it says that it has another version.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = install(wheel, folder / "venv")
        for words in ("--version", "init --demo", "run demo/demo.toml", "scores demo/out"):
            command = [commands / "logprobs", *words.split()]
            said = subprocess.run(command, check=True, cwd=folder, stdout=subprocess.PIPE, text=True).stdout
            if words == "--version" and said.split()[-1] != version:
                raise ReleaseError(f"{wheel.name} says that it is {said.strip()}: see {_PROJECT}")


def release(repo: Path, version: str, *, tests: Sequence[str], dry_run: bool) -> None:
    """Do all steps in turn.

    Args:
        repo: the repository.
        version: such as 0.2.0.
        tests: the command that runs the tests.
        dry_run: put the files back in place of the commit and the tag.

    Raises:
        ReleaseError: something has to be done first.
        subprocess.CalledProcessError: a step failed.
    """
    check(repo, version)
    subprocess.run(tests, check=True, cwd=repo)
    with ExitStack() as at_the_end:
        at_the_end.callback(put_back, repo)
        set_version(repo, version, datetime.now(UTC).date())
        built = wheels.build(repo)
        try_demo(built.wheel, version)
        try_demo(built.wheel_for_any, version)
        if dry_run:
            print(f"{version} can be released; nothing is committed, and dist/ holds what was built")
            return
        _git(repo, "commit", "--quiet", "-m", f"Release {version}", "--", _PROJECT, _CHANGELOG)
        at_the_end.pop_all()
    _git(repo, "tag", "--annotate", "-m", f"Version {version}", _tag(version))
    print(f"{version} is committed and tagged, and built in dist/; next: git push --follow-tags")


def _tag(version: str) -> str:
    return f"v{version}"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _git(repo: Path, *words: str) -> str:
    return subprocess.run(["git", *words], check=True, cwd=repo, stdout=subprocess.PIPE, text=True).stdout.strip()


def main(arguments: Sequence[str] | None = None, repo: Path = wheels.REPO) -> None:
    """Release what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true", help="all but the commit and the tag")
    parser.add_argument("--tests", default="make test", help='the command that runs the tests ("make test")')
    given = parser.parse_args(arguments)
    try:
        release(repo, given.version, tests=shlex.split(given.tests), dry_run=given.dry_run)
    except ReleaseError as error:
        sys.exit(f"release: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"release: {shlex.join(map(str, error.cmd))} ended with exit code {error.returncode}: nothing is released"
        )


if __name__ == "__main__":
    main()
