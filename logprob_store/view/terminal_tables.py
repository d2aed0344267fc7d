"""Tables for the terminal: their columns for runs, failures and scores, and any DataFrame as a table that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl
from polars import selectors
from rich import box
from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import JustifyMethod

    from logprob_store.analysis.opened_store import Store

_WIDEST_TEXT: Final = 60
_NARROWEST_TEXT: Final = 12
"""Terminal columns."""
_LONG_TEXTS: Final = frozenset({"text", "value", "continuation", "answer_a", "answer_b"})
"""Columns that may be shortened to fit, with a mark. A number, a name or an id cut short would be another one."""
_DUST: Final = 1e-12
_BESIDE_KEYS: Final = 2
"""Columns that ids give way to, such as a label and its probability."""
_GAP: Final = 2
"""Terminal columns between two cells."""


def fitted_table(frame: pl.DataFrame, width: int | None, *, least: Sequence[str] = ()) -> tuple[Table, list[str]]:
    """A DataFrame as a table that fits, and the names of the columns that were left out for it.

    Args:
        frame: what to show; numbers stand to the right, and text is made safe.
        width: terminal columns; None has room for everything.
        least: the columns to leave out first, in this order; then come the others, from the last. The first column,
            and a prompt's id behind a run's name, always stay; they are folded where nothing else would have room.

    >>> table, left_out = fitted_table(pl.DataFrame({"prompt_id": ["R-0223"], "n": [22300000000], "p": [0.5]}), 26)
    >>> left_out
    ['p']
    """
    cells = {name: [_cell(value, name) for value in frame[name]] for name in frame.columns}
    widths = {name: max(map(cell_len, [printable(name), *cells[name]])) for name in cells}
    shown = list(cells)
    left_out = []
    if width is not None:
        keys = _keys(shown)
        others = [name for name in shown if name not in keys]
        droppable = [*(name for name in least if name in others), *(name for name in others[::-1] if name not in least)]
        _fold_keys(keys, droppable[-_BESIDE_KEYS:], widths, width)
        for name in droppable:
            if _least_width(shown, widths) <= width:
                break
            shown.remove(name)
            left_out.append(name)
        _share_out(shown, widths, width)
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0))
    for name in shown:
        justify: JustifyMethod = "right" if frame.schema[name].is_numeric() else "left"
        # Where not even one column fits, it is folded.
        table.add_column(
            Text(printable(name)), justify=justify, overflow="fold", min_width=1, max_width=max(1, widths[name])
        )
    for row in zip(*(cells[name] for name in shown), strict=True):
        table.add_row(
            *(
                Text(_shortened(cell, widths[name]) if name in _LONG_TEXTS else cell)
                for name, cell in zip(shown, row, strict=True)
            )
        )
    return table, left_out


def _keys(names: list[str]) -> list[str]:
    """The columns that say what a row is of, which always stay: the first, and a prompt's id behind a run's name."""
    return names[:2] if names[:2] == ["run", "prompt_id"] else names[:1]


def _fold_keys(keys: list[str], best: list[str], widths: dict[str, int], width: int) -> None:
    """Narrow the keys to half of a width where they leave no room for the columns that matter most beside them."""
    if not best or _least_width([*keys, *best], widths) <= width:
        return
    each = width // (2 * len(keys)) - _GAP
    folded = {name: min(widths[name], max(each, cell_len(printable(name)))) for name in keys}
    if _least_width([*keys, best[-1]], {**widths, **folded}) <= width:
        widths |= folded


def _least_width(shown: list[str], widths: Mapping[str, int]) -> int:
    """The fewest terminal columns that a table takes, with its long texts shortened."""
    return 1 + sum(
        _GAP + (min(widths[name], _NARROWEST_TEXT) if name in _LONG_TEXTS else widths[name]) for name in shown
    )


def _share_out(shown: list[str], widths: dict[str, int], width: int) -> None:
    """Give the long texts, in order, what the other columns leave of a width."""
    left = width - _least_width(shown, widths)
    for name in shown:
        if name in _LONG_TEXTS and widths[name] > _NARROWEST_TEXT:
            more = max(0, min(left, widths[name] - _NARROWEST_TEXT))
            widths[name] = _NARROWEST_TEXT + more
            left -= more


def _cell(value: Any, name: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = printable(str(value))
    return _shortened(text, _WIDEST_TEXT) if name in _LONG_TEXTS else text


def _shortened(text: str, width: int) -> str:
    """A text cut off to so many terminal columns, with a mark where it was."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 3).rstrip()}..."


