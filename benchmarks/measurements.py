"""What is measured, in five groups; each returns rows for the table.

Holds how rounds are interleaved, how much is asked, and which two figures make a ratio. Leaves out the processes
themselves (`contestants`, `stages`) and how the table looks (`table`).

Rounds are interleaved: every contestant runs once before any runs again, so that a slow minute of the machine falls on
all of them. A ratio is that of medians.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from answers import SIZES
from children import HERE, measure, median_of
from server import running_server
from table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS: Final = 5
STARTS: Final = 7

# Calls in a round, so that each takes a few seconds: (1 x 5, 128 x 5, 128 x 20).
CALLS: Final = {
    "aiohttp": (20_000, 10_000, 6_000),
    "job": (8_000, 4_000, 2_000),
    "sdk": (2_000, 600, 200),
    "litellm": (800, 160, 96),
}
TIMES_SDK: Final = (3, 6, 10)
TIMES_LITELLM: Final = (None, 20, 40)
GROWTH: Final = (10_000, 100_000)
FULL_GROWTH: Final = (10_000, 100_000, 1_000_000)
LIVE_MEMORY: Final = (2_000, 8_000)
FULL_LIVE_MEMORY: Final = (50_000, 200_000)
DECODED: Final = 2000

Figures = dict[str, Any]


def throughput(folder: Path, *, quick: bool, figures: Figures) -> Iterator[Row]:  # noqa: ARG001  all have this form
    """The whole job beside what a user would pick instead, and beside the limit."""
    rounds = 1 if quick else ROUNDS
    contestants = ["aiohttp", "sdk", "job", *(["litellm"] if (litellm := litellm_python()) else [])]
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    with running_server() as url:
        for _ in range(rounds):
            for index, size in enumerate(SIZES):
                for name in contestants:
                    calls = max(64, CALLS[name][index] // (4 if quick else 1))
                    python = litellm if name == "litellm" and litellm else sys.executable
                    one = measure("contestants.py", name, url, size, calls, python=python)
                    measured.setdefault((name, size), []).append(one)
    medians = {f"{name} {size}": median_of(rounds) for (name, size), rounds in measured.items()}
    figures["throughput"] = medians
    for index, size in enumerate(SIZES):
        job = medians[f"job {size}"]
        for name, goals in (("sdk", TIMES_SDK), ("litellm", TIMES_LITELLM)):
            if (other := medians.get(f"{name} {size}")) is not None:
                said = f"{job['per_s']:.0f} to {other['per_s']:.0f} requests/s"
                yield Row(f"whole job to {name}, {size}", job["per_s"] / other["per_s"], "x", goals[index], note=said)
        limit = medians[f"aiohttp {size}"]["per_s"]
        said = f"{job['cpu_ms']:.2f} ms CPU a call of the job, {medians[f'sdk {size}']['cpu_ms']:.2f} of the SDK's"
        yield Row(f"bare aiohttp, {size}: the limit", limit, "requests/s", note=said)
        yield Row(f"peak memory of the job, {size}", job["peak_mb"], "MB", 600, at_most=True)


def litellm_python() -> Path | None:
    """The Python of litellm's own environment, made on first use; None where it does not install."""
    home = HERE / ".litellm"
    python = home / "bin" / "python"
    if not python.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "litellm"]
            subprocess.run(install, check=True, timeout=600)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"litellm is left out: {error}", file=sys.stderr)
    works = python.exists() and subprocess.run([str(python), "-c", "import litellm"], check=False, capture_output=True)
    return python if works and works.returncode == 0 else None


def decoding(folder: Path, *, quick: bool, figures: Figures) -> Iterator[Row]:
    """Decode and write alone, beside simdjson's parsing alone; what the tables and the cache take up."""
    for size in ("128 x 5", "128 x 20"):
        place = folder / size.replace(" ", "")
        prompts = DECODED * (4 if size == "128 x 5" else 1) // (3 if quick else 1)
        raw = measure("stages.py", "fill", place, size, prompts)
        stages: dict[str, list[dict[str, float]]] = {"run": [], "decode": [], "parse": []}
        for _ in range(1 if quick else ROUNDS):
            remove(place / "store")
            remove(place / "decoded")
            for stage, rounds in stages.items():
                rounds.append(measure("stages.py", stage, place))
        cached, decoded, limit = map(median_of, stages.values())
        space = measure("stages.py", "size", place)
        figures[f"decoding {size}"] = {"decode": decoded, "simdjson": limit, "cached run": cached, "size": space} | raw
        if size == "128 x 20":
            cpu = f"{decoded['mb_per_cpu_s']:.0f} a CPU second"
            yield Row("decode + write, chat top 20", decoded["mb_per_s"], "MB/s", 200, note=cpu)
            share = decoded["mb_per_s"] / limit["mb_per_s"]
            yield Row("the same to simdjson, parse only", share, "x", 0.25, note=f"{limit['mb_per_s']:.0f} MB/s")
            yield Row("on disk, per alternative", space["bytes_an_alternative"], "bytes", 6, at_most=True)
            yield Row("cache to raw JSON", space["cache_mb"] / raw["raw_mb"], "x", 0.25, at_most=True)
        alone = raw["raw_mb"] / decoded["mb_per_s"]
        yield Row(f"cached, not stored, to decode + write, {size}", cached["seconds"] / alone, "x", 1.3, at_most=True)
        remove(place)


