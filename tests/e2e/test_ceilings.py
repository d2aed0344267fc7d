"""Ceilings of dollars against a server that bills as families of services do: not one cent over."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from billing_server import FAMILIES
from fault_accounts import read_ledger

import logprob_store as ls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER = Path(__file__).parents[1] / "faults" / "billing_server.py"
PRICES = {
    "input_usd_per_million_tokens": 10,
    "output_usd_per_million_tokens": 30,
    "cached_input_usd_per_million_tokens": 2,
}
"""Those of the billing server."""
ALL_PRICES = PRICES | {
    "cache_write_usd_per_million_tokens": 12.5,
    "long_context": {"above_tokens": 200, "input_factor": 2.0, "output_factor": 1.5},
    "tiers": {"flex": 0.5, "priority": 2.0},
}
"""The same for its family `tiers`."""
OUTPUT = 20
WORST_USD = (160 * 10 + OUTPUT * 30) / 1e6
"""About what a call of the jobs below can cost, of 160 bytes."""


class Billing:
    """A billing server in a process of its own, and what it has charged."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "bills.jsonl"
        self.ledger.touch()
        command = [sys.executable, SERVER, "--ledger", self.ledger]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def calls(self) -> list[dict[str, Any]]:
        """What is noted of each call so far."""
        return read_ledger(self.ledger)

    def bills(self) -> list[float]:
        """The dollars of each call so far."""
        return [call["usd"] for call in self.calls()]


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[Billing]:
    """A billing server."""
    server = Billing(tmp_path)
    yield server
    server.process.kill()
    server.process.communicate()


@pytest.fixture
def program(workplace: Any, logprobs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command line in the workplace, within this process: a start takes a second of CPU."""
    monkeypatch.chdir(workplace.folder)
    return logprobs


def write(workplace: Any, url: str, family: str, *, prompts: int = 60, **limits: float) -> Path:
    """Write a job for a family of services with these ceilings."""
    endpoint = {"legacy": "completions", "responses": "responses", "decisions": "decisions"}.get(family, "chat")
    params = (
        {} if endpoint == "decisions" else {"max_output_tokens" if endpoint == "responses" else "max_tokens": OUTPUT}
    )
    if endpoint == "chat":
        params["n"] = 2 if family == "openai" else 1
    model = {"name": family, "endpoint": endpoint, "top_logprobs": 0, "params": None}
    job: Path = workplace.job(
        url,
        prompts=prompts,
        concurrency=32,
        attempts=2,
        model={**model, "params": params or None},
        limits={"retry_for_s": 20, **limits},
        prices=ALL_PRICES if family == "tiers" else PRICES,
    )
    if endpoint == "decisions":
        question = '[[questions]]\nname = "late"\ntype = "predicate"\ninstructions = "It is late."\n'
        job.write_text(job.read_text(encoding="utf-8") + question, encoding="utf-8")
    return job


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_ceiling_holds_whatever_a_service_bills(workplace: Any, billing: Billing, program: Any, family: str) -> None:
    """Each family reports what it took in its own way, or lies; the run stops with exit code 4 below its ceiling."""
    most = (1.5 if family == "decisions" else 12) * WORST_USD  # questions are answered for few tokens
    job = write(workplace, billing.url, family, max_cost_usd=most)

    ended = program("run", job, "--run", "r")

    bills = billing.bills()
    assert ended.code == 4, ended.out + ended.err
    assert "limits.max_cost_usd" in ended.out
    assert len(bills) >= 1
    assert sum(bills) <= most
    spent_usd = json.loads((workplace.folder / "store/runs/run=r/run.json").read_bytes())["spent"]["usd"]
    assert sum(bills) <= spent_usd * (1 + 1e-9) <= most * (1 + 1e-9)


def test_refused_calls_that_may_be_billed_are_marked(workplace: Any, billing: Billing, program: Any) -> None:
    """Azure bills what its filter refuses and what took too long: every failure says so."""
    job = write(workplace, billing.url, "azure", prompts=8)

    assert program("run", job, "--run", "r").code == 3

    failures = workplace.tables()["failures"]
    assert failures.height > 0
    assert failures["maybe_billed"].all()


@pytest.mark.slow
@pytest.mark.parametrize(("whose", "count"), [("job", 5), ("cache", 3)])
def test_processes_share_a_ceiling(workplace: Any, billing: Billing, whose: str, count: int) -> None:
    """Runs of a job, or of jobs that share a cache, two of which are killed, stop below it together."""
    most = 4 * count * WORST_USD
    template = write(workplace, billing.url, "deepseek", prompts=40, **{f"{whose}_max_cost_usd": most})
    text = template.read_text(encoding="utf-8")
    chance = random.Random(whose)  # noqa: S311  no secret
    jobs = []
    for number in range(count):
        name = "job" if whose == "job" else f"job{number}"
        path = workplace.folder / f"{number}.toml"
        # Prompts of their own, so that no run takes the answers of another.
        words = text.replace("Say {word} please", f"Say {{word}} {number}").replace('name = "job"', f'name = "{name}"')
        path.write_text(words, encoding="utf-8")
        jobs.append(path)

    processes = [workplace.start("run", job, "--run", f"r{number}") for number, job in enumerate(jobs)]
    time.sleep(1.5)
    for number in (0, 1):
        time.sleep(chance.uniform(0.0, 0.4))
        processes[number].kill()
        processes[number].communicate()
        processes[number] = workplace.start("run", jobs[number], "--run", f"r{number}")
    ends = [process.communicate(timeout=100) for process in processes]

    bills = billing.bills()
    assert {process.returncode for process in processes} <= {0, 4}, ends
    assert any(f"limits.{whose}_max_cost_usd" in out for out, _ in ends)
    assert len(bills) > count
    assert sum(bills) <= most


@pytest.mark.slow
def test_the_next_days_run_has_the_same_ceiling_of_the_job(workplace: Any, billing: Billing, program: Any) -> None:
    """A new run that asks all again stops where the first one left off, also when the ledger was lost."""
    most = 6 * WORST_USD
    job = write(workplace, billing.url, "deepseek", job_max_cost_usd=most)
    text = job.read_text(encoding="utf-8")
    job.write_text(text.replace("[cache]\n", '[cache]\nmode = "refresh"\n'), encoding="utf-8")
    assert program("run", job, "--run", "monday").code == 4
    first = len(billing.bills())

    second = program("run", job, "--run", "tuesday")
    (workplace.folder / "cache" / "spending.ledger").unlink()
    third = program("run", job, "--run", "wednesday")
    estimate = json.loads(program("run", job, "--run", "thursday", "--dry-run", "--json").out)

    assert (second.code, third.code) == (4, 4)
    assert "limits.job_max_cost_usd" in third.out
    assert "in all runs of this job" in third.out
    assert first > 1
    assert len(billing.bills()) <= first + 2
    assert sum(billing.bills()) <= most
    assert estimate["spent_together"]["job"]["usd"] >= sum(billing.bills()) - 1e-9
    assert estimate["fits"] != "yes"
    assert "job job has spent" in program("status", "store").out


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_ceiling_holds_over_tiers_long_prompts_and_kills(workplace: Any, billing: Billing, seed: int) -> None:
    """Random jobs, each killed twice: the server's ledger never has more than the ceiling, nor than the run says."""
    chance = random.Random(seed)  # noqa: S311  no secret
    most = chance.uniform(20, 80) * WORST_USD  # two lost calls at their worst are 10 times WORST_USD each
    job = write(workplace, billing.url, "tiers", prompts=60, max_cost_usd=most)
    text = job.read_text(encoding="utf-8")
    text = text.replace("Say {word} please", "Say {word} please" + "!" * chance.choice([0, 60, 300]))
    tier = chance.choice(["", 'tier = "flex"', 'tier = "flex"\nflex_fallback_s = 0.3', 'tier = "priority"'])
    job.write_text(f"{text}\n[transport]\n{tier}\n", encoding="utf-8")

    for _ in range(2):
        process = workplace.start("run", job, "--run", "r")
        time.sleep(chance.uniform(0.8, 1.6))
        process.kill()
        process.communicate()
    ended = workplace.run("run", job, "--run", "r")

    assert ended.returncode in {0, 3, 4}, ended.stdout + ended.stderr
    spent = json.loads((workplace.folder / "store/runs/run=r/run.json").read_bytes())["spent"]
    assert billing.bills()
    assert sum(billing.bills()) <= spent["usd"] * (1 + 1e-9) <= most * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["default", "flex", "priority"])
