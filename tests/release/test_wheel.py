"""The wheels: built from this source, installed outside the repository, and run there."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest
from builders import REPO
from release.environments import install, run

import logprob_store as ls
from logprob_store.decode.bulk.scan_loop import load_scan_loop

pytestmark = pytest.mark.slow

WAYS = ["compiled", "for any machine"]


@pytest.fixture(scope="module", params=WAYS)
def commands(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an installed wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    compiled = request.param == "compiled"
    if compiled and load_scan_loop() is None:
        pytest.skip("there is no C compiler")
    wish = "required" if compiled else "no"
    run(
        *(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder),
        cwd=REPO,
        LOGPROB_STORE_COMPILE=wish,
    )
    [wheel] = folder.glob("*.whl")

    assert wheel.name.endswith("-py3-none-any.whl") != compiled
    return install(wheel, folder / "venv")


def test_the_demo_runs_outside_the_repository(commands: Path, tmp_path: Path) -> None:
    """`init --demo`, `run` and `scores` need neither the repository nor a network."""
    run(commands / "logprobs", "init", "--demo", cwd=tmp_path)
    run(commands / "logprobs", "run", "demo/demo.toml", cwd=tmp_path)
    run(commands / "logprobs", "scores", "demo/out", "-o", "scores.parquet", cwd=tmp_path)

    assert pl.read_parquet(tmp_path / "scores.parquet").height == 61


def test_the_rows_are_those_of_this_source(commands: Path, tmp_path: Path) -> None:
    """Whether the scanner is compiled or not, a wheel writes the same tables."""
    for folder in ("there", "here"):
        run(commands / "logprobs", "init", folder, "--demo", cwd=tmp_path)
    run(commands / "logprobs", "run", "there/demo.toml", "--run", "r", cwd=tmp_path)
    ls.run_job(tmp_path / "here" / "demo.toml", run="r")
    there, here = (ls.open_store(tmp_path / folder / "out") for folder in ("there", "here"))

    for name in ("completions", "tokens", "alternatives"):
        one, other = (getattr(store, name).collect() for store in (there, here))
        assert one.height > 0
        assert one.equals(other), name


def test_the_version_is_that_of_this_source(commands: Path, tmp_path: Path) -> None:
    """On the command line and in Python."""
    program = "import logprob_store as ls; print(ls.__version__)"

    assert run(commands / "logprobs", "--version", cwd=tmp_path).split()[-1] == ls.__version__
    assert run(commands / "python", "-c", program, cwd=tmp_path).strip() == ls.__version__


def test_the_scanner_is_where_it_was_compiled(commands: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A wheel for this kind of machine has the compiled loop, the one for any machine has none."""
    compiled = request.node.callspec.params["commands"] == "compiled"
    program = (
        "import logprob_store as ls; from logprob_store.decode.bulk.scan_loop import load_scan_loop;"
        "print(ls.__file__, load_scan_loop() is not None)"
    )
    where, found = run(commands / "python", "-c", program, cwd=tmp_path).split()

    assert Path(where).is_relative_to(commands.parent)
    assert found == str(compiled)
