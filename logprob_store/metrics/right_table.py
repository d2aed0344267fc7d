"""Metrics that are asked of the wrong table: an error, where polars would compute a number without meaning.

Tokens and alternatives have the same columns but for `rank`. So an entropy of tokens would be null, and a perplexity of
alternatives a number of all that was not written.

An expression does not see its frame until polars runs it. It can ask polars for types, though, which reads no column:
whether there is a column of some name is then a constant of the plan, and one call per plan looks at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import polars as pl
import polars.selectors as cs

from logprob_store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from logprob_store.metrics.arguments import Column

Table: TypeAlias = Literal["tokens", "alternatives", "completions", "prompts"]


def only_of_alternatives(metric: pl.Expr, *, function: str | None = None) -> pl.Expr:
    """A metric of alternatives, which raises an `InputError` where it is asked of the tokens.

    Args:
        metric: the expression.
        function: the public name of its function; that of its column when None.
    """
    name = function or metric.meta.output_name()
    message = (
        f"{name} is a metric of alternatives, and these rows are tokens, with one logprob each. Ask the alternatives "
        f"of each token: store.alternatives.filter(ls.generated()).group_by(ls.POSITION).agg(ls.{name}(...)); "
        "logprobs scores --metrics NAMES has the mean over the tokens of an answer"
    )
    return _refused(metric, _has(_named("logprob_wire")) & ~_has(_named("rank")), message)


def only_of_tokens(metric: pl.Expr, column: Column) -> pl.Expr:
    """A metric of the chosen tokens, which raises an `InputError` where it is asked of the alternatives.

    Args:
        metric: the expression.
        column: the logprobs as the caller gave them: an expression says which rows are meant, and is not refused.
    """
    if not isinstance(column, str):
        return metric
    name = metric.meta.output_name()
    message = (
        f"{name} is a metric of the chosen tokens, and these rows are alternatives, several to each token. Ask the "
        f"tokens: store.tokens.filter(ls.generated()).group_by(ls.KEYS).agg(ls.{name}(...)). To have it of these rows "
        f'all the same, give the column as an expression: ls.{name}(pl.col("{column}"))'
    )
    # A column `rank` that somebody keeps of the prompts is seldom an Int16.
    rank = _named("rank") & cs.by_dtype(pl.Int16)
    return _refused(metric, _has(rank) & _has(_named("logprob_wire")), message)


def of_given_column(
    column: Column,
    metric: Callable[[pl.Expr], pl.Expr],
    *,
    function: str,
    table: Literal["alternatives", "scores"],
    dtype: pl.DataType | type[pl.DataType] = pl.Float64,
) -> pl.Expr:
    """A metric of a column that another metric makes; an `InputError` where the rows have no such column.

    Args:
        column: as the caller gave it; an expression is taken as it is.
        metric: of the column's expression.
        function: the public name of its function.
        table: what the column is made of.
        dtype: the column's type.
    """
    if not isinstance(column, str):
        return metric(column).alias(function)
    made = {
        "alternatives": "Ask the alternatives of each token for it first: "
        f"store.alternatives.filter(ls.generated()).group_by(ls.POSITION).agg(ls.{column}(...))",
        "scores": "The scores of each answer have it: "
        f'store.scores().group_by("run", "prompt_id").agg(ls.{function}())',
    }
    message = f"{function} is a metric of the column {column!r}, which these rows have not. {made[table]}"
    there = _named(column)
    found = pl.coalesce(pl.lit(None, dtype), there)
    return _refused(metric(found).alias(function), ~_has(there), message)


def _named(column: str) -> cs.Selector:
    return cs.by_name(column, require_all=False)


def _has(columns: cs.Selector) -> pl.Expr:
    """Whether the frame has such a column: a constant, known from the schema alone."""
    return pl.dtype_of(pl.coalesce(pl.lit(None), columns.is_null())).matches(cs.boolean())


def _refused(metric: pl.Expr, wrong: pl.Expr, message: str) -> pl.Expr:
    """The metric, or an error where `wrong` is true."""

    def check(found: pl.Series) -> pl.Series:
        if found.any():
            raise InputError(message)
        return ~found

    right = wrong.map_batches(check, return_dtype=pl.Boolean, is_elementwise=True)
    return pl.when(right).then(metric).alias(metric.meta.output_name())


def check_table(given: pl.LazyFrame, table: Table, function: str, columns: Iterable[str] = ()) -> pl.Schema:
    """Check that what a function was given as a table of a store is not another one, and has the columns.

    Args:
        given: the table; its rows are not read.
        table: the one that the function reads there.
        function: its public name.
        columns: those that it reads.

    Returns:
        The columns of `given`.

    Raises:
        InputError: it is another table, or lacks a column.
    """
    schema = given.collect_schema()
    other = _table_of(schema)
    if other not in {None, table}:
        raise InputError(f"{function} was given {other} where it reads the {table}: give store.{table} there")
    if missing := [name for name in columns if name not in schema]:
        raise InputError(
            f"{function} reads {', '.join(map(repr, missing))} of the {table}, and what was given there has only "
            f"{', '.join(map(repr, schema)) or 'no column'}: give store.{table}, or add what is missing"
        )
    return schema


def check_tables(
    tables: tuple[pl.LazyFrame, pl.LazyFrame | None, pl.LazyFrame], function: str, columns: Iterable[str]
) -> None:
    """Check that the tokens, alternatives (or None) and completions given to a function are none of the others.

    Args:
        tables: what was given.
        function: its public name.
        columns: those of completions that it reads.

    Raises:
        InputError: one is another, or the completions lack a column.
    """
    tokens, alternatives, completions = tables
    check_table(tokens, "tokens", function)
    if alternatives is not None:
        check_table(alternatives, "alternatives", function)
    check_table(completions, "completions", function, columns)


def _table_of(schema: pl.Schema) -> Table | None:
    """Which table of a store has such columns; None where that is not sure."""
    if "logprob_wire" in schema:
        if "rank" not in schema:
            return "tokens"
        return "alternatives" if schema["rank"] == pl.Int16 else None  # a kept `rank` is seldom an Int16
    if {"completion_id", "request_key"} <= schema.keys():
        return "completions"
    return "prompts" if {"prompt_index", "messages"} <= schema.keys() and "completion_id" not in schema else None
