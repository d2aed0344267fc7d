"""A release: made in a clone, up to the tag."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import make_release
import pytest
import wheels
from builders import REPO
from release.environments import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION = "987.6.5"
GREEN = [sys.executable, "-c", ""]


def git(repo: Path, *words: str) -> str:
    """The output of git."""
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *who, *words], cwd=repo, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of what a wheel is built from, as it stands in this folder, with something unreleased."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in (".gitignore", "pyproject.toml", "hatch_build.py", "README.md", "CHANGELOG.md"):
        shutil.copy(REPO / name, folder)
    shutil.copytree(REPO / "logprob_store", folder / "logprob_store", ignore=shutil.ignore_patterns("__pycache__"))
    changelog = folder / "CHANGELOG.md"
    text = re.sub(r"^## Unreleased\n", "## Unreleased\n\n- A test.\n", changelog.read_text("utf-8"), flags=re.MULTILINE)
    changelog.write_text(text, encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "All")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install wheels with the dependencies of this environment, as tests reach no registry."""
    monkeypatch.setattr(make_release, "install", install)


def state(repo: Path) -> tuple[str, str, str]:
    """The last commit, what is changed beside it, and the tags."""
    return git(repo, "rev-parse", "HEAD"), git(repo, "status", "--porcelain"), git(repo, "tag")


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_release_is_a_commit_a_tag_and_wheels(repo: Path) -> None:
    """The version stands in the project, the changelog and what is built, and the tree is clean."""
    make_release.release(repo, VERSION, tests=GREEN, dry_run=False)

    assert git(repo, "log", "-1", "--format=%s") == f"Release {VERSION}"
    assert git(repo, "describe", "--exact-match") == f"v{VERSION}"
    assert git(repo, "status", "--porcelain") == ""
    assert git(repo, "show", "--format=", "--name-only", "HEAD").split() == ["CHANGELOG.md", "pyproject.toml"]
    assert f'\nversion = "{VERSION}"\n' in (repo / "pyproject.toml").read_text(encoding="utf-8")
    changelog = (repo / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"## Unreleased\n\n## {VERSION} \(\d{{4}}-\d\d-\d\d\)\n\n- A test.\n", changelog)
    built = {path.name.split("-")[1].removesuffix(".tar.gz") for path in (repo / "dist").rglob("*.*")}
    assert built == {VERSION}


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_dry_run_builds_and_leaves_the_tree_as_it_was(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No commit, no tag, no change."""
    before = state(repo)
    make_release.release(repo, VERSION, tests=GREEN, dry_run=True)

    assert state(repo) == before
    assert f"{VERSION} can be released" in capsys.readouterr().out


def breaking(name: str) -> Callable[..., None]:
    """A step that fails."""

    def fail(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, [name])

    return fail


@pytest.mark.parametrize(("module", "step"), [(wheels, "build"), (make_release, "try_demo")])
def test_a_step_that_fails_leaves_the_tree_as_it_was(
    repo: Path, monkeypatch: pytest.MonkeyPatch, module: object, step: str
) -> None:
    """The message names the command, and nothing is committed."""
    monkeypatch.setattr(wheels, "build", lambda _: wheels.Built(*[Path("none")] * 3))
    monkeypatch.setattr(module, step, breaking(step))
    before = state(repo)
    with pytest.raises(SystemExit, match=f"^release: {step} ended with exit code 1: nothing is released$"):
        make_release.main([VERSION, "--tests", f"{sys.executable} -c ''"], repo)

    assert state(repo) == before


def test_red_tests_stop_a_release(repo: Path) -> None:
    """Before anything is written."""
    before = state(repo)
    with pytest.raises(SystemExit, match=r"ended with exit code 3: nothing is released$"):
        make_release.main([VERSION, "--tests", f"{sys.executable} -c 'exit(3)'"], repo)

    assert state(repo) == before


def wrong_trees() -> Iterator[tuple[str, Callable[[Path], object], str]]:
    """Versions and changes with which there is no release, and what is said."""

    def nothing(_: Path) -> None:
        pass

    def commit_changelog(repo: Path) -> None:
        (repo / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 0.1.0\n\n- All.\n", encoding="utf-8")
        git(repo, "commit", "--quiet", "-am", "Nothing")

    yield "0.2", nothing, "'0.2' is no version"
    yield "v0.2.0", nothing, "'v0.2.0' is no version"
    yield "0.0.9", nothing, "0.0.9 is not above"
    yield VERSION, lambda repo: (repo / "new.py").touch(), r"not clean: commit or remove these first:\n\?\? new.py"
    yield VERSION, lambda repo: git(repo, "tag", f"v{VERSION}"), f"there is a tag v{VERSION} already"
    yield VERSION, commit_changelog, 'has nothing under "## Unreleased"'


@pytest.mark.parametrize(("version", "change", "said"), list(wrong_trees()))
def test_what_has_to_be_done_first(repo: Path, version: str, change: Callable[[Path], object], said: str) -> None:
    """Each reason is a sentence, before the tests run."""
    change(repo)
    with pytest.raises(SystemExit, match=f"^release: .*{said}"):
        make_release.main([version, "--tests", "not-a-command"], repo)
