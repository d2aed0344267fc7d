"""What a report says of the run as a whole: how it stands, its counts, its cost, its time, and what held it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.counted import counted
from logprob_store.pacing.bottleneck import Bottleneck
from logprob_store.store.lock import state_now
from logprob_store.store.missing_answers import why_no_answers
from logprob_store.view.terminal_tables import anomalies_frame, failures_frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from logprob_store.analysis.opened_store import Store
    from logprob_store.store.manifest import Manifest

_MINUTE_S = 60
_HOUR_S = 3600
_MOST_NOTICES: Final = 5


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure of the run: what it is called, its value in words, and a line about it."""

    name: str
    value: str
    note: str = ""


def run_facts(store: Store, scores: pl.DataFrame) -> Iterator[Fact]:
    """The figures of a run, the most important first.

    Args:
        store: the store with the one run.
        scores: one row a completion.
    """
    (manifest,) = store.manifests
    counts, spent = manifest.counts, manifest.spent
    sources = {
        "asked": counts.from_api,
        "from batches": counts.from_batches,
        "from the cache": counts.from_cache,
        "replayed": counts.from_fixtures,
    }
    said = ", ".join(f"{number:,} {words}" for words, number in sources.items() if number)
    asked = f"to {counted(counts.prompts, 'prompt', commas=True)}"
    yield Fact("Answers", f"{counts.completions:,}", "; ".join(filter(None, [asked, said])))
    failed = int(failures_frame(store)["prompts"].sum())
    yield Fact("Failures", f"{failed:,}", _what_is_open(store, manifest, failed))
    if scores.height and isinstance(middle := scores["confidence"].median(), float):
        low = scores.select((pl.col("confidence") < 0.5).mean()).item()  # noqa: PLR2004  under even odds
        yield Fact("Median confidence", f"{middle:.3f}", f"{low:.1%} of answers under 0.5")
    if spent.usd is not None:
        a_thousand = f"${1000 * spent.usd / counts.completions:,.3g} a thousand answers" if counts.completions else ""
        yield Fact("Cost", f"${spent.usd:,.4f}", a_thousand)
    elif counts.from_api or counts.from_batches:
        yield Fact("Cost", "not known", "the job has no prices and its model none that ship")
    else:
        yield Fact("Cost", "nothing", "no call was made")
    tokens = f"{counts.prompt_tokens:,} read, {counts.completion_tokens:,} written"
    yield Fact("Tokens", f"{counts.prompt_tokens + counts.completion_tokens:,}", tokens)
    yield _time(manifest)


def _what_is_open(store: Store, manifest: Manifest, failed: int) -> str:
    """What is still to be asked; empty where something failed and all was asked."""
    if manifest.is_partial:
        return f"a trial of {manifest.prompts_read:,} of its {sum(item.rows for item in manifest.inputs):,} prompts"
    if state_now(store.path, manifest.run, manifest.state) == "finished":
        return "" if failed else "every prompt has its answer"
    calls = sum(item.rows for item in manifest.inputs) * manifest.samples
    settled = sum(end - start for start, end in manifest.settled)
    return f"{counted(max(0, calls - settled), 'call', commas=True)} still to be made"


def notices(store: Store, run: str) -> list[str]:
    """What a reader has to know before the figures: how the run ended early, and newer runs of its job.

    Args:
        store: all runs.
        run: the run of the report.
    """
    names = store.run_names
    own = store.manifests[names.index(run)]
    said = []
    state = state_now(store.path, run, own.state)
    last = own.sessions[-1] if own.sessions else None
    if state != "finished":
        why = f": {last.message}" if state != "running" and last is not None and last.message else ""
        said.append(f"This run is {state}{why}")
    for manifest in store.manifests[names.index(run) + 1 :]:
        if manifest.job_name != own.job_name:
            continue
        if not manifest.has_answers:
            said.append(f"Newer run {manifest.run} has no answer: {why_no_answers(store, manifest.run)}")
        else:
            kind = (
                "a trial of some prompts"
                if manifest.is_partial
                else state_now(store.path, manifest.run, manifest.state)
            )
            said.append(f"Newer run {manifest.run}: {kind}")
    if len(said) > _MOST_NOTICES:
        said[_MOST_NOTICES - 1 : -1] = [f"{len(said) - _MOST_NOTICES} more runs"]
    said += [f"Run {name} cannot be read: {error}" for name, error in list(store.unreadable.items())[:_MOST_NOTICES]]
    return said


def _time(manifest: Manifest) -> Fact:
    """How long the sessions took, and what held them up."""
    ended = [one for one in manifest.sessions if one.ended_at is not None]
    seconds = sum((one.ended_at - one.started_at).total_seconds() for one in ended if one.ended_at is not None)
    held_up: dict[str, float] = {}
    for one in ended:
        for cause, share in one.verdict.items():
            held_up[cause] = held_up.get(cause, 0.0) + share
    note = Bottleneck(**held_up).sentence if manifest.has_answers else ""
    if len(ended) > 1:
        note = "; ".join(filter(None, [f"in {len(ended)} sessions", note]))
    return Fact("Time", duration(seconds), note)


def duration(seconds: float) -> str:
    """Seconds in words of two parts at most.

    >>> duration(0.42), duration(75), duration(7380)
    ('0.4 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} min {int(seconds % _MINUTE_S)} s"
    return f"{int(seconds // _HOUR_S)} h {int(seconds % _HOUR_S // _MINUTE_S)} min"


def identity(path: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """What the run is: its state, job, model and endpoint, and when it was made."""
    job = manifest.job
    rows = [
        (
            "state",
            state_now(path, manifest.run, manifest.state) + (", some prompts alone" if manifest.is_partial else ""),
        ),
        ("job", manifest.job_name),
        ("model", str(job.get("model.name", ""))),
        ("provider", str(job.get("model.provider", ""))),
        ("endpoint", str(job.get("model.endpoint", ""))),
        ("began", f"{manifest.created_at:%Y-%m-%d %H:%M} UTC"),
        ("changed last", f"{manifest.updated_at:%Y-%m-%d %H:%M} UTC"),
    ]
    return [(name, value) for name, value in rows if value]


def failure_classes(store: Store) -> list[dict[str, object]]:
    """The open failures of a run by class, the most frequent first: how many, and an example."""
    return failures_frame(store).sort("prompts", descending=True, maintain_order=True).to_dicts()


def oddities(store: Store) -> list[tuple[str, int]]:
    """What was odd in what the server sent, by kind, with how often."""
    return [(name, int(count)) for row in anomalies_frame(store).drop("run").to_dicts() for name, count in row.items()]
