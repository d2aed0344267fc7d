"""Whether this installation reads logprobs quickly."""

from __future__ import annotations

from logprob_store.decode.bulk.scan_loop import load_scan_loop
from logprob_store.doctor.check import Check


def check_scanner() -> Check:
    """Whether the compiled scanner is there; without it a run is as right, and slower."""
    if load_scan_loop() is not None:
        return Check("scanner", "ok", "the compiled scanner reads logprobs")
    return Check(
        "scanner",
        "warn",
        "the scanner was not compiled when logprob-store was installed, so that long answers are read slowly (about 20 "
        "ms for 128 tokens with 20 alternatives): install a wheel for this kind of machine, or a C compiler and then "
        "logprob-store again",
    )
