"""Scores of candidates and choices among them, from small tables worked out by hand."""

from __future__ import annotations

import json
from math import log
from typing import Any

import polars as pl
import pytest

import logprob_store as ls

Piece = tuple[str, float | None]


def tables(context: str, *candidates: tuple[str, list[Piece]], first: int = 0) -> dict[str, pl.LazyFrame]:
    """One prompt with candidates, each with the tokens that the server sent for context and candidate."""
    asked = json.dumps({"context": context, "continuations": [text for text, _ in candidates]}, separators=(",", ":"))
    done = [number for number, (_, pieces) in enumerate(candidates) if pieces]
    rows = [
        {"completion_id": number * 1000, "position": position, "token": token, "logprob": logprob}
        for number, (_, pieces) in enumerate(candidates)
        for position, (token, logprob) in enumerate(pieces, first)
    ]
    schema = {"completion_id": pl.Int64, "position": pl.Int32, "token": pl.String, "logprob": pl.Float64}
    tokens = pl.LazyFrame(rows, schema=schema).select(
        pl.lit("r").alias("run"),
        pl.lit("prompt").alias("section"),
        pl.all(),
        pl.lit(None, pl.Binary).alias("bytes"),
    )
    completions = pl.LazyFrame(
        {"completion_id": [number * 1000 for number in done], "sample_index": pl.Series(done, dtype=pl.Int32)}
    ).with_columns(run=pl.lit("r"), prompt_index=pl.lit(0, pl.Int64), choice_index=pl.lit(0))
    prompts = pl.LazyFrame({"run": "r", "prompt_id": "a", "prompt_index": [0], "messages": asked})
    return {"tokens": tokens, "completions": completions, "prompts": prompts}


def scored(*args: Any, alternatives: pl.LazyFrame | None = None, **kwargs: Any) -> pl.DataFrame:
    """The scores of the candidates, in the order of the list."""
    found = ls.candidate_scores(alternatives=alternatives, **tables(*args, **kwargs))
    return found.sort("candidate").collect()


def test_only_the_continuation_is_summed() -> None:
    """Tokens of the context are left out; ln(1/2) + ln(1/4) = ln(1/8)."""
    pieces: list[Piece] = [("Is", None), (" it", log(0.9)), ("?", log(0.8)), (" y", log(0.5)), ("es", log(0.25))]
    row = scored("Is it?", (" yes", pieces)).row(0, named=True)

    assert row["loglikelihood"] == pytest.approx(log(1 / 8))
    assert row["loglikelihood_per_char"] == pytest.approx(log(1 / 8) / 4)
    assert (row["scored_tokens"], row["unscored_tokens"], row["straddles"], row["rank"]) == (2, 0, False, 1)


def test_lengths_are_of_characters_and_bytes() -> None:
    """A space and é are two characters and three bytes."""
    row = scored("a", (" é", [("a", None), (" é", -6.0)])).row(0, named=True)

    assert (row["loglikelihood_per_char"], row["loglikelihood_per_byte"]) == (-3.0, -2.0)


@pytest.mark.parametrize("context", ["Two is ", "Two is  ", "Two is\n"])
def test_space_at_the_end_of_the_context_is_the_continuations(context: str) -> None:
    """A token of a space and a word counts and does not straddle, as in lm-evaluation-harness."""
    space = context[len("Two is") :]
    row = scored(context, ("two", [("Two", None), (" is", -1.0), (space + "two", -2.0)])).row(0, named=True)

    assert (row["loglikelihood"], row["straddles"]) == (-2.0, False)


def test_space_at_the_end_as_a_token_of_its_own_counts_too() -> None:
    """The continuation begins at the white space, whatever the tokens."""
    row = scored("Two is ", ("two", [("Two is", None), (" ", -1.0), ("two", -2.0)])).row(0, named=True)

    assert (row["loglikelihood"], row["scored_tokens"], row["straddles"]) == (-3.0, 2, False)


def test_a_token_across_the_beginning_counts_whole() -> None:
    """The "s" of the context and "x" of the continuation are one token: it counts, and the row says so."""
    row = scored("is", ("xy", [("i", None), ("sx", -1.0), ("y", -2.0)])).row(0, named=True)

    assert (row["loglikelihood"], row["straddles"], row["scored_tokens"]) == (-3.0, True, 2)


