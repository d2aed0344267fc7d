"""A night in minutes: as many prompts as wanted, at a server's limit, with bursts of faults; the soak.

    python benchmarks/night.py [--prompts 200000] [--per-second 500] [--seed 1]

Starts the fault server with a limit (said in the headers of every answer, 429 beyond it) and a burst of faults every
minute, runs `logprobs` as a user would, and holds the server's ledger against the store. Ends with exit code 1 when a
goal is missed: 95 % of the limit used, never more than 1 % above it in any minute, every prompt answered, the ledger
equal to the store. 200,000 prompts take some seven minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "faults"))

import fault_accounts as accounts  # noqa: E402  the tests are no package

if TYPE_CHECKING:
    import resource

PROGRAM = Path(sys.executable).with_name("logprobs")
LEAST_SHARE = 0.95
MOST_ABOVE = 1.01
MINUTE_S = 60.0

JOB = """
name = "night"
[prompts]
path = "prompts.parquet"
id = "id"
template = "Is {{word}} a word? Answer Yes or No."
[model]
name = "m"
base_url = "{url}"
provider = "test"
top_logprobs = 2
params = {{ temperature = 0, max_tokens = 2 }}
[limits]
concurrency = {concurrency}
attempts = 20
[cache]
path = "cache"
[store]
path = "store"
"""


def make_job(folder: Path, url: str, *, prompts: int, concurrency: int) -> Path:
    """The prompts and the job file."""
    numbers = pl.DataFrame({"n": pl.arange(prompts, eager=True)})
    numbers.select(
        id=pl.format("p{}", "n"),
        word=pl.format("word-{}", "n"),
    ).write_parquet(folder / "prompts.parquet")
    path = folder / "job.toml"
    path.write_text(JOB.format(url=url, concurrency=concurrency))
    return path


def start_server(folder: Path, arguments: argparse.Namespace) -> tuple[subprocess.Popen[str], str]:
    """The fault server in a process of its own, and its URL."""
    command = [sys.executable, REPO / "tests" / "faults" / "fault_server.py", "--ledger", folder / "ledger.jsonl"]
    command += ["--requests-per-minute", str(arguments.per_second * 60), "--delay-ms", str(arguments.delay_ms)]
    command += ["--burst", arguments.burst, "--faults", arguments.faults, "--seed", str(arguments.seed), "--brief"]
    command += ["--per-second"] if arguments.strict else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if process.stdout is None or not (url := process.stdout.readline().strip()):
        raise SystemExit("the fault server did not start")
    return process, url


def run(job: Path) -> tuple[int, float, resource.struct_rusage]:
    """The command line's exit code, seconds and use of the machine."""
    started = time.monotonic()
    process = subprocess.Popen([PROGRAM, "run", job, "--run", "night"], cwd=job.parent)
    _, status, used = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - started, used


def most_in_a_minute(times: list[float]) -> int:
    """The most calls in any minute, wherever it begins.

    >>> most_in_a_minute([0.0, 1.0, 59.9, 60.0, 119.0])
    3
    """
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - MINUTE_S:
            first += 1
        most = max(most, last - first + 1)
    return most


def pace(calls: list[dict[str, Any]], per_second: float) -> dict[str, Any]:
    """How the limit was used, as the server saw it."""
    times = sorted(call["at"] for call in calls)
    seconds = times[-1] - times[0]
    steps = Counter(call["step"] for call in calls)
    # Only a limit's worth is due in a minute; a shorter run is held to its own length.
    due = per_second * min(MINUTE_S, max(seconds, 1.0))
    return {
        "calls": len(calls),
        "seconds": round(seconds, 1),
        "share_of_limit": round(len(calls) / seconds / per_second, 4),
        "answers_share_of_limit": round(steps["ok"] / seconds / per_second, 4),
        "most_in_a_minute": most_in_a_minute(times),
        "most_in_a_minute_of_limit": round(most_in_a_minute(times) / due, 4),
        "refused_by_limit": steps["limited"],
        "faults": sum(count for step, count in steps.items() if step not in {"ok", "limited"}),
    }


def measured(folder: Path, arguments: argparse.Namespace, code: int, used: resource.struct_rusage) -> dict[str, Any]:
    """Everything that the goals are held against."""
    calls = accounts.read_ledger(folder / "ledger.jsonl")
    said = pace(calls, arguments.per_second)
    asked = accounts.Asked(arguments.prompts, runs=("night",))
    cpu_s = used.ru_utime + used.ru_stime
    return said | {
        "exit_code": code,
        "answered": pl.scan_parquet(folder / "store" / "completions" / "**" / "*.parquet")
        .select(pl.len())
        .collect()
        .item(),
        "broken_promises": accounts.broken_promises(folder / "store", folder / "cache", calls, asked)[:10],
        "peak_rss_mb": round(used.ru_maxrss / 1024, 1),
        "cpu_ms_per_call": round(cpu_s * 1000 / len(calls), 3),
    }


def missed(said: dict[str, Any], prompts: int) -> list[str]:
    """The goals that were missed."""
    goals = {
        "all answered, exit code 0": said["exit_code"] == 0 and said["answered"] == prompts,
        f"at least {LEAST_SHARE:.0%} of the limit used": said["share_of_limit"] >= LEAST_SHARE,
        "no minute more than 1 % above the limit": said["most_in_a_minute_of_limit"] <= MOST_ABOVE,
        "the ledger equals the store": not said["broken_promises"],
    }
    return [goal for goal, met in goals.items() if not met]


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200_000)
    parser.add_argument("--per-second", type=float, default=500.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--delay-ms", type=float, default=20.0, help="how long the server takes for each answer")
    parser.add_argument("--burst", default="60:5:0.3", help="EVERY:LASTING:RATE of the faults")
    parser.add_argument("--faults", default="500,503:retry-after-ms=200,529,reset,429:retry-after-ms=200,429")
    parser.add_argument("--strict", action="store_true", help="the server also enforces the limit over any second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="night-"))
    folder.mkdir(parents=True, exist_ok=True)
    server, url = start_server(folder, arguments)
    try:
        code, _, used = run(make_job(folder, url, prompts=arguments.prompts, concurrency=arguments.concurrency))
    finally:
        server.terminate()
        server.wait(30)
    said = measured(folder, arguments, code, used)
    print(json.dumps(said, indent=1))
    goals = missed(said, arguments.prompts)
    print("all goals met" if not goals else f"missed: {'; '.join(goals)}")
    if arguments.keep is None and not goals:
        shutil.rmtree(folder)
    elif goals:
        print(f"the run is in {folder}")
    return 1 if goals else 0


if __name__ == "__main__":
    sys.exit(main())
