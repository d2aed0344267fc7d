"""A run's bottleneck, and the sentence about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pacing.simulation import Fickle, LimitedServer, ask_all, ask_for, request, run

from logprob_store.cli.run import summary_line
from logprob_store.errors import RetryableError
from logprob_store.pacing.bottleneck import Bottleneck
from logprob_store.pacing.pacer import Pacer
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


@pytest.mark.parametrize(
    ("setting", "bound_by"),
    [
        ({"limit": 60, "latency_s": 1.0, "ceiling": 64, "at_once": 64}, "limit"),
        ({"limit": None, "latency_s": 5.0, "ceiling": 4, "at_once": 64}, "server"),
        ({"limit": None, "latency_s": 1.0, "ceiling": 64, "at_once": 3}, "machine"),
    ],
    ids=["limit", "server", "machine"],
)
def test_the_bottleneck(setting: dict[str, Any], bound_by: str) -> None:
    """It is what held calls back most of the time."""
    pacer = Pacer(setting["ceiling"])
    server = LimitedServer(setting["limit"], latency_s=setting["latency_s"])

    async def main() -> None:
        pacer.watch.start()
        await ask_for(server, pacer, seconds=60, at_once=setting["at_once"])
        pacer.watch.stop()

    run(main())

    verdict = pacer.watch.bottleneck
    assert verdict.bound_by == bound_by
    assert 58 < verdict.limit_s + verdict.server_s + verdict.machine_s + verdict.outage_s <= 60
    assert verdict.sentence.startswith("bound by ")


def test_the_bottleneck_of_an_outage() -> None:
    """A run during an outage was bound by the outage."""
    pacer = Pacer(16)
    no_connection = RetryableError("no", error_type="connection")
    server = Fickle(lambda _, __, now: no_connection if now < 100 else None)

    async def main() -> None:
        pacer.watch.start()
        await ask_all(server, pacer, [request(number) for number in range(100)])
        pacer.watch.stop()

    run(main())

    assert pacer.watch.bottleneck.bound_by == "outage"
    assert pacer.watch.bottleneck.sentence == "bound by an outage: 99% of the time the server did not answer"
