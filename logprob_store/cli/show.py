"""The command `show`: single completions, token by token.

Tokens are coloured and formatted by `logprob_store.view`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.chosen_runs import open_runs
from logprob_store.cli.common import (
    JsonOption,
    RunOption,
    StorePath,
    echo,
    print_rich,
    print_table,
    shows_colours,
)
from logprob_store.counted import counted
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from logprob_store.analysis.opened_store import Store


def show(
    store: StorePath,
    completion: Annotated[str, typer.Argument(help="A completion_id, or the id of a prompt.")],
    *,
    run: RunOption = None,
    below: Annotated[float, typer.Option(help="List alternatives of tokens less likely than this.")] = 0.7,
    as_json: JsonOption = False,
) -> None:
    """Show completions with each token coloured by its probability, and what was almost written.

    With --json: each completion with its tokens and all alternatives. Of typed questions: their options.
    """
    import polars as pl

    from logprob_store.errors import InputError
    from logprob_store.metrics.labels.decided import option_label
    from logprob_store.schema import KEYS
    from logprob_store.view.highlight import coloured, legend, uncertain

    opened = open_runs(store, run)
    wanted = pl.col("prompt_id") == completion
    if completion.isascii() and completion.isdigit() and len(completion) < 19:  # noqa: PLR2004  fits an Int64
        wanted = wanted | (pl.col("completion_id") == int(completion))
    rows = opened.completions.filter(wanted).sort(*KEYS).collect()
    if not rows.height and _show_failures(opened, completion, as_json=as_json):
        return
    if not rows.height:
        raise InputError(f"no completion or prompt {completion!r} in {store}; `logprobs scores {store}` lists them")
    as_dicts = []
    for row in rows.iter_rows(named=True):
        of_row = (pl.col("run") == row["run"]) & (pl.col("completion_id") == row["completion_id"])
        tokens = opened.only(row["run"]).tokens.filter(of_row).collect()
        alternatives = opened.only(row["run"]).alternatives.filter(of_row).collect()
        decisions = opened.only(row["run"]).decisions.filter(of_row).drop("run", "completion_id").collect()
        if as_json:
            tables = {"tokens": tokens, "alternatives": alternatives, "decisions": decisions}
            as_dicts.append({**row, **{name: frame.to_dicts() for name, frame in tables.items()}})
            continue
        echo(
            f"run {row['run']}  completion {row['completion_id']}  prompt {printable(row['prompt_id'])}  "
            f"model {printable(row['response_model'] or row['model'] or '?')}"
        )
        if decisions.height:
            decisions = decisions.with_columns(value=option_label())  # `true` and the text "true" apart
            print_table(decisions.select("question", "value", "probability", "label", "chosen", "confidence", "score"))
            continue
        print_rich(coloured(tokens))
        if shows_colours():
            print_rich(legend())
        print_rich(uncertain(tokens, alternatives, below=below))
    if as_json:
        echo(as_dicts)


def _show_failures(opened: Store, prompt: str, *, as_json: bool) -> bool:
    """Show why a prompt has no answer; whether it failed."""
    import polars as pl

    failures = opened.failures.filter(pl.col("prompt_id") == prompt).collect()
    if as_json and failures.height:
        echo([{"failure": row} for row in failures.iter_rows(named=True)])
        return True
    for row in failures.iter_rows(named=True):
        status = "" if row["status"] is None else f" {row['status']}"
        echo(
            f"run {row['run']}  prompt {printable(row['prompt_id'])} failed: {row['error_type']}{status} after "
            f"{counted(row['attempts'], 'attempt')}: {printable(row['message'] or '')}"
        )
    return failures.height > 0
