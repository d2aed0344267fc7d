"""How fast the metrics are, beside a hand-written DuckDB query and a plain Python loop over 1 % of the rows.

    .venv/bin/python benchmarks/metrics.py            # 100 M token rows, 100 M alternatives: about 3 GB of disk
    .venv/bin/python benchmarks/metrics.py --rows 10  # a tenth of both, in a minute

Holds the making of a store (through the store's own writer) and what is measured. Each measurement is a process of
its own, so that its peak memory is its own. Leaves out asking and decoding.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

import logprob_store as ls
from logprob_store.metrics.engine.catalogue import DEFAULT_METRICS, SCORES
from logprob_store.schema import ALTERNATIVES, COMPLETIONS, TOKENS, completion_id
from logprob_store.store.opening import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

TOKENS_EACH = 100
ALTERNATIVES_EACH = 5
COMPLETIONS_A_PART = 10_000
VOCABULARY = 50_000
MILLION = 1_000_000


def make_store(path: Path, *, millions: int) -> None:
    """Three runs: `tokens`, of so many million token rows, and `topk` and `again`, of so many million alternatives."""
    make_run(path, "tokens", completions=millions * MILLION // TOKENS_EACH, alternatives=0)
    each = TOKENS_EACH * ALTERNATIVES_EACH
    for run in ("topk", "again"):
        make_run(path, run, completions=millions * MILLION // each, alternatives=ALTERNATIVES_EACH)


def make_run(path: Path, run: str, *, completions: int, alternatives: int) -> None:
    """A run whose answers have 100 tokens on average, 1 to 199, most of them sure; `again` is a drifted one."""
    random = np.random.default_rng(7)
    words = pl.Series("token", [f" word{number}" for number in range(VOCABULARY)])
    with open_run(path, run, job_name="benchmark", job={"model.name": "m"}, inputs=[], samples=1) as writer:
        for first in range(0, completions, COMPLETIONS_A_PART):
            numbers = np.arange(first, min(first + COMPLETIONS_A_PART, completions))
            tables = make_part(random, words, numbers, alternatives)
            tables = drifted(tables) if run == "again" else tables
            writer.commit(
                {name: frame.to_arrow(compat_level=pl.CompatLevel.oldest()) for name, frame in tables.items()},
                settled=numbers.tolist(),
            )
        writer.finish("finished")


def make_part(
    random: np.random.Generator, words: pl.Series, numbers: np.ndarray, alternatives: int
) -> dict[str, pl.DataFrame]:
    """The tables of one part; logprobs have five digits, as those that came over a wire."""
    lengths = random.integers(1, 2 * TOKENS_EACH, len(numbers))
    ids = numbers.astype(np.int64) * completion_id(1)
    total = int(lengths.sum())
    ends = np.cumsum(lengths)
    chosen = np.round(-(random.exponential(0.3, total) ** 3), 5)
    picked = random.zipf(1.3, total) % VOCABULARY
    where = pl.DataFrame(
        {
            "completion_id": np.repeat(ids, lengths),
            "section": pl.repeat("content", total, eager=True).cast(TOKENS["section"]),
            "position": (np.arange(total) - np.repeat(ends - lengths, lengths)).astype(np.int32),
        }
    )
    tables = {
        "completions": pl.DataFrame(
            {
                "completion_id": ids,
                "prompt_id": numbers.astype(str),
                "prompt_index": numbers,
                "finish_reason": "stop",
                "text": pl.Series("text", [f"answer {number}" for number in numbers]),
                "token_count": lengths,
                "logprob_sum": np.add.reduceat(chosen, ends - lengths),
            }
        ).with_columns(sample_index=0, choice_index=0),
        "tokens": where.with_columns(token=words[picked], logprob=chosen),
    }
    if alternatives:
        # p of the i-th is at most (1 - sum of those before), so that no sum is above 1
        rest = 1 - np.exp(chosen)
        rows = [np.exp(chosen)]
        for _ in range(alternatives - 1):
            rows.append(rest * random.uniform(0.2, 0.9, total))
            rest = rest - rows[-1]
        logprobs = np.round(np.log(np.maximum(np.stack(rows, axis=1), 1e-9)), 5).ravel()
        ranks = np.tile(np.arange(1, alternatives + 1, dtype=np.int16), total)
        tables["alternatives"] = where[np.repeat(np.arange(total), alternatives)].with_columns(
            rank=pl.Series(ranks), token=words[(np.repeat(picked, alternatives) * ranks) % VOCABULARY], logprob=logprobs
        )
    schemas = {"completions": COMPLETIONS, "tokens": TOKENS, "alternatives": ALTERNATIVES}
    return {
        name: frame.select(
            *(
                pl.col(column).cast(kind) if column in frame.columns else pl.lit(None, kind).alias(column)
                for column, kind in schemas[name].items()
            )
        )
        for name, frame in tables.items()
    }


def drifted(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Everything a little less likely, and another token at position 50 of every tenth answer."""
    lower = pl.col("logprob") * 1.05
    number = pl.col("completion_id") // completion_id(1)
    other = (number % 10 == 0) & (pl.col("position") == 50)
    token = pl.when(other).then(pl.lit(" other")).otherwise("token").alias("token")
    return {
        "completions": tables["completions"],
        "tokens": tables["tokens"].with_columns(token, lower),
        "alternatives": tables["alternatives"].with_columns(lower),
    }


