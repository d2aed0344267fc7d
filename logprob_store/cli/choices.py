"""The command `choices`: which of its candidates the model chooses, of runs that score continuations.

The choices are computed by `logprob_store.metrics.given.candidates`.
"""

from __future__ import annotations

from logprob_store.cli.chosen_runs import open_runs
from logprob_store.cli.common import (
    JsonOption,
    LimitOption,
    OutputOption,
    RunOption,
    StorePath,
    print_or_write,
)


def choices(
    store: StorePath,
    *,
    run: RunOption = None,
    output: OutputOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Say which candidate the model chooses for each prompt, by its likelihood; the closest calls first.

    For runs that score continuations (`prompts.continuations` with `model.mode = "score"`).
    """
    from logprob_store.errors import InputError
    from logprob_store.metrics.given.candidates import choices as chosen

    opened = open_runs(store, run)
    if not all(manifest.job.get("prompts.continuations") for manifest in opened.manifests):
        raise InputError(
            "a run here has no candidates to choose from: they come with prompts.continuations and model.mode = "
            '"score" (`logprobs labels` chooses among labels in answers)'
        )
    rows = chosen(opened.candidate_scores()).sort("margin", "run", "prompt_index", nulls_last=True)
    columns = ["prompt_id", "continuation", "margin", "choice", "choice_per_char", "choice_per_byte", "candidates"]
    print_or_write(rows.collect(engine="streaming"), output=output, limit=limit, as_json=as_json, columns=columns)
