"""One row per completion: what it holds, what it leaves out, and what it does not read."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import logprob_store as ls
from logprob_store.errors import InputError
from logprob_store.metrics.engine.catalogue import SCORES, Score
from logprob_store.metrics.engine.score_table import PartBatch, scores_of_parts
from logprob_store.schema import ALTERNATIVES, COMPLETIONS, KEYS, TOKENS

if TYPE_CHECKING:
    from pathlib import Path

MEANS_OF_TOKENS = [name for name, score in SCORES.items() if score.of_token and name.startswith("mean_")]
HALF, QUARTER, EIGHTH = math.log(0.5), math.log(0.25), math.log(0.125)

COLUMNS = [
    "run",
    "completion_id",
    "prompt_id",
    "prompt_index",
    "sample_index",
    "choice_index",
    "finish_reason",
    "text",
    "token_count",
    "scored_tokens",
    "unscored_tokens",
    "logprob_sum",
    "joint_probability",
    "mean_logprob",
    "confidence",
    "perplexity",
    "min_probability",
    "mean_entropy",
    "mean_margin",
    "mean_missing_mass",
]


def table(schema: pl.Schema, rows: list[dict[str, Any]]) -> pl.LazyFrame:
    """Rows of a store's table, of run r."""
    return pl.DataFrame(rows, schema=schema, orient="row").lazy().with_columns(run=pl.lit("r"))


COMPLETION_ROWS = table(
    COMPLETIONS,
    [{"completion_id": i, "prompt_id": str(i), "text": f"answer {i}", "token_count": 2} for i in (1, 2, 3)],
)
# completion 1: a prompt token, then 1/2, 1/8 and an unscored one; 2: only an unscored one; 3: no rows
TOKEN_ROWS = table(
    TOKENS,
    [
        {"completion_id": 1, "section": "prompt", "position": 0, "logprob": -20.0},
        {"completion_id": 1, "section": "content", "position": 0, "logprob": HALF},
        {"completion_id": 1, "section": "content", "position": 1, "logprob": EIGHTH},
        {"completion_id": 1, "section": "content", "position": 2, "logprob_flag": "missing"},
        {"completion_id": 2, "section": "content", "position": 0, "logprob_flag": "sentinel"},
    ],
)
ALTERNATIVE_ROWS = table(
    ALTERNATIVES,
    [
        {"completion_id": 1, "section": section, "position": position, "rank": rank, "logprob": logprob}
        for section, position, rank, logprob in [
            ("prompt", 0, 1, HALF),
            ("prompt", 0, 2, HALF),
            ("content", 0, 1, HALF),
            ("content", 0, 2, QUARTER),
            ("content", 1, 1, EIGHTH),
            ("content", 1, 2, HALF),
            ("content", 1, 3, EIGHTH),
            ("content", 2, 1, HALF),
        ]
    ],
)


def scored(alternatives: pl.LazyFrame | None = ALTERNATIVE_ROWS) -> pl.LazyFrame:
    """The scores of the rows above."""
    return ls.scores(TOKEN_ROWS, alternatives, COMPLETION_ROWS)


def test_columns_are_the_contract() -> None:
    """The same columns with and without alternatives."""
    assert scored().collect_schema().names() == COLUMNS
    assert scored(None).collect_schema() == scored().collect_schema()


def test_first_completion_by_hand() -> None:
    """1/2 and 1/8 make 1/16, a geometric mean of 1/4; the prompt token and the unscored one are left out."""
    row = scored().filter(completion_id=1).collect().row(0, named=True)

    assert (row["scored_tokens"], row["unscored_tokens"]) == (2, 1)
    assert row["logprob_sum"] == pytest.approx(-4 * math.log(2))
    assert row["joint_probability"] == pytest.approx(1 / 16)
    assert row["mean_logprob"] == pytest.approx(-2 * math.log(2))
    assert row["confidence"] == pytest.approx(1 / 4)
    assert row["perplexity"] == pytest.approx(4)
    assert row["min_probability"] == pytest.approx(1 / 8)
    # two positions count: (1/2, 1/4 | 1/4) and (1/2, 1/8, 1/8 | 1/4), the third has one alternative
    assert row["mean_entropy"] == pytest.approx((1.5 + 1.75) / 2 * math.log(2))
    assert row["mean_margin"] == pytest.approx((1 / 4 + 3 / 8) / 2)
    assert row["mean_missing_mass"] == pytest.approx(1 / 4)


@pytest.mark.parametrize(("completion", "unscored"), [(2, 1), (3, 0)])
def test_completion_without_scored_tokens_stays(completion: int, unscored: int) -> None:
    """An answer with only flagged tokens, or none, keeps its row: counts, and null for every score."""
    row = scored().filter(completion_id=completion).collect().row(0, named=True)

    assert row["text"] == f"answer {completion}"
    assert (row["scored_tokens"], row["unscored_tokens"]) == (0, unscored)
    assert [row[name] for name in COLUMNS[11:]] == [None] * 9


