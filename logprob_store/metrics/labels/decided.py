"""Labels of typed questions: the options of decisions as label probabilities, so that all that reads those reads these.

Nothing is computed from tokens: the server gave a probability of each option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.labels.branches import NEGLIGIBLE
from logprob_store.metrics.labels.chosen_label import label_choices
from logprob_store.schema import CHOICES_PER_SAMPLE, KEYS, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.metrics.engine.part_batches import Tables

_QUESTION: Final = (*KEYS, "question_index")
_ROUNDING: Final = 1e-9
"""A sum this near to 1 is 1: what is missing comes from adding floats."""
_BOOLEAN: Final = '^"*(true|false)"*$'
"""Texts that are put in quotes: those of a boolean, and these in quotes, so that no two options have one label."""
_SERVED: Final = ("question_type", "refused", "confidence", "score")


def decision_probabilities(decisions: pl.LazyFrame) -> pl.LazyFrame:
    r"""How likely each option of each question was: the rows of `label_probabilities`, for decisions.

    Columns:

    - `run`, `completion_id`, `section`
    - `position`, `question`: the question's place and name
    - `label_index`, `label`: the option's place and value; null for a question that was refused or not answered. A text
      that is spelled as a boolean is in quotes: `"true"` is the text, `true` the boolean
    - `level`: of a score, the words for the label
    - `mass`, `mass_lower`: the option's probability as the server gave it; [0, 1]
    - `mass_upper`: that and the mass that no option has; [0, 1]
    - `probability`: mass / coverage; [0, 1], higher is surer
    - `lower`, `upper`: bounds of the probability, with the unknown mass on other options, and on this one; where the
      server's probabilities sum to more than 1, with what is too much taken from this option, and from others; [0, 1]
    - `coverage`: the sum of the options' probabilities; [0, 1], higher is better; above 1 where the server's sum is
    - `unknown_mass`: 1 - coverage; [0, 1], lower is better
    - `scored_alternatives`, `unscored_alternatives`: the options with a probability, and without

    Formula: probability = p / sum p over the options of the question.
    Range: [0, 1], higher is surer. Unit: none.
    Needs: the decisions table.
    Nulls: a question that was refused or not answered has one row, without a label; a second answer to a question has
    none. Where an option has no probability
    and more than 0.01 is missing from the sum, the probabilities are null and the bounds hold.
    Source: the API's own probabilities (OpenAI, Decisions).

    Two options that sum to 0.8, as where a third was not shown:

    >>> rows = {"option_index": [0, 1], "value": ["a", "b"], "probability": [0.6, 0.2]}
    >>> decisions = pl.LazyFrame(rows).with_columns(
    ...     run=pl.lit("r"), completion_id=0, question_index=0, question=pl.lit("q"), value_type=pl.lit("string"),
    ...     label=pl.lit(None, pl.String)
    ... )
    >>> table = decision_probabilities(decisions).select("label", pl.col("probability", "lower", "upper").round(6))
    >>> table.collect().rows()
    [('a', 0.75, 0.6, 0.8), ('b', 0.25, 0.2, 0.4)]
    """
    mass, unknown, total = pl.col("mass"), pl.col("unknown_mass"), pl.col("total")
    scored = pl.col("probability").count().over(_QUESTION)
    options = pl.col("option_index").count().over(_QUESTION)
    excess = (total - 1.0).clip(lower_bound=0.0)
    is_known = (total > 0) & ~((pl.col("unscored_alternatives") > 0) & (unknown > NEGLIGIBLE))
    own_share = pl.when(is_known).then(mass / total)
    return (
        decisions.filter(_is_first_answer())
        .with_columns(
            section=pl.lit("content").cast(Section),
            position=pl.col("question_index"),
            label_index=pl.col("option_index"),
            level=pl.col("label"),
            label=option_label(),
            mass=pl.when(scored > 0, pl.col("option_index").is_not_null()).then(pl.col("probability").fill_null(0.0)),
            total=pl.when(scored > 0).then(_near_one(pl.col("probability").sum().over(_QUESTION))),
            scored_alternatives=scored.cast(pl.UInt32),
            unscored_alternatives=(options - scored).cast(pl.UInt32),
        )
        .with_columns(unknown_mass=(1.0 - total).clip(0.0, 1.0))
        .select(
            *KEYS,
            *("section", "position", "question", "label_index", "label", "level", "mass"),
            mass_lower=mass,
            mass_upper=(mass + unknown).clip(0.0, 1.0),
            probability=own_share,
            lower=pl.when(total > 0).then((mass - excess).clip(lower_bound=0.0)),
            upper=pl.when(total > 0).then((mass + unknown).clip(upper_bound=1.0)),
            coverage=pl.when(total.is_between(1.0, 1.001)).then(1.0).otherwise(total),
            unknown_mass=unknown,
            scored_alternatives=pl.col("scored_alternatives"),
            unscored_alternatives=pl.col("unscored_alternatives"),
        )
    )


def option_label() -> pl.Expr:
    """The label of an option: its value, a text that is spelled as a boolean in quotes."""
    is_quoted = (pl.col("value_type").cast(pl.String) == "string") & pl.col("value").str.contains(_BOOLEAN)
    return pl.when(is_quoted).then(pl.format('"{}"', "value")).otherwise(pl.col("value"))


def _is_first_answer() -> pl.Expr:
    """Whether a row is of the first answer to its question: a server that answers twice gives no second opinion."""
    first = pl.col("question_index").min().over(*KEYS, "question")
    return pl.col("question").is_null() | (pl.col("question_index") == first)


def _near_one(total: pl.Expr) -> pl.Expr:
    return pl.when((total - 1.0).abs() < _ROUNDING).then(1.0).otherwise(total)


def decided(decisions: pl.LazyFrame) -> pl.LazyFrame:
    """The answer to each question: the likeliest option with its lead, beside what the server says of the question.

    Columns: those of `label_choices`, and `question`, `level`, `question_type`, `refused`, `served_confidence` and
    `served_score`, the server's own.

    Formula: as `label_choices`.
    Range: as `label_choices`. Unit: none.
    Needs: the decisions table.
    Nulls: of a question that was refused or not answered, all but its names are null.
    Source: as `decision_probabilities`.

    >>> rows = {"option_index": [0, 1], "value": ["true", "false"], "probability": [0.75, 0.25]}
    >>> decisions = pl.LazyFrame(rows).with_columns(
    ...     run=pl.lit("r"), completion_id=0, question_index=0, question=pl.lit("late"), value_type=pl.lit("boolean"),
    ...     question_type=pl.lit("predicate"), refused=False, label=pl.lit(None, pl.String),
    ...     confidence=pl.lit(None, pl.Float64), score=pl.lit(None, pl.Float64)
    ... )
    >>> decided(decisions).select("question", "label", "label_probability").collect().rows()
    [('late', 'true', 0.75)]
    """
    probabilities = decision_probabilities(decisions)
    levels = probabilities.select(*KEYS, "position", "label", "level").drop_nulls("label")
    served = decisions.group_by(_QUESTION).agg(pl.col("question", *_SERVED).first())
    served = served.rename({"question_index": "position", "confidence": "served_confidence", "score": "served_score"})
    where = [*KEYS, "position"]
    return (
        label_choices(probabilities)
        .join(levels.unique([*where, "label"]), on=[*where, "label"], how="left")
        .join(served, on=where, how="left")
        .sort(where)
    )


def numbered_questions(several: Sequence[pl.LazyFrame]) -> pl.DataFrame:
    """The names of all questions in some tables of decisions, each with a number that is its own."""
    names = pl.concat([decisions.select(_name_of_question()).unique() for decisions in several]).unique().sort("name")
    return names.collect().with_row_index("number").with_columns(pl.col("number").cast(pl.Int32))


def decisions_as_answers(completions: pl.LazyFrame, decisions: pl.LazyFrame, numbers: pl.DataFrame) -> Tables:
    """Tokens, alternatives and completions in which each question is an answer of one token, for a comparison.

    Its text is the likeliest option behind the question's name, its alternatives are the options, and its choice_index
    is the question's number.

    Args:
        completions: the table.
        decisions: the table.
        numbers: of the questions, as `numbered_questions` gives them.
    """
    decisions = decisions.filter(pl.col("question_index") < CHOICES_PER_SAMPLE)
    own_id = pl.col("completion_id") + pl.col("position").cast(pl.Int64)
    logprob = pl.when(pl.col("probability") > 0).then(pl.col("probability").log())
    token = {
        "completion_id": own_id,
        "section": pl.col("section"),
        "position": pl.lit(0, pl.Int32),
        "token": pl.col("label"),
        "bytes": pl.lit(None, pl.Binary),
        "token_id": pl.lit(None, pl.Int32),
        "logprob": logprob,
    }
    options = decision_probabilities(decisions).drop_nulls("label")
    likeliest = decided(decisions).drop_nulls("label").with_columns(probability=pl.col("label_probability"))
    answers = likeliest.select(*KEYS, "position", "label", _name_of_question("position")).join(
        numbers.lazy(), on="name", how="left"
    )
    texts = completions.join(answers, on=KEYS, how="inner").with_columns(
        completion_id=own_id, choice_index=pl.col("number"), text=pl.format("{}: {}", "name", "label")
    )
    alternatives = options.select("run", rank=(pl.col("label_index") + 1).cast(pl.Int16), **token)
    return (
        likeliest.select("run", **token).sort(KEYS),
        alternatives.sort(*KEYS, "rank"),
        texts.sort(KEYS),
    )


def _name_of_question(place: str = "question_index") -> pl.Expr:
    return pl.coalesce("question", pl.format("question {}", place)).alias("name")