def without_dust(figures: pl.DataFrame) -> pl.DataFrame:
    """Figures of answers with 0 for what is nothing but rounding: none of them is known to twelve digits.

    >>> without_dust(pl.DataFrame({"gap": [2.8e-17, -1e-6]}))["gap"].to_list()
    [0.0, -1e-06]
    """
    number = selectors.float()
    return figures.with_columns(pl.when(number.abs() > _DUST).then(number).when(number.is_not_null()).then(0.0))


def runs_frame(runs: pl.DataFrame) -> pl.DataFrame:
    """One row per run: its state, its counts, and where its answers came from.

    Args:
        runs: rows of `store.runs`.
    """
    names = {"from_api": "api", "from_batches": "by batch", "from_cache": "cache", "from_fixtures": "fixtures"}
    sources = pl.concat_str(
        [pl.when(pl.col(column) > 0).then(pl.format("{} {}", column, pl.lit(name))) for column, name in names.items()],
        separator=", ",
        ignore_nulls=True,
    )
    sources = pl.when(sources == "", pl.col("completions") > 0).then(pl.lit("imported")).otherwise(sources)
    return runs.select(
        "run",
        pl.when(pl.col("partial") & (pl.col("state") == "finished"))
        .then(pl.lit("trial"))
        .otherwise("state")
        .alias("state"),
        "prompts",
        completions="completions",
        tokens="tokens",
        **({"decisions": "decisions"} if runs["decisions"].sum() else {}),
        failed="failures",
        answers=sources,
        **({"spent_usd": "spent_usd"} if runs["spent_usd"].is_not_null().any() else {}),
    )


LEAST_OF_SCORES: Final = ("completion_id", "token_count", "scored_tokens", "bits_per_byte", "text", "continuation")
"""The columns of `scores_and_columns` to leave out first: a score says more than the text that it is of."""


def scores_and_columns(store: Store) -> tuple[pl.LazyFrame, list[str], list[str]]:
    """The scores for what the runs did, the columns of them to show, and the columns to sort by."""
    jobs = [manifest.job for manifest in store.manifests]
    if jobs and all("decisions" in {name for part in one.parts for name in part.files} for one in store.manifests):
        columns = ["prompt_id", "completion_id", "question", "label", "label_probability", "margin", "runner_up"]
        ids = store.completions.select("run", "completion_id", "prompt_id", "prompt_index", "sample_index")
        return (
            store.decided().join(ids, on=["run", "completion_id"], how="left"),
            columns,
            [
                "label_probability",
                *("run", "completion_id", "position"),
            ],
        )
    if not jobs or any(job.get("model.mode") != "score" for job in jobs):
        columns = ["prompt_id", "completion_id", "text", "confidence", "token_count"]
        return store.scores(), columns, ["confidence"]
    if all(job.get("prompts.continuations") for job in jobs):
        columns = ["prompt_id", "completion_id", "rank", "continuation", "scored_tokens", "loglikelihood", "greedy"]
        return store.candidate_scores(), columns, ["run", "prompt_index", "rank", "candidate"]
    columns = ["prompt_id", "completion_id", "text", "scored_tokens", "perplexity", "bits_per_byte"]
    return store.text_scores(), columns, ["confidence"]


def anomalies_frame(store: Store) -> pl.DataFrame:
    """One row per run with anomalies, counted by kind; docs/store.md explains the kinds."""
    kinds = (
        *("flagged", "chosen_missing", "text_differs", "lossy_bytes", "without_tokens"),
        *("choices_differ", "model_differs", "tier_differs"),
        *("refused_questions", "unanswered_questions", "sums_differ"),
    )
    found = store.runs.select("run", *kinds).filter(pl.any_horizontal(pl.col(kinds) > 0)).collect()
    # Most runs have one kind or two: a column for each of the others would be a row of zeros.
    return found.select("run", *(kind for kind in kinds if found[kind].max()))


def failures_frame(store: Store) -> pl.DataFrame:
    """The open failures, counted by run and error_type, with one message as an example."""
    return (
        store.failures.group_by("run", "error_type", maintain_order=True)
        .agg(prompts=pl.len(), maybe_billed=pl.col("maybe_billed").sum(), example=pl.col("message").first())
        .collect()
    )
