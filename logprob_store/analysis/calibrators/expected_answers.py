"""Whether answers are right: the truth from a file, or from a column kept with the prompts, beside the scores.

Texts are compared for equality only; put any finer judgement into a file. Rows are sorted by their keys, so that a seed
draws the same rows every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.errors import InputError
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from logprob_store.analysis.any_store import AnyStore

_STORE_COLUMNS: Final = frozenset({"run", "prompt_id", "prompt_index", "messages"})
_READERS: Final[dict[str, Callable[[Path], pl.DataFrame]]] = {
    ".parquet": pl.read_parquet,
    ".csv": pl.read_csv,
    ".jsonl": pl.read_ndjson,
    ".json": pl.read_json,
}


def same_text(answer: pl.Expr, expected: pl.Expr) -> pl.Expr:
    r"""Whether two texts are equal, ignoring white space around them and case; null where either is null.

    >>> frame = pl.DataFrame({"text": [" Paris\n", "paris", "Paris, France"], "expected": "Paris"})
    >>> frame.select(same_text(pl.col("text"), pl.col("expected"))).to_series().to_list()
    [True, True, False]
    """
    return _without_form(answer) == _without_form(expected)


def with_expected(store: AnyStore, column: str, *, answers: pl.DataFrame | None = None) -> pl.DataFrame:
    """The scores of a store with `correct`: whether the text equals a column kept with the prompts (`same_text`).

    Args:
        store: the store.
        column: kept with the prompts.
        answers: what is judged in place of the texts, by run and completion_id: `answer`, or `level`, its words.

    Raises:
        InputError: no such column was kept with the prompts (the message lists those that were), or it has no text.
    """
    schema = store.prompts.collect_schema()
    names = [name for name in schema.names() if name not in _STORE_COLUMNS]
    if column not in names:
        kept = f"there are: {', '.join(names)}" if names else "no other was: name them in the job's prompts.keep"
        raise InputError(f"no column {column!r} was kept with the prompts; {kept}")
    if (kind := schema[column]).is_nested() or kind in {pl.Binary, pl.Duration}:
        raise InputError(
            f"column {column!r} is {kind}, which has no text to compare with an answer's; use --truth FILE"
        )
    expected = store.prompts.select("run", "prompt_index", pl.col(column).cast(pl.String).alias("__expected"))
    scores = _with_answers(store.scores(), answers).join(expected, on=["run", "prompt_index"], how="left")
    right = _is_right(pl.col("__expected"), answers)
    return scores.with_columns(correct=right).drop("__expected").sort(KEYS).collect()


def with_truth_file(store: AnyStore, path: Path, column: str, *, answers: pl.DataFrame | None = None) -> pl.DataFrame:
    """The scores of a store with `correct`, from a .parquet, .csv, .json or .jsonl file of truths.

    Args:
        store: the store.
        path: a file with `completion_id` or `prompt_id`, and `run` where the truth differs by run.
        column: the column of the file that says whether the answer is right (true and false, 1 and 0), or a column of
            texts that the answer should equal (`same_text`). Answers that the file does not name get null.
        answers: as for `with_expected`.

    Raises:
        InputError: the file cannot be read, lacks the columns, names an answer twice, or names none of the store.
    """
    truths = _read_truths(path)
    id_columns = [name for name in ("completion_id", "prompt_id") if name in truths.columns][:1]
    if not id_columns or column not in truths.columns:
        raise InputError(
            f"{path} has the columns {', '.join(truths.columns)}; it takes completion_id or prompt_id, and {column}"
        )
    keys = [*(["run"] if "run" in truths.columns else []), *id_columns]
    key_columns = [pl.col(name).cast(pl.Int64 if name == "completion_id" else pl.String) for name in keys]
    if path.suffix == ".csv":  # the command line writes an apostrophe before an id that begins like a formula
        key_columns = [
            key if key.meta.output_name() == "completion_id" else _without_apostrophe(key) for key in key_columns
        ]
    truths = truths.select(*key_columns, pl.col(column).alias("__truth")).drop_nulls("__truth")
    if truths.select(pl.struct(keys).is_duplicated().any()).item():
        first = truths.filter(pl.struct(keys).is_duplicated()).row(0, named=True)
        raise InputError(
            f"{path} has {', '.join(f'{key} {first[key]}' for key in keys)} twice; give one truth for each"
        )
    scores = _with_answers(store.scores(), answers).sort(KEYS).collect()
    scores = scores.join(truths, on=keys, how="left", maintain_order="left")
    if scores.height and scores["__truth"].is_null().all():
        raise InputError(f"{path} names none of the answers in {store.path}; is it of another run or job?")
    truth = pl.col("__truth")
    right = _is_right(truth, answers) if truths.schema["__truth"] == pl.String else truth
    return scores.with_columns(correct=right).drop("__truth")


def _with_answers(scores: pl.LazyFrame, answers: pl.DataFrame | None) -> pl.LazyFrame:
    return scores if answers is None else scores.join(answers.lazy(), on=KEYS, how="left")


def _is_right(expected: pl.Expr, answers: pl.DataFrame | None) -> pl.Expr:
    if answers is None:
        return same_text(pl.col("text"), expected)
    by_words = same_text(pl.col("level"), expected).fill_null(value=False)
    return same_text(pl.col("answer"), expected) | by_words


def _without_apostrophe(text: pl.Expr) -> pl.Expr:
    return text.str.replace(r"^'('*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])", "$1")


def _without_form(text: pl.Expr) -> pl.Expr:
    return text.str.strip_chars().str.to_lowercase()


def _read_truths(path: Path) -> pl.DataFrame:
    if path.suffix not in _READERS:
        raise InputError(f"{path}: the name must end in one of {', '.join(_READERS)}")
    try:
        return _READERS[path.suffix](path)
    except (OSError, pl.exceptions.PolarsError) as error:
        said = str(error).partition("\n")[0]  # polars goes on about its own options
        raise InputError(f"{path} cannot be read: {said}") from error
