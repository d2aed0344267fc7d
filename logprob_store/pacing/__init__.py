"""How many calls may be under way, and how soon the next may start: `Pacer`.

Each call takes a slot for as long as it is under way. Before, the slot knows what the call will cost; after, it is told
how the call ended and what the server said about its limits:

    headers      what a server says about its limits, read
    estimate     how many tokens a call will count for
    budget       requests and tokens per minute, spread evenly
    concurrency  how many calls at once: grows while it helps, is cut when the server refuses
    breaker      an outage is sat out
    outcomes     how calls ended, and what that means for the three above
    slot, pacer  a call's place, and the queue
    verdict      at the end: what bound the run

Leaves out repeating a call (`retry`) and what an error means (`failures`).
"""

from __future__ import annotations

from logprob_store.pacing.headers import Level, Told, read_told
from logprob_store.pacing.pacer import Pacer
from logprob_store.pacing.slot import Slot
from logprob_store.pacing.verdict import Verdict

__all__ = ["Level", "Pacer", "Slot", "Told", "Verdict", "read_told"]
