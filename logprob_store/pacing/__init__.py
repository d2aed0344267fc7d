"""How many calls may be under way, and how soon the next may start: `Pacer`.

Each call holds a slot while it is under way. Before the call, the slot has the tokens that it is likely to take; after
it, the slot reports how the call ended and what the server said about its limits:

    rates        requests and tokens per minute, spread evenly
    concurrency  how many calls at once: grows while it helps, is cut when the server refuses
    breaker      outages: waits them out, probing the server
    silence      how long there was no sign of life, and when that is said
    outcomes     how calls ended, and what that means for the three above
    slot, pacer  a call's place at the server, and the queue for one
    bottleneck   what held the run up most

Calls are repeated by `run.attempts`; what an error means is in `failures`.
"""
