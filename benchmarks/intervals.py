"""`make statistics`: how often intervals hold the truth, and thresholds keep their risk, on drawn answers.

    python benchmarks/intervals.py [--quick] [--docs] [--sets 250] [--seed 1]

draws sets of answers whose true values are known, and asks the package as users do. Prints one table after the other;
`--docs` writes them into docs/statistics.md. `--quick` draws a few sets, to see that all of it works.
"""

from __future__ import annotations

import argparse
import functools
import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

import logprob_store as ls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PAGE: Final = Path(__file__).parents[1] / "docs" / "statistics.md"
BEGIN: Final = "<!-- make statistics: begin -->"
END: Final = "<!-- make statistics: end -->"
SIZES: Final = (20, 50, 100, 1000)
_POPULATION: Final = 1_000_000
_RISK: Final = 0.1

Floats = np.ndarray[Any, np.dtype[np.float64]]


def _power(exponent: float) -> Callable[[Floats], Floats]:
    return lambda c: c**exponent


# The confidences, and the chance of being right at each.
WORLDS: Final[dict[str, tuple[Callable[[np.random.Generator, int], Floats], Callable[[Floats], Floats]]]] = {
    "honest": (lambda g, n: g.beta(5, 1.5, n), _power(1.0)),
    "a little too sure": (lambda g, n: g.beta(5, 1.5, n), _power(1.3)),
    "far too sure": (lambda g, n: g.beta(5, 1.5, n), _power(2.0)),
    "near 1, too sure": (lambda g, n: g.beta(20, 1, n), _power(3.0)),
    "too modest": (lambda g, n: g.random(n), lambda c: np.clip(0.5 + (c - 0.5) * 1.5, 0, 1)),
    "says nothing": (lambda g, n: g.beta(8, 2, n), lambda c: np.full_like(c, 0.7)),
    "nearly always right": (lambda g, n: g.beta(50, 1, n), _power(1.0)),
}

METRICS: Final = {
    "accuracy": ls.accuracy,
    "ece": ls.ece,
    "ace": ls.ace,
    "mce, equal mass": lambda: ls.mce(binning="mass"),
    "brier": ls.brier,
    "nll": ls.nll,
    "auroc": ls.auroc,
    "aurc": ls.aurc,
}


def answers(world: str, rows: int, generator: np.random.Generator) -> pl.DataFrame:
    """A set of answers."""
    confidences, chance = WORLDS[world]
    c = confidences(generator, rows)
    return pl.DataFrame({"confidence": c, "correct": generator.random(rows) < chance(c)})


@functools.cache
def truths(world: str) -> list[float]:
    """The metrics of the whole population."""
    frame = answers(world, _POPULATION, np.random.default_rng(99))
    expected = frame.with_columns(chance=pl.Series(WORLDS[world][1](frame["confidence"].to_numpy())))
    row = list(frame.select(metric().alias(name) for name, metric in METRICS.items()).row(0))
    # Gaps of a drawn population are above 0 by chance, so those of the chances themselves are taken.
    for place, name in enumerate(METRICS):
        if name in {"ece", "ace", "mce, equal mass"}:
            binning: Any = "width" if name == "ece" else "mass"
            row[place] = _gap(expected, binning, worst=name.startswith("mce"))
    return row


def _gap(frame: pl.DataFrame, binning: str, *, worst: bool) -> float:
    c = pl.col("confidence")
    number = (c * 10).floor().clip(0, 9) if binning == "width" else ((c.rank() - 0.5) * 10 / pl.len()).floor()
    bins = frame.group_by(number.alias("bin")).agg(gap=(c - pl.col("chance")).mean().abs(), rows=pl.len())
    mean = (pl.col("gap") * pl.col("rows")).sum() / pl.col("rows").sum()
    return float(bins.select(pl.col("gap").max() if worst else mean).item())


