"""The peak memory of a process, without that of the one that started it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess


def wait_for_peak(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Wait for a process; returns its exit code and its peak memory in bytes.

    Read while it runs: what the kernel says of an ended child (`ru_maxrss`) includes what its parent had in memory when
    it started it, hundreds of megabytes for a process of tests.
    """
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        if (found := re.search(r"VmHWM:\s+(\d+) kB", status)) is not None:  # one that has ended has none
            peak = int(found[1]) << 10
        time.sleep(0.01)
    return process.returncode, peak