def test_what_a_row_says_it_cost_is_what_was_billed(workplace: Any, billing: Billing, program: Any, tier: str) -> None:
    """By the tier that served it, with tokens written into the cache, for short and long prompts."""
    job = write(workplace, billing.url, "tiers", prompts=40)
    text = job.read_text(encoding="utf-8").replace("attempts = 2", "attempts = 30")
    job.write_text(f'{text}\n[transport]\ntier = "{tier}"\n', encoding="utf-8")

    ended = program("run", job, "--run", "r")

    assert ended.code == 0, ended.out + ended.err
    rows = workplace.tables()["completions"]
    billed = [call for call in billing.calls() if call["answered"]]
    assert {call["asked"] for call in billing.calls()} == {tier}
    assert rows["cost_usd"].sum() == pytest.approx(sum(call["usd"] for call in billed))
    assert sorted(rows["service_tier"]) == sorted(call["tier"] for call in billed)


@pytest.mark.slow
def test_the_cost_by_tier_is_said(workplace: Any, billing: Billing, program: Any) -> None:
    """Where several tiers served a run: at its end, by `status`, in the table of runs and in the manifest."""
    job = write(workplace, billing.url, "tiers", prompts=30)
    text = job.read_text(encoding="utf-8").replace("attempts = 2", "attempts = 30")
    job.write_text(f'{text}\n[transport]\ntier = "flex"\n', encoding="utf-8")

    ended = program("run", job, "--run", "r")
    status = program("status", "store")

    (runs,) = ls.open_store(workplace.folder / "store").runs.collect().to_dicts()
    by_tier = {entry["service_tier"]: entry["usd"] for entry in runs["spent_usd_by_tier"]}
    said = ", ".join(f"${usd:,.4f} {tier}" for tier, usd in by_tier.items() if tier != "lost")
    assert by_tier.keys() - {"lost"} == {"default", "flex"}
    assert sum(by_tier.values()) == pytest.approx(runs["spent_usd"])
    assert f"spent by service tier: {said}" in ended.out
    assert f"r spent by service tier: {said}" in status.out
    spent = json.loads((workplace.folder / "store/runs/run=r/run.json").read_bytes())["spent"]
    assert (spent["prices"]["input"], spent["prices"]["tiers"]["flex"]["output"]) == (10, 15)
    assert spent["written_tokens"] > 0
