"""The memory settings of the process during a run: how often Python collects garbage, and which pool Arrow uses.

docs/performance.md has what each saves.
"""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

_GC_THRESHOLDS: Final = (20_000, 20, 20)
"""For `gc.set_threshold`: objects, and collections, between two searches for cycles."""


@contextlib.contextmanager
def set_up_for_a_run() -> Iterator[None]:
    """Collect garbage rarely, and let Arrow use the system's allocator; both are put back at the end.

    Reference counting frees nearly all that a run makes. By default Python searches for cycles after every 700 objects,
    and finds one small object a call. With thousands of answers waiting for their part, all of them searched each time,
    that takes a fifth of the time of small answers. A higher threshold set by the caller stays, and so does a collector
    that is turned off.

    Arrow's own pool keeps a hundred megabytes that nothing else can use, because many threads make a part.
    """
    pool, before = pa.default_memory_pool(), gc.get_threshold()
    pa.set_memory_pool(pa.system_memory_pool())
    if 0 < before[0] < _GC_THRESHOLDS[0]:
        gc.set_threshold(*_GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        pa.set_memory_pool(pool)