def covered(task: tuple[str, int, int, int]) -> dict[str, tuple[int, int, float]]:
    """By metric: the intervals that hold the truth, the intervals, and the sum of their widths."""
    world, rows, sets, seed = task
    true = dict(zip(METRICS, truths(world), strict=True))
    generator = np.random.default_rng([seed, rows, list(WORLDS).index(world)])
    counted = dict.fromkeys(METRICS, (0, 0, 0.0))
    for number in range(sets):
        frame = answers(world, rows, generator)
        exprs = [metric().alias(name) for name, metric in METRICS.items()]
        for name, _, low, high, _ in ls.bootstrap(frame, exprs, resamples=500, seed=number).rows():
            if low is not None:
                held, of, width = counted[name]
                counted[name] = (held + (low - 1e-9 <= true[name] <= high + 1e-9), of + 1, width + high - low)
    return counted


def coverage_tables(sets: int, seed: int, pool: ProcessPoolExecutor) -> Iterator[str]:
    """One table by world: how often each interval holds the truth, at each number of rows."""
    tasks = [(world, rows, max(10, sets if rows < 1000 else sets // 2), seed) for world in WORLDS for rows in SIZES]
    results = dict(zip(tasks, pool.map(covered, tasks), strict=True))
    for world in WORLDS:
        yield f"**{world[0].upper()}{world[1:]}**\n"
        yield f"| metric | {' | '.join(f'n = {rows}' for rows in SIZES)} |\n|---|{'---|' * len(SIZES)}"
        for name in METRICS:
            cells = []
            for task in tasks:
                held, of, width = results[task][name] if task[0] == world else (0, -1, 0.0)
                if of >= 0:
                    cells.append(f"{held / of:.1%} ({width / of:.3f})" if 2 * of >= task[2] else "none")
            yield f"| `{name}` | {' | '.join(cells)} |"
        yield ""


def shares_table(sets: int, seed: int) -> Iterator[str]:
    """How often the interval of a share holds it: alone, and over groups of four answers that are alike."""
    yield "| true share | groups | " + " | ".join(f"n = {rows}" for rows in SIZES) + " |"
    yield "|---|---|" + "---|" * len(SIZES)
    generator = np.random.default_rng(seed)
    for share in (0.005, 0.02, 0.1, 0.5, 0.98):
        for alike in (None, 0.0, 0.5, 1.0):
            cells = []
            for rows in SIZES:
                held = 0
                for _ in range(2 * sets):
                    if alike is None:
                        found = ls.share_interval(int(generator.binomial(rows, share)), rows)
                    else:
                        size = np.full(rows, 4)
                        same = generator.random(rows) < alike
                        one = generator.random(rows) < share
                        right = np.where(same, 4 * one, generator.binomial(4, share, rows))
                        found = ls.grouped_share_interval(pl.Series(right), pl.Series(size))
                    held += (found.low or 0.0) <= share <= (found.high or 0.0)
                cells.append(f"{held / (2 * sets):.1%}")
            groups = "none" if alike is None else f"of 4, alike in {alike:.0%}"
            yield f"| {share:.1%} | {groups} | {' | '.join(cells)} |"
    yield ""


def differences_table(sets: int, seed: int) -> Iterator[str]:
    """How often the interval of a paired difference holds it: alone, and over groups of four answers that are alike."""
    yield "| gained | lost | groups | " + " | ".join(f"n = {rows}" for rows in SIZES) + " |"
    yield "|---|---|---|" + "---|" * len(SIZES)
    generator = np.random.default_rng(seed)
    for gained, lost in ((0.0, 0.0), (0.005, 0.005), (0.02, 0.0), (0.05, 0.01), (0.1, 0.1), (0.3, 0.1)):
        chances = [gained, lost, 1 - gained - lost]
        for alike in (None, 0.0, 0.5, 1.0):
            cells = []
            for rows in SIZES:
                held = 0
                for _ in range(2 * sets):
                    if alike is None:
                        more, less, _ = map(int, generator.multinomial(rows, chances))
                        found = ls.paired_share_interval(more, less, rows)
                    else:
                        same = (generator.random(rows) < alike)[:, None]
                        four = generator.multinomial(4, chances, rows)
                        counts = np.where(same, 4 * generator.multinomial(1, chances, rows), four)
                        parts = [pl.Series(counts[:, place]) for place in (0, 1)]
                        found = ls.grouped_paired_share_interval(*parts, pl.Series(np.full(rows, 4)))
                    held += (found.low or 0.0) - 1e-9 <= gained - lost <= (found.high or 0.0) + 1e-9
                cells.append(f"{held / (2 * sets):.1%}")
            groups = "none" if alike is None else f"of 4, alike in {alike:.0%}"
            yield f"| {gained:.1%} | {lost:.1%} | {groups} | {' | '.join(cells)} |"
    yield ""


def thresholds_table(sets: int, seed: int) -> Iterator[str]:
    """How often each way to choose a threshold finds one, and how often new rows pass its risk."""
    generator = np.random.default_rng(seed)
    world = "a little too sure"
    population = answers(world, _POPULATION, np.random.default_rng(98))
    surest_first = population.sort("confidence", descending=True)
    sure = -surest_first["confidence"].to_numpy()
    risks = np.cumsum(~surest_first["correct"].to_numpy()) / np.arange(1, _POPULATION + 1)

    def true_risk(threshold: float) -> float:
        accepted = int(np.searchsorted(sure, -threshold, side="right"))
        return float(risks[accepted - 1]) if accepted else 0.0

    ways: dict[str, Callable[[pl.DataFrame], float | None]] = {
        "`threshold_at_risk`": lambda frame: frame.select(ls.threshold_at_risk(risk=_RISK)).item(),
        "`guaranteed_threshold`": lambda frame: ls.guaranteed_threshold(frame, risk=_RISK).threshold,
        '`guaranteed_threshold`, `procedure="fixed_sequence"`': lambda frame: (
            ls.guaranteed_threshold(frame, risk=_RISK, procedure="fixed_sequence").threshold
        ),
    }
    yield "| way | n | finds one | new rows pass the risk | of those found |\n|---|---|---|---|---|"
    for rows in (100, 200, 500, 1000):
        frames = [answers(world, rows, generator) for _ in range(sets)]
        for name, way in ways.items():
            found = [threshold for threshold in map(way, frames) if threshold is not None]
            passed = sum(true_risk(threshold) > _RISK for threshold in found)
            of_found = f"{passed / len(found):.1%}" if found else "-"
            yield f"| {name} | {rows} | {len(found) / sets:.1%} | {passed / sets:.1%} | {of_found} |"
    yield ""


def main() -> None:
    """Draw, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few sets: does it work?")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/statistics.md")
    parser.add_argument("--sets", type=int, default=250, help="sets drawn for each figure below 1000 rows")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sets = 12 if given.quick else given.sets
    error = math.sqrt(0.95 * 0.05 / sets)
    lines: list[str] = []

    def show(parts: Iterable[str]) -> None:
        for line in parts:
            lines.append(line)
            print(line, flush=True)

    show(
        [
            f"{sets} sets for each figure, {max(10, sets // 2)} for metrics of 1000 rows, {2 * sets} for shares and",
            f"differences; seed {given.seed}, 500 resamples. A figure of 95 % from {sets} sets has a standard error of",
            f"{error:.1%}.\n",
            "### Shares\n",
        ]
    )
    show(shares_table(sets, given.seed))
    show(["### Paired differences of two shares\n"])
    show(differences_table(sets, given.seed))
    show([f"### Thresholds for a risk of {_RISK:.0%}, with a failure of 5 %\n"])
    show(thresholds_table(sets, given.seed))
    show(["### Metrics\n", "In brackets, the mean width.\n"])
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        show(coverage_tables(sets, given.seed, pool))
    if given.docs:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        text = "\n".join(lines).rstrip()
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
