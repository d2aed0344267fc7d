"""A damaged store in every command: one sentence that names the file, and no traceback."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import run_demo

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = (
    ["scores"],
    ["labels", "--labels", "Paris,London,Madrid", "--shared", "bound"],
    ["fields"],
    ["show"],
    ["compare", "demo", "demo"],
    ["status"],
)


def flip(path: Path) -> None:
    """Change a part of the pages."""
    raw = bytearray(path.read_bytes())
    third = len(raw) // 3
    raw[third : third + 2000] = bytes(byte ^ 0x55 for byte in raw[third : third + 2000])
    path.write_bytes(raw)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "flipped": flip,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's store."""
    store = tmp_path_factory.mktemp("whole") / "store"
    run_demo(store)
    return store


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("table", ["prompts", "completions", "tokens", "alternatives"])
def test_each_command_names_the_damaged_file(
    whole: Path, tmp_path: Path, logprobs: Any, table: str, damage: str
) -> None:
    """A command that does not need the file works; every other one says which file it is and what to do."""
    store = Path(shutil.copytree(whole, tmp_path / "store"))
    victim = store / table / "run=demo" / "part-00000.parquet"
    DAMAGES[damage](victim)

    stopped = 0
    for command, *options in COMMANDS:
        more = {"show": ["AF"], "compare": ["--other", whole]}.get(command, [])
        words = [*more, *options]
        done = logprobs(command, store, *words)
        assert done.code in {0, 2}
        if done.code and "answers is JSON" not in done.err:
            stopped += 1
            assert str(victim) in done.err
            assert f"logprobs verify {store} --repair" in done.err
            assert len(done.err.splitlines()) == 1
    assert stopped or table == "prompts" or damage == "flipped"
