"""What a page asks of the prepared rows: a page of a list, histograms, the values of a column, how many there are.

Nothing of a question is computed twice in a row: the rows of the last filters and the order by each score are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from logprob_store.errors import InputError
from logprob_store.explorer.preparing import SCORES, kept_in, numbers_in, scores_in
from logprob_store.explorer.selection import AS_ASKED, WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from logprob_store.explorer.preparing import Prepared
    from logprob_store.explorer.selection import Page, Selection

    Numbers = NDArray[np.uint32]

BINS: Final = 40
_MOST_VALUES: Final = 50
_FILTERS_KEPT: Final = 8
_LISTED: Final = (
    *("run", "completion_id", "prompt_id", "prompt_index", "sample_index", "choice_index", "model", "finish_reason"),
    *("error_type", "label", "verdict", "text", *SCORES),
)


class Questions:
    """Answers over prepared rows. Several threads may ask at a time.

    Args:
        prepared: the rows.
        left_out: the runs that could not be read, each with why.
    """

    def __init__(self, prepared: Prepared, *, left_out: Mapping[str, str] | None = None) -> None:
        self.prepared = prepared
        self._left_out = dict(left_out or {})
        self._filtered: OrderedDict[Selection, Numbers] = OrderedDict()
        self._orders: dict[str, tuple[Numbers, int]] = {}
        self._ends: dict[str, tuple[float, float]] = {}
        self._largest: dict[str, float] = {}
        self._filtering = threading.Lock()
        self._sorting = threading.Lock()

    @property
    def rows(self) -> pl.DataFrame:
        """All rows."""
        return self.prepared.rows

    def numbers(self, selection: Selection) -> Numbers:
        """The numbers of the rows of a selection, rising; uint32[rows]."""
        if selection.is_everything:
            return np.arange(self.rows.height, dtype=np.uint32)
        with self._filtering:  # also while it works: a page asks several questions of one selection at a time
            if (known := self._filtered.get(selection)) is not None:
                self._filtered.move_to_end(selection)
                return known
            mask = self.rows.lazy().select(selection.expression()).collect().to_series()
            found: Numbers = mask.arg_true().to_numpy().astype(np.uint32, copy=False)
            self._filtered[selection] = found
            while len(self._filtered) > _FILTERS_KEPT:
                self._filtered.popitem(last=False)
            return found

    def page(self, page: Page) -> dict[str, Any]:
        """The rows of a page as JSON, with how many the selection has and the number of its last page."""
        found = self.numbers(page.selection)
        start = (page.number - 1) * page.size
        shown = self._in_order(found, page)[start : start + page.size]
        rows = self.rows[shown].select(name for name in _LISTED if name in self.rows.columns)
        return {
            "total": len(found),
            "page": page.number,
            "pages": max(1, -(-len(found) // page.size)),
            "rows": [{name: _finite(value) for name, value in row.items()} for row in rows.to_dicts()],
        }

    def histogram(self, selection: Selection, score: str) -> dict[str, Any]:
        """How often each value of a score is, in bins of equal width over the values of all rows.

        The bins are the same whatever the selection, so that a filter changes heights and not places. `low` and `high`
        are the ends, `beyond` says whether the last bin also has larger values, `missing` counts the rows without the
        score.

        Raises:
            InputError: there is no such score.
        """
        if score not in (known := numbers_in(self.rows)):
            raise InputError(f"{score}: there is no such score; there are {', '.join(known)}")
        values = self.rows[score].cast(pl.Float64)
        low, high = self._ends_of(score)
        chosen = values if selection.is_everything else values.gather(self.numbers(selection))
        counts, missing = _counts(chosen, low, high)
        beyond = self._largest[score] > high
        return {"score": score, "low": low, "high": high, "bins": counts, "missing": missing, "beyond": beyond}

    def values(self, selection: Selection, column: str, contains: str = "") -> list[tuple[str, int]]:
        """The values of a column of words and how often each is, as far as a list goes: fifty.

        The most frequent are first; numbers that all fit are in their own order. `overview` says how many there are.

        Args:
            selection: of the rows that count.
            column: the column.
            contains: what the values contain; capital and small letters are alike.

        Raises:
            InputError: there is no such column.
        """
        if column not in (columns := {*WORDS, *kept_in(self.rows)}):
            raise InputError(f"{column}: there is no such column of words; there are {', '.join(sorted(columns))}")
        chosen = self.rows[column]
        if not selection.is_everything:
            chosen = chosen.gather(self.numbers(selection))
        counted = chosen.drop_nulls().value_counts(name="n")
        if contains:
            small = pl.select(pl.lit(contains).str.to_lowercase()).item()
            words = pl.col(column).cast(pl.String).str.to_lowercase()
            counted = counted.filter(words.str.contains(small, literal=True))
        if chosen.dtype.is_numeric() and counted.height <= _MOST_VALUES:
            counted = counted.sort(column)
        else:
            counted = counted.sort("n", column, descending=[True, False])
        shown = counted.head(_MOST_VALUES).select(pl.col(column).cast(pl.String), "n")
        return [(value, count) for value, count in shown.iter_rows()]

    def warm(self) -> None:
        """Find the overview, and the order by each score (4 bytes a row), which the first question would wait for."""
        _ = self.overview
        for score in scores_in(self.rows):
            self._order(score)
            self._ends_of(score)

    @cached_property
    def overview(self) -> dict[str, Any]:
        """What there is to filter by: the runs, scores and kept columns, and how many rows there are."""
        counted = self.rows.group_by("run").agg(
            pl.col("completion_id").count().alias("answers"), pl.col("error_type").count().alias("failures")
        )
        by_run = {run: (answers, failures) for run, answers, failures in counted.iter_rows()}
        runs = [
            {
                "run": manifest.run,
                "job": manifest.job_name,
                "model": manifest.job.get("model.name"),
                "state": manifest.state,
                "created_at": manifest.created_at.isoformat(timespec="seconds"),
                "answers": by_run.get(manifest.run, (0, 0))[0],
                "failures": by_run.get(manifest.run, (0, 0))[1],
                "usd": manifest.spent.usd,
            }
            for manifest in self.prepared.store.manifests
        ]
        words = [name for name in (*WORDS, *kept_in(self.rows)) if name in self.rows.columns]
        return {
            "store": str(self.prepared.store.path),
            "runs": runs,
            "newest": self.prepared.store.newest_run() if runs else None,
            "scores": scores_in(self.rows),
            "kept": kept_in(self.rows),
            "left_out": self._left_out,
            "values": {name: self.rows[name].n_unique() - bool(self.rows[name].null_count()) for name in words},
        }

    def _in_order(self, found: Numbers, page: Page) -> Numbers:
        """Numbers of rows in the order of a page; rows without the score come last."""
        if page.sort == AS_ASKED:
            return found[::-1] if page.descending else found
        order, known = self._order(page.sort)
        if page.descending:
            order = np.concatenate([order[:known][::-1], order[known:]])
        if len(found) == self.rows.height:
            return order
        is_found = np.zeros(self.rows.height, dtype=bool)
        is_found[found] = True
        return order[is_found[order]]

    def _order(self, score: str) -> tuple[Numbers, int]:
        """The numbers of all rows by a rising score, those without it last, and how many have it."""
        with self._sorting:
            if score not in self._orders:
                values = self.rows[score].cast(pl.Float64).fill_nan(None)
                order: Numbers = values.arg_sort(nulls_last=True).to_numpy().astype(np.uint32, copy=False)
                self._orders[score] = (order, values.count())
            return self._orders[score]

    def _ends_of(self, score: str) -> tuple[float, float]:
        if score not in self._ends:
            values = self.rows[score].cast(pl.Float64)
            self._largest[score] = float(values.fill_nan(None).max() or 0.0)  # type: ignore[arg-type]
            self._ends[score] = _ends(values)
        return self._ends[score]


def _ends(values: pl.Series) -> tuple[float, float]:
    """Where a histogram begins and ends: 0 and 1 for shares, else the values; a few far ones go into the last bin."""
    known = values.filter(values.is_finite())
    if not known.len():
        return 0.0, 1.0
    low, high = float(known.min() or 0.0), float(known.max() or 0.0)  # type: ignore[arg-type]
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    far = float(known.quantile(0.995) or 0.0)
    if high > low + 3 * (far - low) > low:
        high = far
    return (low, high) if high > low else (low, low + 1.0)


def _counts(values: pl.Series, low: float, high: float) -> tuple[list[int], int]:
    """Counts by bin, the last with all that lie beyond; and how many values are not known."""
    known = values.drop_nulls().drop_nans()
    places = ((known - low) / (high - low) * BINS).clip(0, BINS - 1).cast(pl.UInt32)
    counts = np.bincount(places.to_numpy(), minlength=BINS)
    return counts.tolist(), values.len() - known.len()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
