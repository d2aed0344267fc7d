"""The command `calibrate`: how well confidences agree with the truth, and calibrators fitted and saved.

Metrics are computed by `logprob_store.metrics.truth`; calibrators are fitted and saved by
`logprob_store.analysis.calibrators`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from logprob_store.cli.chosen_runs import open_runs
from logprob_store.cli.common import (
    JsonOption,
    QuestionOption,
    RunOption,
    StorePath,
    checked_question,
    echo,
    labels_of,
    path_from_here,
    print_table,
    say_what_is_hidden,
    write_frame,
)
from logprob_store.counted import counted

if TYPE_CHECKING:
    import polars as pl

    from logprob_store.analysis.calibrators.calibrator import Calibrator
    from logprob_store.analysis.opened_store import Store

_LEAST_OF_THRESHOLDS: Final = ("accuracy_reviewed", "accepted", "reviewed", "high", "low", "coverage")
"""What a narrow table leaves out first: how right the accepted answers are is what it is for."""


class CalibrationMethod(StrEnum):
    """How a calibrator is fitted."""

    isotonic = "isotonic"
    platt = "platt"
    temperature = "temperature"


def calibrate(
    store: StorePath,
    *,
    run: RunOption = None,
    expected: Annotated[
        str | None,
        typer.Option(help="A column kept with the prompts: what the answer should be, but for case and spaces around."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="A .parquet, .csv, .json or .jsonl file with prompt_id or completion_id, and --column."),
    ] = None,
    column: Annotated[
        str, typer.Option(help="The column of --truth: true or false, or a text that the answer should be.")
    ] = "correct",
    confidence: Annotated[
        str | None,
        typer.Option(
            help="The score to judge, a probability; or a kept column. Default: confidence; label_probability of a "
            "question."
        ),
    ] = None,
    question: QuestionOption = None,
    labels: Annotated[
        str | None, typer.Option(help='Labels, as "Yes,No": --confidence may then be label_probability or label_lower.')
    ] = None,
    field: Annotated[str | None, typer.Option(help='The labels\' place in a JSON answer, as "/mood".')] = None,
    bins: Annotated[int, typer.Option(min=1, help="Bins of the reliability table.")] = 10,
    equal_mass: Annotated[bool, typer.Option("--equal-mass", help="Bins of as many answers each.")] = False,
    seed: Annotated[int, typer.Option(help="Of the intervals and of the folds.")] = 0,
    method: Annotated[CalibrationMethod | None, typer.Option(help="Fit a calibrator; needs scikit-learn.")] = None,
    save: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep it beside the store, for `scores --calibrated NAME`.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the reliability table to a file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Is the confidence honest? Hold it against the truth, and fit and save a calibrator.

    Prints accuracy, ECE, ACE, Brier score, AUROC and AURC with 95 % intervals over prompts, the ECE
    and ACE that an honest confidence has by chance, the reliability table, and what each threshold
    accepts.
    """
    from logprob_store.analysis.judged_answers import columns_of_question
    from logprob_store.errors import InputError

    if save is not None and method is None:
        raise InputError("--save wants --method: isotonic (a thousand answers and more), platt, or temperature")
    opened = open_runs(store, run)
    is_question = question is not None or (labels is None and opened.has_decisions)
    name = checked_question(opened, question, one=True) if is_question else None
    if name is not None:
        extra: pl.DataFrame | None = columns_of_question(opened, name)
    else:
        extra = None if labels is None else _label_columns(opened, labels, field)
    confidence = confidence or ("label_probability" if is_question else "confidence")
    rows = _scores_with_truth(opened, expected, truth, column, confidence, extra=extra)
    table, thresholds = _tables(rows, confidence, bins=bins, equal_mass=equal_mass)
    figures = _metrics_with_intervals(rows, confidence, seed)
    _say_if_no_label_is_expected(opened, rows, name, expected)
    fitted, path = None, None
    if method is not None:
        fitted = _fit(opened, rows, confidence, method, seed)
    if save is not None and fitted is not None:
        from logprob_store.analysis.calibrators.storage import save_calibrator

        path = save_calibrator(fitted, store, save)
    if output is not None:
        write_frame(table, output)
    if as_json:
        tables = {"figures": figures, "reliability": table, "thresholds": thresholds}
        echo({**{name: frame.to_dicts() for name, frame in tables.items()}, **_calibrator_as_json(fitted, path)})
        return
    _print_tables(rows, figures, table, thresholds)
    if fitted is not None:
        echo(fitted.describe())
    if path is not None:
        echo(f"saved in {path_from_here(path)}; `logprobs scores {store} --calibrated {save}` applies it")
    if output is not None:
        echo(f"{output}: the reliability table")


