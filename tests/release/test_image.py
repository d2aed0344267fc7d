"""The image: what the Dockerfile promises, and the demo in a real one where a tool can build it."""

from __future__ import annotations

import subprocess
import tomllib
from typing import TYPE_CHECKING

import image
import pytest
from builders import REPO

import logprob_store as ls

if TYPE_CHECKING:
    from pathlib import Path

BASE = "debian:trixie-slim"


def instructions() -> list[str]:
    """The lines of the Dockerfile's last stage."""
    text = (REPO / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return text.rpartition("\nFROM ")[2].splitlines()


def test_it_runs_the_command_as_a_user() -> None:
    """Not as root, and in the folder that is mounted."""
    lines = instructions()

    assert lines.index("USER logprobs") > next(n for n, line in enumerate(lines) if line.startswith("RUN"))
    assert {'ENTRYPOINT ["logprobs"]', "WORKDIR /jobs"} <= set(lines)


def test_all_that_the_wheel_is_built_from_is_sent() -> None:
    """`.dockerignore` leaves out all but what pyproject.toml names and the versions that were tested."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {"pyproject.toml", "constraints.txt", "hatch_build.py", project["project"]["readme"], *packages}
    lines = (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert {line[1:] for line in lines if line.startswith("!")} == needed
    assert "*" in lines


def has_base(tool: str) -> bool:
    """Whether the base image is here, so that no registry of images is asked."""
    words = ["inspect", "--type", "image"] if tool == "buildah" else ["image", "inspect"]
    return subprocess.run([tool, *words, BASE], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_the_demo_runs_in_it_without_a_network(tmp_path: Path) -> None:
    """A real image is built, and its scanner is compiled."""
    tool = image.find_tool()
    if tool is None:
        pytest.skip(f"none of {', '.join(image.TOOLS)} works here")
    if not has_base(tool):
        pytest.skip(f"{tool} has no image {BASE}: `make image` fetches it, and builds")
    image.build(tool, "logprobs-test")
    with image.running(tool, "logprobs-test", tmp_path) as logprobs:
        said = {words: logprobs(*words.split()) for words in image.DEMO}

    assert said["--version"].split() == ["logprob-store", ls.__version__]
    assert "61 completions" in said["run demo/demo.toml"]
    assert "the compiled scanner reads logprobs" in said["doctor demo/demo.toml"]
    assert (tmp_path / "demo" / "out").is_dir()
