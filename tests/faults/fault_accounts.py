"""The ledger of a fault server compared with a store, its cache and its run.

It reads files only, so any run of any process can be checked once it has ended.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

import logprob_store as ls
from logprob_store.cache.answers import AnswerCache
from logprob_store.request import request_key
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TABLES = ("prompts", "completions", "tokens", "alternatives", "failures")
CLOCKS = ("latency_s", "first_at", "last_at")
"""Columns that depend on the clock."""
HISTORY = ("source", "attempts", "maybe_billed")
"""Columns that tell how an answer came about."""


@dataclass(frozen=True)
class Asked:
    """The calls of a job: its prompts, samples and provider, and the runs made of it, all with one cache.

    `runs` are the runs that have been made of it, all with one cache.
    """

    prompts: int
    samples: int = 1
    runs: tuple[str, ...] = ("r",)
    provider: str = "test"
    endpoint: str = "chat"

    @property
    def calls(self) -> set[tuple[int, int]]:
        """Every call of the job."""
        return {(index, sample) for index in range(self.prompts) for sample in range(self.samples)}


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The calls that a server answered; a line that is still being written is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def billed_keys(calls: Iterable[dict[str, Any]], asked: Asked) -> dict[str, tuple[list[str], int]]:
    """By body: the request keys it may have, one for each sample, and how often it was billed."""
    billed = Counter(call["body"] for call in calls if call["billed"])
    return {body: (_keys(body, asked), times) for body, times in billed.items()}


def _keys(body: str, asked: Asked) -> list[str]:
    parsed = json.loads(body)
    return [
        request_key(parsed, endpoint=asked.endpoint, provider=asked.provider, sample_index=sample)
        for sample in range(asked.samples)
    ]


def broken_promises(store: Path, cache: Path, calls: list[dict[str, Any]], asked: Asked) -> list[str]:
    """Everything that does not add up, as sentences; an empty list means that all promises hold."""
    opened = ls.open_store(store)
    completions, failures = opened.completions.collect(), opened.failures.collect()
    found = [str(problem) for problem in verify_store(store)]
    for run in asked.runs:
        found += _outcomes(run, completions.filter(run=run), failures.filter(run=run), asked)
    found += _money(completions, failures, _kept(cache), calls, asked)
    return found


def _outcomes(run: str, completions: pl.DataFrame, failures: pl.DataFrame, asked: Asked) -> Iterator[str]:
    """Calls that are not exactly one completion or one open failure, and rows that belong to no call."""
    counted: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for place, frame in enumerate((completions, failures)):
        for call in frame.select("prompt_index", "sample_index").iter_rows():
            counted[call][place] += 1
    wanted = asked.calls
    for call in sorted(wanted | counted.keys()):
        if call not in wanted or sorted(counted[call]) != [0, 1]:
            yield f"call {call} of run {run} has {counted[call][0]} completions and {counted[call][1]} open failures"


def _kept(cache: Path) -> set[str]:
    if not cache.exists():
        return set()
    with AnswerCache(cache) as opened:
        return {key for key in opened.keys() if opened.get(key) is not None}  # noqa: SIM118  no mapping


def _money(
    completions: pl.DataFrame, failures: pl.DataFrame, kept: set[str], calls: list[dict[str, Any]], asked: Asked
) -> Iterator[str]:
    """Billed calls whose answer is not there, and calls billed more than once that are not marked."""
    rows = pl.concat([frame.select("request_key", "maybe_billed") for frame in (completions, failures)])
    marked = set(rows.filter("maybe_billed")["request_key"])
    answered = set(completions["request_key"])
    paid: set[str] = set()
    for body, (keys, times) in billed_keys(calls, asked).items():
        paid |= set(keys)
        if times > len(kept & set(keys)) and not marked & set(keys):
            yield f"billed {times} times with {len(kept & set(keys))} answers kept, and nothing is marked: {body}"
    yield from (f"answer {key[:12]} was never billed" for key in sorted(kept - paid))
    yield from (f"completion of {key[:12]} is not in the cache" for key in sorted(answered - kept))


def tables(store: Path, *, runs: Iterable[str] = ("r",), without: Iterable[str] = ()) -> dict[str, pl.DataFrame]:
    """All rows of some runs, sorted, without the columns that depend on the clock and without `without`."""
    opened = ls.open_store(store, runs=list(runs))
    keys = ["run", "completion_id", "section", "position", "rank", "prompt_index", "sample_index"]
    found = {}
    for name in TABLES:
        frame = getattr(opened, name).collect().drop(*CLOCKS, *without, strict=False)
        found[name] = frame.sort([key for key in keys if key in frame.columns])
    return found


def differences(actual: Path, expected: Path, *, run: str = "r") -> list[str]:
    """The tables in which a run differs from run "r" of a calm store, apart from how and when answers came."""
    mine, theirs = (
        tables(store, runs=[name], without=(*HISTORY, "run")) for store, name in ((actual, run), (expected, "r"))
    )
    return [f"{name} of run {run} differs from a calm run's" for name in TABLES if not mine[name].equals(theirs[name])]
