"""The folders that a run writes: may they be written, are they on a disk of this machine, and is there room?"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from logprob_store.doctor.check import Check

_LEAST_BYTES: Final = 64 << 20
"""Free bytes below which nothing is begun."""
_MOUNTS: Final = Path("/proc/self/mounts")
_REMOTE: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "lustre", "glusterfs", "afs", "beegfs"}
)
"""Types of file systems that other machines serve; FUSE's are `fuse.sshfs` and the like."""
_LOCAL_FUSE: Final = frozenset({"fuse.fuse-overlayfs", "fuse.mergerfs", "fuseblk"})


def check_folder(name: str, folder: Path, *, needed_bytes: int) -> Check:
    """Whether a run can write a folder, which need not be there yet.

    Args:
        name: of the check.
        folder: to be written.
        needed_bytes: about what the run will write there.
    """
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=parent) as file:
            file.write(b"\0")
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(parent).free
    except OSError as error:
        return Check(name, "fail", f"{parent} cannot be written: {error.strerror}: allow it, or name another folder")
    room = f"{size_in_words(free)} free, about {size_in_words(needed_bytes)} needed"
    if free < _LEAST_BYTES:
        return Check(name, "fail", f"{folder}: {room}: make room")
    if free < needed_bytes:
        return Check(name, "warn", f"{folder}: {room}: make room, or name another folder")
    if (kind := remote_type(parent)) is not None:
        return Check(
            name,
            "warn",
            f"{folder} is on {kind}, which another machine serves: locks may not hold there, and it is slow. Name a "
            f"folder of this machine's own disk ({room})",
        )
    return Check(name, "ok", f"{folder} can be written; {room}")


def remote_type(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """The type of the file system that holds a folder, if another machine serves it; None where none is known to.

    Args:
        folder: that is there.
        mounts: the kernel's list of file systems, which Linux has.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved, best, found = folder.resolve(), -1, ""
    for line in lines:
        _, point, kind, *_ = [*line.split(" "), "", "", ""]
        # Octal escapes stand for white space in names.
        path = Path(point.encode("utf-8", "surrogateescape").decode("unicode_escape"))
        if resolved.is_relative_to(path) and len(path.parts) >= best:
            best, found = len(path.parts), kind
    is_remote = found in _REMOTE or (found.startswith("fuse.") and found not in _LOCAL_FUSE)
    return found if is_remote else None


def size_in_words(size: float) -> str:
    """Bytes in words.

    >>> size_in_words(1234), size_in_words(5_600_000), size_in_words(78_000_000_000)
    ('1 kB', '6 MB', '78 GB')
    """
    for unit, bytes_of_it in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= bytes_of_it:
            return f"{size / bytes_of_it:.0f} {unit}"
    return f"{size / 1e3:.0f} kB"