@pytest.mark.parametrize("alternatives", [None, ALTERNATIVE_ROWS], ids=["without", "with"])
def test_both_engines_agree(alternatives: pl.LazyFrame | None) -> None:
    """Streamed and in memory, the table is the same."""
    query = scored(alternatives).sort(KEYS)

    assert_frame_equal(query.collect(engine="streaming"), query.collect(engine="in-memory"))


def test_empty_store_has_no_rows() -> None:
    """Three tables without rows give a table without rows, with its columns."""
    empty = ls.scores(TOKEN_ROWS.clear(), ALTERNATIVE_ROWS.clear(), COMPLETION_ROWS.clear()).collect()

    assert (empty.height, empty.columns) == (0, COLUMNS)


def test_token_scores_do_not_read_the_alternatives(tmp_path: Path) -> None:
    """With the alternatives' file gone, a query of token columns answers, and one of mean_entropy cannot."""
    path = tmp_path / "alternatives.parquet"
    ALTERNATIVE_ROWS.sink_parquet(path)
    query = scored(pl.scan_parquet(path)).filter(pl.col("perplexity") > 2)
    query.collect_schema()
    path.unlink()

    assert query.select("completion_id", "perplexity").collect().rows() == [(1, pytest.approx(4))]
    with pytest.raises(FileNotFoundError):
        query.select("mean_entropy").collect()


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
def test_a_filter_on_an_alternatives_column_reads_them(engine: Literal["streaming", "in-memory"]) -> None:
    """A column that is only filtered by counts as asked for."""
    query = scored().filter(pl.col("mean_entropy") > 1).select("completion_id")

    assert query.collect(engine=engine).rows() == [(1,)]


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
def test_an_error_on_the_way_is_an_error(engine: Literal["streaming", "in-memory"]) -> None:
    """What goes wrong while rows are read ends the query with an error, not with the rows so far."""
    failing = TOKEN_ROWS.with_columns(logprob=pl.col("section").cast(pl.String).cast(pl.Float64))

    with pytest.raises(pl.exceptions.InvalidOperationError, match="content"):
        ls.scores(failing, ALTERNATIVE_ROWS, COMPLETION_ROWS).collect(engine=engine)


@pytest.mark.parametrize("alternatives", [None, ALTERNATIVE_ROWS], ids=["without", "with"])
def test_a_filter_on_the_run_reaches_the_files(tmp_path: Path, alternatives: pl.LazyFrame | None) -> None:
    """A run that is filtered out is not read: its file may be damaged."""
    for run in ("r", "s"):
        folder = tmp_path / f"run={run}"
        folder.mkdir()
        TOKEN_ROWS.drop("run").sink_parquet(folder / "part-00000.parquet")
    (tmp_path / "run=s" / "part-00000.parquet").write_bytes(b"damaged")
    tokens = pl.scan_parquet(tmp_path / "**/*.parquet", hive_partitioning=True)
    query = ls.scores(tokens, alternatives, COMPLETION_ROWS)

    assert query.filter(pl.col("run") == "r").collect().height == 3


def test_sampled_tokens_can_be_given_their_mass() -> None:
    """`with_chosen` fits in where alternatives are expected."""
    more = ls.with_chosen(ALTERNATIVE_ROWS, TOKEN_ROWS)

    assert scored(more).collect().height == 3


@pytest.mark.parametrize(
    "name", [name for name, score in SCORES.items() if score.from_totals is not None or score.from_tokens is not None]
)
def test_a_score_by_name_is_the_metric_of_that_name(name: str) -> None:
    """Scores computed from totals are those of the metric's own function, to the last digits."""
    named = {"tail_confidence": ls.sliding_confidence(window=32, statistic="tail").alias("tail_confidence")}
    options = {"sliding_confidence": {"window": 32}}
    metric = named.get(name, getattr(ls, name, None) and getattr(ls, name)(**options.get(name, {})))
    own = TOKEN_ROWS.filter(ls.generated()).group_by(KEYS).agg(metric.cast(pl.Float64))
    actual = ls.scores(TOKEN_ROWS, None, COMPLETION_ROWS, metrics=[name]).select(*KEYS, pl.col(name).cast(pl.Float64))

    assert_frame_equal(
        actual.filter(pl.col("completion_id") < 3).sort(KEYS).collect(), own.sort(KEYS).collect(), check_exact=False
    )


@pytest.mark.parametrize("name", [name.removeprefix("mean_") for name in SCORES if name in MEANS_OF_TOKENS])
def test_a_mean_by_name_is_the_mean_of_that_metric(name: str) -> None:
    """mean_<name> is the mean over tokens of the metric's own function."""
    options = {"margin": {"rank": "rank"}, "logprob_margin": {"rank": "rank"}, "entropy_lower": {"appended": True}}
    metric = getattr(ls, name)(**options.get(name, {}))
    by_token = ALTERNATIVE_ROWS.filter(ls.generated()).group_by(ls.POSITION).agg(metric)
    expected = by_token.group_by(KEYS).agg(pl.col(name).mean()).collect().item(0, name)
    rows = ls.scores(TOKEN_ROWS, ALTERNATIVE_ROWS, COMPLETION_ROWS, metrics=[f"mean_{name}"])

    assert rows.filter(completion_id=1).collect().item(0, f"mean_{name}") == pytest.approx(expected)


