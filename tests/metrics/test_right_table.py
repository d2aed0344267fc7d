"""A metric that is asked of the wrong table is an error, not a null or a number without meaning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.schema import ALTERNATIVES, TABLES, TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable

OF_ALTERNATIVES: dict[str, Callable[[], Any]] = {
    "margin": ls.margin,
    "logprob_margin": ls.logprob_margin,
    "missing_mass": ls.missing_mass,
    "token_confidence": ls.token_confidence,
    "entropy": ls.entropy,
    "negentropy": ls.negentropy,
    "varentropy": ls.varentropy,
    "entropy_lower": ls.entropy_lower,
    "entropy_upper": lambda: ls.entropy_upper(vocabulary_size=9),
    "entropy_contributions": ls.entropy_contributions,
    "label_mass": lambda: ls.label_mass("yes"),
    "label_coverage": lambda: ls.label_coverage(["yes", "no"]),
    "p_true": ls.p_true,
}
OF_TOKENS: dict[str, Callable[[], Any]] = {
    "logprob_sum": ls.logprob_sum,
    "joint_probability": ls.joint_probability,
    "mean_logprob": ls.mean_logprob,
    "confidence": ls.confidence,
    "perplexity": ls.perplexity,
    "min_probability": ls.min_probability,
    "max_surprisal": ls.max_surprisal,
    "mean_surprisal": ls.mean_surprisal,
    "low_confidence_share": ls.low_confidence_share,
    "scored_tokens": ls.scored_tokens,
    "unscored_tokens": ls.unscored_tokens,
    "min_k_probability": ls.min_k_probability,
    "longest_low_confidence_span": ls.longest_low_confidence_span,
    "sliding_confidence": lambda: ls.sliding_confidence(window=2),
    "text": ls.text,
}


def rows(schema: pl.Schema) -> pl.DataFrame:
    """Two rows of a table of a store, of one completion."""
    one = {"run": "r", "completion_id": 0, "section": "content", "token": "yes", "bytes": b"yes", "logprob": -0.5}
    given = [{**one, "position": position, "rank": position + 1} for position in (0, 1)]
    return pl.DataFrame(given, schema={"run": pl.String(), **schema})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("min_negentropy", "agg(ls.negentropy(...))"),
        ("mc_entropy", "store.scores().group_by"),
        ("epr", "agg(ls.entropy_contributions(...))"),
        ("wepr", "agg(ls.entropy_contributions(...))"),
        ("group_confidence", "agg(ls.token_confidence(...))"),
    ],
)
@pytest.mark.parametrize("grouped", [True, False])
def test_a_metric_of_a_column_that_another_metric_makes_says_where_it_comes_from(
    name: str, says: str, *, grouped: bool
) -> None:
    """Tokens have no such column, and polars would only say so."""
    tokens = rows(TOKENS)
    arguments = {
        "wepr": {"weights": {"intercept": 0.0, "mean": [1.0], "top": [1.0]}},
        "group_confidence": {"window": 2},
    }
    metric = getattr(ls, name)(**arguments.get(name, {}))

    with pytest.raises(Exception, match=f"{name} is a metric of the column .*{re.escape(says)}"):
        tokens.group_by("completion_id").agg(metric) if grouped else tokens.select(metric)


@pytest.mark.parametrize("name", OF_ALTERNATIVES)
def test_asking_tokens_for_a_metric_of_alternatives_is_an_error(name: str) -> None:
    """The tokens have one logprob each, of which polars would make null, or a number over an answer."""
    with pytest.raises(ls.InputError, match=r"is a metric of alternatives.*store\.alternatives"):
        rows(TOKENS).group_by(ls.POSITION).agg(OF_ALTERNATIVES[name]())


@pytest.mark.parametrize("name", OF_TOKENS)
def test_asking_alternatives_for_a_metric_of_tokens_is_an_error(name: str) -> None:
    """Most alternatives were not written: a perplexity over them is no perplexity."""
    with pytest.raises(ls.InputError, match=rf"{name} is a metric of the chosen tokens.*store\.tokens"):
        rows(ALTERNATIVES).group_by(ls.KEYS).agg(OF_TOKENS[name]())


@pytest.mark.parametrize("name", OF_ALTERNATIVES)
def test_alternatives_have_their_metrics(name: str) -> None:
    """The right table is not refused."""
    rows(ALTERNATIVES).group_by("run").agg(OF_ALTERNATIVES[name]())


@pytest.mark.parametrize("name", OF_TOKENS)
def test_tokens_have_their_metrics(name: str) -> None:
    """The right table is not refused."""
    rows(TOKENS).group_by("run").agg(OF_TOKENS[name]())


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda tokens: tokens.select(ls.entropy()),
        lambda tokens: tokens.filter(ls.generated()).group_by(ls.KEYS).agg(ls.entropy().alias("mine")),
        lambda tokens: tokens.filter(ls.entropy().over(ls.KEYS) > 1),
        lambda tokens: tokens.group_by(ls.KEYS).agg(ls.entropy(pl.col("logprob").filter(ls.generated()))),
        lambda tokens: tokens.with_columns(ls.entropy() + 1),
    ],
)
def test_the_error_comes_wherever_the_metric_stands(ask: Callable[[pl.LazyFrame], pl.LazyFrame], engine: Any) -> None:
    """In a select, a group, a window or a filter, renamed or within a larger expression."""
    with pytest.raises(ls.InputError, match="entropy is a metric of alternatives"):
        ask(rows(TOKENS).lazy()).collect(engine=engine)


def test_a_metric_reads_no_column_to_know_its_table() -> None:
    """Of the Parquet files of alternatives only the columns of the metric are read."""
    plan = rows(ALTERNATIVES).lazy().group_by("run").agg(ls.entropy()).explain()

    assert "2/11 COLUMNS" in plan


def test_alternatives_given_by_expression_are_scored_as_tokens() -> None:
    """The likeliest alternatives have a perplexity, if that is what somebody wants: exp(0.5)."""
    likeliest = rows(ALTERNATIVES).filter(pl.col("rank") == 1)

    assert likeliest.select(ls.perplexity(pl.col("logprob"))).item() == pytest.approx(1.6487212707)


def test_tokens_with_a_rank_of_the_prompts_are_tokens() -> None:
    """A kept column that happens to be called `rank` makes no alternatives of them."""
    ranked = rows(TOKENS).with_columns(rank=pl.lit(7, pl.Int64))

    assert ranked.select(ls.scored_tokens()).item() == 2


@pytest.mark.parametrize(
    ("function", "ask"),
    [
        ("field_confidence", lambda _, alternatives: ls.field_confidence(alternatives)),
        ("span_surprisal", lambda _, alternatives: ls.span_surprisal(alternatives)),
        ("label_probabilities", lambda tokens, others: ls.label_probabilities(others, tokens, ["yes", "no"])),
        ("label_probabilities", lambda tokens, _: ls.label_probabilities(tokens, tokens, ["yes", "no"])),
        ("with_chosen", ls.with_chosen),
        ("with_chosen", lambda _, alternatives: ls.with_chosen(alternatives, alternatives)),
    ],
)
def test_a_function_that_is_given_the_other_table_says_so(
    function: str, ask: Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]
) -> None:
    """Swapped tables gave garbage, or an error that speaks of a column."""
    with pytest.raises(ls.InputError, match=rf"{function} was given"):
        ask(rows(TOKENS).lazy(), rows(ALTERNATIVES).lazy())


def store_tables() -> dict[str, pl.LazyFrame]:
    """The tables of a store by name, without rows."""
    return {name: pl.LazyFrame(schema={"run": pl.String(), **schema}) for name, schema in TABLES.items()}


READERS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "text_scores": (ls.text_scores, ("tokens", "completions", "prompts")),
    "candidate_scores": (ls.candidate_scores, ("tokens", "alternatives", "completions", "prompts")),
    "halt_features": (ls.halt_features, ("tokens", "alternatives")),
    "with_chosen": (ls.with_chosen, ("alternatives", "tokens")),
    "field_confidence": (ls.field_confidence, ("tokens",)),
    "span_surprisal": (ls.span_surprisal, ("tokens",)),
    "label_probabilities": (lambda *tables: ls.label_probabilities(*tables, ["a", "b"]), ("tokens", "alternatives")),
    "scores": (ls.scores, ("tokens", "alternatives", "completions")),
    "compare": (lambda *a: ls.compare(a, a), ("tokens", "alternatives", "completions")),
    "logprob_drift": (lambda *a: ls.logprob_drift(a, a), ("tokens", "alternatives", "completions")),
}
"""The functions that read tables of a store, and which, in order."""


@pytest.mark.parametrize(
    ("function", "place", "given"),
    [
        (function, place, given)
        for function, (_, wanted) in READERS.items()
        for place in range(len(wanted))
        for given in ("tokens", "alternatives", "completions", "prompts")
        if given != wanted[place]
    ],
)
def test_every_other_table_is_refused_at_every_place(function: str, place: int, given: str) -> None:
    """The error says what was given, where, and what to give."""
    ask, wanted = READERS[function]
    tables = store_tables()
    words = [*wanted[:place], given, *wanted[place + 1 :]]
    said = f"{function} was given {given} where it reads the {wanted[place]}: give store.{wanted[place]} there"

    with pytest.raises(ls.InputError, match=re.escape(said)):
        ask(*(tables[name] for name in words))


@pytest.mark.parametrize(
    ("function", "table", "column"),
    [
        ("text_scores", "completions", "choice_index"),
        ("text_scores", "prompts", "messages"),
        ("candidate_scores", "tokens", "bytes"),
        ("candidate_scores", "alternatives", "position"),
        ("halt_features", "alternatives", "token_id"),
        ("with_chosen", "tokens", "token_id"),
        ("field_confidence", "tokens", "section"),
        ("span_surprisal", "tokens", "token"),
        ("label_probabilities", "alternatives", "logprob"),
        ("scores", "completions", "run"),
        ("compare", "completions", "completion_id"),
    ],
)
def test_a_missing_column_is_named_with_the_table_that_has_it(function: str, table: str, column: str) -> None:
    """Not in the words of polars, which knows no table of a store."""
    ask, wanted = READERS[function]
    tables = store_tables()
    tables[table] = tables[table].drop(column)
    said = rf"{function} reads '{column}' of the {table}, and what was given there has only .*: give store\.{table}"

    with pytest.raises(ls.InputError, match=said):
        ask(*(tables[name] for name in wanted))


def test_completions_with_their_prompts_are_completions() -> None:
    """A joined column of the prompts does not make prompts of them."""
    tables = store_tables()
    completions = tables["completions"].with_columns(messages=pl.lit("x"))

    assert ls.text_scores(tables["tokens"], completions, tables["prompts"]).collect().height == 0