def _scores_with_truth(
    opened: Store,
    expected: str | None,
    truth: Path | None,
    column: str,
    confidence: str,
    *,
    extra: pl.DataFrame | None,
) -> pl.DataFrame:
    """`judged_answers`, with the options in its errors.

    Raises:
        InputError: as it says; the message names the option.
    """
    from logprob_store.analysis.judged_answers import judged_answers
    from logprob_store.errors import InputError

    if (expected is None) == (truth is None):
        raise InputError("say what is right: --expected COLUMN, kept with the prompts, or --truth FILE")
    try:
        return judged_answers(opened, expected=expected, truth=truth, column=column, confidence=confidence, extra=extra)
    except InputError as error:
        is_of_option = str(error).startswith((f"confidence {confidence}: ", f"column {column}: "))
        if not is_of_option:
            raise
        raise InputError(f"--{error}") from error


def _label_columns(opened: Store, labels: str, field: str | None) -> pl.DataFrame:
    """The probability of each answer's likeliest label, with its bounds.

    Raises:
        InputError: the labels or the field cannot be used.
    """
    from logprob_store.analysis.judged_answers import columns_of_labels

    probabilities = labels_of(opened, labels, field=field, shared="bound")
    say_what_is_hidden(probabilities, err=True)
    return columns_of_labels(probabilities.lazy())


def _say_if_no_label_is_expected(opened: Store, rows: pl.DataFrame, question: str | None, expected: str | None) -> None:
    """Say on standard error that the truths are none of a question's labels, so that no answer can be right."""
    import polars as pl

    from logprob_store.view.safe_text import printable

    if question is None or expected is None or rows["correct"].any():
        return
    labels = opened.labels(question=question).select(pl.col("label", "level")).unique().collect()
    known = {*labels["label"], *labels["level"]} - {None}
    column = opened.prompts.select(pl.col(expected).cast(pl.String, strict=False)).drop_nulls().unique()
    truths = set(column.collect().to_series())
    if not known & truths:
        said = (
            f"no value of {expected} is a label of the question {question!r}, so that no answer is right: its labels "
            f"are {_some(known)}; {expected} has {_some(truths)}"
        )
        typer.echo(printable(said), err=True)


def _some(texts: set[str]) -> str:
    """A few of these texts, as they are written."""
    first, most = sorted(texts), 5
    return ", ".join(first[:most]) + (", ..." if len(first) > most else "")


def _metrics_with_intervals(rows: pl.DataFrame, confidence: str, seed: int) -> pl.DataFrame:
    """The metrics over all answers with intervals and floors; answers to one prompt are taken together."""
    import polars as pl

    from logprob_store.metrics.truth.accuracy import accuracy
    from logprob_store.metrics.truth.bootstrap import bootstrap
    from logprob_store.metrics.truth.calibration import ace, brier, ece
    from logprob_store.metrics.truth.calibration_intervals import calibration_floor
    from logprob_store.metrics.truth.ranking import aurc, auroc

    exprs = [metric(confidence) for metric in (accuracy, ece, ace, brier, auroc, aurc)]
    has_samples = rows["prompt_id"].is_duplicated().any()
    figures = bootstrap(rows, exprs, groups="prompt_id" if has_samples else None, seed=seed)
    floors = {
        metric(confidence).meta.output_name(): calibration_floor(rows, metric(confidence)) for metric in (ece, ace)
    }
    return figures.with_columns(floor=pl.col("metric").replace_strict(floors, default=None, return_dtype=pl.Float64))


