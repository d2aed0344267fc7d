"""The nightly job as Python, for those who schedule code: `python jobs/nightly.py [JOB.toml]`.

Does what `logprobs run` does and exits as it does: 0 done, 2 the job or its input is wrong, 3 finished with failed
prompts, 4 stopped by a limit, 130 interrupted; after 3, 4 and 130 the same command goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import logprob_store as ls


def main(job_file: str | Path) -> int:
    """Run the job, then print the ten answers the model was least sure of."""
    try:
        summary = ls.run_job(job_file)
    except ls.LogprobStoreError as error:
        print(f"nightly: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    scores = ls.open_store(summary.store, runs=[summary.run]).scores()
    print(scores.sort("confidence", nulls_last=True).select("prompt_id", "text", "confidence").head(10).collect())
    print(f"{summary.run}: {summary.state}, {summary.completions} answers, {summary.failures} failed")
    return {"interrupted": 130, "stopped": 4}.get(summary.state, 3 if summary.failures else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("nightly.toml")))