def growth(folder: Path, *, quick: bool, figures: Figures, full: bool = False) -> Iterator[Row]:
    """Time and memory by number of prompts, small answers out of the cache, and the rerun when all is done."""
    counts = GROWTH[:1] if quick else FULL_GROWTH if full else GROWTH
    runs = {}
    for prompts in counts:
        place = folder / f"prompts-{prompts}"
        measure("stages.py", "fill", place, "1 x 5", prompts)
        first = measure("stages.py", "run", place)
        again = measure("stages.py", "run", place)
        remove(place / "store")
        runs[prompts] = first
        figures[f"growth {prompts}"] = {"first": first, "again": again}
        last = prompts == 1_000_000
        said = f"first {first['seconds']:.1f} s, {1e6 * first['seconds'] / prompts:.0f} us a prompt"
        limits = (10, 500) if last else (None, None)
        yield Row(f"rerun of {prompts:,} finished prompts", again["seconds"], "s", limits[0], at_most=True, note=said)
        yield Row(f"the same, memory ({prompts:,})", again["peak_mb"], "MB", limits[1], at_most=True)
    if len(counts) > 1:
        small, large = counts[-2:]
        # The machine's own pace changes within minutes: the smaller is measured before and after the larger.
        afterwards = measure("stages.py", "run", folder / f"prompts-{small}")
        figures[f"growth {small}"]["afterwards"] = afterwards
        few = fmean([runs[small]["seconds"], afterwards["seconds"]]) / small
        many = runs[large]["seconds"] / large
        said = f"{1e6 * many:.0f} to {1e6 * few:.0f} us"
        yield Row(f"time a prompt, {large:,} to {small:,}", many / few, "x", 1.15, at_most=True, note=said)
        peaks = [runs[prompts]["peak_mb"] for prompts in (small, large)]
        yield Row(f"memory, {large:,} to {small:,} prompts", peaks[1] / peaks[0], "x", 1.15, at_most=True)


def memory(folder: Path, *, quick: bool, figures: Figures, full: bool = False) -> Iterator[Row]:  # noqa: ARG001  all have this form
    """Peak memory of a live job with 69 KB answers, by number of prompts."""
    counts = FULL_LIVE_MEMORY if full else tuple(count // (4 if quick else 1) for count in LIVE_MEMORY)
    with running_server() as url:
        peaks = [measure("contestants.py", "job", url, "128 x 5", count)["peak_mb"] for count in counts]
    figures["memory"] = dict(zip(map(str, counts), peaks, strict=True))
    yield Row(f"peak memory, 128 x 5, {counts[1]:,} prompts", peaks[1], "MB", 600, at_most=True)
    yield Row(f"the same to {counts[0]:,} prompts", peaks[1] / peaks[0], "x", 1.15, at_most=True)


def starting(folder: Path, *, quick: bool, figures: Figures) -> Iterator[Row]:  # noqa: ARG001
    """Whole processes: an import, the command line's help."""
    program = Path(sys.executable).with_name("logprobs")
    commands = {
        "python": ([sys.executable, "-c", ""], None),
        "import logprob_store": ([sys.executable, "-c", "import logprob_store"], 0.15),
        "logprobs --help": ([str(program), "--help"], 0.3),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(2 if quick else STARTS):
        for name, (command, _goal) in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    for name, (_command, goal) in commands.items():
        median = median_of([{"s": one} for one in seconds[name]])["s"]
        figures[name] = median
        yield Row(name, median, "s", goal, at_most=True, digits=3)


def analysis(folder: Path, *, quick: bool, figures: Figures, full: bool = False) -> Iterator[Row]:
    """The metrics' own benchmark, as it prints itself."""
    script = HERE / "metrics.py"
    if not script.exists():
        return
    millions = 100 if full else 1 if quick else 10
    command = [sys.executable, str(script), "--rows", str(millions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(folder)})
    figures["analysis"] = done.stdout
    print(done.stdout)
    yield Row("analysis", millions, "million rows", note="see above")


def remove(folder: Path) -> None:
    """Delete a folder if it is there."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
