"""What a run sets in its whole process, and puts back when it ends.

Holds how often Python looks for garbage and whose memory Arrow takes; docs/performance.md has what each is worth.
Leaves out signals (`run`) and logging (`cli`).
"""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

_RARELY: Final = (20_000, 20, 20)
"""Objects, and rounds, between two searches for cycles."""


@contextlib.contextmanager
def set_up_for_a_run() -> Iterator[None]:
    """Look for garbage rarely, and let Arrow share the memory of everything else.

    Reference counting frees nearly all that a run makes. By default Python searches for cycles after every 700 objects,
    and finds one small object a call: with thousands of answers waiting for their part, each looked through anew, that
    takes a fifth of the time of small answers. Who has set that otherwise, or turned it off, is let be.

    Arrow's own pool keeps a hundred megabytes that nobody else can use, a part being made by many threads.
    """
    pool, before = pa.default_memory_pool(), gc.get_threshold()
    pa.set_memory_pool(pa.system_memory_pool())
    if 0 < before[0] < _RARELY[0]:
        gc.set_threshold(*_RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        pa.set_memory_pool(pool)