def test_every_name_gives_its_column() -> None:
    """All names at once: each is a column, in the order asked for, and Python expressions follow."""
    asked = [*SCORES, ls.sliding_confidence(window=2).alias("by_two")]
    frame = ls.scores(TOKEN_ROWS, ALTERNATIVE_ROWS, COMPLETION_ROWS, metrics=asked).sort(KEYS).collect()

    assert frame.columns == [*COLUMNS[:9], *SCORES, "by_two"]
    assert frame.height == 3
    # 1/2 and 1/8 are one window; the alternatives of the first (1/2, 1/4) and second (1/8, 1/2, 1/8)
    assert frame.item(0, "by_two") == pytest.approx(1 / 4)
    # of the chosen 1/2 and 1/8, the first is the likeliest of its place, the second is behind 1/2
    assert frame.item(0, "greedy_share") == pytest.approx(1 / 2)
    assert frame.item(0, "mean_chosen_rank") == pytest.approx((1 + 2) / 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("entropy", "did you mean mean_entropy"),
        ("perplexty", "did you mean perplexity"),
        ("qqq", "there is no metric 'qqq'; The metrics are scored_tokens, "),
        ("min-k-plus-plus", "whole vocabulary, which no API gives; min_k_probability"),
        ("self_certainty", "whole vocabulary"),
        ("Min-K%++", "whole vocabulary, which no API gives; min_k_probability"),
        ("Rényi entropy", "whole vocabulary"),
    ],
)
def test_an_unknown_name(name: str, message: str) -> None:
    """The error names the nearest ones, or says why it cannot be had."""
    with pytest.raises(InputError, match=message):
        ls.scores(TOKEN_ROWS, None, COMPLETION_ROWS, metrics=["perplexity", name])


def test_batches_of_parts_change_nothing() -> None:
    """One completion a batch gives the rows that all together give, and stops early for a head."""
    opened = []

    def piece(number: int) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame]:
        opened.append(number)
        return tuple(table.filter(completion_id=number) for table in (TOKEN_ROWS, ALTERNATIVE_ROWS, COMPLETION_ROWS))

    empty = (TOKEN_ROWS.clear(), ALTERNATIVE_ROWS.clear(), COMPLETION_ROWS.clear())
    names = list(SCORES)
    whole = ls.scores(TOKEN_ROWS, ALTERNATIVE_ROWS, COMPLETION_ROWS, metrics=names)
    pieces = scores_of_parts([PartBatch("r", 1, lambda i=i: piece(i)) for i in (1, 2, 3)], empty, metrics=names)

    assert_frame_equal(pieces.sort(KEYS).collect(), whole.sort(KEYS).collect())
    opened.clear()
    assert pieces.head(1).collect().height == 1
    assert opened == [1]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("perplexity", "metrics 'perplexity' is one text; give a list"),
        (["perplexity", ls.perplexity()], "two columns of scores are called 'perplexity'"),
        ([ls.perplexity().alias("text")], "two columns of scores are called 'text'"),
    ],
)
def test_metrics_are_a_list_of_different_names(metrics: Any, message: str) -> None:
    """A text is no list of names, and no column has the name of another."""
    with pytest.raises(InputError, match=message):
        ls.scores(pl.LazyFrame(), None, pl.LazyFrame(), metrics=metrics)


@pytest.mark.parametrize("score", SCORES.values(), ids=lambda score: score.name)
def test_the_catalogue_is_complete(score: Score) -> None:
    """Each named score is computed in one way, has a public metric, and a summary from that metric's docstring."""
    ways = (score.from_totals, score.from_text, score.from_tokens, score.of_token, score.of_chosen, score.windows_of)

    assert sum(way is not None for way in ways) == 1
    assert (score.array is None) == (score.from_tokens is None)
    assert getattr(ls, score.metric.__name__) is score.metric
    assert score.summary[0].isupper()
    assert score.summary.endswith(".")


def test_zlib_ratio_is_of_the_section_that_the_text_is() -> None:
    """With -1 and -3 in the content and -50 in the reasoning, it is -2 / len(zlib(text))."""
    rows = [("reasoning", 0, -50.0), ("content", 0, -1.0), ("content", 1, -3.0), ("content", 2, None)]
    tokens = table(TOKENS, [{"completion_id": 1, "section": s, "position": i, "logprob": x} for s, i, x in rows])
    found = ls.scores(tokens, None, COMPLETION_ROWS, metrics=["zlib_ratio"]).filter(completion_id=1).collect()

    assert found["zlib_ratio"].item() == pytest.approx(-2 / len(zlib.compress(b"answer 1")))


def test_zlib_ratio_without_tokens_of_the_text_is_null() -> None:
    """An answer of tool calls alone has no logprob of its text."""
    tokens = table(TOKENS, [{"completion_id": 1, "section": "tool", "position": 0, "logprob": -1.0}])
    found = ls.scores(tokens, None, COMPLETION_ROWS, metrics=["zlib_ratio"]).collect()

    assert found["zlib_ratio"].to_list() == [None, None, None]
