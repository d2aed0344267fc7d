"""What several commands share: exit codes, arguments and options, loading, printing and writing.

An option that only one command has stands in that command's signature.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from logprob_store.cli.completion import complete_run
from logprob_store.cli.streams import shows_all_letters
from logprob_store.counted import counted
from logprob_store.view.safe_text import printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl

    from logprob_store.analysis.opened_store import Store
    from logprob_store.job import Job
    from logprob_store.metrics.labels.probabilities import Shared

EXIT_INPUT: Final = 2
EXIT_FAILURES: Final = 3
EXIT_LIMIT: Final = 4
EXIT_CHANGED: Final = 5
EXIT_UNKNOWN: Final = 6
EXIT_INTERRUPTED: Final = 130

_LOW_COVERAGE: Final = 0.5
_WIDEST: Final = 100_000
"""Columns of a table that is not printed to a terminal: lines as long as they are."""


class TransportKind(StrEnum):
    """How answers are obtained."""

    live = "live"
    batch = "batch"
    replay = "replay"


JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file.")]
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="A store, the folder that `run` wrote.")]
_RUNS_TAKEN: Final = "a name, a pattern such as 'nightly-*', newest or all; several with commas between"
RunOption = Annotated[
    str | None, typer.Option("--run", autocompletion=complete_run, help=f"The run: {_RUNS_TAKEN}. Default: newest.")
]
AllRunsOption = Annotated[
    str | None, typer.Option("--run", autocompletion=complete_run, help=f"The run: {_RUNS_TAKEN}. Default: all.")
]
QuestionOption = Annotated[
    str | None, typer.Option("--question", help='A typed question of model.endpoint = "decisions", by its name.')
]
LogJsonOption = Annotated[bool, typer.Option("--log-json", help="Log events as lines of JSON on standard error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")]
BaseUrlOption = Annotated[str | None, typer.Option(help="The server to ask, instead of the job's.")]
PromptLimitOption = Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")]
LimitOption = Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows to print.")]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write all rows to a .parquet, .csv, .json or .jsonl file.")
]


def load_job_with_overrides(
    path: Path,
    *,
    store: Path | None = None,
    transport: TransportKind | None = None,
    fixtures: Path | None = None,
    base_url: str | None = None,
    select: str | None = None,
) -> Job:
    """The job of a job file, with the settings that the command line replaces."""
    from logprob_store.job import load_job, override

    return override(
        load_job(path),
        store=store,
        transport=None if transport is None else transport.value,
        fixtures=fixtures,
        base_url=base_url,
        select=select,
    )


def checked_question(opened: Store, question: str | None, *, one: bool = False) -> str | None:
    """The name of a typed question that a store's runs asked; None for all of them.

    Args:
        opened: the store with its runs.
        question: the name given; None for none.
        one: whether one question is needed: without a name, it is the only one.

    Raises:
        InputError: no question was asked, there is no such question, or one is needed and there are several.
    """
    from logprob_store.errors import InputError

    if not opened.has_decisions:
        why = "--labels is missing: name the labels" if question is None else f"--question {question!r}"
        raise InputError(
            f'{why}: this run asked no typed questions (model.endpoint = "decisions")'
            + (', with commas between, as "Yes,No"' if question is None else "; --labels finds labels in its answers")
        )
    if question is None and not one:
        return None
    names = opened.decisions.select("question").drop_nulls().unique().sort("question").collect()["question"].to_list()
    if question is None and len(names) == 1:
        return str(names[0])
    if question is None or question not in names:
        from logprob_store.prompts.input_files import closest_first

        near = closest_first(question or "", names) or "none with a name"
        problem = "name the question to judge" if question is None else f"--question {question!r}: was not asked"
        raise InputError(f"{problem}; the run asked: {near}")
    return question


def labels_of(
    opened: Store, names: str, *, shared: Shared, field: str | None, after: str | None = None
) -> pl.DataFrame:
    """The probability of each label in each answer, for the labels of `--labels`.

    Raises:
        InputError: the labels or the field cannot be used; the message names the option.
    """
    from logprob_store.errors import InputError

    wanted = [name.strip() for name in names.split(",")]
    if "" in wanted:
        raise InputError(f'--labels {names!r}: a label is empty: write one comma between two, as "Yes,No"')
    try:
        return opened.labels(wanted, after=after, field=field, shared=shared).collect(engine="streaming")
    except ValueError as error:
        options = {"field ": f"--field {field!r}", "after ": f"--after {after!r}"}
        wrong = next((option for start, option in options.items() if str(error).startswith(start)), None)
        raise InputError(f"{wrong or f'--labels {names!r}'}: {error}") from error


def say_what_is_hidden(labels: pl.DataFrame, *, err: bool) -> None:
    """Say how many answers have labels of which less than half of the probability is known.

    Args:
        labels: the rows of `labels_of`.
        err: whether to say it on standard error, as standard output is for a program.
    """
    import polars as pl

    coverage = labels.group_by("run", "completion_id").agg(pl.col("coverage").first())["coverage"]
    if low := (coverage < _LOW_COVERAGE).sum():
        said = (
            f"{low} of {counted(len(coverage), 'answer')} {'has' if low == 1 else 'have'} a coverage below "
            f"{_LOW_COVERAGE}: most of the probability is on "
            "other words than the labels, or was not sent (top_logprobs); their label_probability is of the rest"
        )
        typer.echo(said, err=True) if err else echo(said)


def by_tier_text(usd_by_tier: Mapping[str, float]) -> str:
    """Dollars by the service tier that they went to.

    >>> by_tier_text({"default": 0.25, "flex": 1.0, "lost": 0.5})
    '$0.2500 default, $1.0000 flex, $0.5000 for lost answers at their worst'
    """
    names = {"lost": "for lost answers at their worst"}
    return ", ".join(f"${usd:,.4f} {names.get(tier, tier)}" for tier, usd in usd_by_tier.items())


def echo(message: object) -> None:
    """Print text, and everything else as one line of JSON; no terminal acts on what stands in either."""
    shown = printable(message, keep="\n\t") if isinstance(message, str) else printable_json(_json(message))
    sys.stdout.write(f"{shown}\n")
    sys.stdout.flush()


def _json(value: object) -> str:
    """A value as JSON; a number that JSON has no word for, such as a logprob of minus infinity, is null."""
    import json

    try:
        return json.dumps(value, default=_plain, ensure_ascii=not shows_all_letters(), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), default=_plain, ensure_ascii=not shows_all_letters())


def _plain(value: object) -> Any:
    """What JSON has no form of: bytes are a list of numbers, as in the APIs' answers, and all else is its text."""
    return list(value) if isinstance(value, bytes) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_rich(renderable: Any) -> None:
    """Print coloured text."""
    from rich.console import Console

    Console(width=terminal_width() or _WIDEST, soft_wrap=terminal_width() is None).print(renderable)


