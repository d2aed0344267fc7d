"""Folders that a run writes: permissions, room, and file systems of other machines."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from logprob_store.doctor import folders
from logprob_store.doctor.folders import check_folder, remote_type

if TYPE_CHECKING:
    from pathlib import Path


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """The folder above it is tried, and nothing is left there."""
    check = check_folder("store", tmp_path / "a" / "b", needed_bytes=1000)

    assert check.state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the folder that says no."""

    def refuse(*_args: Any, **_options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folders.tempfile, "TemporaryFile", refuse)
    check = check_folder("store", tmp_path / "a", needed_bytes=0)

    assert check.state == "fail"
    assert check.said.startswith(f"{tmp_path} cannot be written: Permission denied")


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    """No folder can be made below a file."""
    (tmp_path / "out").write_text("mine", encoding="utf-8")

    assert check_folder("store", tmp_path / "out" / "store", needed_bytes=0).state == "fail"


@pytest.mark.parametrize(("free", "state"), [(10**7, "fail"), (10**9, "warn"), (10**11, "ok")])
def test_room(free: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than is likely to be needed is a warning, and next to nothing a failure."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))

    assert check_folder("cache", tmp_path, needed_bytes=10**10).state == state


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/export /mnt/nfs nfs4 rw 0 0
me@host: /mnt/with\\040space fuse.sshfs rw 0 0
/dev/sdb1 /mnt/nfs/local xfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/home", None),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfs/deep/down", "nfs4"),
        ("/mnt/nfs/local/x", None),  # the file system nearest to it counts
        ("/mnt/with space", "fuse.sshfs"),
        ("/mnt/nfsx", None),
    ],
)
def test_file_systems_of_other_machines(folder: str, expected: str | None, tmp_path: Path) -> None:
    """Their locks may not hold, and two runs would write one cache."""
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS, encoding="utf-8")

    assert remote_type(type(tmp_path)(folder), mounts) == expected


def test_a_system_without_the_list(tmp_path: Path) -> None:
    """Nothing is known, and nothing is said."""
    assert remote_type(tmp_path, tmp_path / "none") is None


def test_a_folder_of_another_machine_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run can begin there."""
    monkeypatch.setattr(folders, "remote_type", lambda _: "nfs4")
    check = check_folder("cache", tmp_path, needed_bytes=0)

    assert (check.state, "is on nfs4" in check.said) == ("warn", True)
