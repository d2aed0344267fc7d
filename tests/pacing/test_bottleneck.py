"""The sentence about a run's bottleneck."""

from __future__ import annotations

from pathlib import Path

import pytest

from logprob_store.cli.run import summary_line
from logprob_store.pacing.bottleneck import Bottleneck
from logprob_store.run.api import RunSummary


@pytest.mark.parametrize(
    ("seconds", "verdict", "said"),
    [
        (11.0, Bottleneck(limit_s=9.0, server_s=1.0), True),
        (9.0, Bottleneck(limit_s=9.0), False),
        (11.0, Bottleneck(), False),
    ],
    ids=["long", "short", "nothing seen"],
)
def test_a_long_run_reports_its_bottleneck(seconds: float, verdict: Bottleneck, said: bool) -> None:  # noqa: FBT001
    """The summary of a run of more than 10 s has a line on its bottleneck, if one was seen."""
    summary = RunSummary(
        run="r", store=Path("s"), state="finished", reason=None, total=5, already=0, calls=5, from_cache=0,
        from_fixtures=0, failures=0, completions=5, tokens=9, seconds=seconds, bound_by=verdict.bound_by,
        verdict=verdict,
    )  # fmt: skip

    line = "bound by the server's limits, or the job's own: 90% of the time calls waited for them"
    assert (line in summary_line(summary)) is said


def test_a_run_without_calls_has_no_bottleneck() -> None:
    """A run that made no call, or ended at once, has no bottleneck."""
    assert (Bottleneck().bound_by, Bottleneck().sentence) == ("", "")