@pytest.mark.parametrize("token", ["<s>", ""])
def test_a_begin_of_text_token_is_not_the_texts(token: str) -> None:
    """A begin-of-text token without a logprob stands in front of an empty context; the continuation is fully scored."""
    row = scored("", ("ab", [(token, None), ("a", -1.0), ("b", -2.0)])).row(0, named=True)

    assert (row["loglikelihood"], row["unscored_tokens"]) == (-3.0, 0)


@pytest.mark.parametrize("first", [0, 1], ids=["echo", "vllm"])
def test_the_first_token_of_all_has_no_score(first: int) -> None:
    """Without context the first token has no logprob, as a null or as a missing row: there is no likelihood."""
    pieces: list[Piece] = [("a", None), ("b", -2.0)]
    row = scored("", ("ab", pieces[first:]), first=first).row(0, named=True)

    assert (row["scored_tokens"], row["unscored_tokens"], row["loglikelihood"]) == (1, 1, None)


def test_an_impossible_token_is_no_advantage() -> None:
    """A candidate with an unscored token (a sentinel, -inf) has no likelihood, not that of its other tokens."""
    table = scored("Q:", (" a", [("Q:", None), (" a", -9.0)]), (" b c", [("Q:", None), (" b", None), (" c", -0.1)]))

    assert table["loglikelihood"].to_list() == [-9.0, None]
    assert table["rank"].to_list() == [1, None]


def test_rows_without_an_answer_stay() -> None:
    """A candidate without an answer has a row without completion_id and scores."""
    table = scored("Q:", (" a", [("Q:", None), (" a", -1.0)]), (" b", []))

    assert table["completion_id"].to_list() == [0, None]
    assert table["loglikelihood"].to_list() == [-1.0, None]


def test_tokens_that_spell_something_else_have_no_score() -> None:
    """Token ids, or a context cut by the server, do not show where the continuation begins."""
    row = scored("Q:", (" a", [("token_id:5", None), ("token_id:9", -1.0)])).row(0, named=True)
    cut = scored("A long context", (" a", [(" context", None), (" a", -1.0)])).row(0, named=True)

    assert (row["completion_id"], row["scored_tokens"], row["loglikelihood"]) == (0, None, None)
    assert (cut["completion_id"], cut["scored_tokens"], cut["loglikelihood"]) == (0, None, None)


@pytest.mark.parametrize(
    "heart",
    [
        [("\ufffd", -1.0), ("\ufffd", -2.0), ("\ufffd", -3.0)],
        [("", -1.0), ("", -2.0), ("💙", -3.0)],
        [("bytes:\\xf0\\x9f", -1.0), ("bytes:\\x92", -2.0), ("bytes:\\x99", -3.0)],
    ],
    ids=["replaced", "empty", "escaped"],
)
def test_a_character_of_several_tokens(heart: list[Piece]) -> None:
    """All tokens of a character that begins the continuation count, in every form that servers send."""
    row = scored("I", ("💙!", [("I", None), *heart, ("!", -4.0)])).row(0, named=True)
    before = scored("I💙", ("!", [("I", None), *heart, ("!", -4.0)])).row(0, named=True)

    assert (row["loglikelihood"], row["straddles"]) == (-10.0, False)
    assert (before["loglikelihood"], before["straddles"]) == (-4.0, False)


def test_order_of_rows_does_not_matter() -> None:
    """Tokens are ordered by position, not by row."""
    frames = tables("Q:", (" ab", [("Q:", None), (" a", -1.0), ("b", -2.0)]), (" c", [("Q:", None), (" c", -1.5)]))
    one = ls.candidate_scores(alternatives=None, **frames).sort("candidate").collect()
    frames["tokens"] = frames["tokens"].reverse()
    other = ls.candidate_scores(alternatives=None, **frames).sort("candidate").collect()

    assert one.equals(other)
    assert one["loglikelihood"].to_list() == [-3.0, -1.5]


