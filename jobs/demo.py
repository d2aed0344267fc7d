"""The demo: run a job twice, then ask polars where the model was unsure and whether its confidence is honest.

python jobs/demo.py jobs/demo.toml           offline, from recorded fixtures
python jobs/demo.py jobs/local.toml --serve  live, against a real llama.cpp server that it starts
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import polars as pl

import logprob_store as ls

HERE = Path(__file__).parent


def main() -> int:
    """Run, run again, show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path)
    parser.add_argument("--serve", action="store_true", help="start a local server for the first run")
    arguments = parser.parse_args()
    first = ["logprobs", "run", str(arguments.job)]
    if arguments.serve:
        first = [sys.executable, str(HERE / "local_server.py"), "--", *first, "--base-url", "{url}"]

    print("== first run: every prompt is answered, every token stored")
    if code := shell(first):
        return code
    print("\n== second run, at once: everything is there already")
    if code := shell(["logprobs", "run", str(arguments.job)]):
        return code

    job = ls.load_job(arguments.job)
    path = job.resolve(job.store.path)
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    print("\n== the runs in the store")
    if code := shell(["logprobs", "status", str(path)]):
        return code
    answers = judged(ls.open_store(path))
    print("\n== the ten least confident answers")
    unsure = answers.sort("confidence").head(10)
    show(unsure.drop("fifth"))
    print("\n== is the confidence honest? accuracy against confidence")
    show(accuracy(answers))
    print("\n== the whole run as a page")
    shell(["logprobs", "report", str(path), "--expected", "capital", "-o", str(path.parent / "report.html")])
    print(f"\nThe store is at {path}. Next: open {path.parent / 'report.html'} in a browser, or")
    print(f"logprobs show {path} {unsure['prompt_id'][0]}")
    return 0


def shell(command: list[str]) -> int:
    """Show a command as a person would type it, and run it; programs installed beside this Python are found first."""
    print("$ " + " ".join("python" if part == sys.executable else part for part in command), flush=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode  # noqa: S603


def judged(store: ls.Store) -> pl.DataFrame:
    """The newest run's answers beside the truth that the prompts kept."""
    store = store.only(store.run_names[-1])
    truth = store.prompts.select("prompt_index", "country", "capital")
    right = pl.col("text").str.strip_chars().str.to_lowercase() == pl.col("capital").str.to_lowercase()
    return (
        store.scores()
        .join(truth, on="prompt_index")
        .select(
            "prompt_id",
            "country",
            "capital",
            answer=pl.col("text").str.strip_chars(),
            right=right,
            confidence="confidence",
            perplexity="perplexity",
            fifth=(pl.col("confidence").rank("ordinal") - 1) * 5 // pl.len(),
        )
        .collect()
    )


def accuracy(answers: pl.DataFrame) -> pl.DataFrame:
    """Fifths of the answers by confidence: how sure, and how often right."""
    return (
        answers.group_by("fifth")
        .agg(
            answers=pl.len(),
            confidence_from=pl.col("confidence").min(),
            mean_confidence=pl.col("confidence").mean(),
            accuracy=pl.col("right").mean(),
        )
        .sort("confidence_from")
        .drop("fifth")
    )


def show(frame: pl.DataFrame) -> None:
    """Print a frame without its types."""
    with pl.Config(tbl_hide_column_data_types=True, tbl_hide_dataframe_shape=True, tbl_rows=20, float_precision=3):
        print(frame)


if __name__ == "__main__":
    sys.exit(main())