def shows_colours() -> bool:
    """Whether text is printed in colours: not into a file or a pipe, nor with NO_COLOR."""
    from rich.console import Console

    console = Console()
    return console.color_system is not None and not console.no_color


def print_table(frame: pl.DataFrame, *, least: Sequence[str] = ("completion_id",)) -> None:
    """Print a DataFrame, without the columns for which a terminal has no room, and say which these are.

    Args:
        frame: what to print.
        least: the columns to leave out first, in this order; then come the others, from the last.
    """
    from rich.console import Console

    from logprob_store.view.terminal_tables import fitted_table

    table, left_out = fitted_table(frame, terminal_width(), least=least)
    Console(width=terminal_width() or _WIDEST).print(table)
    if left_out:
        echo(f"not shown, for want of room: {', '.join(left_out)}")


def terminal_width() -> int | None:
    """The columns of the terminal, or those that COLUMNS names; None where output goes to a file or a pipe."""
    columns = os.environ.get("COLUMNS", "")
    if not sys.stdout.isatty() and not (columns.isascii() and columns.isdecimal() and int(columns[:9]) > 0):
        return None
    return shutil.get_terminal_size().columns


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame in the format that the file's suffix names.

    In CSV, a text that a spreadsheet would take for a formula has an apostrophe before it.

    Raises:
        InputError: the suffix is not known, or the file cannot be written.
        DiskError: its disk is full, read-only or failing.
    """
    import polars as pl

    from logprob_store.errors import InputError, disk_error
    from logprob_store.view.spreadsheet_text import without_formulas

    writers: dict[str, Callable[[Path], object]] = {
        ".parquet": frame.write_parquet,
        ".csv": lambda path: without_formulas(frame).write_csv(path),
        ".json": frame.write_json,
        ".jsonl": frame.write_ndjson,
    }
    if path.suffix not in writers:
        raise InputError(f"-o {path}: the name must end in one of {', '.join(writers)}")
    try:
        writers[path.suffix](path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise disk_error("the rows", path, error, of_answers=False) or InputError(
            f"-o {path}: cannot be written: {error}"
        ) from error


def write_rows(frame: pl.DataFrame, path: Path, *, as_json: bool) -> None:
    """Write a frame as `write_frame` does, and print where and how many rows.

    Raises:
        InputError: as `write_frame`.
    """
    write_frame(frame, path)
    echo({"output": path, "rows": frame.height} if as_json else f"{path}: {counted(frame.height, 'row')}")


def with_prompt_ids(rows: pl.LazyFrame, completions: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with a column prompt_id after run and completion_id."""
    keys = ["run", "completion_id"]
    others = [name for name in rows.collect_schema().names() if name not in keys]
    known = rows.join(completions.select(*keys, "prompt_id"), on=keys, how="left")
    return known.select(*keys, "prompt_id", *others)