def compared(path: Path) -> Callable[[], int]:
    """The summary of two runs beside each other."""
    store = ls.open_store(path)
    return lambda: store.compare("topk", "again").summary(resamples=100).pairs


def perplexity_duckdb(path: Path) -> Callable[[], int]:
    """What somebody would write by hand, over the same files."""
    import duckdb

    files = [str(file) for file in ls.open_store(path, runs=["tokens"]).files("tokens")]
    query = """
        SELECT completion_id, exp(-avg(logprob)) AS perplexity
        FROM read_parquet($files, hive_partitioning = false) GROUP BY completion_id
    """
    connection = duckdb.connect()
    return lambda: connection.sql(query, params={"files": files}).to_arrow_table().num_rows


def scores_of(run: str, names: tuple[str, ...]) -> Callable[[Path], Callable[[], int]]:
    """`store.scores(metrics=names)` of a run, all rows collected, with their completion_id."""

    def prepare(path: Path) -> Callable[[], int]:
        store = ls.open_store(path, runs=[run])
        return lambda: store.scores(metrics=names).select("completion_id", *names).collect().height

    return prepare


def perplexity_polars(path: Path) -> Callable[[], int]:
    """The expression in a plain group_by of the user's own."""
    store = ls.open_store(path, runs=["tokens"])
    return lambda: store.tokens.group_by(ls.KEYS).agg(ls.perplexity()).collect(engine="streaming").height


