"""How many calls may be under way, and how soon the next may start: `Pacer`.

Each call takes a slot for as long as it is under way. Before the call, the slot knows what it will cost; after it, the
slot is told how the call ended and what the server said about its limits:

    rates        requests and tokens per minute, spread evenly
    concurrency  how many calls at once: grows while it helps, is cut when the server refuses
    breaker      an outage is sat out
    outcomes     how calls ended, and what that means for the three above
    slot, pacer  a call's place, and the queue
    bottleneck   at the end: what bound the run

Repeating a call is in `run.retry`, what an error means in `failures`.
"""
