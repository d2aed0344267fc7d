"""Whether somebody writes a run at this moment.

Holds a look at the run's lock. Leaves out taking it (`writing`). The lock goes with its process, however that ends, so
it knows what the manifest cannot: that a run which says `running` has crashed.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from logprob_store.store.manifest import run_folder

if TYPE_CHECKING:
    from pathlib import Path


def is_being_written(store: Path, run: str) -> bool:
    """Whether a live process has the run open for writing; False where that cannot be seen.

    The lock is shared for an instant to see whether it is free; a writer that comes just then tries again.
    """
    try:
        descriptor = os.open(run_folder(store, run) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def state_now(store: Path, run: str, noted: str) -> str:
    """How a run stands: what its manifest notes, unless it is being written or its writer is gone without a word.

    `running` while a process writes it, `crashed` when none does and the manifest still says `running`.
    """
    if is_being_written(store, run):
        return "running"
    return "crashed" if noted == "running" else noted