def test_greedy_needs_two_alternatives() -> None:
    """True where all its tokens are likeliest, false where one is not, null where one has a single alternative."""

    def beside(*logprobs: list[float]) -> pl.LazyFrame:
        rows = [
            {"run": "r", "completion_id": 0, "section": "prompt", "position": 1 + position, "logprob": logprob}
            for position, listed in enumerate(logprobs)
            for logprob in listed
        ]
        return pl.LazyFrame(rows, schema_overrides={"position": pl.Int32})

    pieces: list[Piece] = [("Q:", None), (" a", -1.0), ("b", -2.0)]
    found = [
        scored("Q:", (" ab", pieces), alternatives=beside(*listed))["greedy"].item()
        for listed in (
            ([-1.0, -3.0], [-2.0, -2.0]),
            ([-1.0, -3.0], [-2.0, -1.0]),
            ([-1.0, -3.0], [-2.0]),
            ([-1.0, -0.5], [-2.0]),
        )
    ]

    assert found == [True, False, None, False]


# choices


def candidates(*loglikelihoods: float | None, lengths: tuple[int, ...] = ()) -> pl.LazyFrame:
    """Candidates of one prompt with these likelihoods."""
    texts = ["x" * (length or 1) for length in lengths or [n + 1 for n in range(len(loglikelihoods))]]
    per = [None if ll is None else ll / len(text) for ll, text in zip(loglikelihoods, texts, strict=True)]
    return pl.LazyFrame(
        {
            "run": "r",
            "prompt_id": "a",
            "prompt_index": 0,
            "candidate": range(len(texts)),
            "continuation": texts,
            "loglikelihood": loglikelihoods,
            "loglikelihood_per_char": per,
            "loglikelihood_per_byte": per,
        },
        schema_overrides=dict.fromkeys(
            ("loglikelihood", "loglikelihood_per_char", "loglikelihood_per_byte"), pl.Float64
        ),
    )


def test_the_longer_may_be_likelier_per_letter() -> None:
    """-2 beats -3; -3 / 9 beats -2 / 3; the margin is -2 - -3."""
    row = ls.choices(candidates(-2.0, -3.0, lengths=(3, 9))).collect().row(0, named=True)

    assert (row["choice"], row["choice_per_char"], row["choice_per_byte"], row["margin"]) == (0, 1, 1, 1.0)


def test_the_margin_is_between_the_first_two() -> None:
    """The margin is that of the two highest, whatever the order of candidates."""
    row = ls.choices(candidates(-5.0, -1.0, -9.0, -1.5)).collect().row(0, named=True)

    assert (row["choice"], row["margin"], row["candidates"]) == (1, 0.5, 4)


def test_of_equals_the_first() -> None:
    """Of tied candidates the first in the list is chosen, with a margin of 0."""
    row = ls.choices(candidates(-2.0, -1.0, -1.0).reverse()).collect().row(0, named=True)

    assert (row["choice"], row["margin"]) == (1, 0.0)


def test_no_choice_while_one_has_no_score() -> None:
    """All choices are null, because the candidate without a score may be the best."""
    row = ls.choices(candidates(-2.0, None)).collect().row(0, named=True)

    assert (row["candidates"], row["scored_candidates"]) == (2, 1)
    assert [row[name] for name in ("choice", "continuation", "choice_per_char", "margin")] == [None] * 4


def test_one_candidate_has_no_margin() -> None:
    """The only candidate is chosen."""
    row = ls.choices(candidates(-2.0)).collect().row(0, named=True)

    assert (row["choice"], row["margin"]) == (0, None)


def test_pmi_takes_out_what_is_likely_anywhere() -> None:
    """-1 - -0.5 = -0.5 against -3 - -4 = 1: the second gains most from the question, by 1.5."""
    row = (
        ls.choices(candidates(-1.0, -3.0), unconditional=candidates(-0.5, -4.0).with_columns(run=pl.lit("premise")))
        .collect()
        .row(0, named=True)
    )

    assert (row["choice"], row["choice_pmi"], row["margin_pmi"]) == (0, 1, 1.5)


def test_pmi_without_a_premise_for_each_is_null() -> None:
    """A candidate missing from the other run leaves no choice by PMI."""
    row = ls.choices(candidates(-1.0, -3.0), unconditional=candidates(-0.5)).collect().row(0, named=True)

    assert (row["choice"], row["choice_pmi"], row["margin_pmi"]) == (0, None, None)


def test_premises_by_text_alone() -> None:
    """A run that has each text once, under other prompts, is joined on the text."""
    premise = candidates(-0.5, -4.0).with_columns(prompt_id=pl.lit("z"))
    row = ls.choices(candidates(-1.0, -3.0), unconditional=premise, on=["continuation"]).collect().row(0, named=True)

    assert row["choice_pmi"] == 1