def summary_polars(path: Path) -> Callable[[], int]:
    """A run in one line, from its completions: perplexity of all tokens, and how confidence is spread."""
    confidence = (pl.col("logprob_sum") / pl.col("token_count")).exp()
    quantiles = [confidence.quantile(share).alias(f"q{share}") for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
    rows = ls.open_store(path, runs=["tokens"]).completions
    query = rows.select(pl.len(), ls.corpus_perplexity(tokens="token_count"), confidence.mean(), *quantiles)

    def summary() -> int:
        rows: int = query.collect(engine="streaming")["len"].item()
        return rows

    return summary


def perplexity_loop(path: Path) -> Callable[[], int]:
    """A plain Python loop over the first 1 % of the token rows."""
    store = ls.open_store(path, runs=["tokens"])
    total = store.tokens.select(pl.len()).collect().item()
    rows = store.tokens.select("completion_id", "logprob").head(total // 100)

    def loop() -> int:
        sums: dict[int, float] = {}
        counts: dict[int, int] = {}
        for row in rows.collect().iter_rows(named=True):
            key = row["completion_id"]
            sums[key] = sums.get(key, 0.0) + row["logprob"]
            counts[key] = counts.get(key, 0) + 1
        return len({key: math.exp(-sums[key] / counts[key]) for key in sums})

    return loop


PLAIN = (
    *("scored_tokens", "unscored_tokens", "logprob_sum", "joint_probability", "mean_logprob", "confidence"),
    *("perplexity", "mean_surprisal", "min_probability", "max_surprisal", "low_confidence_share"),
)
OF_TOKENS = (*PLAIN, "longest_low_confidence_span", "sliding_confidence", "tail_confidence", "min_k_probability")
TOP_K = tuple(name for name, score in SCORES.items() if score.of_token is not None)

MEASURED: dict[str, tuple[Callable[[Path], Callable[[], int]], int]] = {
    "perplexity, by hand in DuckDB": (perplexity_duckdb, 3),
    "perplexity, ls.perplexity() in a group_by": (perplexity_polars, 3),
    "perplexity, store.scores": (scores_of("tokens", ("perplexity",)), 3),
    f"{len(PLAIN)} metrics of totals, store.scores": (scores_of("tokens", PLAIN), 3),
    "min_k_probability, store.scores": (scores_of("tokens", ("min_k_probability",)), 3),
    "sliding_confidence, store.scores": (scores_of("tokens", ("sliding_confidence",)), 3),
    "longest_low_confidence_span, store.scores": (scores_of("tokens", ("longest_low_confidence_span",)), 3),
    f"all {len(OF_TOKENS)} of tokens, store.scores": (scores_of("tokens", OF_TOKENS), 3),
    "a run's summary, from its completions": (summary_polars, 3),
    "the usual set with alternatives, store.scores": (scores_of("topk", DEFAULT_METRICS), 1),
    f"{len(TOP_K)} metrics of alternatives, store.scores": (scores_of("topk", TOP_K), 1),
    "two runs compared, their summary": (compared, 1),
    "perplexity, a Python loop over 1 %": (perplexity_loop, 1),
}


def measure(name: str, path: Path) -> dict[str, Any]:
    """The best of a few calls, by the clock and in CPU seconds, and the peak memory of this process."""
    prepare, calls = MEASURED[name]
    call = prepare(path)
    times, cpu = [], []
    for _ in range(calls):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        rows = call()
        times.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - begin_cpu)
    # not ru_maxrss: a process inherits that from the one that started it
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    peak_mb = int(peak[1]) / 1024 if peak else math.nan
    return {"name": name, "seconds": min(times), "cpu_s": min(cpu), "rows": rows, "peak_mb": peak_mb}


def report(path: Path, only: str) -> None:
    """Run each measurement in a process of its own and print a line for it; on a busy machine CPU seconds say more."""
    first = next(iter(MEASURED))
    base: dict[str, Any] = {}
    print(f"{'':48} {'seconds':>9} {'x DuckDB':>9} {'CPU s':>9} {'x DuckDB':>9} {'rows':>10} {'peak MB':>8}")
    for name in MEASURED:
        if only not in name and name != first:
            continue
        command = [sys.executable, __file__, "--dir", str(path), "--measure", name]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        base = base or found
        numbers = [f"{found[unit]:9.3f} {found[unit] / base[unit]:9.2f}" for unit in ("seconds", "cpu_s")]
        print(f"{name:48} {' '.join(numbers)} {found['rows']:10} {found['peak_mb']:8.0f}", flush=True)


def main() -> None:
    """Make the store, unless it is there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100, help="millions of token rows, and of alternatives")
    parser.add_argument("--dir", type=Path, help="where the store is made and kept; default: a folder that is removed")
    parser.add_argument("--only", default="", help="measurements whose name has this in it, and DuckDB's")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.dir)))
        return
    folder = options.dir or Path(tempfile.mkdtemp(prefix="logprob-store-"))
    try:
        if not (folder / "runs").is_dir():
            begin = time.perf_counter()
            make_store(folder, millions=options.rows)
            print(f"{options.rows} M tokens and alternatives made in {time.perf_counter() - begin:.0f} s")
        report(folder, options.only)
    finally:
        if options.dir is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