def present_rows(
    rows: pl.LazyFrame,
    columns: list[str],
    order: list[str],
    *,
    output: Path | None,
    limit: int,
    as_json: bool,
    least: Sequence[str] = (),
) -> None:
    """Write all rows to a file, or print the first ones.

    Args:
        rows: with run, completion_id and prompt_id.
        columns: what a printed table shows beside these; JSON and files have all columns.
        order: columns to sort by before printing; a file is sorted by its keys.
        output: the file to write; None prints.
        limit: rows to print.
        as_json: print JSON instead of a table.
        least: of the columns, those that a narrow table leaves out first.
    """
    if output is not None:
        keys = ["run", "completion_id", *(name for name in order if name == "position" or name.endswith("_index"))]
        frame = rows.sort(keys, nulls_last=True).collect(engine="streaming")
        write_rows(frame, output, as_json=as_json)
        return
    shown, count = first_rows(rows.sort(order, nulls_last=True), limit)
    if as_json:
        echo(shown.to_dicts())
        return
    several = ["run"] if shown["run"].n_unique() > 1 else []
    print_table(shown.select(*several, "prompt_id", "completion_id", *columns), least=("completion_id", *least))
    say_if_cut(shown.height, count)


def first_rows(rows: pl.LazyFrame, limit: int) -> tuple[pl.DataFrame, int]:
    """The first rows, and how many there are in all."""
    import polars as pl

    shown, count = pl.collect_all([rows.head(limit), rows.select(pl.len())])
    return shown, int(count.item())


def say_if_cut(shown: int, count: int) -> None:
    """Say that a table has more rows than are printed."""
    if shown < count:
        echo(f"the first {shown} of {counted(count, 'row')} (-n, -o)")


def print_or_write(
    frame: pl.DataFrame, *, output: Path | None, limit: int, as_json: bool, columns: Sequence[str] | None = None
) -> None:
    """Write all rows to a file, or print the first ones.

    Args:
        frame: the rows, in order; of several runs if they differ in `run`.
        output: the file to write; None prints.
        limit: rows to print.
        as_json: print JSON instead of a table.
        columns: what a printed table shows; all when None.
    """
    if output is not None:
        write_rows(frame, output, as_json=as_json)
        return
    shown = frame.head(limit)
    if as_json:
        echo(shown.to_dicts())
        return
    several = ["run"] if columns is not None and shown["run"].n_unique() > 1 else []
    print_table(shown if columns is None else shown.select(*several, *columns))
    say_if_cut(shown.height, frame.height)


def path_from_here(path: Path) -> Path:
    """The path relative to the working directory if it lies below it, else as it is."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
