"""Why a run holds no answer, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logprob_store.counted import counted
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.lock import state_now

if TYPE_CHECKING:
    from logprob_store.store.manifest import Manifest
    from logprob_store.store.tables import StoreTables


def lost_sentence(manifest: Manifest) -> str | None:
    """What a repair took out of a run and no session has taken back since; None if that is nothing."""
    if not (lost := len(IntervalSet(manifest.lost))):
        return None
    return (
        f"run {manifest.run} lost {counted(lost, 'answer')} to damage, which a repair took out. Run its job again: "
        "what its cache still has of them is taken back, and none is asked anew in their place"
    )


def why_no_answers(store: StoreTables, run: str) -> str:
    """Why a run without an answer has none: calls that failed, by class; nothing to ask; or not begun.

    Args:
        store: the store that has the run.
        run: its name.
    """
    of_run = store.only(run)
    (manifest,) = of_run.manifests
    failed = of_run.failures.group_by("error_type").len().sort("len", "error_type", descending=[True, False]).collect()
    state = state_now(store.path, run, manifest.state)
    if failed.height:
        kinds = ", ".join(f"{count} {kind}" for kind, count in failed.iter_rows())
        why = f"{counted(int(failed['len'].sum()), 'call')} failed: {kinds}"
        if state == "stopped":  # by these failures; `logprobs status` has the server's words
            return why
    elif state == "running":
        return "it is running, and none is committed yet"
    elif manifest.passed:
        kinds = ", ".join(f"{count} {reason}" for reason, count in manifest.passed.items())
        why = f"its calls were passed over by --select: {kinds}"
    elif manifest.lost:
        why = "a repair took its rows out, and its job asks them again"
    elif state != "finished":
        why = "none was committed"
    elif not sum(item.rows for item in manifest.inputs):
        why = "its prompts files have no row"
    else:
        why = "none of its prompts was asked (--limit 0)"
    return why if state == "finished" else f"{why}; it is {state}{_reason(manifest, state)}"


def _reason(manifest: Manifest, state: str) -> str:
    """Why the last session stopped, behind a colon; empty where that is not known, or out of date."""
    end = manifest.sessions[-1].message if manifest.sessions and state in {"stopped", "interrupted"} else None
    return "" if end is None else f": {end}"