def _tables(rows: pl.DataFrame, confidence: str, *, bins: int, equal_mass: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The reliability table, and what each threshold accepts.

    The intervals of accuracy take the answers to one prompt together, as those of the figures do.
    """
    import polars as pl

    from logprob_store.metrics.truth.calibration import reliability_table
    from logprob_store.metrics.truth.selective import accuracy_by_threshold

    table = reliability_table(rows, confidence, bins=bins, binning="mass" if equal_mass else "width").collect()
    thresholds = accuracy_by_threshold(rows, confidence).collect()
    if not rows["prompt_id"].is_duplicated().any():
        return table, thresholds
    c = pl.col(confidence)
    highest = table["upper"].max()
    in_bins = [  # a bin of equal width ends before the next one, and the last at 1
        c.is_between(lower, upper, closed="both" if equal_mass or upper == highest else "left")
        for lower, upper in table.select("lower", "upper").iter_rows()
    ]
    accepted = [c >= threshold for threshold in thresholds["threshold"]]
    return (
        table.with_columns(_accuracy_ends(rows, confidence, in_bins, "accuracy")),
        thresholds.with_columns(_accuracy_ends(rows, confidence, accepted, "accuracy_accepted")),
    )


def _accuracy_ends(rows: pl.DataFrame, confidence: str, parts: list[pl.Expr], name: str) -> list[pl.Series]:
    """The ends of the interval of the accuracy of each part of the rows, over prompts; null where none is judged."""
    import polars as pl

    from logprob_store.metrics.truth.shares import grouped_share_interval

    judged = rows.filter(pl.col(confidence).is_not_null() & pl.col("correct").is_not_null())
    ends = []
    for part in parts:
        by_prompt = judged.filter(part).group_by("prompt_id").agg(pl.col("correct").cast(pl.Int64).sum(), pl.len())
        ends.append(grouped_share_interval(by_prompt["correct"], by_prompt["len"])[1:])
    return [
        pl.Series(f"{name}_{end}", values, dtype=pl.Float64)
        for end, values in zip(("low", "high"), zip(*ends, strict=True), strict=True)
    ]


def _fit(opened: Store, rows: pl.DataFrame, confidence: str, method: CalibrationMethod, seed: int) -> Calibrator:
    from datetime import UTC, datetime

    from logprob_store.analysis.calibrators.fit import calibrate as fit
    from logprob_store.errors import InputError

    try:
        return fit(
            rows,
            confidence=confidence,
            method=method.value,
            groups="prompt_id",
            seed=seed,
            store=opened,
            fitted_at=datetime.now(UTC),
        )
    except ImportError as error:
        raise InputError(str(error)) from error


def _print_tables(rows: pl.DataFrame, figures: pl.DataFrame, table: pl.DataFrame, thresholds: pl.DataFrame) -> None:
    import polars as pl

    from logprob_store.metrics.truth.calibration_intervals import FEWEST_ROWS
    from logprob_store.view.terminal_tables import without_dust

    unjudged = table["unjudged"][0]
    judged = rows.height - unjudged
    echo(f"{counted(rows.height, 'answer')}: {judged} judged, {unjudged} without a confidence or a truth and left out")
    print_table(without_dust(figures.drop("resamples")))
    echo(
        "low and high: 95 % intervals, for every accuracy the exact one (Clopper and Pearson); docs/statistics.md says "
        "of the others"
    )
    echo("floor: what a perfectly honest confidence would have by chance, with as many answers")
    if figures.filter(pl.col("floor").is_not_null() & pl.col("low").is_null()).height:
        echo(f"no interval of ece and ace: below {FEWEST_ROWS} independent answers none was found that holds")
    echo("reliability: gap is mean confidence minus accuracy")
    print_table(without_dust(table.filter(table["count"] > 0).drop("bin", "unjudged")))
    echo("accepting from a threshold on, and reviewing the rest")
    ends = {"accuracy_accepted_low": "low", "accuracy_accepted_high": "high"}
    shown = ("threshold", "accepted", "reviewed", "coverage", "accuracy_accepted", *ends, "accuracy_reviewed")
    print_table(without_dust(thresholds.select(shown).rename(ends)), least=_LEAST_OF_THRESHOLDS)
    echo(
        "a threshold chosen by these answers lets through more errors among new ones in over half of cases; "
        "`ls.guaranteed_threshold` finds one that holds"
    )


def _calibrator_as_json(fitted: Calibrator | None, path: Path | None) -> dict[str, Any]:
    import msgspec

    return {"calibrator": None if fitted is None else msgspec.to_builtins(fitted), "saved": path}
