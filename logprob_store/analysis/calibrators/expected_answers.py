"""Which answers are right: the truth from a file or from a column that the prompts kept, beside the scores.

Leaves out what is made of it (`logprob_store.metrics`), and any judgement finer than equal texts: for that, write a
file. Rows are in the order of their keys, so that what is drawn from them by a seed is the same each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.errors import InputError
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from logprob_store.store.tables import Store

_STORE_COLUMNS: Final = frozenset({"run", "prompt_id", "prompt_index", "messages"})
_READERS: Final[dict[str, Callable[[Path], pl.DataFrame]]] = {
    ".parquet": pl.read_parquet,
    ".csv": pl.read_csv,
    ".jsonl": pl.read_ndjson,
    ".json": pl.read_json,
}


def same_text(answer: pl.Expr, expected: pl.Expr) -> pl.Expr:
    r"""Whether two texts are the same but for white space around them and the case of letters; null where one is.

    >>> frame = pl.DataFrame({"text": [" Paris\n", "paris", "Paris, France"], "expected": "Paris"})
    >>> frame.select(same_text(pl.col("text"), pl.col("expected"))).to_series().to_list()
    [True, True, False]
    """
    return _without_form(answer) == _without_form(expected)


def with_expected(store: Store, column: str) -> pl.DataFrame:
    """The store's scores with `correct`: whether the text is `same_text` as a column that the job's prompts kept.

    Raises:
        InputError: no prompt has such a column; the message lists those there are.
    """
    names = [name for name in store.prompts.collect_schema().names() if name not in _STORE_COLUMNS]
    if column not in names:
        listed = ", ".join(names) or "none: name them in the job's prompts.keep"
        raise InputError(f"no column {column!r} was kept with the prompts; there are: {listed}")
    expected = store.prompts.select("run", "prompt_index", pl.col(column).cast(pl.String).alias("__expected"))
    scores = store.scores().join(expected, on=["run", "prompt_index"], how="left")
    right = same_text(pl.col("text"), pl.col("__expected"))
    return scores.with_columns(correct=right).drop("__expected").sort(KEYS).collect()


def with_truth_file(store: Store, path: Path, column: str) -> pl.DataFrame:
    """The store's scores with `correct`, from a .parquet, .csv, .json or .jsonl file of truths.

    The file has a `completion_id` or a `prompt_id`, and a `run` where they differ by run. `column` says whether the
    answer is right (true and false, 1 and 0), or, if it is text, what the answer should be (`same_text`). Answers that
    the file does not name have a null.

    Raises:
        InputError: the file cannot be read, lacks the columns, names one answer twice, or none of the store's.
    """
    truths = _read_truths(path)
    id_columns = [name for name in ("completion_id", "prompt_id") if name in truths.columns][:1]
    if not id_columns or column not in truths.columns:
        raise InputError(
            f"{path} has the columns {', '.join(truths.columns)}; it takes completion_id or prompt_id, and {column}"
        )
    keys = [*(["run"] if "run" in truths.columns else []), *id_columns]
    key_columns = [pl.col(name).cast(pl.Int64 if name == "completion_id" else pl.String) for name in keys]
    truths = truths.select(*key_columns, pl.col(column).alias("__truth")).drop_nulls("__truth")
    if truths.select(pl.struct(keys).is_duplicated().any()).item():
        first = truths.filter(pl.struct(keys).is_duplicated()).row(0, named=True)
        raise InputError(
            f"{path} has {', '.join(f'{key} {first[key]}' for key in keys)} twice; give one truth for each"
        )
    scores = store.scores().sort(KEYS).collect().join(truths, on=keys, how="left", maintain_order="left")
    if scores.height and scores["__truth"].is_null().all():
        raise InputError(f"{path} names none of the answers in {store.path}; is it of another run or job?")
    truth = pl.col("__truth")
    right = same_text(pl.col("text"), truth) if truths.schema["__truth"] == pl.String else truth
    return scores.with_columns(correct=right).drop("__truth")


def _without_form(text: pl.Expr) -> pl.Expr:
    return text.str.strip_chars().str.to_lowercase()


def _read_truths(path: Path) -> pl.DataFrame:
    if path.suffix not in _READERS:
        raise InputError(f"{path}: the name must end in one of {', '.join(_READERS)}")
    try:
        return _READERS[path.suffix](path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
